"""Chaos tests with real processes, a real broker and PostgreSQL: no decision is lost or made twice.

    pytest -m chaos

runs these, the bad records, the simulations and the two entrances, and prints their counts. CHAOS_TRANSACTIONS is the
number of transactions of a seed. Decisions are compared, row by row and down to the bytes of the features, with those
of one process without faults.
"""

import json
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final, get_args
from uuid import uuid4

import pytest

from fraud_pipeline.database import Database
from fraud_pipeline.messaging.topics import (
    KafkaSettings,
    Message,
    ensure_topics,
    open_producer,
    report_message,
    transaction_message,
)
from fraud_pipeline.modeling.training import TrainedModel
from fraud_pipeline.schema.transactions import DAY, TransactionRow, now_microseconds
from fraud_pipeline.scoring.scorer import Scorer
from fraud_pipeline.settings import Settings
from fraud_pipeline_tests.support.brokers import Broker, topics_of_our_own
from fraud_pipeline_tests.support.consumer_process import Consumers, Death, consumers
from fraud_pipeline_tests.support.proof import COUNTS, SAID
from fraud_pipeline_tests.support.streams import (
    database_away,
    decided,
    everything,
    of_every_decision,
    passed,
    remember_before,
    send,
    sources,
    transactions,
)
from fraud_pipeline_tests.support.waiting import until
from serving.runtime.champion import ChampionHolder
from serving.stream.handler import Point

pytestmark = [pytest.mark.chaos, pytest.mark.slow]

TRANSACTIONS: Final = int(os.environ.get("CHAOS_TRANSACTIONS", "20000"))
CUSTOMERS: Final = 400
KILLS: Final = 12
AWAY_SECONDS: Final = 30.0
RATE: Final = 200
# Not asserted: they are of a machine that does nothing else.
SECONDS_OF_A_SEED: Final = 90
SECONDS_AFTER_RETURN: Final = 30
SENT: Final = now_microseconds()
EVENTS: Final = transactions(2_000, customers=CUSTOMERS, end=SENT - 14 * DAY)
"""Of the customers and shops of all that is sent, before it."""
BAD: Final = Message(b"c1", b"nonsense", [])


@dataclass(slots=True)
class Proof:
    """New topics, an empty database, a home directory with the champion, and consumers."""

    kafka: KafkaSettings
    database: Database
    consumers: Consumers

    def send(self, rows: Sequence[TransactionRow]) -> None:
        send(self.kafka, self.kafka.transactions_topic, [transaction_message(row, currency="EUR") for row in rows])

    def passed(self) -> int:
        """Records that need no more attention."""
        return passed(self.database, self.kafka.transactions_topic)[1]

    def has_passed(self, count: int) -> bool:
        return self.passed() >= count

    def published(self) -> Counter[str]:
        """How often each decision was published."""
        records = everything(self.kafka, self.kafka.decisions_topic)
        return Counter(json.loads(record.value)["transaction_id"] for record in records)

    def without_faults(self, rows: Sequence[TransactionRow]) -> dict[str, tuple[Any, ...]]:
        """The decisions of one process without faults."""
        holder = ChampionHolder(Settings(home=self.consumers.home).champion_directory)
        holder.check_now()
        with closing(Database("sqlite://")) as database:
            database.upgrade()
            remember_before(database, EVENTS)
            scorer = Scorer(database=database, champion=holder.current)
            for first in range(0, len(rows), 500):
                scorer.score(rows[first : first + 500])
            return decided(database)


@pytest.fixture(scope="module")
def home(trained: TrainedModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a champion."""
    directory = tmp_path_factory.mktemp("home")
    of_every_decision(trained.model, EVENTS).save(Settings(home=directory).champion_directory)
    return directory


@pytest.fixture
def proof(broker: Broker, empty_postgres_url: str, home: Path) -> Iterator[Proof]:
    kafka = topics_of_our_own(broker)
    ensure_topics(kafka)
    with closing(Database(empty_postgres_url, statement_timeout=timedelta(seconds=20))) as database:
        database.upgrade()
        remember_before(database, EVENTS)
        with consumers(home, empty_postgres_url, kafka) as processes:
            yield Proof(kafka, database, processes)


Report = Callable[[str], None]


@pytest.fixture
def report(record_property: Callable[[str, object], None], broker: Broker) -> Report:
    """Counts belong to the proof."""
    return lambda text: record_property(SAID, f"{text} ({broker.name})")


@pytest.mark.parametrize("seed", [1, 2])
def test_consumers_are_killed_at_random_moments(proof: Proof, seed: int, report: Report) -> None:
    dice = random.Random(seed)  # noqa: S311 - nothing secret
    rows = transactions(TRANSACTIONS, customers=CUSTOMERS, end=SENT, seed=seed)
    bad = TRANSACTIONS // 100
    started = time.monotonic()
    proof.send(rows[: len(rows) // 2])
    send(proof.kafka, proof.kafka.transactions_topic, [BAD] * bad)
    proof.send(rows[len(rows) // 2 :])
    alive = [proof.consumers.start() for _ in range(3)]
    moments = sorted(dice.randrange(TRANSACTIONS // 50, TRANSACTIONS * 19 // 20) for _ in range(KILLS))
    for moment in moments:
        until(partial(proof.has_passed, moment))
        time.sleep(dice.random() * 0.2)
        victim = dice.randrange(3)
        alive[victim].kill()
        alive[victim].join()
        alive[victim] = proof.consumers.start()
    until(lambda: proof.passed() == TRANSACTIONS + bad)
    seconds = time.monotonic() - started

    stored, published = decided(proof.database), proof.published()
    dead_letters = everything(proof.kafka, proof.kafka.dead_letter_topic)
    expected = proof.without_faults(rows)
    differing = sum(stored.get(id_) != decision for id_, decision in expected.items())
    report(
        f"seed {seed}: {TRANSACTIONS:,} transactions, {len(moments)} kill -9 of 3 consumers, "
        f"{len(stored):,} decisions, {len(sources(dead_letters)):,} of {bad:,} bad records dead-lettered, "
        f"{differing:,} decisions or features differ "
        f"from a run without faults, {published.total() - len(published):,} published again, "
        f"{seconds:.0f} s (bar: {SECONDS_OF_A_SEED})"
    )
    assert stored == expected
    assert set(published) == set(stored)
    assert len(sources(dead_letters)) == bad
    assert {decision[0] for decision in stored.values()} == {"allow", "review", "block"}


@pytest.mark.parametrize("point", get_args(Point))
def test_a_process_that_dies_at_any_point_needs_no_repair(
    proof: Proof, point: Point, record_property: Callable[[str, object], None]
) -> None:
    rows = transactions(400, customers=40, end=SENT)
    conflict = rows[7]._replace(merchant_id="another")
    proof.send([*rows[:200], conflict])
    send(proof.kafka, proof.kafka.transactions_topic, [BAD])
    send(proof.kafka, proof.kafka.reports_topic, [report_message("nobody", is_fraud=True)])
    proof.send(rows[200:])
    # The group revokes nothing when it first takes a member in; one batch or more is handled before the others.
    dies = proof.consumers.start(death=Death(point, time=1 if point.startswith("dead_letter") else 2))
    if point == "revoked":
        until(lambda: proof.passed() > 0)
        proof.consumers.start()  # the group gives it a share of the partitions
    dies.join(60)
    assert dies.exitcode == -9
    # Another group need not wait until the dead one is noticed; the database decides who reads which partition.
    proof.consumers.start(group=None if point == "revoked" else uuid4().hex)
    until(lambda: proof.passed() == 402)
    until(lambda: passed(proof.database, proof.kafka.reports_topic) == (1, 1))
    assert decided(proof.database) == proof.without_faults(rows)
    assert set(proof.published()) == {row.transaction_id for row in rows}
    assert len(sources(everything(proof.kafka, proof.kafka.dead_letter_topic))) == 2
    record_property(COUNTS, {"processes that died at a point of the order, with nothing to mend": 1})


def test_a_rolling_restart_repeats_nothing(proof: Proof, broker: Broker, report: Report) -> None:
    if broker.name == "Tansu":
        pytest.skip("Tansu at times leaves a group's joins unanswered: install Java 17 and Maven for Apache Kafka")
    rows = transactions(6_000, customers=CUSTOMERS, end=SENT)
    alive = [proof.consumers.start() for _ in range(3)]
    with sending(proof, rows, rate=500):
        for position in range(3):
            until(partial(proof.has_passed, 1_000 * (position + 1)))
            old = alive[position]
            alive[position] = proof.consumers.start()
            assert proof.consumers.stop(old) == 0
    until(lambda: proof.passed() == len(rows))
    published = proof.published()
    report(f"rolling restart: {len(rows):,} transactions, {published.total() - len(published)} published again")
    assert published == Counter(row.transaction_id for row in rows)
    assert decided(proof.database) == proof.without_faults(rows)


@pytest.mark.parametrize("what", ["database", "broker"])
def test_half_a_minute_without(
    proof: Proof, broker: Broker, empty_postgres_url: str, what: str, report: Report
) -> None:
    rows = transactions(round(RATE * (AWAY_SECONDS + 10)), customers=CUSTOMERS, end=SENT)
    proof.consumers.start()
    with sending(proof, rows, rate=RATE):
        until(lambda: proof.passed() >= 5 * RATE)
        with database_away(empty_postgres_url) if what == "database" else broker.away():
            time.sleep(AWAY_SECONDS)
        back = time.monotonic()
        proof.database.close()  # connections of the test itself were cut, too
    until(lambda: proof.passed() == len(rows))
    seconds = time.monotonic() - back
    dead_letters = everything(proof.kafka, proof.kafka.dead_letter_topic)
    report(
        f"{what} away for {AWAY_SECONDS:.0f} s at {RATE} a second: {len(rows):,} sent, "
        f"{len(decided(proof.database)):,} decided, {len(dead_letters)} put aside, "
        f"all done {seconds:.0f} s after its return (bar: {SECONDS_AFTER_RETURN})"
    )
    assert set(decided(proof.database)) == set(proof.published()) == {row.transaction_id for row in rows}
    assert dead_letters == []


@contextmanager
def sending(proof: Proof, rows: Sequence[TransactionRow], *, rate: float) -> Iterator[None]:
    """Rows are sent at a rate meanwhile; all are acknowledged when the block is left."""

    def run() -> None:
        with closing(open_producer(proof.kafka)) as producer:
            started = time.monotonic()
            for number, row in enumerate(rows):
                time.sleep(max(0.0, started + number / rate - time.monotonic()))
                message = transaction_message(row, currency="EUR")
                sent.append(producer.send(proof.kafka.transactions_topic, **message._asdict()))
            producer.flush()

    sent: list[Any] = []
    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        thread.join()
    for sent_message in sent:
        sent_message.get(timeout=0)
