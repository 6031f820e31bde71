"""Two hundred simulated runs with random faults, and planted bugs that they must find.

    pytest fraud_pipeline_tests/serving/stream/test_simulation.py -k "story and 17"

repeats the run of seed 17. The fake world is in `fraud_pipeline_tests/support/stream_simulation.py`; scorer, loop and
SQL are the real ones.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Final, get_args

import pytest
import sqlalchemy as sa
from kafka import TopicPartition

from fraud_pipeline.database import Batch, Database, Position, Positions, scoring_batch
from fraud_pipeline.database.pending import PendingReports
from fraud_pipeline.database.tables import STREAM_POSITIONS
from fraud_pipeline.features.engineer import FEATURE_NAMES
from fraud_pipeline.messaging.topics import transaction_message
from fraud_pipeline.schema.transactions import TransactionRow
from fraud_pipeline.scoring.decide import Features
from fraud_pipeline.scoring.decision_record import Mode, ScoringModel, ScoringResult
from fraud_pipeline.scoring.micro_batch import NO_REQUEST_IDS, MicroBatch, RequestIdsOfRows
from fraud_pipeline.scoring.rehearsal import UndoneError, undone
from fraud_pipeline.scoring.scorer import Scorer
from fraud_pipeline_tests.support.proof import COUNTS
from fraud_pipeline_tests.support.stream_simulation import (
    CUSTOMERS,
    KAFKA,
    START,
    InvariantError,
    MakeScorer,
    Simulation,
    real_scorer,
)
from fraud_pipeline_tests.support.streams import decided, standing, transactions
from serving.stream.consumer import StreamConsumer
from serving.stream.handler import Point

SEEDS: Final = 200
COUNT: Final = FEATURE_NAMES.index("customer_transaction_count_30d")


@cache
def faults_of(seed: int) -> Counter[str]:
    """The faults of a run that ended well."""
    story = Simulation(seed)
    story.run()
    return story.world.faults


@pytest.mark.chaos
@pytest.mark.parametrize("seed", range(SEEDS))
def test_story(seed: int, record_property: Callable[[str, object], None]) -> None:
    record_property(COUNTS, {"simulated stories": 1, "faults in them": faults_of(seed).total()})


@pytest.mark.slow
def test_the_stories_hold_every_fault() -> None:
    faults = sum(map(faults_of, range(40)), Counter[str]())
    assert {f"crash: {point}" for point in get_args(Point)} <= set(faults)
    assert min(faults.values()) >= 2


class TestLogsThatChange:
    def test_a_topic_that_was_made_anew_is_read_anew(self, caplog: pytest.LogCaptureFixture) -> None:
        story = Simulation(0)
        story.finish()
        for partition, log in story.broker.logs.items():
            if partition.topic == KAFKA.transactions_topic:
                log.clear()
        rows = transactions(3, customers=CUSTOMERS, end=START, prefix="anew")
        for row in rows:
            message = transaction_message(row, currency="EUR")
            story.broker.append(KAFKA.transactions_topic, message, customer=row.customer_id, id_=row.transaction_id)
        # A topic that has grown past the old position by then looks like any other.
        assert all(
            story.broker.end(TopicPartition(KAFKA.transactions_topic, number)) < position.published_offset
            for number, position in standing(story.database, KAFKA.transactions_topic).items()
        )
        step(story)
        assert {row.transaction_id for row in rows} <= set(decided(story.database))
        assert "the topic was recreated" in caplog.text
        story.database.close()

    def test_records_that_expired_unread_are_told_and_the_rest_is_read(self, caplog: pytest.LogCaptureFixture) -> None:
        story = Simulation(0)
        story.finish()
        rows = transactions(40, customers=CUSTOMERS, end=START, prefix="later")
        for row in rows:
            message = transaction_message(row, currency="EUR")
            story.broker.append(KAFKA.transactions_topic, message, customer=row.customer_id, id_=row.transaction_id)
        last = {}
        for partition, log in story.broker.logs.items():
            if partition.topic == KAFKA.transactions_topic:
                del log[:-1]
                story.broker.beginnings[partition] = log[0].offset
                last[partition] = log[0].transaction_id
        step(story)
        decided_ids = set(decided(story.database))
        assert {id_ for id_ in decided_ids if id_.startswith("later")} == set(last.values())
        assert caplog.text.count("expired before they were read: raise the topic's retention") == len(last)
        story.database.close()


def step(story: Simulation) -> None:
    """Every process often enough for anything to be done."""
    for process in story.processes * 20:
        story.step(process)


class TestPlantedBugs:
    def test_positions_before_decisions(self) -> None:
        assert (
            first_violation(PositionsFirst)
            .partition(";")[0]
            .endswith(("was passed undecided", "not every report was stored"))
        )

    @pytest.mark.slow
    def test_a_counter_in_place_of_a_set(self) -> None:
        assert "differs from the run without faults" in first_violation(CountsDeliveries)

    def test_no_fence(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Positions, "move", move_without_fence)
        assert "went back" in first_violation()

    def test_reports_that_come_early_are_dropped(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(PendingReports, "keep", lambda *_: None)
        assert "was passed and is nowhere" in first_violation()

    def test_a_claim_that_is_read_from_where_kafka_says(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(StreamConsumer, "_seek", lambda *_: None)
        assert first_violation()

    def test_without_faults_none_of_them_shows(self, monkeypatch: pytest.MonkeyPatch) -> None:
        # A test without faults would never find these bugs.
        monkeypatch.setattr(Positions, "move", move_without_fence)
        for make_scorer in (PositionsFirst, CountsDeliveries):
            calm = Simulation(0, make_scorer=make_scorer)
            calm.world.faulty = False
            calm.run()


def first_violation(make_scorer: MakeScorer = real_scorer) -> str:
    """The violation that the first run with this bug reports."""
    for seed in range(SEEDS):
        try:
            Simulation(seed, make_scorer=make_scorer).run()
        except InvariantError as error:
            return str(error)
    return ""


class PositionsFirst:
    """Decides, but keeps the positions in a transaction of their own before."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.scorer = Scorer(database=database, champion=lambda: None)

    @contextmanager
    def transaction(
        self, rows: Sequence[TransactionRow], *, request_ids: RequestIdsOfRows = NO_REQUEST_IDS
    ) -> Iterator[MicroBatch]:
        with undone(), self.scorer.transaction(rows, request_ids=request_ids) as scored:
            raise UndoneError
        with scoring_batch(self.database) as batch:
            yield MicroBatch(batch, scored.answers)
        self.scorer.score(rows)


class CountsDeliveries(Scorer):
    """Counts a customer's deliveries instead of the known transactions.

    All processes share one counter, as in a cache next to the database.
    """

    def __init__(self, database: Database) -> None:
        super().__init__(database=database, champion=lambda: None)
        self.counted: Counter[str] = vars(database).setdefault("counted", Counter())

    def _decide(
        self,
        batch: Batch,
        new: Sequence[TransactionRow],
        features: Features,
        *,
        mode: Mode,
        loaded: ScoringModel | None,
        request_ids: RequestIdsOfRows,
    ) -> list[ScoringResult]:
        for row, values in zip(new, features.values, strict=True):
            values[COUNT] = self.counted[row.customer_id]
            self.counted[row.customer_id] += 1
        return super()._decide(batch, new, features, mode=mode, loaded=loaded, request_ids=request_ids)


def move_without_fence(self: Positions, topic: str, partition: int, *, before: Position, after: Position) -> None:
    """As `Positions.move`, without the check of the reader."""
    assert before.epoch == after.epoch
    columns = STREAM_POSITIONS.c
    self._connection.execute(
        sa.update(STREAM_POSITIONS)
        .where(columns.topic == topic, columns.partition == partition)
        .values(next_offset=after.next_offset, published_offset=after.published_offset)
    )
