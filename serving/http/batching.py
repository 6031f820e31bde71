"""Micro-batches: rows that wait while the scorer is busy are scored together, so that fixed costs are paid once.

Belongs here: the queue, its order, its deadline, its end. Must not be here: HTTP, the meaning of scoring.

One thread scores. A second one made requests slower, because both share one interpreter. Rows never wait for more
rows: an idle thread scores a row at once, and rows that arrive meanwhile form the next micro-batch. A round takes the
waiting single rows and one chunk of the oldest batch, so neither kind starves the other.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Final, Generic, TypeVar

Row = TypeVar("Row")
Outcome = TypeVar("Outcome")
log: Final = logging.getLogger(__name__)


class OverloadedError(RuntimeError):
    """The rows waited too long, or the service is stopping; nothing was done with them."""


@dataclass(slots=True, eq=False)
class _Waiting(Generic[Row, Outcome]):
    """The rows of one request, the results of the first of them so far, and the future that gets them all."""

    rows: Sequence[Row]
    outcomes: "asyncio.Future[list[Outcome]]"
    results: list[Outcome] = field(default_factory=list)
    since: float = field(default_factory=time.monotonic)

    def add(self, result: list[Outcome] | Exception) -> None:
        """Add the results of the next rows; a caller who still waits gets them when they are complete."""
        if self.outcomes.done():
            return
        if isinstance(result, Exception):
            self.outcomes.set_exception(result)
            return
        self.results += result
        if len(self.results) == len(self.rows):
            self.outcomes.set_result(self.results)


class MicroBatcher(Generic[Row, Outcome]):
    """Collects rows on the event loop and scores them on one thread, at most `max_rows` single rows at a time.

    Errors of the kinds `together` concern the whole round. After any other error each request of the round is scored
    alone, so that one bad request fails no other one. `score` must therefore be repeatable. `on_wait` gets the seconds
    that each request spent in the queue.
    """

    def __init__(
        self,
        score: Callable[[Sequence[Row]], list[Outcome]],
        *,
        max_rows: int,
        max_chunk: int = 500,
        max_wait: float = 1.0,
        together: tuple[type[Exception], ...] = (),
        on_wait: Callable[[float], None] = lambda _seconds: None,
    ) -> None:
        self._score = score
        self._max_rows = max_rows
        self._max_chunk = max_chunk
        self._max_wait = max_wait
        self._together = together
        self._on_wait = on_wait
        self._singles: deque[_Waiting[Row, Outcome]] = deque()
        self._batches: deque[_Waiting[Row, Outcome]] = deque()
        self._rounds: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="scorer")
        self._closed = False

    async def score_one(self, row: Row) -> Outcome:
        """The outcome of one row. Raises OverloadedError, and errors of `score`."""
        return (await self._enqueue(self._singles, [row]))[0]

    async def score_many(self, rows: Sequence[Row]) -> list[Outcome]:
        """The outcomes of a batch, in order; scored in chunks, of which earlier ones stay done if a later one fails."""
        return await self._enqueue(self._batches, rows)

    async def close(self) -> None:
        """Accept no more rows, answer those that wait, end the thread."""
        self._closed = True
        if self._rounds is not None:
            await self._rounds
        self._thread.shutdown()

    async def _enqueue(self, queue: deque[_Waiting[Row, Outcome]], rows: Sequence[Row]) -> list[Outcome]:
        if self._closed:
            raise OverloadedError("the service is stopping; send the request again")
        loop = asyncio.get_running_loop()
        waiting = _Waiting[Row, Outcome](rows, loop.create_future())
        queue.append(waiting)
        if self._rounds is None:
            self._rounds = loop.create_task(self._run())
        return await waiting.outcomes

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._singles or self._batches:
                if together := self._next_round():
                    parts = [rows for _, rows in together]
                    results = await loop.run_in_executor(self._thread, self._score_round, parts)
                    for (waiting, _), result in zip(together, results, strict=True):
                        waiting.add(result)
        finally:
            self._rounds = None

    def _next_round(self) -> list[tuple[_Waiting[Row, Outcome], Sequence[Row]]]:
        together: list[tuple[_Waiting[Row, Outcome], Sequence[Row]]] = []
        while self._singles and len(together) < self._max_rows:
            if self._is_waited_for(single := self._singles.popleft()):
                together.append((single, single.rows))
        while self._batches:
            batch = self._batches[0]
            waited_for, start = self._is_waited_for(batch), len(batch.results)
            if not waited_for or start + self._max_chunk >= len(batch.rows):
                self._batches.popleft()
            if waited_for:
                together.append((batch, batch.rows[start : start + self._max_chunk]))
                break
        return together

    def _is_waited_for(self, waiting: _Waiting[Row, Outcome]) -> bool:
        """Whether to score it now: the caller still waits, and not too long. A batch that was begun is finished."""
        if waiting.outcomes.done() or waiting.results:
            return not waiting.outcomes.done()
        seconds = time.monotonic() - waiting.since
        if seconds > self._max_wait:
            waiting.outcomes.set_exception(OverloadedError("too many requests wait; send it again later"))
            return False
        self._on_wait(seconds)
        return True

    def _score_round(self, parts: Sequence[Sequence[Row]]) -> list[list[Outcome] | Exception]:
        try:
            outcomes = self._score(list(chain.from_iterable(parts)))
        except Exception as error:
            if isinstance(error, self._together) or len(parts) == 1:
                return [error] * len(parts)
            log.exception("a micro-batch of %d requests failed; each is scored alone", len(parts))
            return [result for rows in parts for result in self._score_round([rows])]
        remaining = iter(outcomes)
        return [list(islice(remaining, len(rows))) for rows in parts]
