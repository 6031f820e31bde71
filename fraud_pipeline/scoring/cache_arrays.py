"""Rows of customers or merchants in arrays: their positions, their version, and which are evicted first.

Belongs here: growing arrays, and grouping of an entity's rows. Must not be here: the meaning of rows
(`history_cache.py`).

An entity is a whole number, the same for as long as its rows are cached.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final

import numpy as np

from fraud_pipeline.features.kernels.columns import Columns, Table
from fraud_pipeline.features.kernels.windows import Ints
from fraud_pipeline.schema.transactions import DAY

COLUMN_DTYPES: Final[Mapping[str, type]] = {"latitude": np.float64, "longitude": np.float64, "is_fraud": np.bool_}
# A little more is read than requested, so that a somewhat late transaction finds its window cached.
SLACK: Final = DAY
_ROOM: Final = 8


class GrowingTable:
    """Columns of a table that grows at its end."""

    def __init__(self, names: Sequence[str]) -> None:
        self.size = 0
        self._columns: Columns = {name: np.empty(_ROOM, COLUMN_DTYPES.get(name, np.int64)) for name in names}

    def reserve(self, rows: int) -> int:
        """Room for so many rows; where it begins."""
        first, self.size = self.size, self.size + rows
        for name, column in self._columns.items():
            if len(column) < self.size:
                grown = np.empty(2 * self.size, column.dtype)
                grown[:first] = column[:first]
                self._columns[name] = grown
        return first

    def put(self, positions: Ints, table: Table) -> None:
        for name, column in self._columns.items():
            column[positions] = table[name]

    def take(self, positions: Ints) -> Table:
        return {name: column[positions] for name, column in self._columns.items()}


class _Segment:
    """Rows of each customer or merchant side by side, with room for more behind them.

    Arrays are by the entity's number: which version of it is here, and since when its rows are complete.
    """

    def __init__(self, names: Sequence[str], *, owner: str, time: str) -> None:
        self.rows = GrowingTable(names)
        self._owner, self._time = owner, time
        self.versions, self.since, self._start, self._count, self._room = (np.empty(0, np.int64) for _ in range(5))
        self._place = np.empty(0, np.int64)

    def held(self, entities: Ints, *, since: Ints | int) -> Ints:
        """The version in which each entity is here, complete from `since` on; -1 where it is not."""
        self._make_room(entities)
        return np.where(self.since[entities] <= since, self.versions[entities], -1)

    def counts(self, entities: Ints) -> Ints:
        """The number of rows of each entity."""
        return self._count[entities]

    def replace(self, entities: Ints, versions: Ints, table: Table, *, since: Ints) -> None:
        """Give entities these rows and no others."""
        self._make_room(entities)
        order, counts = self._by_owner(table, entities)
        self.versions[entities], self.since[entities] = versions, since
        self._write_rows(entities, {name: column[order] for name, column in table.items()}, counts)

    def append(self, entities: Ints, table: Table, *, since: int) -> None:
        """Add rows of entities that are here; rows from before `since` go where others need their room."""
        if not len(table[self._time]):
            return
        order, counts = self._by_owner(table, entities)
        touched = counts > 0
        entities, counts = entities[touched], counts[touched]
        full = self._count[entities] + counts > self._room[entities]
        if full.any():
            self._move(entities[full], more=counts[full], since=since)
        ends = self._start[entities] + self._count[entities]
        self._count[entities] += counts
        self.rows.put(_positions(ends, counts), {name: column[order] for name, column in table.items()})

    def advance(self, entities: Ints, versions: Ints) -> None:
        """Entities are in these versions by now."""
        self.versions[entities] = versions

    def copy_from(self, other: "_Segment", entities: Ints) -> None:
        """Take rows of entities over."""
        self.replace(entities, other.versions[entities], other.table(entities), since=other.since[entities])

    def table(self, entities: Ints) -> Table:
        """All rows of entities."""
        return self.rows.take(_positions(self._start[entities], self._count[entities]))

    def _by_owner(self, table: Table, entities: Ints) -> tuple[Ints, Ints]:
        """An order that groups rows by entity, in order of time, and the number of rows of each."""
        self._place[entities] = np.arange(len(entities))
        places = self._place[table[self._owner]]
        return np.lexsort((table[self._time], places)), np.bincount(places, minlength=len(entities))

    def _move(self, entities: Ints, *, more: Ints, since: int) -> None:
        rows, owners = self.table(entities), np.repeat(np.arange(len(entities)), self._count[entities])
        kept = rows[self._time] >= since
        self.since[entities] = np.maximum(self.since[entities], since)
        counts = np.bincount(owners[kept], minlength=len(entities))
        self._write_rows(entities, {name: column[kept] for name, column in rows.items()}, counts, more=more)

    def _write_rows(self, entities: Ints, rows: Table, counts: Ints, *, more: Ints | int = 0) -> None:
        moved = counts + more > self._room[entities]
        room = (counts + more + counts // 4 + _ROOM)[moved]
        first = self.rows.reserve(int(room.sum()))
        self._start[entities[moved]] = first + np.cumsum(room) - room
        self._room[entities[moved]] = room
        self._count[entities] = counts
        self.rows.put(_positions(self._start[entities], counts), rows)

    def _make_room(self, entities: Ints) -> None:
        missing = int(entities.max(initial=-1)) + 1 - len(self.versions)
        if missing > 0:
            missing += len(self.versions)
            self.versions = np.concatenate([self.versions, np.full(missing, -1)])
            none = np.zeros(missing, np.int64)
            self.since, self._start, self._count, self._room, self._place = (
                np.concatenate([known, none])
                for known in (self.since, self._start, self._count, self._room, self._place)
            )


def _positions(starts: Ints, counts: Ints) -> Ints:
    """The positions of spans, one after the other."""
    before = np.cumsum(counts) - counts
    return np.repeat(starts - before, counts) + np.arange(int(counts.sum()))


class EntityRowCache:
    """Rows by entity in two generations: rows that the young one does not use are evicted with the old one."""

    def __init__(self, names: Sequence[str], *, owner: str, time: str, max_rows: int) -> None:
        self._kind = partial(_Segment, names, owner=owner, time=time)
        self._max_rows = max_rows
        self.young, self.old = self._kind(), self._kind()

    @property
    def size(self) -> int:
        """The capacity in rows."""
        return self.young.rows.size + self.old.rows.size

    def held(self, entities: Ints, *, since: Ints | int) -> Ints:
        """The version of each entity in the young generation, if complete from `since` on, or else -1.

        Entities that only the old generation has are copied.
        """
        if self.young.rows.size > self._max_rows:
            self.young, self.old = self._kind(), self.young
        held = self.young.held(entities, since=since)
        in_old = (held < 0) & (self.old.held(entities, since=since) >= 0)
        if in_old.any():
            self.young.copy_from(self.old, entities[in_old])
            held[in_old] = self.old.versions[entities[in_old]]
        return held

    def gather(self, entities: Ints, version: int, *, since: int, load: Callable[[Ints, int], Table]) -> Table:
        """Rows of entities from `since` or earlier, as of this version; `load` reads the missing ones."""
        stale = entities[self.held(entities, since=since) != version]
        if len(stale):
            first = since - SLACK
            rows, all_of = load(stale, first), np.ones(len(stale), np.int64)
            self.young.replace(stale, version * all_of, rows, since=first * all_of)
        return self.young.table(entities)
