"""The process behind `fraud-detect consume`: its output, its metrics, its end."""

import multiprocessing
import os
import signal
import socket
import threading
import time
import urllib.request
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from fraud_pipeline.database import Database, DatabaseOutdatedError
from fraud_pipeline.messaging.topics import (
    BrokerUnavailableError,
    KafkaSettings,
    Message,
    ensure_topics,
    transaction_message,
)
from fraud_pipeline.schema.transactions import now_microseconds
from fraud_pipeline.settings import Settings
from fraud_pipeline_tests.support.brokers import Broker, topics_of_our_own
from fraud_pipeline_tests.support.consumer_process import SESSION
from fraud_pipeline_tests.support.streams import passed, running, send, transactions
from fraud_pipeline_tests.support.waiting import until
from serving.stream.consumer_metrics import StreamMetrics
from serving.stream.consumer_process import STALLED, consume, counted
from serving.stream.handler import Point
from serving.stream.records import Partition


@pytest.fixture
def kafka(broker: Broker) -> KafkaSettings:
    kafka = topics_of_our_own(broker)
    ensure_topics(kafka)
    return kafka


def measured(port: int) -> dict[tuple[str, ...], float]:
    """The samples that a scraper gets: name and values of labels -> value."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        families = list(text_string_to_metric_families(answer.read().decode()))
    return {
        (sample.name.removeprefix("fraud_stream_"), *sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
    }


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_it_scores_measures_and_says_what_it_did(kafka: KafkaSettings, tmp_path: Path) -> None:
    settings, port, lines, statuses = Settings(home=tmp_path), free_port(), list[str](), list[int]()
    messages = [
        transaction_message(row, currency="EUR") for row in transactions(90, customers=30, end=now_microseconds())
    ]
    send(kafka, kafka.transactions_topic, [*messages, *messages[:10], Message(b"c1", b"nonsense", [])])
    database = Database(settings.database)
    database.upgrade()

    def loop(stop: threading.Event) -> None:
        statuses.append(
            consume(settings, kafka, stop=stop, on_progress=lines.append, metrics_port=port, session_timeout=SESSION)
        )

    with running([loop]):
        until(lambda: passed(database, kafka.transactions_topic) == (101, 101))
        until(lambda: measured(port).get(("records_total", "decided")) == 90)
        until(lambda: sum(name[0] == "lag_records" for name in measured(port)) == 8)
        samples = measured(port)
    database.close()
    assert {name[1]: value for name, value in samples.items() if name[0] == "records_total"} == {
        "decided": 90,
        "replayed": 10,
        "dead_letter": 1,
        "report": 0,
    }
    assert {value for name, value in samples.items() if name[0] == "lag_records"} == {0}
    assert sum(value for name, value in samples.items() if name[0] == "fraud_decisions_total") == 90
    assert samples["fraud_model_loaded_timestamp_seconds",] == 0
    assert samples["batch_seconds_count",] >= 1
    assert statuses == [0]
    where = f"{kafka.transactions_topic} at {kafka.bootstrap_servers}"
    assert lines == [
        f"Scoring {where} as {kafka.group}, by rules, since there is no champion yet",
        "Stopped: 90 transactions decided on",
    ]


def test_the_lag_of_a_partition_disappears_with_it() -> None:
    metrics, at = StreamMetrics.build(), Partition("transactions", 3)

    def lag() -> float | None:
        labels = {"topic": "transactions", "partition": "3"}
        return metrics.registry.get_sample_value("fraud_stream_lag_records", labels)

    metrics.lag(at, 17)
    assert lag() == 17
    metrics.lag(at, None)
    assert lag() is None
    metrics.lag(at, None)  # the callback may arrive after the end


def test_only_what_is_away_now_is_told_to_be() -> None:
    metrics = StreamMetrics.build()

    def away(what: str) -> float | None:
        return metrics.registry.get_sample_value("fraud_stream_waiting", {"away": what})

    metrics.waiting("database")
    metrics.waiting("broker")
    assert (away("database"), away("broker")) == (None, 1)
    metrics.waiting(None)
    assert (away("database"), away("broker")) == (None, None)


def test_without_a_broker_it_does_not_start(tmp_path: Path) -> None:
    nobody = KafkaSettings(bootstrap_servers=f"127.0.0.1:{free_port()}")
    with pytest.raises(BrokerUnavailableError, match="no Kafka broker can be reached"):
        consume(Settings(home=tmp_path), nobody, stop=threading.Event())


def test_tables_of_another_release_are_refused(kafka: KafkaSettings, tmp_path: Path, empty_postgres_url: str) -> None:
    settings = Settings(home=tmp_path, database_url=empty_postgres_url)
    with pytest.raises(DatabaseOutdatedError, match="fraud-detect migrate"):
        consume(settings, kafka, stop=threading.Event())


def consume_until_told(home: Path, kafka: KafkaSettings) -> None:
    raise SystemExit(consume(Settings(home=home), kafka, stop=threading.Event(), session_timeout=SESSION))


def consume_and_hang(home: Path, kafka: KafkaSettings) -> None:
    def hang(point: Point) -> None:
        if point == "stored":
            time.sleep(600)

    consume(Settings(home=home), kafka, stop=threading.Event(), session_timeout=SESSION, patience=3.0, reached=hang)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_well(kafka: KafkaSettings, tmp_path: Path, number: int) -> None:
    settings = Settings(home=tmp_path)
    database = Database(settings.database)
    database.upgrade()
    rows = transactions(30, customers=30, end=now_microseconds())
    send(kafka, kafka.transactions_topic, [transaction_message(row, currency="EUR") for row in rows])
    process = multiprocessing.get_context("forkserver").Process(target=consume_until_told, args=(tmp_path, kafka))
    process.start()
    until(lambda: passed(database, kafka.transactions_topic) == (30, 30))
    os.kill(process.pid or 0, number)
    process.join(60)
    database.close()
    assert process.exitcode == 0


def test_a_loop_that_hangs_ends_the_process(kafka: KafkaSettings, tmp_path: Path) -> None:
    rows = transactions(30, customers=30, end=now_microseconds())
    send(kafka, kafka.transactions_topic, [transaction_message(row, currency="EUR") for row in rows])
    process = multiprocessing.get_context("forkserver").Process(target=consume_and_hang, args=(tmp_path, kafka))
    process.start()
    process.join(90)
    assert process.exitcode == STALLED


def test_a_terminal_shows_how_many_were_decided_on() -> None:
    ours, theirs = os.openpty()
    numbers, shown = iter(range(0, 1_000_000, 1_234)), ""
    with (
        os.fdopen(ours, "rb", buffering=0) as screen,
        os.fdopen(theirs, "w") as terminal,
        counted(lambda: next(numbers), terminal=terminal, every=0.01),
    ):
        while "decided: 2468 transactions" not in shown:
            shown += screen.read(4_096).decode()
    assert "transactions/s" in shown


def test_a_log_is_not_filled_with_counts(tmp_path: Path) -> None:
    with (tmp_path / "consumer.log").open("w") as log, counted(lambda: 7, terminal=log, every=0.01):
        time.sleep(0.05)
    assert (tmp_path / "consumer.log").read_text() == ""
