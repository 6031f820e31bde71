"""The stream against a real broker and both databases: one decision or one dead letter each, whatever goes away.

Handling one batch comes first, in the order of things becoming lasting; the loop around it second.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, get_args

import pandas as pd
import pytest
import sqlalchemy as sa
from kafka import KafkaProducer, TopicPartition
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.errors import KafkaError, TopicAuthorizationFailedError

from fraud_pipeline.database import Database, FencedError
from fraud_pipeline.database.history import read_reports
from fraud_pipeline.database.tables import FRAUD_REPORTS, PENDING_REPORTS
from fraud_pipeline.messaging.topics import (
    KafkaSettings,
    Message,
    ensure_topics,
    message,
    open_admin,
    open_consumer,
    open_producer,
    report_message,
    transaction_message,
)
from fraud_pipeline.schema.money import Conversion
from fraud_pipeline.schema.own_fields import OwnField
from fraud_pipeline.schema.transactions import DAY, HOUR, TransactionRow, now_microseconds
from fraud_pipeline.scoring.micro_batch import NO_REQUEST_IDS, MicroBatch, RequestIdsOfRows
from fraud_pipeline.scoring.scorer import Scorer
from fraud_pipeline_tests.support.brokers import Broker, topics_of_our_own
from fraud_pipeline_tests.support.proof import SAID
from fraud_pipeline_tests.support.raw_batches import CODECS, NotUtf8, bad_batches, batch_of, send_batch
from fraud_pipeline_tests.support.streams import (
    SESSION,
    Heard,
    claim,
    database_away,
    decided,
    everything,
    header,
    passed,
    records_of,
    running,
    send,
    sources,
    standing,
    transactions,
)
from fraud_pipeline_tests.support.waiting import until
from serving.http.own_fields import DeclaredFields, nothing_declared
from serving.http.requests import no_conversion
from serving.stream.consumer import POLL_SECONDS, StreamConsumer
from serving.stream.dead_letters import Replayed, replay
from serving.stream.handler import BatchResult, Point, StreamScorer
from serving.stream.known_record import ScoresRows

POINTS_OF_A_BATCH: Final = [point for point in get_args(Point) if point not in ("polled", "committed", "revoked")]
SENT: Final = now_microseconds()
BEGINNING: Final = pd.Timestamp(0, tz="UTC")
END: Final = pd.Timestamp("2200-01-01", tz="UTC")


class CrashError(BaseException):
    """Stands for the end of the process."""


class SlowAssignor(RangePartitionAssignor):  # type: ignore[misc]  # kafka-python has no types
    """Takes longer to give out partitions than a poll of the consumer lasts."""

    @classmethod
    def assign(cls, cluster: Any, members: Any) -> Any:
        time.sleep(2 * POLL_SECONDS)
        return super().assign(cluster, members)


@dataclass(frozen=True, slots=True)
class Allergic:
    """A scorer that fails in a way nobody thought of, whenever one transaction is among the rows."""

    scorer: Scorer
    to: str

    @contextmanager
    def transaction(
        self, rows: Sequence[TransactionRow], *, request_ids: RequestIdsOfRows = NO_REQUEST_IDS
    ) -> Iterator[MicroBatch]:
        with self.scorer.transaction(rows, request_ids=request_ids) as scored:
            yield scored
            if any(row.transaction_id == self.to for row in rows):
                raise ZeroDivisionError(str(rows))


@dataclass(slots=True)
class World:
    """Topics of our own, one database, and one producer for what the stream says."""

    kafka: KafkaSettings
    database: Database
    producer: KafkaProducer
    later: int = 0

    def scorer(self) -> Scorer:
        """With an empty memory as after a start."""
        return Scorer(database=self.database, champion=lambda: None)

    def stream(
        self,
        *,
        scorer: ScoresRows | None = None,
        reached: Callable[[Point], None] = lambda _point: None,
        declared: DeclaredFields = nothing_declared,
        conversion: Callable[[], Conversion | None] = no_conversion,
    ) -> StreamScorer:
        """What handles batches; its clock is `later` than ours."""
        return StreamScorer(
            scorer=scorer or self.scorer(),
            database=self.database,
            producer=self.producer,
            kafka=self.kafka,
            currency="EUR",
            clock=lambda: now_microseconds() + self.later,
            declared=declared,
            conversion=conversion,
            acknowledge_within=2.0,
            reached=reached,
        )

    def loop(
        self,
        heard: Heard,
        *,
        group: str = "one",
        max_records: int = 500,
        database: Database | None = None,
        reached: Callable[[Point], None] = lambda _point: None,
        **client: Any,
    ) -> StreamConsumer:
        """A member of a group, with these settings of its client."""
        world = World(self.kafka, database or self.database, self.producer)
        return StreamConsumer(
            consumer=open_consumer(self.kafka, group_id=group, **SESSION, **client),
            topics=[self.kafka.transactions_topic, self.kafka.reports_topic],
            stream=world.stream(reached=reached),
            database=world.database,
            observer=heard,
            max_records=max_records,
        )

    def send(self, rows: Sequence[TransactionRow]) -> None:
        send(self.kafka, self.kafka.transactions_topic, [transaction_message(row, currency="EUR") for row in rows])

    def send_in_dollars(self, row: TransactionRow) -> None:
        send(self.kafka, self.kafka.transactions_topic, [transaction_message(row, currency="USD")])

    def handle(
        self,
        *,
        scorer: ScoresRows | None = None,
        reached: Callable[[Point], None] = lambda _point: None,
        declared: DeclaredFields = nothing_declared,
        conversion: Callable[[], Conversion | None] = no_conversion,
    ) -> BatchResult:
        """Everything that was sent as one batch, by a reader who has just claimed it."""
        records = records_of(self.kafka, self.kafka.transactions_topic) | records_of(
            self.kafka, self.kafka.reports_topic
        )
        positions = claim(self.database, records)
        rest = {at: of_partition[positions[at].published_offset :] for at, of_partition in records.items()}
        return self.stream(scorer=scorer, reached=reached, declared=declared, conversion=conversion).handle(
            {at: of_partition for at, of_partition in rest.items() if of_partition}, positions
        )

    def dead_letters(self) -> list[Any]:
        return everything(self.kafka, self.kafka.dead_letter_topic)

    def reports(self) -> dict[str, list[tuple[int, bool]]]:
        """What was reported of which transaction, and when."""
        reports: dict[str, list[tuple[int, bool]]] = {}
        columns = (FRAUD_REPORTS.c[name] for name in ("transaction_id", "reported_at", "is_fraud"))
        with self.database.transaction(read_only=True) as connection:
            for id_, *report in connection.execute(sa.select(*columns).order_by(FRAUD_REPORTS.c.reported_at)):
                reports.setdefault(id_, []).append((report[0], report[1]))
        return reports

    def pending(self) -> int:
        """How many reports wait for their transaction."""
        with self.database.transaction(read_only=True) as connection:
            return connection.execute(sa.select(sa.func.count()).select_from(PENDING_REPORTS)).scalar_one()

    def published(self) -> list[str]:
        """The ids of published decisions."""
        return [json.loads(record.value)["transaction_id"] for record in self.published_records()]

    def published_records(self) -> list[Any]:
        return everything(self.kafka, self.kafka.decisions_topic)

    def passed(self) -> tuple[int, int]:
        return passed(self.database, self.kafka.transactions_topic)


@pytest.fixture
def world(broker: Broker, database: Database) -> Iterator[World]:
    kafka = topics_of_our_own(broker)
    ensure_topics(kafka)
    with closing(open_producer(kafka, max_block_ms=2_000)) as producer:
        yield World(kafka, database, producer)


def converts_dollars() -> Conversion:
    """A champion that was trained with a rate of USD."""
    return Conversion(reporting="EUR", rates=(("USD", 0.92),))


def declares_age() -> dict[str, OwnField]:
    return {"age": OwnField(name="age", type="number")}


def bad_messages() -> dict[str, Message]:
    """Messages that nobody can score, each for a reason of its own."""
    good = transaction_message(TransactionRow("bad", SENT, "c1", "m1", 100), currency="EUR")
    value = good.value or b""

    def but(**changes: Any) -> bytes:
        return json.dumps({**json.loads(value), **changes}).encode()

    values: dict[str, bytes | None] = {
        "no value": None,
        "empty": b"",
        "not JSON": b"transaction",
        "pickle": b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8c\x07posix",
        "not UTF-8": value.replace(b"bad", b"\xff\xfe"),
        "half a message": value[: len(value) // 2],
        "a list": b"[]",
        "nested without end": b"[" * 10_000,
        "too large": but(merchant_id="m" * 20_000),
        "no schema": but(schema=None),
        "schema of the future": but(schema=2),
        "duplicate key": value.replace(b'"schema":1', b'"schema":1,"schema":1'),
        "unknown field": but(card_number="0" * 16),
        "no customer": but(customer_id=None),
        "control character": but(customer_id="c\x00"),
        "lone surrogate": value.replace(b"bad", b"\\ud800"),
        "amount above the cap": but(amount=10**9),
        "amount finer than a cent": but(amount=0.001),
        "amount not finite": but(amount=float("nan")),
        "amount beyond any": value.replace(b'"amount":1.0', b'"amount":1e400'),
        "other currency": but(currency="XXX"),
        "time unreadable": but(event_time="yesterday"),
        "time in the future": but(event_time="2124-01-01T00:00:00Z"),
        "time long ago": but(event_time="2020-01-01T00:00:00Z"),
        "half a position": but(latitude=1.0),
    }
    return {name: Message(b"c1", sent, []) for name, sent in values.items()} | {
        "header of another schema": good._replace(headers=[("schema-version", b"9")])
    }


class TestOneBatch:
    def test_every_transaction_is_decided_and_published_once_with_the_offsets_in_the_database(
        self, world: World
    ) -> None:
        rows = transactions(300, customers=20, end=SENT)
        world.send(rows)
        handled = world.handle()
        assert (handled.decided, handled.replayed, handled.dead_letters) == (300, 0, 0)
        assert sorted(decided(world.database)) == sorted(world.published()) == sorted(row[0] for row in rows)
        assert world.passed() == (300, 300)

    def test_decisions_of_a_customer_are_published_in_the_order_of_the_transactions(self, world: World) -> None:
        rows = transactions(100, customers=5, end=SENT)
        world.send(rows)
        world.handle()
        for customer in {row.customer_id for row in rows}:
            published = [record for record in world.published_records() if record.key == customer.encode()]
            assert [json.loads(record.value)["transaction_id"] for record in published] == [
                row.transaction_id for row in rows if row.customer_id == customer
            ]

    def test_features_of_a_batch_equal_those_of_one_at_a_time(self, world: World) -> None:
        rows = transactions(60, customers=3, end=SENT)
        world.send(rows)
        world.handle()
        with closing(Database("sqlite://")) as other:
            other.upgrade()
            scorer = Scorer(database=other, champion=lambda: None)
            for row in rows:
                scorer.score([row])
            assert decided(other) == decided(world.database)

    def test_what_was_published_only_in_part_is_published_again_and_not_decided_again(self, world: World) -> None:
        rows = transactions(40, customers=5, end=SENT)
        world.send(rows)
        with pytest.raises(CrashError):
            world.handle(reached=crash_at("stored"))
        assert world.passed() == (40, 0)
        before = decided(world.database)
        handled = world.handle()
        assert (handled.decided, handled.replayed) == (0, 40)
        assert decided(world.database) == before
        assert world.passed() == (40, 40)
        assert sorted(world.published()) == sorted(before)

    def test_what_was_decided_in_one_batch_may_be_published_in_several(self, world: World) -> None:
        world.send(transactions(40, customers=1, end=SENT))
        with pytest.raises(CrashError):
            world.handle(reached=crash_at("stored"))
        ((at, records),) = records_of(world.kafka, world.kafka.transactions_topic).items()
        positions = claim(world.database, [at])
        for first in range(0, 40, 15):
            positions = dict(world.stream().handle({at: records[first : first + 15]}, positions).positions)
            assert world.passed() == (40, min(40, first + 15))
        assert sorted(world.published()) == sorted(decided(world.database))

    def test_the_same_bytes_are_published_again(self, world: World) -> None:
        world.send(transactions(5, customers=1, end=SENT))
        with pytest.raises(CrashError):
            world.handle(reached=crash_at("published"))
        world.handle()
        records = world.published_records()
        assert [record.value for record in records[:5]] == [record.value for record in records[5:]]
        assert [record.headers for record in records[:5]] == [record.headers for record in records[5:]]

    def test_a_bad_message_is_put_aside_as_it_came_with_where_it_stood_and_why(self, world: World) -> None:
        bad = Message(b"c1", b'{"schema": 1}', [("trace", b"4bf9")])
        send(world.kafka, world.kafka.transactions_topic, [bad], partition=2)
        handled = world.handle()
        assert handled.dead_letters == 1
        (letter,) = world.dead_letters()
        assert (letter.key, letter.value, letter.headers[0]) == (bad.key, bad.value, ("trace", b"4bf9"))
        assert sources([letter]) == {(world.kafka.transactions_topic, 2, 0)}
        assert (header(letter, "reason"), header(letter, "path")) == ("missing", "transaction_id")
        assert world.passed() == (1, 1)

    def test_the_same_id_with_another_content_is_put_aside_and_the_first_stands(self, world: World) -> None:
        first = transactions(1, customers=1, end=SENT)[0]
        world.send([first, first._replace(amount_cents=first.amount_cents + 1), first])
        handled = world.handle()
        assert (handled.decided, handled.replayed, handled.dead_letters) == (1, 1, 1)
        assert [header(letter, "reason") for letter in world.dead_letters()] == ["conflict"]
        assert list(decided(world.database)) == [first.transaction_id]

    def test_a_conflict_that_is_read_again_is_not_put_aside_again(self, world: World) -> None:
        first = transactions(1, customers=1, end=SENT)[0]
        world.send([first, first._replace(amount_cents=first.amount_cents + 1)])
        with pytest.raises(CrashError):
            world.handle(reached=crash_at("stored"))
        world.handle()
        assert len(world.dead_letters()) == 1

    def test_a_report_of_a_transaction_in_the_same_batch_is_kept(self, world: World) -> None:
        world.send(transactions(3, customers=1, end=SENT))
        send(world.kafka, world.kafka.reports_topic, [report_message("t1", is_fraud=True)])
        assert world.handle().reports == 1
        assert read_reports(world.database, start=BEGINNING, end=END)["transaction_id"].tolist() == ["t1"]

    def test_a_report_before_its_transaction_is_kept_until_that_comes(self, world: World) -> None:
        early, unreadable = report_message("t1", is_fraud=True), message("t1", {"transaction_id": "t1"})
        send(world.kafka, world.kafka.reports_topic, [early, unreadable])
        handled = world.handle()
        assert (handled.reports, handled.dead_letters) == (1, 1)
        assert [header(letter, "reason") for letter in world.dead_letters()] == ["missing"]
        assert passed(world.database, world.kafka.reports_topic) == (2, 2)
        assert world.reports() == {}
        world.send(transactions(3, customers=1, end=SENT))
        assert world.handle().dead_letters == 0
        (sent,) = (
            record.timestamp
            for record in everything(world.kafka, world.kafka.reports_topic)
            if record.value == early[1]
        )
        assert world.reports() == {"t1": [(sent * 1_000, True)]}
        assert world.pending() == 0

    def test_a_kept_report_is_found_when_its_transaction_comes_another_way(self, world: World) -> None:
        send(world.kafka, world.kafka.reports_topic, [report_message("t1", is_fraud=True)])
        world.handle()
        world.scorer().score(transactions(3, customers=1, end=SENT))
        world.send(transactions(1, customers=1, end=SENT, prefix="later"))
        world.handle()  # the first batch of a process looks for all that are kept
        assert (list(world.reports()), world.pending()) == (["t1"], 0)

    def test_a_report_of_nothing_known_is_put_aside_after_a_week(self, world: World) -> None:
        unknown = report_message("nobody", is_fraud=True)
        send(world.kafka, world.kafka.reports_topic, [unknown], partition=1)
        world.handle()
        send(world.kafka, world.kafka.reports_topic, [report_message("nobody else", is_fraud=True)])
        world.later = 7 * DAY - HOUR
        assert world.handle().dead_letters == 0
        world.later = 7 * DAY + HOUR
        with pytest.raises(CrashError):
            world.handle(reached=crash_at("published"))
        assert (world.pending(), len(world.dead_letters())) == (2, 1)
        assert world.handle().dead_letters == 1
        letters = world.dead_letters()
        assert sources(letters) == {(world.kafka.reports_topic, 1, 0)}
        assert {(letter.value, header(letter, "reason")) for letter in letters} == {
            (unknown.value, "unknown_transaction")
        }
        assert (world.handle().dead_letters, world.pending()) == (0, 1)

    def test_a_report_is_of_when_it_was_sent_and_never_before_its_transaction_or_after_now(self, world: World) -> None:
        rows = transactions(3, customers=1, end=SENT)
        world.send(rows)
        # Apache Kafka takes nothing that is more than an hour ahead.
        ahead = (now_microseconds() + HOUR // 2) // 1_000
        times = {"t0": SENT // 1_000, "t1": rows[1].event_time // 1_000 - 5_000, "t2": ahead}
        with closing(open_producer(world.kafka)) as producer:
            for id_, time in times.items():
                sent = report_message(id_, is_fraud=True)
                producer.send(world.kafka.reports_topic, **sent._asdict(), timestamp_ms=time).get(10)
        world.handle()
        reported_at = {id_: reported_at for id_, ((reported_at, _),) in world.reports().items()}
        assert (reported_at["t0"], reported_at["t1"]) == (SENT // 1_000 * 1_000, rows[1].event_time)
        assert SENT < reported_at["t2"] <= now_microseconds()

    def test_a_report_that_comes_late_does_not_undo_what_was_said_since(self, world: World) -> None:
        world.send(transactions(1, customers=1, end=SENT - HOUR))
        world.handle()
        scorer = world.scorer()
        with closing(open_producer(world.kafka)) as producer:
            first, again = report_message("t0", is_fraud=True), report_message("t0", is_fraud=True)
            producer.send(world.kafka.reports_topic, **first._asdict(), timestamp_ms=SENT // 1_000 - 2_000).get(10)
            reported_at = scorer.report("t0", is_fraud=False)
            producer.send(world.kafka.reports_topic, **again._asdict(), timestamp_ms=SENT // 1_000 - 1_000).get(10)
        world.handle()
        assert world.reports() == {"t0": [(SENT // 1_000 * 1_000 - 2_000_000, True), (reported_at, False)]}

    def test_a_transaction_is_judged_by_when_it_was_sent(self, world: World) -> None:
        # A backlog of any age is scored, and what was in the future then is bad for ever.
        old, early = (
            TransactionRow("old", SENT - 300 * DAY, "c1", "m1", 100),
            TransactionRow("early", SENT - 300 * DAY + HOUR, "c1", "m1", 100),
        )
        with closing(open_producer(world.kafka)) as producer:
            for row in (old, early):
                sent = transaction_message(row, currency="EUR")
                producer.send(
                    world.kafka.transactions_topic, **sent._asdict(), timestamp_ms=old.event_time // 1_000
                ).get(10)
        assert world.handle().dead_letters == 1
        assert list(decided(world.database)) == ["old"]
        assert [header(letter, "reason") for letter in world.dead_letters()] == ["future_time"]

    def test_a_champion_that_declares_otherwise_changes_nothing_about_what_was_read_before(self, world: World) -> None:
        """One decision or one dead letter, also when a process ends between two champions."""
        (row,) = transactions(1, customers=1, end=SENT)
        world.send([row._replace(own_fields='{"age":"old"}')])
        with pytest.raises(CrashError):
            world.handle(reached=crash_at("stored"))
        handled = world.handle(declared=declares_age)
        assert (handled.replayed, handled.decided, handled.dead_letters) == (1, 0, 0)
        assert world.published() == ["t0"]
        world.send([row._replace(transaction_id="u0", own_fields='{"age":"old"}')])
        with pytest.raises(CrashError):
            world.handle(declared=declares_age, reached=crash_at("dead_letter_acknowledged"))
        handled = world.handle()
        assert (handled.replayed, handled.decided, handled.dead_letters) == (0, 0, 1)
        assert list(decided(world.database)) == ["t0"]
        letters = world.dead_letters()
        assert len(sources(letters)) == 1
        assert {header(letter, "path") for letter in letters} == {"own_fields.age", "own_fields"}

    def test_a_champion_without_the_rate_changes_nothing_about_what_was_read_before(self, world: World) -> None:
        """One decision or one dead letter, also when a process ends between two champions with other rates."""
        (row,) = transactions(1, customers=1, end=SENT)
        world.send_in_dollars(row)
        with pytest.raises(CrashError):
            world.handle(conversion=converts_dollars, reached=crash_at("stored"))
        handled = world.handle()
        assert (handled.replayed, handled.decided, handled.dead_letters) == (1, 0, 0)
        assert world.published() == ["t0"]
        world.send_in_dollars(row._replace(transaction_id="u0"))
        with pytest.raises(CrashError):
            world.handle(reached=crash_at("dead_letter_acknowledged"))
        handled = world.handle(conversion=converts_dollars)
        assert (handled.replayed, handled.decided, handled.dead_letters) == (0, 0, 1)
        assert list(decided(world.database)) == ["t0"]
        letters = world.dead_letters()
        assert len(sources(letters)) == 1
        assert {header(letter, "path") for letter in letters} == {"currency", "own_fields"}

    def test_a_reader_who_was_replaced_stores_nothing(self, world: World) -> None:
        world.send(transactions(10, customers=2, end=SENT))
        records = records_of(world.kafka, world.kafka.transactions_topic)
        replaced = claim(world.database, records)
        claim(world.database, records)
        with pytest.raises(FencedError):
            world.stream().handle(records, replaced)
        assert decided(world.database) == {}
        assert world.passed() == (0, 0)

    def test_a_reader_who_is_replaced_in_the_middle_does_not_pass_what_the_next_one_publishes(
        self, world: World
    ) -> None:
        world.send(transactions(10, customers=2, end=SENT))

        def replaced(point: Point) -> None:
            if point == "stored":
                claim(world.database, records_of(world.kafka, world.kafka.transactions_topic))

        with pytest.raises(FencedError):
            world.handle(reached=replaced)
        assert world.passed() == (10, 0)
        assert world.handle().replayed == 10
        assert world.passed() == (10, 10)

    @pytest.mark.parametrize("kind", ["bad message", "conflict"])
    def test_nothing_is_passed_that_the_dead_letter_topic_did_not_acknowledge(
        self, world: World, broker: Broker, kind: str
    ) -> None:
        rows = transactions(3, customers=1, end=SENT)
        world.send(rows)
        bad = Message(b"c0", b"nonsense", [])
        other = transaction_message(rows[0]._replace(merchant_id="another"), currency="EUR")
        send(world.kafka, world.kafka.transactions_topic, [bad if kind == "bad message" else other])
        records = records_of(world.kafka, world.kafka.transactions_topic)
        positions = claim(world.database, records)
        with broker.away(), pytest.raises(KafkaError):
            world.stream().handle(records, positions)
        assert world.passed() == (4, 0)
        handled = world.stream().handle(records, claim(world.database, records))
        assert (handled.replayed, handled.dead_letters) == (3, 1)
        assert world.passed() == (4, 4)

    def test_nothing_is_locked_while_dead_letters_are_waited_for(self, world: World) -> None:
        rows = transactions(1, customers=1, end=SENT)
        world.send([rows[0], rows[0]._replace(merchant_id="another")])
        scorer = world.scorer()

        def meanwhile(point: Point) -> None:
            if point == "dead_letter_sent":  # the same customer, and the reports
                scorer.score([rows[0]._replace(transaction_id="meanwhile")])
                scorer.report("meanwhile", is_fraud=True)

        assert world.handle(reached=meanwhile).dead_letters == 1
        assert sorted(decided(world.database)) == ["meanwhile", "t0"]

    @pytest.mark.parametrize("last", [False, True])
    def test_one_record_that_nothing_can_handle_is_put_aside_and_the_rest_is_scored(
        self, world: World, caplog: pytest.LogCaptureFixture, *, last: bool
    ) -> None:
        rows = transactions(60, customers=1, end=SENT)
        fatal = rows[-1 if last else 17].transaction_id
        world.send(rows)
        send(world.kafka, world.kafka.reports_topic, [report_message("t3", is_fraud=True)])
        handled = world.handle(scorer=Allergic(world.scorer(), fatal))
        assert (handled.decided, handled.dead_letters, handled.reports) == (59, 1, 1)
        assert set(decided(world.database)) == {row.transaction_id for row in rows} - {fatal}
        (letter,) = world.dead_letters()
        assert (header(letter, "reason"), json.loads(letter.value)["transaction_id"]) == ("internal", fatal)
        assert world.passed() == (60, 60)
        assert "ZeroDivisionError" in caplog.text
        assert "customer_id=" not in caplog.text

    def test_what_is_replayed_and_still_bad_comes_back_as_one_letter(self, world: World) -> None:
        send(
            world.kafka, world.kafka.transactions_topic, [Message(b"c1", b"nonsense", []), Message(b"c2", b"more", [])]
        )
        world.handle()
        for replays in range(1, 4):
            assert replay(world.kafka, world.database) == Replayed(2, 0)
            assert world.handle().dead_letters == 2
            assert len(world.dead_letters()) == 2 * (replays + 1)

    def test_a_report_that_is_replayed_is_still_of_when_it_was_sent(self, world: World) -> None:
        with closing(open_producer(world.kafka)) as producer:
            sent = report_message("t0", is_fraud=True)
            producer.send(world.kafka.reports_topic, **sent._asdict(), timestamp_ms=SENT // 1_000).get(10)
        world.handle()
        world.later = 8 * DAY
        assert world.handle().dead_letters == 1
        world.send(transactions(1, customers=1, end=SENT - HOUR))
        assert replay(world.kafka, world.database) == Replayed(1, 0)
        world.handle()
        assert world.reports() == {"t0": [(SENT // 1_000 * 1_000, True)]}

    @pytest.mark.parametrize("codec", CODECS)
    def test_transactions_are_scored_however_their_sender_packs_them(self, world: World, codec: int) -> None:
        rows = transactions(50, customers=1, end=SENT)
        values = [transaction_message(row, currency="EUR").value for row in rows]
        odd = [(NotUtf8("x"), b"1"), ("trace", None)]
        packed = batch_of(*values, codec=codec, headers=odd, timestamp=SENT // 1_000)
        assert send_batch(world.kafka, world.kafka.transactions_topic, packed)
        assert world.handle().decided == 50

    @pytest.mark.parametrize("point", POINTS_OF_A_BATCH)
    def test_a_crash_at_any_point_ends_as_if_there_had_been_none(self, world: World, point: Point) -> None:
        rows = transactions(30, customers=4, end=SENT)
        world.send([*rows, rows[3]._replace(merchant_id="another")])
        send(world.kafka, world.kafka.transactions_topic, [Message(b"c1", b"nonsense", [])])
        send(world.kafka, world.kafka.reports_topic, [report_message(row[0], is_fraud=True) for row in rows[:3]])
        with pytest.raises(CrashError):
            world.handle(reached=crash_at(point))
        world.handle()
        assert sorted(decided(world.database)) == sorted(row[0] for row in rows)
        assert set(world.published()) == {row[0] for row in rows}
        assert len(sources(world.dead_letters())) == 2
        assert len(read_reports(world.database, start=BEGINNING, end=END)) == 3
        assert world.passed() == (32, 32)
        assert passed(world.database, world.kafka.reports_topic) == (3, 3)


class TestTheLoop:
    def test_a_topic_is_read_to_its_end_and_a_new_start_reads_nothing_again(self, world: World) -> None:
        world.send(transactions(700, customers=40, end=SENT))
        first, second = Heard(), Heard()
        with running([world.loop(first, max_records=100).run]):
            until(lambda: world.passed() == (700, 700))
        assert first.lags == {}
        world.send(transactions(50, customers=40, end=SENT, prefix="later"))
        with running([world.loop(second).run]):
            until(lambda: world.passed() == (750, 750))
            until(lambda: sum(second.lags.values()) == 0 and len(second.lags) == 8)
        assert (first.total("decided"), first.total("replayed")) == (700, 0)
        assert (second.total("decided"), second.total("replayed")) == (50, 0)
        assert sorted(world.published()) == sorted(decided(world.database))

    def test_kafkas_own_offsets_tell_others_where_we_are(self, world: World) -> None:
        world.send(transactions(60, customers=40, end=SENT))
        with running([world.loop(Heard(), group="seen").run]):
            until(lambda: world.passed() == (60, 60))
        with closing(open_consumer(world.kafka, group_id="seen")) as anybody:
            positions = standing(world.database, world.kafka.transactions_topic)
            expected = {
                number: anybody.committed(TopicPartition(world.kafka.transactions_topic, number))
                for number in positions
            }
        assert expected == {number: position.published_offset for number, position in positions.items()}

    def test_offsets_that_kafka_lost_lose_nothing(self, world: World) -> None:
        world.send(transactions(60, customers=40, end=SENT))
        with running([world.loop(Heard()).run]):
            until(lambda: world.passed() == (60, 60))
        world.send(transactions(60, customers=40, end=SENT, prefix="later"))
        heard = Heard()
        with running([world.loop(heard, group="another that knows nothing").run]):
            until(lambda: world.passed() == (120, 120))
        assert (heard.total("decided"), heard.total("replayed")) == (60, 0)

    def test_a_topic_that_grows_is_read_whole_though_its_partitions_are_given_out_slowly(
        self, broker: Broker, world: World
    ) -> None:
        if broker.name == "Tansu":
            pytest.skip("a topic of Tansu does not grow: TEST_BROKER=kafka")
        heard, topic = Heard(), world.kafka.transactions_topic
        slowly: dict[str, Any] = {"partition_assignment_strategy": [SlowAssignor], "metadata_max_age_ms": 500}
        with running([world.loop(heard, **slowly).run]):
            until(lambda: len(heard.lags) == 8, what="reading four partitions of each topic")
            with closing(open_admin(world.kafka)) as admin:
                admin.create_partitions({topic: 6})
            until(lambda: len(heard.lags) == 10, what="reading two partitions more")
            message = transaction_message(transactions(1, customers=1, end=SENT)[0], currency="EUR")
            send(world.kafka, topic, [message], partition=5)
            until(lambda: world.passed() == (1, 1))

    @pytest.mark.chaos
    @pytest.mark.slow
    def test_what_nobody_can_score_is_put_aside_and_holds_up_nothing(
        self, world: World, record_property: Callable[[str, object], None]
    ) -> None:
        rows = transactions(10_000, customers=400, end=SENT)
        kinds = list(bad_messages().values())
        for first_row in range(0, len(rows), 2_500):
            world.send(rows[first_row : first_row + 2_500])
            send(world.kafka, world.kafka.transactions_topic, kinds)
        for partition in range(4):  # the last record before the restart
            send(world.kafka, world.kafka.transactions_topic, [kinds[partition]], partition=partition)
        batches = bad_batches()
        taken = {
            name: send_batch(world.kafka, world.kafka.transactions_topic, batch, partition=number % 4)
            for number, (name, batch) in enumerate(batches.items())
        }
        world.send(transactions(200, customers=400, end=SENT, prefix="behind"))
        rows += transactions(200, customers=400, end=SENT, prefix="behind")
        bad = 4 * len(kinds) + 4 + sum(taken.values())
        first, second = Heard(), Heard()
        total = len(rows) + bad
        with running([world.loop(first, max_records=500).run]):
            until(lambda: world.passed() == (total, total))
        with running([world.loop(second).run]):
            until(lambda: len(second.lags) == 8)
        assert len(kinds) + sum(taken.values()) >= 35
        assert sorted(decided(world.database)) == sorted(row[0] for row in rows)
        assert (first.total("decided"), first.total("dead_letters")) == (len(rows), bad)
        assert second.batches == []
        letters = world.dead_letters()
        assert len(letters) == len(sources(letters)) == bad
        record_property(
            SAID,
            f"poison: {len(rows):,} good records decided, {bad} of {len(kinds) + sum(taken.values())} kinds put aside "
            f"({world.database.engine.dialect.name})",
        )
        assert max(len(letter.value or b"") for letter in letters) < 100_000

    def test_two_groups_by_mistake_decide_no_transaction_twice(self, world: World) -> None:
        world.send(transactions(600, customers=40, end=SENT))
        first, second = Heard(), Heard()
        loops = [
            world.loop(heard, group=group, max_records=50).run for heard, group in ((first, "one"), (second, "two"))
        ]
        with running(loops):
            until(lambda: world.passed() == (600, 600))
        assert len(decided(world.database)) == 600
        assert set(world.published()) == set(decided(world.database))

    def test_while_the_database_is_away_nothing_is_put_aside_and_afterwards_all_is_decided(
        self, world: World, database_url: str
    ) -> None:
        impatient = Database(database_url, statement_timeout=timedelta(seconds=0.5))
        heard = Heard()
        world.send(transactions(200, customers=40, end=SENT))
        with closing(impatient), running([world.loop(heard, max_records=50, database=impatient).run]):
            until(lambda: world.passed() == (200, 200))
            with database_away(database_url):
                world.send(transactions(300, customers=40, end=SENT, prefix="meanwhile"))
                until(lambda: len(heard.waited_for) >= 3)
            world.database.close()  # what the test itself had open was cut too
            until(lambda: world.passed() == (500, 500))
        assert set(heard.waited_for) == {"database"}
        assert len(decided(world.database)) == heard.total("decided") == 500
        assert world.dead_letters() == []

    def test_a_table_that_somebody_holds_is_waited_for(self, world: World, database_url: str) -> None:
        if not world.database.is_postgresql:
            pytest.skip("SQLite locks the whole database: tested above")
        impatient = Database(database_url, statement_timeout=timedelta(seconds=0.5))
        heard = Heard()
        with closing(impatient), running([world.loop(heard, database=impatient).run]):
            with world.database.transaction() as connection:
                connection.execute(sa.text("LOCK TABLE decisions IN ACCESS EXCLUSIVE MODE"))
                world.send(transactions(300, customers=40, end=SENT))
                # Who holds it says something now and then, or the server would end the transaction.
                until(lambda: connection.execute(sa.text("SELECT 1")) and len(heard.waited_for) >= 3)
            until(lambda: world.passed() == (300, 300))
        assert len(decided(world.database)) == 300
        assert world.dead_letters() == []

    def test_what_the_brokers_refuse_for_good_is_not_waited_for(self, world: World) -> None:
        heard = Heard()

        def refuse(point: Point) -> None:
            if point == "stored":
                raise TopicAuthorizationFailedError

        world.send(transactions(5, customers=1, end=SENT))
        with pytest.raises(TopicAuthorizationFailedError), running([world.loop(heard, reached=refuse).run]):
            until(lambda: world.passed() == (5, 0))
        assert heard.waited_for == []
        with running([world.loop(heard).run]):
            until(lambda: world.passed() == (5, 5))

    def test_while_the_broker_is_away_nothing_is_put_aside_and_afterwards_all_is_published(
        self, world: World, broker: Broker
    ) -> None:
        heard, away, gone = Heard(), ExitStack(), threading.Event()

        def go_away(point: Point) -> None:
            if point == "stored" and heard.batches and not gone.is_set():
                gone.set()
                away.enter_context(broker.away())

        world.send(transactions(400, customers=40, end=SENT))
        with away, running([world.loop(heard, max_records=100, reached=go_away).run]):
            until(lambda: heard.waited_for)
            away.close()
            until(lambda: world.passed() == (400, 400))
        assert gone.is_set()
        assert heard.waited_for == ["broker"] * len(heard.waited_for) != []
        assert len(decided(world.database)) == heard.total("decided") + heard.total("replayed") == 400
        assert world.dead_letters() == []
        assert set(world.published()) == set(decided(world.database))


def crash_at(place: Point) -> Callable[[Point], None]:
    """The process ends at that point."""

    def reached(point: Point) -> None:
        if point == place:
            raise CrashError(point)

    return reached
