"""What a scoring process remembers of the database's history between two transactions, as arrays.

Belongs here: what is kept, when it is out of date, and rows as feature tables. Must not be here: SQL, features.

Nothing here is trusted by age: the database gives every customer, the reports and the merchants' days a version, and
what carries another version than the one remembered is read again. Several processes may serve one customer.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, chain, groupby
from operator import itemgetter
from sys import intern
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fraud_pipeline.columns import Table
from fraud_pipeline.transactions import DAY, FRAUD_REPORTS, REPORT_COLUMNS, TRANSACTION_COLUMNS, TRANSACTIONS

MERCHANT_DAY_COLUMNS: Final = (
    "merchant_id",
    "day",
    "transaction_count",
    "amount_sum_cents",
    "cleared_count",
    "last_cleared_time",
)
# A little more is read than asked for, so that a somewhat late transaction finds its window remembered.
SLACK: Final = DAY
_CUSTOMER: Final = itemgetter(TRANSACTION_COLUMNS.index("customer_id"))
_MAX_PIECES: Final = 8
_REPEATED: Final = {"customer_id", "merchant_id", "category", "channel", "country"}
_WHOLE: Final = {"event_time", "reported_at", *MERCHANT_DAY_COLUMNS[1:]}
_COLUMNS: Final = TRANSACTIONS.columns | FRAUD_REPORTS.columns
# What is no number, no position and no truth is text.
_DTYPES: Final[Mapping[str, type]] = dict.fromkeys(_WHOLE, np.int64) | {
    name: {"int64": np.int64, "float64": np.float64, "bool": np.bool_}.get(str(column.dtype), object)
    for name, column in _COLUMNS.items()
    if name not in _WHOLE
}


def rows_to_table(rows: Sequence[Sequence[Any]], names: Sequence[str]) -> Table:
    """Columns of rows as arrays: text as objects, times and money as int64, positions as float64."""
    values = zip(*rows, strict=True) if rows else ([] for _ in names)
    return {name: np.array(list(column), _DTYPES.get(name, object)) for name, column in zip(names, values, strict=True)}


NO_TRANSACTIONS: Final = rows_to_table([], TRANSACTION_COLUMNS)
NO_REPORTS: Final = rows_to_table([], REPORT_COLUMNS)
NO_MERCHANT_DAYS: Final = rows_to_table([], MERCHANT_DAY_COLUMNS)


Arrays = tuple[NDArray[Any], ...]


@dataclass(slots=True)
class _Block:
    """Rows of one customer or merchant from `since` on, in pieces: one array (columns of its kind, n) of each kind."""

    version: int
    since: int
    size: int
    pieces: list[Arrays]


class _Layout:
    """Which columns go into which array of a block."""

    def __init__(self, names: Sequence[str], *, time: str) -> None:
        sample = rows_to_table([], names)
        dtypes = list(dict.fromkeys(sample[name].dtype for name in names))
        self.names = tuple(names)
        self.kinds = tuple(
            (dtype, [i for i, name in enumerate(names) if sample[name].dtype == dtype]) for dtype in dtypes
        )
        self._place = {
            self.names[i]: (k, row) for k, (_, which) in enumerate(self.kinds) for row, i in enumerate(which)
        }
        self.time = self._place[time]

    def arrays(self, rows: Sequence[Sequence[Any]]) -> Arrays:
        """Rows as a piece of a block."""
        columns = list(map(_interned, self.names, zip(*rows, strict=True))) if rows else [()] * len(self.names)
        return tuple(
            np.array([columns[i] for i in which], dtype).reshape(len(which), len(rows)) for dtype, which in self.kinds
        )

    def joined(self, pieces: Sequence[Arrays]) -> Arrays:
        """Pieces as one."""
        return tuple(np.concatenate([piece[k] for piece in pieces], axis=1) for k in range(len(self.kinds)))

    def table(self, blocks: Sequence[_Block]) -> Table:
        """All rows of these blocks."""
        if not blocks:
            return rows_to_table([], self.names)
        arrays = self.joined([piece for block in blocks for piece in block.pieces])
        return {name: arrays[k][row] for name, (k, row) in self._place.items()}


def _interned(name: str, column: tuple[Any, ...]) -> tuple[Any, ...]:
    """Equal texts as one object: windows compare them by the million, and memory holds them once."""
    if name not in _REPEATED:
        return column
    return tuple(value if value is None else intern(value) for value in column)


Load = Callable[[Sequence[str], int], Iterable[Sequence[Any]]]


class _Remembered:
    """Blocks by entity, least recently used ones dropped beyond `max_rows`."""

    def __init__(self, layout: _Layout, *, entity: str, max_rows: int) -> None:
        self.layout = layout
        self._entity = layout.names.index(entity)
        self._max_rows = max_rows
        self._blocks: OrderedDict[str, _Block] = OrderedDict()
        self._rows = 0

    def gather(self, versions: Mapping[str, int], *, since: int, load: Load) -> Table:
        """Rows of these entities from `since` or earlier, as of these versions; `load` reads what is not held so."""
        stale = [name for name, version in versions.items() if not self._holds(name, version=version, since=since)]
        if stale:
            first = since - SLACK
            found: dict[str, list[Sequence[Any]]] = {name: [] for name in stale}
            for row in load(stale, first):
                found[row[self._entity]].append(row)
            for name, rows in found.items():
                pieces = [self.layout.arrays(rows)] if rows else []
                self.put(name, _Block(version=versions[name], since=first, size=len(rows), pieces=pieces))
        blocks = []
        for name in versions:
            self._blocks.move_to_end(name)
            blocks.append(self._blocks[name])
        table = self.layout.table([block for block in blocks if block.size])
        self._forget_oldest(keep=len(versions))
        return table

    def get(self, name: str) -> _Block | None:
        return self._blocks.get(name)

    def put(self, name: str, block: _Block) -> None:
        old = self._blocks.get(name)
        self._rows += block.size - (old.size if old else 0)
        self._blocks[name] = block

    def append(self, block: _Block, piece: Arrays) -> None:
        size = int(piece[0].shape[1])
        block.pieces.append(piece)
        block.size += size
        self._rows += size

    def clear(self) -> None:
        self._blocks.clear()
        self._rows = 0

    def _holds(self, name: str, *, version: int, since: int) -> bool:
        block = self._blocks.get(name)
        return block is not None and block.version == version and block.since <= since

    def _forget_oldest(self, *, keep: int) -> None:
        while self._rows > self._max_rows and len(self._blocks) > keep:
            _, block = self._blocks.popitem(last=False)
            self._rows -= block.size


class CustomerMemory:
    """Customers' events. A customer's version counts the transactions that touched the customer."""

    def __init__(self, *, window: int, max_events: int) -> None:
        self._window = window
        self._remembered = _Remembered(
            _Layout(TRANSACTION_COLUMNS, time="event_time"), entity="customer_id", max_rows=max_events
        )

    def gather(self, versions: Mapping[str, int], *, since: int, load: Load) -> Table:
        """Events of these customers, known before the transaction that counts to `versions`."""
        before = {customer: version - 1 for customer, version in versions.items()}
        return self._remembered.gather(before, since=since, load=load)

    def committed(self, versions: Mapping[str, int], added: Sequence[Sequence[Any]]) -> None:
        """The transaction that counted to `versions` and added these events has happened."""
        by_customer = sorted(added, key=_CUSTOMER)
        together = self._remembered.layout.arrays(by_customer)
        sizes = {customer: len(list(rows)) for customer, rows in groupby(by_customer, key=_CUSTOMER)}
        stops = dict(zip(sizes, accumulate(sizes.values()), strict=True))
        for customer, version in versions.items():
            block = self._remembered.get(customer)
            if block is None or block.version != version - 1:
                continue  # nothing that could be brought up to date
            block.version = version
            if size := sizes.get(customer, 0):
                part = slice(stops[customer] - size, stops[customer])
                # A view would keep the whole batch alive.
                self._remembered.append(block, tuple(array[:, part].copy() for array in together))
                if len(block.pieces) > _MAX_PIECES:
                    self._compact(customer, block)

    def _compact(self, customer: str, block: _Block) -> None:
        """One piece again, without events that no window of newer transactions reaches."""
        arrays = self._remembered.layout.joined(block.pieces)
        kind, row = self._remembered.layout.time
        happened = arrays[kind][row]
        since = max(block.since, int(happened.max()) - self._window - SLACK)
        recent = happened >= since
        kept = tuple(array[:, recent] for array in arrays)
        compact = _Block(version=block.version, since=since, size=int(recent.sum()), pieces=[kept])
        self._remembered.put(customer, compact)


class MerchantMemory:
    """Merchants' days, all of one version."""

    def __init__(self, *, max_days: int) -> None:
        self._remembered = _Remembered(
            _Layout(MERCHANT_DAY_COLUMNS, time="day"), entity="merchant_id", max_rows=max_days
        )
        self._version = -1

    def gather(self, merchants: Iterable[str], *, version: int, since: int, load: Load) -> Table:
        """Days of these merchants as that version knows them."""
        if version != self._version:
            self._remembered.clear()
            self._version = version
        return self._remembered.gather(dict.fromkeys(merchants, version), since=since, load=load)


@dataclass(slots=True)
class ReportMemory:
    """All fraud reports that a window can reach, by customer and by merchant: they are few."""

    version: int = 0
    since: int = 0
    _of: dict[tuple[str, str], list[Sequence[Any]]] = field(default_factory=dict)

    def gather(
        self,
        customers: Iterable[str],
        merchants: Iterable[str],
        *,
        version: int,
        since: int,
        load: Callable[[int, int], Iterable[Sequence[Any]]],
    ) -> Table:
        """Reports about these customers and merchants up to that version; `load(above_version, since)` reads others."""
        if since < self.since or since - self.since > 30 * DAY or self.version == 0:
            self.version, self.since = 0, since - DAY
            self._of.clear()
        if version != self.version:
            for row in load(self.version, self.since):
                for key in (("customer", row[4]), ("merchant", row[5])):
                    self._of.setdefault(key, []).append(row)
            self.version = version
        keys = chain((("customer", name) for name in customers), (("merchant", name) for name in merchants))
        rows = {(row[0], row[1]): row for key in keys for row in self._of.get(key, ())}
        return rows_to_table(list(rows.values()), REPORT_COLUMNS)
