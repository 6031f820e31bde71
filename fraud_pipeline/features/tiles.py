"""Histories with tiles: a tile replaces the events of a quarter of an hour by their number and their sum of amounts.

Belongs here: which tiles a transaction needs open, and closing the others. Must not be here: reading, caching
(`scoring/customer_cache.py`), features.

A row is an event or a tile. Counts and sums over a window add the events and tiles in it as integers, so a customer
with a million events costs only the edges of its windows and its newest events. A tile that a window cuts in two must
be open. So must the newest events before a transaction, which the other statistics use. An event that became known
after its tile was closed is a row of its own, and the tile does not count it.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from fraud_pipeline.features.definitions import CUSTOMER_WINDOWS, NEWEST_EVENTS
from fraud_pipeline.features.kernels import windows
from fraud_pipeline.features.kernels.columns import MISSING_CODE, Table, concat_rows, shared_codes
from fraud_pipeline.features.kernels.windows import Ints, kernel
from fraud_pipeline.schema.transactions import HOUR, TRANSACTION_COLUMNS

TILE: Final = HOUR // 4
HISTORY_COLUMNS: Final = (*TRANSACTION_COLUMNS, "tile_events")
"""Columns of a history: those of an event, and the number of events in a tile; 0 for an event.

A tile's `event_time` is its start; its `amount_cents` is the sum.
"""
_WIDTHS: Final = np.array(list(CUSTOMER_WINDOWS.values()), np.int64)


def as_history(events: Table) -> Table:
    """Events as rows of a history."""
    return {**events, "tile_events": np.zeros(len(events["event_time"]), np.int64)}


def tile_rows(customers: Ints, starts: Ints, counts: Ints, cents: Ints) -> Table:
    """Tiles as rows (n,) of a history; two tiles of one customer and start add up."""
    filled = {"customer_id": customers, "event_time": starts, "amount_cents": cents, "tile_events": counts}
    places = dict.fromkeys(("latitude", "longitude"), np.full(len(customers), np.nan))
    return dict.fromkeys(HISTORY_COLUMNS, np.full(len(customers), MISSING_CODE)) | places | filled


def rows_where(rows: Table, chosen: NDArray[np.bool_]) -> Table:
    """The chosen rows (n,)."""
    return {name: column[chosen] for name, column in rows.items()}


def tiles_to_open(history: Table, new: Table) -> NDArray[np.bool_]:
    """Whether each row of a history is a tile that must be open for features of `new`, shape (rows of `history`,)."""
    (row_codes, history_codes), entities = shared_codes(new["customer_id"], history["customer_id"])
    grouped = windows.group(history_codes, history["event_time"], entities=entities)
    queries = windows.group(row_codes, new["event_time"], entities=entities)
    bounds = windows.window_bounds(grouped, queries, _WIDTHS)
    cut: NDArray[np.bool_] = _cut(
        *(grouped.order, grouped.times, history["tile_events"]),
        *(grouped.starts[row_codes], bounds.low, bounds.high),
        *(new["event_time"], _WIDTHS, NEWEST_EVENTS),
    )
    return cut


@kernel
def _cut(
    order: Ints,
    times: Ints,
    tile_events: Ints,
    first: Ints,
    low: Ints,
    high: Ints,
    now: Ints,
    widths: Ints,
    newest: int,
) -> NDArray[np.bool_]:
    cut = np.zeros(len(order), np.bool_)
    for q in range(len(high)):
        for w in range(len(widths)):
            edge = now[q] - widths[w]
            p = low[w, q] - 1
            while p >= first[q] and times[p] >= edge - edge % TILE:
                cut[order[p]] |= tile_events[order[p]] > 0
                p -= 1
        present = now[q] - now[q] % TILE
        # Whole quarters of an hour are compared, because a tile may hold newer events than a single event of its
        # quarter.
        stop, seen, p = present, 0, high[q] - 1
        while p >= first[q]:
            if seen < newest and p >= low[-1, q]:
                stop = min(stop, times[p] - times[p] % TILE)
            if times[p] < stop:
                break
            events = tile_events[order[p]]
            cut[order[p]] |= events > 0
            # The current tile does not tell how many of its events are earlier than the transaction.
            seen += 1 if events == 0 else events if times[p] < present else 0
            p -= 1
    return cut


def with_open_tiles(history: Table, opened: NDArray[np.bool_], events: Table) -> Table:
    """The history with events in place of its `opened` tiles (rows,); `events` are all known events of these tiles."""
    keys = _tile_keys(history)
    closed = ~np.isin(keys, keys[opened])
    return concat_rows(rows_where(history, closed), as_history(events), names=HISTORY_COLUMNS)


def with_closed_tiles(history: Table, new: Table) -> Table:
    """The history with every tile closed that need not be open for features of `new`."""
    keys, row_tiles = np.unique(_tile_keys(history), return_inverse=True)
    counts, cents = np.zeros(len(keys), np.int64), np.zeros(len(keys), np.int64)
    np.add.at(counts, row_tiles, np.maximum(history["tile_events"], 1))
    np.add.at(cents, row_tiles, history["amount_cents"])
    tiles = tile_rows(keys // _TILES, keys % _TILES * TILE, counts, cents)
    needed = tiles_to_open(tiles, new)
    return concat_rows(rows_where(history, needed[row_tiles]), rows_where(tiles, ~needed), names=HISTORY_COLUMNS)


# More than the number of tiles from 1970 to the largest 64-bit time.
_TILES: Final = 1 << 34


def _tile_keys(history: Table) -> Ints:
    """A number per (customer, tile)."""
    keys: Ints = history["customer_id"] * _TILES + history["event_time"] // TILE
    return keys
