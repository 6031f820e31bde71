"""Cached histories of customers, kept by a scoring process between two transactions.

Belongs here: which events are read, when, and in which form. Must not be here: SQL, positions of rows
(`cache_arrays.py`), tiles (`features/tiles.py`), merchants and reports (`history_cache.py`).

A customer's version counts the transactions that touched it. A history cached at an earlier version is updated by the
events of later versions; a missing one is read. At most `many` events of a customer are read one by one. A longer
history is read as tiles, before any customer is locked, and tiles are opened only where single events are needed.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, Protocol

import numpy as np

from fraud_pipeline.features.kernels.columns import Table
from fraud_pipeline.features.kernels.windows import Ints
from fraud_pipeline.features.tiles import (
    HISTORY_COLUMNS,
    TILE,
    as_history,
    rows_where,
    tile_rows,
    tiles_to_open,
    with_closed_tiles,
    with_open_tiles,
)
from fraud_pipeline.scoring.cache_arrays import SLACK, EntityRowCache

MANY: Final = 1_024
"""The number of a customer's events whose cost, to read and to visit for each transaction, equals that of tiles."""
Rows = Iterable[Sequence[Any]]


class ReadsCustomers(Protocol):
    """Events in columns of TRANSACTIONS, from the database; all arguments are one per customer or tile."""

    def first_events(self, customers: Sequence[str], *, since: Ints, up_to: Ints, at_most: int) -> Rows:
        """Events from `since` on of versions up to `up_to`, of each customer at most so many of them."""

    def later_events(self, customers: Sequence[str], *, above: Ints, up_to: Ints) -> Rows:
        """Events that became known in versions above `above` up to `up_to`."""

    def events_of_tiles(self, customers: Sequence[str], *, starts: Ints, up_to: Ints, width: int) -> Rows:
        """Events in the `width` microseconds from `starts` on, of versions up to `up_to`."""


class ReadsTiles(Protocol):
    """A customer's tiles, from the database, which need no lock."""

    def version(self, customer: str) -> int:
        """The newest version."""

    def tiles(self, customer: str, *, since: int, up_to: int, width: int) -> Rows:
        """Beginning, number of events and sum of amounts of each tile from `since` on, of versions up to `up_to`."""


class CrowdedHistoryError(RuntimeError):
    """These customers have too many events from these instants on to be read while they are locked."""

    def __init__(self, since: Mapping[str, int]) -> None:
        super().__init__(f"{len(since)} customers have so many events that they must be read as tiles first")
        self.since = since


class CustomerMemory:
    """Histories by customer; `window` is how far back a transaction looks, `max_rows` bounds the cached rows.

    Customers are numbers; `name` gives the name of one and `events_table` makes arrays of rows.
    """

    def __init__(
        self,
        *,
        window: int,
        max_rows: int,
        many: int,
        name: Callable[[int], str],
        events_table: Callable[[Rows], Table],
    ) -> None:
        self._window = window
        self._many = many
        self._name = name
        self._events_table = events_table
        self._rows = EntityRowCache(HISTORY_COLUMNS, owner="customer_id", time="event_time", max_rows=max_rows)
        self._most: dict[int, int] = {}

    @property
    def size(self) -> int:
        """The capacity in rows."""
        return self._rows.size

    def histories(self, new: Table, versions: Mapping[str, int], *, read: ReadsCustomers) -> Table:
        """Histories of the customers of `new`, known before the transaction that counts to `versions`.

        Raises CrowdedHistoryError for customers whose tiles must be read first.
        """
        customers, customer_of_row = np.unique(new["customer_id"], return_inverse=True)
        before = np.array([versions[self._name(customer)] for customer in customers.tolist()], np.int64) - 1
        since = np.full(len(customers), np.iinfo(np.int64).max)
        np.minimum.at(since, customer_of_row, new["event_time"] - self._window)
        held = self._rows.held(customers, since=since)
        behind = before - held
        usable = (held >= 0) & (behind >= 0) & (behind <= self._many)
        late = usable & (behind > 0)
        if late.any():
            self._catch_up(
                customers[late], above=held[late], up_to=before[late], since=int(since[late].min()), read=read
            )
        if not usable.all():
            away = ~usable
            self._read(customers[away], since=since[away] - SLACK, up_to=before[away], read=read)
        return self._opened(customers, new, up_to=before, read=read)

    def read_ahead(self, since: Mapping[int, int], *, read: ReadsTiles) -> None:
        """Read histories from these instants on as tiles. Later changes are read as of any cached customer."""
        for customer, instant in since.items():
            name = self._name(customer)
            version = read.version(name)
            first = instant - instant % TILE
            rows = list(read.tiles(name, since=first, up_to=version, width=TILE))
            starts, counts, cents = np.array(rows, np.int64).reshape(-1, 3).T
            owner = np.array([customer], np.int64)
            tiles = tile_rows(np.full(len(rows), customer, np.int64), starts, counts, cents)
            self._rows.young.replace(owner, np.array([version]), tiles, since=np.array([first]))

    def committed(self, customers: Ints, versions: Ints, added: Table) -> None:
        """The transaction that counted customers to `versions` and added these events has happened."""
        young = self._rows.young
        held = young.held(customers, since=int(np.iinfo(np.int64).max)) == versions - 1
        customers, versions = customers[held], versions[held]
        if not held.all():
            # A history that could not be updated here is updated at its next use.
            added = rows_where(added, np.isin(added["customer_id"], customers))
        self._append(customers, versions, added, since=int(np.iinfo(np.int64).max))

    def _append(self, customers: Ints, versions: Ints, events: Table, *, since: int) -> None:
        """Add events; rows from before both `since` and the newest event's window may be dropped for want of room."""
        reach = min(int(events["event_time"].max(initial=0)) - self._window - SLACK, since)
        # Only whole tiles are dropped.
        self._rows.young.append(customers, as_history(events), since=reach - reach % TILE)
        self._rows.young.advance(customers, versions)

    def _catch_up(self, customers: Ints, *, above: Ints, up_to: Ints, since: int, read: ReadsCustomers) -> None:
        rows = read.later_events(self._names(customers), above=above, up_to=up_to)
        self._append(customers, up_to, self._events_table(rows), since=since)

    def _read(self, customers: Ints, *, since: Ints, up_to: Ints, read: ReadsCustomers) -> None:
        rows = read.first_events(self._names(customers), since=since, up_to=up_to, at_most=self._many + 1)
        events = self._events_table(rows)
        counts = np.bincount(np.searchsorted(customers, events["customer_id"]), minlength=len(customers))
        few = counts <= self._many
        if not few.all():
            events = rows_where(events, np.isin(events["customer_id"], customers[few]))
        self._rows.young.replace(customers[few], up_to[few], as_history(events), since=since[few])
        if not few.all():
            crowded = customers[~few]
            raise CrowdedHistoryError(dict(zip(self._names(crowded), since[~few].tolist(), strict=True)))

    def _opened(self, customers: Ints, new: Table, *, up_to: Ints, read: ReadsCustomers) -> Table:
        """Their rows, with tiles open where features of `new` need that and closed where there are too many rows."""
        young = self._rows.young
        rows = young.table(customers)
        tiled = np.isin(customers, rows["customer_id"][rows["tile_events"] > 0])
        counts = young.counts(customers)
        crowded = counts > 2 * self._many
        for place in np.flatnonzero(crowded):
            crowded[place] = counts[place] > self._most.get(int(customers[place]), 0)
        if not (tiled | crowded).any():
            return rows
        busy = customers[tiled | crowded]
        history = rows_where(rows, np.isin(rows["customer_id"], busy))
        busy_rows = rows_where(new, np.isin(new["customer_id"], busy))
        cut = tiles_to_open(history, busy_rows)
        if not (cut.any() or crowded.any()):
            return rows
        if cut.any():
            of_tiles, starts = history["customer_id"][cut], history["event_time"][cut]
            versions = up_to[np.searchsorted(customers, of_tiles)]
            events = read.events_of_tiles(self._names(of_tiles), starts=starts, up_to=versions, width=TILE)
            history = with_open_tiles(history, cut, self._events_table(events))
        if crowded.any():
            history = with_closed_tiles(history, busy_rows)
        young.replace(busy, up_to[tiled | crowded], history, since=young.since[busy])
        if crowded.any():
            # Twice as many again before the next closing, whose cost is that of the rows.
            self._most |= dict(zip(busy.tolist(), (2 * young.counts(busy)).tolist(), strict=True))
        return young.table(customers)

    def _names(self, customers: Ints) -> list[str]:
        return [self._name(customer) for customer in customers.tolist()]
