"""Micro-batches: rows are scored together while the scorer is busy, alone after an error, and none waits forever."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud_pipeline_tests.support.waiting import LIMIT_SECONDS
from serving.http.batching import MicroBatcher, OverloadedError


class StorageError(Exception):
    """Concerns every row of a round."""


@dataclass
class Doubling:
    """Doubles numbers, refuses some, and can be held while rows gather."""

    bad: frozenset[int] = frozenset()
    error: type[Exception] = ValueError
    rounds: list[list[int]] = field(default_factory=list)
    busy: threading.Event = field(default_factory=threading.Event)
    free: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.free.set()

    def __call__(self, rows: Sequence[int]) -> list[int]:
        self.rounds.append(list(rows))
        self.busy.set()
        assert self.free.wait(LIMIT_SECONDS)
        if self.bad & set(rows):
            raise self.error
        return [2 * row for row in rows]


Batcher = MicroBatcher[int, int]


async def held(batcher: Batcher, score: Doubling) -> "asyncio.Task[int]":
    """A row (0) that keeps the scorer busy until `score.free` is set."""
    score.free.clear()
    task = asyncio.create_task(batcher.score_one(0))
    assert await asyncio.to_thread(score.busy.wait, 10)
    return task


def run(score: Doubling, story: Callable[[Batcher], object], **options: object) -> None:
    async def main() -> None:
        batcher = Batcher(score, **{"max_rows": 4, "max_chunk": 3, "together": (StorageError,), **options})  # type: ignore[arg-type]
        await story(batcher)  # type: ignore[misc]
        await batcher.close()

    asyncio.run(main())


@settings(max_examples=50)
@given(
    singles=st.lists(st.integers(0, 99), max_size=30),
    batches=st.lists(st.lists(st.integers(0, 99), min_size=1, max_size=20), max_size=5),
    bad=st.frozensets(st.integers(0, 99), max_size=3),
)
def test_every_caller_gets_the_outcomes_of_its_own_rows_and_only_its_own_errors(
    singles: list[int], batches: list[list[int]], bad: frozenset[int]
) -> None:
    async def story(batcher: Batcher) -> None:
        requests = [[row] for row in singles] + batches
        answers = await asyncio.gather(
            *(batcher.score_one(row) for row in singles),
            *(batcher.score_many(batch) for batch in batches),
            return_exceptions=True,
        )
        for rows, answer in zip(requests, answers, strict=True):
            if bad & set(rows):
                assert isinstance(answer, ValueError)
            else:
                assert answer in (2 * rows[0], [2 * row for row in rows])

    run(Doubling(bad=bad), story)


def test_rows_that_arrive_while_the_scorer_is_busy_are_scored_together() -> None:
    score = Doubling()

    async def story(batcher: Batcher) -> None:
        first = await held(batcher, score)
        rest = [asyncio.create_task(batcher.score_one(row)) for row in range(1, 7)]
        await asyncio.sleep(0.01)
        score.free.set()
        assert await asyncio.gather(first, *rest) == [0, 2, 4, 6, 8, 10, 12]

    run(score, story)
    assert score.rounds == [[0], [1, 2, 3, 4], [5, 6]]


def test_a_lone_row_waits_for_no_company() -> None:
    score = Doubling()

    async def story(batcher: Batcher) -> None:
        for row in range(3):
            assert await batcher.score_one(row) == 2 * row

    run(score, story)
    assert score.rounds == [[0], [1], [2]]


def test_a_long_batch_goes_in_chunks_between_which_single_rows_are_scored() -> None:
    score = Doubling()

    async def story(batcher: Batcher) -> None:
        first = await held(batcher, score)
        batch = asyncio.create_task(batcher.score_many(range(10, 18)))
        await asyncio.sleep(0.01)
        single = asyncio.create_task(batcher.score_one(1))
        await asyncio.sleep(0.01)
        score.free.set()
        await asyncio.gather(first, batch, single)

    run(score, story)
    assert score.rounds == [[0], [1, 10, 11, 12], [13, 14, 15], [16, 17]]


def test_an_error_that_concerns_all_is_not_retried_row_by_row() -> None:
    score = Doubling(bad=frozenset({2}), error=StorageError)

    async def story(batcher: Batcher) -> None:
        first = await held(batcher, score)
        rest = [asyncio.create_task(batcher.score_one(row)) for row in (1, 2, 3)]
        await asyncio.sleep(0.01)
        score.free.set()
        answers = await asyncio.gather(first, *rest, return_exceptions=True)
        assert [type(answer) for answer in answers] == [int, StorageError, StorageError, StorageError]

    run(score, story)
    assert score.rounds == [[0], [1, 2, 3]]


def test_what_waited_too_long_is_turned_away_unscored() -> None:
    score = Doubling()

    async def story(batcher: Batcher) -> None:
        first = await held(batcher, score)
        late = asyncio.create_task(batcher.score_one(1))
        await asyncio.sleep(0.05)
        score.free.set()
        with pytest.raises(OverloadedError):
            await late
        assert await first == 0
        assert await batcher.score_one(2) == 4

    run(score, story, max_wait=0.02)
    assert score.rounds == [[0], [2]]


def test_a_batch_that_was_begun_is_not_turned_away_half_done() -> None:
    score = Doubling()

    async def story(batcher: Batcher) -> None:
        score.free.clear()
        batch = asyncio.create_task(batcher.score_many(range(6)))
        assert await asyncio.to_thread(score.busy.wait, 10)
        await asyncio.sleep(0.05)
        score.free.set()
        assert await batch == [0, 2, 4, 6, 8, 10]

    run(score, story, max_wait=0.02)


def test_a_caller_who_gave_up_costs_no_scoring() -> None:
    score = Doubling()

    async def story(batcher: Batcher) -> None:
        first = await held(batcher, score)
        gone = [asyncio.create_task(batcher.score_one(1)), asyncio.create_task(batcher.score_many(range(9)))]
        await asyncio.sleep(0.01)
        for task in gone:
            task.cancel()
        await asyncio.gather(*gone, return_exceptions=True)
        score.free.set()
        await first

    run(score, story)
    assert score.rounds == [[0]]


def test_a_caller_who_gives_up_during_scoring_disturbs_nobody() -> None:
    score = Doubling()

    async def story(batcher: Batcher) -> None:
        gone = await held(batcher, score)
        waiting = asyncio.create_task(batcher.score_one(1))
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        score.free.set()
        assert await waiting == 2

    run(score, story)
    assert score.rounds == [[0], [1]]


def test_every_request_that_is_scored_tells_once_how_long_it_waited() -> None:
    waits: list[float] = []

    async def story(batcher: Batcher) -> None:
        await asyncio.gather(batcher.score_one(1), batcher.score_one(2), batcher.score_many(range(9)))

    run(Doubling(), story, on_wait=waits.append)
    assert len(waits) == 3
    assert min(waits) >= 0


def test_closing_answers_what_waits_and_takes_nothing_more() -> None:
    score = Doubling()

    async def story(batcher: Batcher) -> None:
        first = await held(batcher, score)
        waiting = asyncio.create_task(batcher.score_many(range(1, 9)))
        await asyncio.sleep(0.01)
        closing = asyncio.create_task(batcher.close())
        await asyncio.sleep(0.01)
        with pytest.raises(OverloadedError):
            await batcher.score_one(99)
        score.free.set()
        await closing
        assert await first == 0
        assert await waiting == [2, 4, 6, 8, 10, 12, 14, 16]

    run(score, story)
