"""The history that a scoring process caches between two transactions, as arrays of numbers.

Belongs here: the content of the cache, its expiry, and rows as feature tables. Must not be here: SQL, features,
positions of rows (`cache_arrays.py`), customers' histories (`customer_cache.py`).

The database gives every customer, the reports and the merchant days a version. If it differs from the cached one, the
difference is read, so several processes may serve one customer. Names are numbers here, the same for as long as they
are cached. Events are identified by a hash of their id; the database guarantees that each is stored once.

A plain LRU of arrays per customer is 2 to 3 times as fast for one row, and 5 to 8 times slower for the stream's
batches of 500 (`python benchmarks/history_cache.py`).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from itertools import chain
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fraud_pipeline.features.kernels.columns import MISSING_CODE, Table, tie_breakers
from fraud_pipeline.features.kernels.windows import Ints
from fraud_pipeline.schema.transactions import CHANNELS, DAY, REPORT_COLUMNS, TRANSACTION_COLUMNS
from fraud_pipeline.scoring.cache_arrays import COLUMN_DTYPES, SLACK, EntityRowCache, GrowingTable
from fraud_pipeline.scoring.customer_cache import MANY, CustomerMemory, ReadsCustomers, ReadsTiles

MERCHANT_DAY_COLUMNS: Final = (
    "merchant_id",
    "day",
    "transaction_count",
    "amount_sum_cents",
    "cleared_count",
    "last_cleared_time",
)
_NAMES: Final = {"customer_id", "merchant_id", "category", "country"}
_CHANNEL: Final[Mapping[str | None, int]] = {None: MISSING_CODE} | {name: i for i, name in enumerate(CHANNELS)}
# Farther apart than the latest transaction and one of now, so that they do not take turns in making reports be read.
_REPORTS_REACH: Final = 120 * DAY
# Spare names beyond one per row: numbers of evicted names are kept until this many are used.
_SPARE_NAMES: Final = 1_000_000

Load = Callable[[Sequence[str], int], Iterable[Sequence[Any]]]
"""Rows of these customers or merchants from an instant on, from the database."""


class IdEncoder(dict[str | None, int]):
    """A number for every requested name."""

    def __init__(self) -> None:
        super().__init__({None: MISSING_CODE})
        self.names: list[str] = []

    def __missing__(self, name: str) -> int:
        self[name] = number = len(self.names)
        self.names.append(name)
        return number

    def of(self, names: Sequence[str | None]) -> Ints:
        return np.fromiter(map(self.__getitem__, names), np.int64, len(names))

    def table(self, rows: Sequence[Sequence[Any]], names: Sequence[str]) -> Table:
        """Columns of rows as arrays; own fields, which follow the columns of a new transaction, are no history."""
        columns = zip(*rows, strict=True) if rows else ([] for _ in names)
        return {name: self._array(name, column) for name, column in zip(names, columns, strict=False)}

    def _array(self, name: str, column: Sequence[Any]) -> NDArray[Any]:
        if name in _NAMES:
            return self.of(column)
        if name == "transaction_id":
            return tie_breakers(np.array(column, object))
        if name == "channel":
            return np.array([_CHANNEL[channel] for channel in column], np.int64)
        return np.array(column, COLUMN_DTYPES.get(name, np.int64))


class HistoryCache:
    """Customers' events, merchants' days and fraud reports; `window` is how far a customer's events are looked at.

    `max_rows` bounds events and days each; of a customer with more than `many` events most are tiles
    (`features/tiles.py`).
    """

    def __init__(self, *, window: int, max_rows: int, many: int = MANY) -> None:
        self._window = window
        self._many = many
        self._max_rows = max_rows
        self._forget()

    def _forget(self) -> None:
        self._numbers = IdEncoder()
        numbers = self._numbers
        self._customers = CustomerMemory(
            window=self._window,
            max_rows=self._max_rows,
            many=self._many,
            name=numbers.names.__getitem__,
            events_table=lambda rows: numbers.table(list(rows), TRANSACTION_COLUMNS),
        )
        self._forget_merchants()
        self._reports = _Reports()

    def _forget_merchants(self, *, label_maturity: timedelta | None = None) -> None:
        self._label_maturity = label_maturity
        self._merchants = EntityRowCache(MERCHANT_DAY_COLUMNS, owner="merchant_id", time="day", max_rows=self._max_rows)

    @property
    def size(self) -> int:
        """The capacity in events and days."""
        return self._customers.size + self._merchants.size

    def table(self, rows: Sequence[Sequence[Any]]) -> Table:
        """New transactions as a table, which the other methods understand until the next one is made."""
        if len(self._numbers) > _SPARE_NAMES + self._max_rows:
            self._forget()
        return self._numbers.table(rows, TRANSACTION_COLUMNS)

    def customers(self, new: Table, versions: Mapping[str, int], *, read: ReadsCustomers) -> Table:
        """Histories (see `features/tiles.py`) of the customers of `new`, before the transaction that increments to
        `versions`.

        Raises CrowdedHistoryError; then call `read_ahead` with its customers, outside of any transaction.
        """
        return self._customers.histories(new, versions, read=read)

    def read_ahead(self, since: Mapping[str, int], *, read: ReadsTiles) -> None:
        """Read the histories of these customers from these instants on as tiles, without a lock."""
        self._customers.read_ahead({self._numbers[name]: instant for name, instant in since.items()}, read=read)

    def merchants(self, numbers: Ints, *, label_maturity: timedelta, version: int, since: int, load: Load) -> Table:
        """Days of these merchants, as of that version of this label maturity.

        Versions of two label maturities have the same numbers, so only days of one maturity are cached at a time.
        """
        if label_maturity != self._label_maturity:
            self._forget_merchants(label_maturity=label_maturity)
        return self._merchants.gather(
            np.unique(numbers), version, since=since, load=self._reading(load, MERCHANT_DAY_COLUMNS)
        )

    def reports(
        self, new: Table, *, version: int, since: int, load: Callable[[int, int], Iterable[Sequence[Any]]]
    ) -> Table:
        """Reports about the customers and merchants of `new` up to that version; `load(above, since)` reads others."""
        if self._reports.reaches(since):
            unread = load(self._reports.version, self._reports.since) if version != self._reports.version else ()
        else:
            self._reports = _Reports(since=since - SLACK)
            unread = load(0, self._reports.since)
        self._reports.add(self._numbers.table(list(unread), REPORT_COLUMNS), version=version)
        return self._reports.about(new)

    def committed(self, versions: Mapping[str, int], added: Table) -> None:
        """The transaction that counted to `versions` and added these events has happened."""
        customers, after = self._numbers.of(list(versions)), np.array(list(versions.values()), np.int64)
        self._customers.committed(customers, after, added)

    def _reading(self, load: Load, columns: Sequence[str]) -> Callable[[Ints, int], Table]:
        def read(entities: Ints, since: int) -> Table:
            names = [self._numbers.names[entity] for entity in entities]
            return self._numbers.table(list(load(names, since)), columns)

        return read


class _Reports:
    """All fraud reports that a window can reach, by customer and by merchant: they are few."""

    def __init__(self, *, since: int = 0) -> None:
        self.version = 0
        self.since = since
        self._rows = GrowingTable(REPORT_COLUMNS)
        self._of: dict[str, dict[int, list[int]]] = {"customer_id": {}, "merchant_id": {}}

    def reaches(self, since: int) -> bool:
        """Whether reports from `since` on are here, and not many more."""
        return self.version > 0 and self.since <= since <= self.since + _REPORTS_REACH

    def add(self, table: Table, *, version: int) -> None:
        count = len(table["reported_at"])
        first = self._rows.reserve(count)
        self._rows.put(np.arange(first, first + count), table)
        for column, positions in self._of.items():
            for position, entity in enumerate(table[column].tolist(), first):
                positions.setdefault(entity, []).append(position)
        self.version = version

    def about(self, new: Table) -> Table:
        """Those about the customers and merchants of `new`, each once."""
        indices = chain.from_iterable(
            positions.get(entity, ())
            for column, positions in self._of.items()
            for entity in dict.fromkeys(new[column].tolist())
        )
        return self._rows.take(np.array(sorted(set(indices)), np.int64))


def rows_to_table(rows: Sequence[Sequence[Any]], names: Sequence[str]) -> Table:
    """Columns of rows as arrays of numbers that are comparable only within one table."""
    return IdEncoder().table(rows, names)


NO_TRANSACTIONS: Final = rows_to_table([], TRANSACTION_COLUMNS)
NO_REPORTS: Final = rows_to_table([], REPORT_COLUMNS)
NO_MERCHANT_DAYS: Final = rows_to_table([], MERCHANT_DAY_COLUMNS)
