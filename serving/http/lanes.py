"""Several micro-batchers side by side: while one waits for the database, another computes.

Belongs here: which row goes to which lane, and results back in order. Must not be here: what a lane does.

A customer always goes to the same lane, so each lane's memory stays right and no lane waits for another's lock.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar
from zlib import crc32

from serving.http.batching import MicroBatcher

Row = TypeVar("Row")
Outcome = TypeVar("Outcome")


class Lanes(Generic[Row, Outcome]):
    """Micro-batchers chosen by the text that `key` gives of a row."""

    def __init__(self, lanes: Sequence[MicroBatcher[Row, Outcome]], *, key: Callable[[Row], str]) -> None:
        self._lanes = lanes
        self._key = key

    async def score_one(self, row: Row) -> Outcome:
        """As `MicroBatcher.score_one`."""
        return await self._lanes[self._lane(row)].score_one(row)

    async def score_many(self, rows: Sequence[Row]) -> list[Outcome]:
        """As `MicroBatcher.score_many`."""
        chosen = [self._lane(row) for row in rows]
        parts = [[row for row, lane in zip(rows, chosen, strict=True) if lane == k] for k in range(len(self._lanes))]
        found = await asyncio.gather(
            *(lane.score_many(part) for lane, part in zip(self._lanes, parts, strict=True) if part)
        )
        results = iter(found)
        outcomes = [iter(next(results)) if part else iter(()) for part in parts]
        return [next(outcomes[lane]) for lane in chosen]

    async def close(self) -> None:
        """As `MicroBatcher.close`."""
        await asyncio.gather(*(lane.close() for lane in self._lanes))

    def _lane(self, row: Row) -> int:
        # Python's own hash of a text differs between processes, which would make a slow lane hard to find again.
        return crc32(self._key(row).encode()) % len(self._lanes)
