"""Kafka transactions of senders: aborted records are skipped; an open transaction delays records and is no lag."""

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import sqlalchemy as sa
from kafka import KafkaProducer

from fraud_pipeline.database import Database, Position
from fraud_pipeline.database.tables import TRANSACTIONS
from fraud_pipeline.messaging.topics import (
    KafkaSettings,
    ensure_topics,
    open_consumer,
    open_producer,
    transaction_message,
)
from fraud_pipeline.schema.transactions import SECOND, TransactionRow, now_microseconds
from fraud_pipeline.settings import Settings
from fraud_pipeline_tests.support.brokers import Broker, topics_of_our_own
from fraud_pipeline_tests.support.streams import (
    SESSION,
    Heard,
    decided,
    everything,
    running,
    send,
    standing,
    stream_scorer,
    transactions,
)
from fraud_pipeline_tests.support.waiting import until
from serving.stream.consumer import StreamConsumer
from serving.stream.dead_letters import dead_letters
from serving.stream.ranges import lag, plan, range_scorer
from serving.stream.records import Partition
from serving.stream.topic_inspection import extents


@dataclass(frozen=True, slots=True)
class Sender:
    """A bank that sends its records in transactions, to the one partition of the topic."""

    kafka: KafkaSettings
    producer: KafkaProducer

    def begin(self, rows: Sequence[TransactionRow]) -> None:
        """Open a transaction and send these; all of them have reached the broker."""
        self.producer.begin_transaction()
        for row in rows:
            message = transaction_message(row, currency="EUR")
            self.producer.send(self.kafka.transactions_topic, partition=0, **message._asdict())
        self.producer.flush()

    def commit(self, rows: Sequence[TransactionRow]) -> None:
        self.begin(rows)
        self.producer.commit_transaction()

    def abort(self, rows: Sequence[TransactionRow]) -> None:
        self.begin(rows)
        self.producer.abort_transaction()


@pytest.fixture
def kafka(broker: Broker) -> KafkaSettings:
    if broker.name == "Tansu":
        pytest.skip("Tansu keeps no transactions: TEST_BROKER=kafka")
    kafka = topics_of_our_own(broker, partitions=1)
    ensure_topics(kafka)
    return kafka


@pytest.fixture
def sender(kafka: KafkaSettings) -> Iterator[Sender]:
    with closing(open_producer(kafka, transactional_id=kafka.group)) as producer:
        producer.init_transactions()
        yield Sender(kafka, producer)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path)


@pytest.fixture
def known(settings: Settings) -> Iterator[Database]:
    with closing(Database(settings.database)) as database:
        database.upgrade()
        yield database


@contextmanager
def consuming(kafka: KafkaSettings, database: Database) -> Iterator[Heard]:
    """The long-lived consumer during the block, with its events."""
    heard = Heard()
    with closing(open_producer(kafka)) as producer:
        loop = StreamConsumer(
            consumer=open_consumer(kafka, group_id=kafka.group, **SESSION),
            topics=[kafka.transactions_topic, kafka.reports_topic],
            stream=stream_scorer(kafka, database, producer),
            database=database,
            observer=heard,
        )
        with running([loop.run]):
            yield heard


def rows_of(count: int, *, prefix: str) -> list[TransactionRow]:
    return transactions(count, customers=3, end=now_microseconds() - SECOND, prefix=prefix)


def more_expensive(rows: Sequence[TransactionRow]) -> list[TransactionRow]:
    """The same transactions with another amount, which would be conflicts."""
    return [row._replace(amount_cents=row.amount_cents + 5_000) for row in rows]


def lags(kafka: KafkaSettings, database: Database) -> int:
    """The lag that the sensor and the dashboard show."""
    return lag(extents(kafka, [kafka.transactions_topic]), positions_of(kafka, database))


def positions_of(kafka: KafkaSettings, database: Database) -> dict[Partition, Position]:
    topic = kafka.transactions_topic
    return {Partition(topic, number): position for number, position in standing(database, topic).items()}


class TestTheConsumer:
    def test_aborted_records_are_skipped_and_later_ones_are_decided(
        self, kafka: KafkaSettings, sender: Sender, known: Database
    ) -> None:
        rows = rows_of(5, prefix="right")
        sender.abort(more_expensive(rows))
        sender.commit(rows)
        with consuming(kafka, known):
            until(lambda: len(decided(known)) == 5, what="five decisions")
        assert everything(kafka, kafka.dead_letter_topic) == []
        with known.transaction(read_only=True) as connection:
            stored = connection.execute(sa.select(TRANSACTIONS.c.transaction_id, TRANSACTIONS.c.amount_cents)).all()
        assert sorted(map(tuple, stored)) == sorted((row.transaction_id, row.amount_cents) for row in rows)

    def test_an_open_transaction_is_no_lag_and_is_decided_after_its_commit(
        self, kafka: KafkaSettings, sender: Sender, known: Database
    ) -> None:
        before, opened, behind = rows_of(4, prefix="before"), rows_of(6, prefix="opened"), rows_of(3, prefix="behind")
        sender.commit(before)
        sender.begin(opened)
        plain = [transaction_message(row, currency="EUR") for row in behind]
        send(kafka, kafka.transactions_topic, plain, partition=0)
        with consuming(kafka, known) as heard:
            until(lambda: len(decided(known)) == 4, what="what was committed")
            until(lambda: sum(heard.lags.values()) == 0 and len(heard.lags) == 2, what="no lag")
            assert lags(kafka, known) == 0
            assert set(decided(known)) == {row.transaction_id for row in before}
            sender.producer.commit_transaction()
            until(lambda: len(decided(known)) == 13, what="the rest")
        assert everything(kafka, kafka.dead_letter_topic) == []

    def test_control_records_at_the_end_of_a_topic_are_no_lag(
        self, kafka: KafkaSettings, sender: Sender, known: Database
    ) -> None:
        """Control records and aborted records take offsets, and may be the last ones for days."""
        sender.commit(rows_of(4, prefix="committed"))
        sender.abort(rows_of(30, prefix="aborted"))
        with consuming(kafka, known) as heard:
            until(lambda: len(decided(known)) == 4, what="what was committed")
            until(lambda: lags(kafka, known) == 0, what="no lag in the database")
            until(lambda: sum(heard.lags.values()) == 0 and len(heard.lags) == 2, what="no lag of the consumer")
        bounds = extents(kafka, [kafka.transactions_topic])
        assert plan(bounds, positions_of(kafka, known), most=100) == ()


class TestRanges:
    def test_runs_decide_what_is_committed_up_to_an_open_transaction_and_the_rest_later(
        self, kafka: KafkaSettings, sender: Sender, settings: Settings, known: Database
    ) -> None:
        rows, opened = rows_of(5, prefix="right"), rows_of(6, prefix="opened")
        sender.abort(more_expensive(rows))
        sender.commit(rows)
        sender.begin(opened)
        assert scored(kafka, settings, known) == 5
        assert lags(kafka, known) == 0
        sender.producer.commit_transaction()
        assert scored(kafka, settings, known) == 6
        assert lags(kafka, known) == 0
        assert everything(kafka, kafka.dead_letter_topic) == []


def scored(kafka: KafkaSettings, settings: Settings, database: Database) -> int:
    """Score everything that the sensor would plan now; returns the number of decisions."""
    count = 0
    with range_scorer(kafka, settings, patience=5.0) as scorer:
        for _ in range(20):
            ranges = plan(extents(kafka, [kafka.transactions_topic]), positions_of(kafka, database), most=4)
            if not ranges:
                return count
            count += sum(scorer.score(range_).decided for range_ in ranges)
    pytest.fail("the ranges of a topic do not end")


def test_dead_letters_are_listed_to_their_end_during_open_transactions(kafka: KafkaSettings, sender: Sender) -> None:
    sender.producer.begin_transaction()
    sender.producer.send(kafka.dead_letter_topic, value=b"no letter of ours", partition=0)
    sender.producer.flush()
    assert list(dead_letters(kafka)) == []
    sender.producer.abort_transaction()
    assert list(dead_letters(kafka)) == []
