"""Ranges of a topic against a real broker: planned without gaps, scored exactly, and repeated without effect."""

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_pipeline.database import Database, FencedError, Position, scoring_batch
from fraud_pipeline.messaging.topics import (
    BrokerUnavailableError,
    KafkaSettings,
    Message,
    ensure_topics,
    open_consumer,
    open_producer,
    transaction_message,
)
from fraud_pipeline.schema.transactions import SECOND, now_microseconds
from fraud_pipeline.settings import Settings
from fraud_pipeline_tests.support.brokers import Broker, topics_of_our_own
from fraud_pipeline_tests.support.raw_batches import bad_batches, send_batch
from fraud_pipeline_tests.support.streams import SESSION, decided, everything, send, sources, standing, transactions
from serving.stream.handler import BatchResult
from serving.stream.ranges import OffsetRange, RangeError, lag, plan, range_scorer
from serving.stream.records import Partition
from serving.stream.topic_inspection import OffsetBounds, extents, live_members

AT = Partition("transactions", 0)
OFFSETS = st.integers(0, 60)


class CrashError(Exception):
    """Represents the end of the process."""


@given(
    ends=st.lists(st.tuples(OFFSETS, OFFSETS).map(sorted).map(lambda pair: OffsetBounds(*pair)), max_size=4),
    offsets=st.lists(st.none() | OFFSETS, min_size=4, max_size=4),
    most=st.integers(1, 50),
)
def test_runs_over_a_backlog_are_bounded_and_leave_no_record_out(
    ends: list[OffsetBounds], offsets: list[int | None], most: int
) -> None:
    bounds = {Partition("t", number): extent for number, extent in enumerate(ends)}
    positions = {
        at: Position(1, offset, offset) for at, offset in zip(bounds, offsets, strict=False) if offset is not None
    }
    expected = lag(bounds, positions)
    read = []
    while ranges := plan(bounds, positions, most=most):
        assert sum(range_.end - range_.start for range_ in ranges) <= max(most, len(bounds))
        for range_ in ranges:
            read += [(range_.at, offset) for offset in range(range_.start, range_.end)]
            positions[range_.at] = Position(1, range_.end, range_.end)
    assert len(read) == len(set(read)) == expected
    assert lag(bounds, positions) == 0


def test_what_was_decided_and_not_published_is_planned_though_nothing_lags() -> None:
    bounds, positions = {AT: OffsetBounds(0, 9)}, {AT: Position(1, next_offset=9, published_offset=4)}
    assert plan(bounds, positions, most=100) == (OffsetRange(AT, 4, 9),)
    assert lag(bounds, positions) == 0


@pytest.fixture
def kafka(broker: Broker) -> KafkaSettings:
    kafka = topics_of_our_own(broker, partitions=1)
    ensure_topics(kafka)
    return kafka


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path)


@pytest.fixture
def known(settings: Settings) -> Iterator[Database]:
    """The database that runs of these settings write."""
    database = Database(settings.database)
    database.upgrade()
    yield database
    database.close()


def sent(kafka: KafkaSettings, count: int) -> list[str]:
    """Transactions on the one partition; their ids in order."""
    rows = transactions(count, customers=5, end=now_microseconds() - SECOND)
    send(kafka, kafka.transactions_topic, (transaction_message(row, currency="EUR") for row in rows), partition=0)
    return [row.transaction_id for row in rows]


def score_range(
    kafka: KafkaSettings, settings: Settings, topic: str, partition: int, start: int, end: int
) -> BatchResult:
    """Score the records [start, end) of a partition by a scorer of their own, as each run has one."""
    with range_scorer(kafka, settings) as scorer:
        return scorer.score(OffsetRange(Partition(topic, partition), start, end))


def published(kafka: KafkaSettings) -> list[bytes]:
    return [record.value for record in everything(kafka, kafka.decisions_topic)]


def counts(handled: BatchResult) -> tuple[int, int, int]:
    return handled.decided, handled.replayed, handled.dead_letters


class TestScoring:
    def test_exactly_the_range_is_decided_and_published(
        self, kafka: KafkaSettings, settings: Settings, known: Database
    ) -> None:
        ids = sent(kafka, 40)
        handled = score_range(kafka, settings, kafka.transactions_topic, 0, 0, 15)
        assert counts(handled) == (15, 0, 0)
        assert sorted(decided(known)) == sorted(ids[:15])
        assert standing(known, kafka.transactions_topic)[0] == Position(1, next_offset=15, published_offset=15)
        assert counts(score_range(kafka, settings, kafka.transactions_topic, 0, 15, 40)) == (25, 0, 0)
        assert sorted(decided(known)) == sorted(ids)
        assert len(published(kafka)) == 40

    def test_a_range_of_many_batches_is_the_same_as_one(
        self, kafka: KafkaSettings, settings: Settings, known: Database
    ) -> None:
        ids, batches = sent(kafka, 40), list[BatchResult]()
        with range_scorer(kafka, settings, batch=7) as scorer:
            total = scorer.score(OffsetRange(Partition(kafka.transactions_topic, 0), 0, 40), on_batch=batches.append)
        assert len(batches) >= 6
        assert counts(total) == (40, 0, 0)
        assert sorted(decided(known)) == sorted(ids)

    def test_a_range_that_was_scored_is_answered_as_stored_and_changes_nothing(
        self, kafka: KafkaSettings, settings: Settings, known: Database
    ) -> None:
        sent(kafka, 30)
        send(kafka, kafka.transactions_topic, [Message(b"c", b"not json", [])], partition=0)
        assert counts(score_range(kafka, settings, kafka.transactions_topic, 0, 0, 31)) == (30, 0, 1)
        before, answers = decided(known), published(kafka)
        assert counts(score_range(kafka, settings, kafka.transactions_topic, 0, 5, 31)) == (0, 25, 0)
        assert decided(known) == before
        assert standing(known, kafka.transactions_topic)[0] == Position(2, next_offset=31, published_offset=31)
        assert published(kafka) == [*answers, *answers[5:]]
        assert len(everything(kafka, kafka.dead_letter_topic)) == 1

    def test_an_old_range_does_not_take_the_partition_back(
        self, kafka: KafkaSettings, settings: Settings, known: Database
    ) -> None:
        sent(kafka, 30)
        score_range(kafka, settings, kafka.transactions_topic, 0, 0, 30)
        assert counts(score_range(kafka, settings, kafka.transactions_topic, 0, 3, 9)) == (0, 6, 0)
        assert standing(known, kafka.transactions_topic)[0] == Position(2, next_offset=30, published_offset=30)

    def test_the_marks_of_a_senders_transactions_are_passed(
        self, kafka: KafkaSettings, settings: Settings, known: Database
    ) -> None:
        """They take offsets and are no records; a range that ends with one is done."""
        at = Partition(kafka.transactions_topic, 0)
        rows = transactions(6, customers=2, end=now_microseconds() - SECOND)
        with closing(open_producer(kafka, transactional_id=f"sender of {at.topic}")) as producer:
            producer.init_transactions()
            for part in (rows[:3], rows[3:]):
                producer.begin_transaction()
                for row in part:
                    producer.send(at.topic, partition=0, **transaction_message(row, currency="EUR")._asdict())
                producer.commit_transaction()
        end = extents(kafka, [at.topic])[at].end
        assert end > len(rows)
        assert counts(score_range(kafka, settings, *at, 0, end)) == (6, 0, 0)
        assert plan(extents(kafka, [at.topic]), {at: standing(known, at.topic)[0]}, most=100) == ()

    def test_what_nobody_can_read_is_put_aside_and_holds_up_nothing(
        self, kafka: KafkaSettings, settings: Settings, known: Database
    ) -> None:
        at, batches = Partition(kafka.transactions_topic, 0), bad_batches().values()
        taken = [batch for batch in batches if send_batch(kafka, at.topic, batch)]
        ids = sent(kafka, 20)
        end = extents(kafka, [at.topic])[at].end
        assert counts(score_range(kafka, settings, *at, 0, end)) == (20, 0, len(taken))
        assert sorted(decided(known)) == sorted(ids)
        assert len(sources(everything(kafka, kafka.dead_letter_topic))) == len(taken)
        assert plan(extents(kafka, [at.topic]), {at: standing(known, at.topic)[0]}, most=100) == ()

    def test_a_range_that_leaves_out_records_is_refused(
        self, kafka: KafkaSettings, settings: Settings, known: Database
    ) -> None:
        sent(kafka, 20)
        score_range(kafka, settings, kafka.transactions_topic, 0, 0, 5)
        with pytest.raises(RangeError, match="leaves out records from 5 on"):
            score_range(kafka, settings, kafka.transactions_topic, 0, 10, 20)
        assert len(decided(known)) == 5

    def test_a_range_of_records_that_do_not_exist_is_given_up(self, kafka: KafkaSettings, settings: Settings) -> None:
        sent(kafka, 3)
        with (
            range_scorer(kafka, settings, patience=0.5) as scorer,
            pytest.raises(RangeError, match="from 3 to 9 came"),
        ):
            scorer.score(OffsetRange(Partition(kafka.transactions_topic, 0), 0, 9))

    @pytest.mark.parametrize("older", [(0, 5), (5, 15), (12, 25)])
    def test_what_the_last_reader_did_not_publish_is_published_though_the_run_crashes_early(
        self, kafka: KafkaSettings, settings: Settings, known: Database, older: tuple[int, int]
    ) -> None:
        """In whatever order a range is read, nothing counts as published before it is."""
        at = Partition(kafka.transactions_topic, 0)
        sent(kafka, 25)
        score_range(kafka, settings, *at, 0, 20)
        answers = published(kafka)
        with scoring_batch(known) as batch:
            position = batch.positions.all(at.topic)[0]
            batch.positions.move(*at, before=position, after=Position(position.epoch, 20, 10))

        def crash(_: BatchResult) -> None:
            raise CrashError

        with pytest.raises(CrashError), range_scorer(kafka, settings, batch=3) as scorer:
            scorer.score(OffsetRange(at, *older), on_batch=crash)
        stands = standing(known, at.topic)[0]
        assert published(kafka)[20:] == answers[10:20][: stands.published_offset - 10]
        score_range(kafka, settings, *at, 0, 25)
        assert set(published(kafka)[20:]) >= {*answers[10:]}
        assert len(decided(known)) == 25

    def test_who_is_taken_over_from_leaves_nothing(
        self, kafka: KafkaSettings, settings: Settings, known: Database
    ) -> None:
        at = Partition(kafka.transactions_topic, 0)
        sent(kafka, 20)

        def take_over(_: BatchResult) -> None:
            with scoring_batch(known) as batch:
                batch.positions.claim(*at, start=0)

        with pytest.raises(FencedError), range_scorer(kafka, settings, batch=5) as scorer:
            scorer.score(OffsetRange(at, 0, 20), on_batch=take_over)
        assert len(decided(known)) == 5
        assert standing(known, at.topic)[0].next_offset == 5


@contextmanager
def joined(kafka: KafkaSettings) -> Iterator[str]:
    """The group of a consumer that is alive. Tansu now and then leaves a group's join unanswered: then another one."""
    for attempt in range(3):
        group = f"{kafka.transactions_topic}-{attempt}"
        with closing(open_consumer(kafka, group_id=group, **SESSION)) as consumer:
            consumer.subscribe([kafka.transactions_topic])
            deadline = time.monotonic() + 40
            while not consumer.assignment() and time.monotonic() < deadline:
                consumer.poll(timeout_ms=200)
            if consumer.assignment():
                yield group
                return
    pytest.fail("three groups were not answered")


class TestWatching:
    def test_extents_are_exact_whatever_the_batches_of_the_sender(self, broker: Broker) -> None:
        kafka = topics_of_our_own(broker, partitions=3)
        ensure_topics(kafka)
        with closing(open_producer(kafka, linger_ms=200)) as producer:
            for number in range(57):
                producer.send(kafka.transactions_topic, value=b"x", partition=number % 2)
            producer.flush()
        bounds = extents(kafka, [kafka.transactions_topic])
        assert [bounds[Partition(kafka.transactions_topic, number)] for number in range(3)] == [
            (0, 29),
            (0, 28),
            (0, 0),
        ]

    def test_a_topic_that_does_not_exist_has_no_extent(self, kafka: KafkaSettings) -> None:
        assert extents(kafka, ["nothing-of-that-name"]) == {}

    def test_members_of_a_group_are_counted_while_they_live(self, kafka: KafkaSettings) -> None:
        with joined(kafka) as group:
            assert live_members(kafka, group) == 1
        assert live_members(kafka, group) == 0
        assert live_members(kafka, "a group that never was") == 0

    def test_a_broker_that_is_away_is_told(self) -> None:
        away = KafkaSettings(bootstrap_servers="127.0.0.1:1")
        with pytest.raises(BrokerUnavailableError, match="127.0.0.1:1"):
            extents(away, ["transactions"])
        with pytest.raises(BrokerUnavailableError, match="127.0.0.1:1"):
            live_members(away, "fraud-detect")
