"""The commands of the Kafka stream: produce, consume, dead letters.

Belongs here: starting them, words for a person. Must not be here: reading and writing topics (`serving/stream/`).
"""

import argparse
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import asdict

from pydantic_core import to_json

from fraud_pipeline.database import open_database
from fraud_pipeline.host.ports import check_port
from fraud_pipeline.messaging.topics import load_kafka_settings
from fraud_pipeline.settings import load_settings
from serving.stream.consumer_process import consume as consume_until_stopped
from serving.stream.dead_letters import DeadLetter, replay, summary
from serving.stream.dead_letters import dead_letters as read_dead_letters
from serving.stream.producer import produce as send_transactions


def produce(arguments: argparse.Namespace) -> int:
    """Send transactions to the topic at a steady rate."""
    report = send_transactions(
        load_settings(),
        load_kafka_settings(),
        rate=arguments.rate,
        count=arguments.count,
        data_path=arguments.data_path,
        topic=arguments.topic,
    )
    print(report)
    return 1 if report.failed else 0


def consume(arguments: argparse.Namespace) -> int:
    """Score the topic until a signal stops this process."""
    if arguments.metrics_port is not None:
        check_port(
            arguments.metrics_host,
            arguments.metrics_port,
            command="fraud-detect consume",
            host_option="--metrics-host",
            port_option="--metrics-port",
        )
    return consume_until_stopped(
        load_settings(),
        load_kafka_settings(),
        stop=threading.Event(),
        metrics_host=arguments.metrics_host,
        metrics_port=arguments.metrics_port,
    )


def dead_letters(arguments: argparse.Namespace) -> int:
    """List dead letters by reason and the newest one by one; with --replay, send them again."""
    kafka, newest = load_kafka_settings(), deque[DeadLetter](maxlen=arguments.limit)
    letters = (letter for letter in read_dead_letters(kafka) if arguments.reason in (None, letter.reason))
    lines = summary(_keep(letters, newest))
    sent = None
    if arguments.replay:
        with open_database(load_settings().database) as database:
            sent = replay(kafka, database, reason=arguments.reason)
    if arguments.json:
        listing = {"summary": [line.strip() for line in lines], "newest": [_fields(letter) for letter in newest]}
        print(to_json(listing | ({"replay": sent._asdict()} if sent else {})).decode())
        return 0
    print("\n".join(lines) or "There are no dead letters.")
    for letter in newest:
        source = "/".join(map(str, letter.source))
        print(f"  {source}  {letter.reason}  sha256 {letter.sha256[:12]}")
    if sent:
        print(f"{sent.sent:,} sent again. They stay in the topic; a record that still fails becomes a new dead letter.")
        if sent.not_whole:
            print(f"{sent.not_whole:,} are not whole and were not sent: ask their sender to send them again.")
    return 0


def _keep(letters: Iterable[DeadLetter], newest: deque[DeadLetter]) -> Iterator[DeadLetter]:
    for letter in letters:
        newest.append(letter)
        yield letter


def _fields(letter: DeadLetter) -> dict[str, object]:
    """The fields that identify a letter; keys, values and headers may hold a customer's data."""
    return {name: value for name, value in asdict(letter).items() if name not in ("at", "key", "value", "headers")}
