"""Micro-batches: what waits while the scorer is busy is scored together, so that fixed costs are paid once.

Belongs here: the queue, its order, its deadline, its end. Must not be here: HTTP, what scoring means.

One thread scores. Nothing waits for company: a row that finds the thread idle goes at once, and rows that arrive in the
meantime form the next micro-batch. A round takes the waiting single rows and one chunk of the oldest batch, so neither
kind starves the other.
"""

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain
from typing import Final, Generic, TypeVar

Row = TypeVar("Row")
Outcome = TypeVar("Outcome")
log: Final = logging.getLogger(__name__)


class OverloadedError(RuntimeError):
    """The rows waited too long, or the service is stopping; nothing was done with them."""


@dataclass(slots=True, eq=False)
class _Waiting(Generic[Row, Outcome]):
    """Rows that are scored in one call, and who waits for their outcomes."""

    rows: Sequence[Row]
    outcomes: "asyncio.Future[list[Outcome]]"
    since: float = field(default_factory=time.monotonic)

    def answer(self, result: list[Outcome] | Exception) -> None:
        """Give the outcomes to the caller, if there still is one."""
        if self.outcomes.done():
            return
        if isinstance(result, Exception):
            self.outcomes.set_exception(result)
        else:
            self.outcomes.set_result(result)

    def forget(self) -> None:
        """Nobody asks for the outcomes any more: not scored if it still waits, and no complaint about its error."""
        if not self.outcomes.cancel() and not self.outcomes.cancelled():
            self.outcomes.exception()


class MicroBatcher(Generic[Row, Outcome]):
    """Collects rows on the event loop and gives them to `score` on one thread, at most `max_rows` singles at a time.

    `together` tells of an error that it concerns the whole round; after any other, each request of the round is
    scored alone, so that one bad request fails nobody else. `score` must therefore bear repetition. `waited` is told
    how many seconds each request stood in the queue.
    """

    def __init__(
        self,
        score: Callable[[Sequence[Row]], list[Outcome]],
        *,
        max_rows: int,
        max_chunk: int = 500,
        max_wait: float = 1.0,
        together: tuple[type[Exception], ...] = (),
        waited: Callable[[float], None] = lambda _seconds: None,
    ) -> None:
        self._score = score
        self._max_rows = max_rows
        self._max_chunk = max_chunk
        self._max_wait = max_wait
        self._together = together
        self._waited = waited
        self._singles: deque[_Waiting[Row, Outcome]] = deque()
        self._chunks: deque[_Waiting[Row, Outcome]] = deque()
        self._rounds: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="scorer")
        self._closed = False

    async def score_one(self, row: Row) -> Outcome:
        """The outcome of one row. Raises OverloadedError, and what `score` raises."""
        return (await self._enqueue(self._singles, [row]).outcomes)[0]

    async def score_many(self, rows: Sequence[Row]) -> list[Outcome]:
        """The outcomes of a batch, in order; scored in chunks, of which earlier ones stay done if a later one fails."""
        starts = range(0, len(rows), self._max_chunk)
        chunks = [self._enqueue(self._chunks, rows[start : start + self._max_chunk]) for start in starts]
        for chunk in chunks[1:]:
            chunk.since = math.inf  # a batch is turned away as a whole or not at all
        try:
            return [outcome for chunk in chunks for outcome in await chunk.outcomes]
        finally:
            for chunk in chunks:
                chunk.forget()

    async def close(self) -> None:
        """Take nothing more, answer what waits, end the thread."""
        self._closed = True
        if self._rounds is not None:
            await self._rounds
        self._thread.shutdown()

    def _enqueue(self, queue: deque[_Waiting[Row, Outcome]], rows: Sequence[Row]) -> _Waiting[Row, Outcome]:
        if self._closed:
            raise OverloadedError("the service is stopping; send the request again")
        loop = asyncio.get_running_loop()
        waiting = _Waiting[Row, Outcome](rows, loop.create_future())
        queue.append(waiting)
        if self._rounds is None:
            self._rounds = loop.create_task(self._run())
        return waiting

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._singles or self._chunks:
                if together := self._next_round():
                    results = await loop.run_in_executor(self._thread, self._score_round, together)
                    for waiting, result in zip(together, results, strict=True):
                        waiting.answer(result)
        finally:
            self._rounds = None

    def _next_round(self) -> list[_Waiting[Row, Outcome]]:
        oldest = time.monotonic() - self._max_wait
        together: list[_Waiting[Row, Outcome]] = []
        for queue, most in ((self._singles, self._max_rows), (self._chunks, 1)):
            taken = 0
            while queue and taken < most:
                waiting = queue.popleft()
                if waiting.outcomes.done():  # the caller has given up
                    continue
                if waiting.since < oldest:
                    waiting.outcomes.set_exception(OverloadedError("too many requests wait; send it again later"))
                    continue
                self._waited(time.monotonic() - waiting.since)
                together.append(waiting)
                taken += 1
        return together

    def _score_round(self, together: Sequence[_Waiting[Row, Outcome]]) -> list[list[Outcome] | Exception]:
        try:
            outcomes = self._score(list(chain.from_iterable(waiting.rows for waiting in together)))
        except Exception as error:
            if isinstance(error, self._together) or len(together) == 1:
                return [error] * len(together)
            log.exception("a micro-batch of %d requests failed; each is scored alone", len(together))
            return [result for waiting in together for result in self._score_round([waiting])]
        results: list[list[Outcome] | Exception] = []
        start = 0
        for waiting in together:
            results.append(outcomes[start : start + len(waiting.rows)])
            start += len(waiting.rows)
        return results
