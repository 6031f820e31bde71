"""Helpers of stream tests: transactions to send, topics read to their end, the state of a database afterwards.

Must not be here: brokers (`brokers.py`), assertions.
"""

import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
import pandas as pd
import sqlalchemy as sa
from kafka import KafkaProducer, TopicPartition

from fraud_pipeline.database import Database, Position, scoring_batch
from fraud_pipeline.database.history import load_history
from fraud_pipeline.database.merchant_day_refresh import refresh_merchant_days
from fraud_pipeline.database.tables import ALERTS, DECISIONS
from fraud_pipeline.features.config import DEFAULT_FEATURE_CONFIG, FeatureConfig
from fraud_pipeline.messaging.topics import KafkaSettings, Message, open_consumer, open_producer
from fraud_pipeline.modeling.model_directory import FraudModel
from fraud_pipeline.policy.decisions import Policy
from fraud_pipeline.schema.transactions import (
    CHANNELS,
    DAY,
    REPORT_COLUMNS,
    SECOND,
    TRANSACTION_COLUMNS,
    TransactionRow,
    now_microseconds,
    times,
)
from fraud_pipeline.scoring.decision_record import ScoringResult
from fraud_pipeline.scoring.scorer import Scorer
from fraud_pipeline_tests.support.loaded import Loaded
from fraud_pipeline_tests.support.small_world import LABEL_MATURITY
from fraud_pipeline_tests.support.waiting import LIMIT_SECONDS
from serving.stream.consumer import Away
from serving.stream.handler import BatchResult, StreamScorer
from serving.stream.known_record import ScoresRows
from serving.stream.records import Partition

SESSION: Final = {"session_timeout_ms": 6_000, "heartbeat_interval_ms": 1_000, "fetch_max_wait_ms": 10}
"""The shortest session that Apache Kafka allows."""


def transactions(count: int, *, customers: int, end: int, seed: int = 7, prefix: str = "t") -> list[TransactionRow]:
    """Transactions in order of time, the last at `end`; the same for the same arguments."""
    random = np.random.default_rng(seed)
    who = random.integers(0, customers, count)
    where = random.integers(0, 40, count)
    cents = np.maximum(1, random.lognormal(8, 1.2, count).astype(int))
    countries = random.choice(["DE", "FR", "BR"], count, p=[0.9, 0.08, 0.02])
    return [
        TransactionRow(
            f"{prefix}{number}",
            end - (count - 1 - number) * 60 * SECOND,
            f"c{who[number]}",
            f"m{where[number]}",
            int(cents[number]),
            "groceries",
            CHANNELS[number % len(CHANNELS)],
            str(countries[number]),
        )
        for number in range(count)
    ]


def remember_before(database: Database, rows: Sequence[TransactionRow]) -> None:
    """Store history before these rows: events of the same customers and shops, frauds, merchant days."""
    customers = len({row.customer_id for row in rows})
    before = transactions(3_000, customers=customers, end=rows[0].event_time - 2 * DAY, seed=11, prefix="before-")
    events = pd.DataFrame(before, columns=TransactionRow._fields)[list(TRANSACTION_COLUMNS)]
    events["event_time"] = times(events["event_time"].to_numpy())
    reports = events.iloc[::25].assign(is_fraud=True)
    reports["reported_at"] = reports["event_time"] + pd.Timedelta(days=1)
    load_history(database, transactions=events, reports=reports[list(REPORT_COLUMNS)])
    for config in (DEFAULT_FEATURE_CONFIG, FeatureConfig(label_maturity=LABEL_MATURITY)):
        refresh_merchant_days(
            database,
            now=pd.Timestamp.now(tz="UTC"),
            lookback=config.engineer().lookback,
            label_maturity=config.label_maturity,
        )


def of_every_decision(model: FraudModel, rows: Sequence[TransactionRow]) -> FraudModel:
    """The model with thresholds at which it allows, reviews and blocks some of these."""
    with closing(Database("sqlite://")) as database:
        database.upgrade()
        remember_before(database, rows)
        scorer = Scorer(database=database, champion=lambda: Loaded(model))
        probabilities = sorted(
            {result.probability or 0.0 for result in scorer.score(rows) if isinstance(result, ScoringResult)}
        )
    review, block = probabilities[-len(probabilities) // 5], probabilities[-len(probabilities) // 20]
    return replace(model, policy=Policy(review_threshold=review, block_threshold=block))


def send(kafka: KafkaSettings, topic: str, messages: Iterable[Message], *, partition: int | None = None) -> None:
    """Send these in order, to the partition of their key or to this one, and wait until all are acknowledged."""
    with closing(open_producer(kafka)) as producer:
        sent = [producer.send(topic, partition=partition, **message._asdict()) for message in messages]
        producer.flush()
        for sent_message in sent:
            sent_message.get(timeout=LIMIT_SECONDS)


def everything(kafka: KafkaSettings, topic: str) -> list[Any]:
    """All records of a topic, those of one partition in their order."""
    with closing(open_consumer(kafka, fetch_max_wait_ms=10)) as consumer:
        partitions = [TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic))]
        consumer.assign(partitions)
        consumer.seek_to_beginning()
        read_records: list[Any] = []

        def ended(partition: TopicPartition) -> bool:
            end = consumer.highwater(partition)
            return end is not None and consumer.position(partition) >= end

        while not all(ended(partition) for partition in partitions):
            for records in consumer.poll(timeout_ms=50).values():
                read_records.extend(records)
        return sorted(read_records, key=lambda record: (record.partition, record.offset))


def records_of(kafka: KafkaSettings, topic: str) -> dict[Partition, list[Any]]:
    """All records of a topic as one batch."""
    by_partition: dict[Partition, list[Any]] = {}
    for record in everything(kafka, topic):
        by_partition.setdefault(Partition(topic, record.partition), []).append(record)
    return by_partition


def header(record: Any, name: str) -> str:
    """The header of a dead letter with this name."""
    return str(dict(record.headers)[f"dead-letter-{name}"].decode())


def sources(dead_letters: Iterable[Any]) -> set[tuple[str, int, int]]:
    """The source of dead letters, which identifies them: a crash may send one twice."""
    return {
        (header(letter, "topic"), int(header(letter, "partition")), int(header(letter, "offset")))
        for letter in dead_letters
    }


def stream_scorer(
    kafka: KafkaSettings, database: Database, producer: KafkaProducer, *, scorer: ScoresRows | None = None
) -> StreamScorer:
    """A handler of batches, with this scorer or by rules with an empty cache as after a start."""
    return StreamScorer(
        scorer=scorer or Scorer(database=database, champion=lambda: None),
        database=database,
        producer=producer,
        kafka=kafka,
        currency="EUR",
        clock=now_microseconds,
    )


def claim(database: Database, partitions: Iterable[Partition]) -> dict[Partition, Position]:
    """Become the one reader of these partitions."""
    with scoring_batch(database) as batch:
        return {at: batch.positions.claim(*at, start=0) for at in sorted(partitions)}


def standing(database: Database, topic: str) -> Mapping[int, Position]:
    """The positions of every partition of a topic."""
    with scoring_batch(database, read_only=True) as batch:
        return batch.positions.all(topic)


def passed(database: Database, topic: str) -> tuple[int, int]:
    """The number of decided records of a topic, and of published decisions."""
    positions = standing(database, topic).values()
    return sum(position.next_offset for position in positions), sum(position.published_offset for position in positions)


def decided(database: Database) -> dict[str, tuple[Any, ...]]:
    """Every decision with its inputs and its alert, without values that differ between two runs: versions, times."""
    columns = ("decision", "probability", "decided_by", "mode", "missing", "reasons", "model_version", "features")
    alert = ALERTS.c.decision.label("alert"), ALERTS.c.status
    query = sa.select(DECISIONS.c.transaction_id, *(DECISIONS.c[name] for name in columns), *alert).select_from(
        DECISIONS.outerjoin(ALERTS, ALERTS.c.transaction_id == DECISIONS.c.transaction_id)
    )
    with database.transaction(read_only=True) as connection:
        rows = connection.execute(query).all()
    decisions = {row[0]: tuple(row[1:]) for row in rows}
    assert len(decisions) == len(rows)
    return decisions


@dataclass(slots=True)
class Heard:
    """An observer that remembers."""

    batches: list[BatchResult] = field(default_factory=list)
    lags: dict[Partition, int] = field(default_factory=dict)
    waited_for: list[Away] = field(default_factory=list)

    def handled(self, handled: BatchResult, *, seconds: float) -> None:
        assert seconds >= 0
        self.batches.append(handled)

    def lag(self, partition: Partition, records: int | None) -> None:
        if records is None:
            self.lags.pop(partition, None)
        else:
            self.lags[partition] = records

    def waiting(self, away: Away | None) -> None:
        if away:
            self.waited_for.append(away)

    def total(self, name: str) -> int:
        """Of all batches."""
        return sum(int(getattr(batch, name)) for batch in self.batches)


@contextmanager
def running(loops: Sequence[Callable[[threading.Event], None]]) -> Iterator[None]:
    """These loops in threads of their own, stopped at the end; their errors are raised."""
    stop = threading.Event()
    failures: list[BaseException] = []

    def run(loop: Callable[[threading.Event], None]) -> None:
        try:
            loop(stop)
        except BaseException as error:  # noqa: BLE001 - raised again by the test's own thread
            failures.append(error)

    threads = [threading.Thread(target=run, args=(loop,)) for loop in loops]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)
    if failures:
        raise failures[0]


@contextmanager
def database_away(url: str) -> Iterator[None]:
    """Refuse all writes to the database; PostgreSQL cuts all connections and accepts no new ones."""
    made = sa.make_url(url)
    if made.get_backend_name() == "sqlite":
        with closing(sqlite3.connect(str(made.database), isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield
        return
    server = sa.create_engine(
        made.set(drivername="postgresql+psycopg", database="postgres"), isolation_level="AUTOCOMMIT"
    )
    try:
        with server.connect() as connection:
            connection.execute(sa.text(f"ALTER DATABASE {made.database} ALLOW_CONNECTIONS false"))
            connection.execute(
                sa.text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name"),
                {"name": made.database},
            )
            try:
                yield
            finally:
                connection.execute(sa.text(f"ALTER DATABASE {made.database} ALLOW_CONNECTIONS true"))
    finally:
        server.dispose()
