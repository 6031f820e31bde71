"""Lanes: the same key the same lane, and outcomes in the order of the rows."""

import asyncio
import threading
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.http.batching import MicroBatcher
from serving.http.lanes import Lanes

Seen = dict[str, set[int]]


def lanes(count: int, seen: Seen) -> Lanes[str, str]:
    """Lanes that answer a text by itself reversed, and note which thread saw which text."""

    def score(rows: Sequence[str]) -> list[str]:
        for row in rows:
            seen.setdefault(row, set()).add(threading.get_ident())
        return [row[::-1] for row in rows]

    return Lanes([MicroBatcher[str, str](score, max_rows=8) for _ in range(count)], key=lambda row: row)


@given(rows=st.lists(st.text("abcdef", min_size=1, max_size=4), min_size=1, max_size=60), count=st.integers(1, 4))
def test_outcomes_come_in_the_order_of_the_rows_and_a_key_keeps_its_lane(rows: list[str], count: int) -> None:
    async def all_ways() -> None:
        seen: Seen = {}
        chosen = lanes(count, seen)
        expected = [row[::-1] for row in rows]
        assert await chosen.score_many(rows) == expected
        assert list(await asyncio.gather(*map(chosen.score_one, rows))) == expected
        await chosen.close()
        assert all(len(threads) == 1 for threads in seen.values())

    asyncio.run(all_ways())


def test_a_failing_lane_fails_the_batch() -> None:
    def score(rows: Sequence[str]) -> list[str]:
        if "bad" in rows:
            raise ValueError("bad")
        return list(rows)

    async def ask() -> None:
        chosen = Lanes([MicroBatcher[str, str](score, max_rows=8) for _ in range(2)], key=lambda row: row)
        try:
            await chosen.score_many(["good", "bad", "other"])
        finally:
            await chosen.close()

    with pytest.raises(ValueError, match="bad"):
        asyncio.run(ask())
