"""Dead letters on a real broker: each source is listed once, in words, and each is replayed once, unchanged."""

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from fraud_pipeline.database import Database
from fraud_pipeline.messaging.topics import KafkaSettings, ensure_topics, open_producer
from fraud_pipeline_tests.support.brokers import Broker, topics_of_our_own
from fraud_pipeline_tests.support.streams import everything
from serving.stream.dead_letters import Replayed, dead_letters, replay, summary
from serving.stream.messages import MAX_LETTER_BYTES, BadMessage, dead_letter

SENT = 1_700_000_000_000
NOT_JSON, NO_SCHEMA = BadMessage("not_json"), BadMessage("unknown_schema", "schema")


@pytest.fixture
def kafka(broker: Broker) -> KafkaSettings:
    """Topics with two dead letters, one of them sent twice as after a crash."""
    settings = topics_of_our_own(broker)
    ensure_topics(settings)
    for offset, bad in ((7, NOT_JSON), (3, NO_SCHEMA), (7, NOT_JSON)):
        put_aside(settings, bad, offset=offset)
    return settings


@pytest.fixture
def database() -> Iterator[Database]:
    with closing(Database("sqlite://")) as database_:
        database_.upgrade()
        yield database_


def put_aside(kafka: KafkaSettings, bad: BadMessage, *, offset: int, value: bytes | None = None) -> None:
    letter = dead_letter(
        bad,
        key=b"c-1",
        value=value or b"value %d" % offset,
        headers=[("trace", b"1"), ("replay-of", b"transactions/0/1")],
        topic=kafka.transactions_topic,
        partition=0,
        offset=offset,
        timestamp=SENT,
    )
    with closing(open_producer(kafka)) as producer:
        producer.send(kafka.dead_letter_topic, **letter._asdict()).get(10)


def sent_again(kafka: KafkaSettings) -> list[Any]:
    return everything(kafka, kafka.transactions_topic)


def test_each_source_is_listed_once_with_its_reason(kafka: KafkaSettings) -> None:
    letters = list(dead_letters(kafka))
    assert sorted((letter.source_offset, letter.reason, letter.path) for letter in letters) == [
        (3, "unknown_schema", "schema"),
        (7, "not_json", "value"),
    ]
    lines = summary(letters)
    assert len(lines) == 2
    assert not any("value 7" in line for line in lines)


def test_what_others_wrote_into_the_topic_is_no_letter(kafka: KafkaSettings) -> None:
    with closing(open_producer(kafka)) as producer:
        producer.send(kafka.dead_letter_topic, value=b"hello").get(10)
    assert len(list(dead_letters(kafka))) == 2


def test_a_letter_is_sent_again_as_it_came_and_as_if_when_it_came(kafka: KafkaSettings, database: Database) -> None:
    assert replay(kafka, database) == Replayed(2, 0)
    source = f"{kafka.transactions_topic}/0/"
    assert [(record.key, record.value, record.timestamp, list(record.headers)) for record in sent_again(kafka)] == [
        (b"c-1", b"value 7", SENT, [("trace", b"1"), ("replay-of", f"{source}7".encode())]),
        (b"c-1", b"value 3", SENT, [("trace", b"1"), ("replay-of", f"{source}3".encode())]),
    ]


def test_each_letter_is_sent_once_however_often_and_by_whatever_reason(
    kafka: KafkaSettings, database: Database
) -> None:
    assert replay(kafka, database, reason="not_json") == Replayed(1, 0)
    assert replay(kafka, database, reason="not_json") == Replayed(0, 0)
    assert replay(kafka, database) == Replayed(1, 0)
    put_aside(kafka, NOT_JSON, offset=9)
    assert replay(kafka, database) == Replayed(1, 0)
    assert replay(kafka, database) == Replayed(0, 0)
    assert sorted(record.value for record in sent_again(kafka)) == [b"value 3", b"value 7", b"value 9"]


def test_a_letter_that_is_not_whole_is_not_sent(kafka: KafkaSettings, database: Database) -> None:
    put_aside(kafka, BadMessage("too_large"), offset=11, value=b"x" * (MAX_LETTER_BYTES + 1))
    put_aside(kafka, BadMessage("unreadable", "record"), offset=12)
    assert replay(kafka, database) == Replayed(2, 2)
    assert replay(kafka, database) == Replayed(0, 0)
