"""The history cache against a plain LRU of arrays per customer: rows a second that both give and remember.

    python benchmarks/history_cache.py [--customers N] [--events N] [--seconds N]

Both hold the same events of every customer, so nothing is read from a database. A round asks for the histories of a
micro-batch and then adds its transactions; rounds of the two take turns, and both must give the same rows.
Prints one JSON line: for each size of a micro-batch the rows a second of both, and how many times faster the cache is.
"""

import sys

# A file in this directory has the name of a module of the standard library, which must be found first.
sys.path.append(sys.path.pop(0))

# isort: split
import argparse
import json
import statistics
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, Final

import numpy as np

from fraud_pipeline.features.kernels.columns import Table
from fraud_pipeline.features.tiles import as_history, rows_where
from fraud_pipeline.schema.transactions import DAY, SECOND, TransactionRow
from fraud_pipeline.scoring.history_cache import HistoryCache

NOW: Final = 20_000 * DAY
WINDOW: Final = 30 * DAY
SIZES: Final = (1, 16, 500)
ROUND: Final = 1_000
"""Rows of a round, in micro-batches of one size."""


class PlainLru:
    """The newest used customers' histories: a version and one array for each column, copied to add a row."""

    def __init__(self, *, most: int) -> None:
        self._most = most
        self._tables: OrderedDict[int, tuple[int, Table]] = OrderedDict()

    def put(self, customer: int, version: int, table: Table) -> None:
        self._tables[customer] = version, table
        self._tables.move_to_end(customer)
        if len(self._tables) > self._most:
            self._tables.popitem(last=False)

    def histories(self, customers: Sequence[int], versions: Mapping[int, int]) -> Table:
        tables = []
        for customer in customers:
            version, table = self._tables[customer]
            if version != versions[customer] - 1:
                raise KeyError(customer)
            self._tables.move_to_end(customer)
            tables.append(table)
        return {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}

    def committed(self, versions: Mapping[int, int], added: Table, *, since: int) -> None:
        rows = as_history(added)
        order = np.argsort(rows["customer_id"], kind="stable")
        owners, starts = np.unique(rows["customer_id"][order], return_index=True)
        for customer, positions in zip(owners.tolist(), np.split(order, starts[1:]), strict=True):
            _, before = self._tables[customer]
            first = int(np.searchsorted(before["event_time"], since))
            table = {name: np.concatenate([before[name][first:], column[positions]]) for name, column in rows.items()}
            self.put(customer, versions[customer], table)


class Events:
    """The events that are known at the start, in place of a database."""

    def __init__(self, *, customers: int, events: int) -> None:
        random = np.random.default_rng(1)
        times = np.sort(NOW - random.integers(1, WINDOW, (customers, events)), axis=1)
        self.rows = {
            f"c{customer}": [row(f"{customer}-{number}", at, customer) for number, at in enumerate(of_customer)]
            for customer, of_customer in enumerate(times.tolist())
        }

    def first_events(self, customers: Sequence[str], **_: Any) -> Iterator[TransactionRow]:
        return (event for customer in customers for event in self.rows[customer])

    def later_events(self, customers: Sequence[str], **_: Any) -> Iterator[TransactionRow]:
        raise NotImplementedError(customers)

    def events_of_tiles(self, customers: Sequence[str], **_: Any) -> Iterator[TransactionRow]:
        raise NotImplementedError(customers)


def row(transaction_id: str, at: int, customer: int) -> TransactionRow:
    return TransactionRow(transaction_id, at, f"c{customer}", f"m{at % 300}", 1_000 + at % 50_000, channel="online")


@dataclass(slots=True)
class Both:
    """The two side by side, with the seconds that each has spent."""

    known: Events
    cache: HistoryCache
    plain: PlainLru
    versions: dict[str, int]
    spent: dict[str, float]

    @classmethod
    def filled(cls, *, customers: int, events: int) -> "Both":
        known = Events(customers=customers, events=events)
        cache, plain = HistoryCache(window=WINDOW, max_rows=4 * customers * events), PlainLru(most=customers)
        new = cache.table([row(f"first-{customer}", NOW, customer) for customer in range(customers)])
        history = cache.customers(new, dict.fromkeys(known.rows, 2), read=known)
        for customer in np.unique(history["customer_id"]).tolist():
            rows = history["customer_id"] == customer
            plain.put(customer, 1, {name: column[rows] for name, column in history.items()})
        return cls(known, cache, plain, dict.fromkeys(known.rows, 1), {})

    def serve(self, rows: Sequence[TransactionRow]) -> None:
        """Ask for the histories of a micro-batch, then add it."""
        new = self.cache.table(rows)
        customers, first = np.unique(new["customer_id"], return_index=True)
        names = [rows[place].customer_id for place in first]
        after = {name: self.versions[name] + 1 for name in names}
        numbered = dict(zip(customers.tolist(), after.values(), strict=True))
        times = [time.perf_counter()]
        cached = self.cache.customers(new, after, read=self.known)
        times.append(time.perf_counter())
        plain = self.plain.histories(list(numbered), numbered)
        times.append(time.perf_counter())
        # Events that no window reaches any more may be dropped by either.
        seen = int(new["event_time"].max()) - WINDOW
        expected, given = (rows_where(table, table["event_time"] >= seen) for table in (plain, cached))
        if not all(np.array_equal(given[name], expected[name]) for name in ("transaction_id", "event_time")):
            raise RuntimeError("the two do not give the same rows")
        times.append(time.perf_counter())
        self.cache.committed(after, new)
        times.append(time.perf_counter())
        self.plain.committed(numbered, new, since=NOW - WINDOW)
        times.append(time.perf_counter())
        seconds = np.diff(times)
        self.spent["cache"] += seconds[0] + seconds[3]
        self.spent["plain_lru"] += seconds[1] + seconds[4]
        self.versions |= after


def measure(*, customers: int, events: int, seconds: float) -> dict[str, dict[str, float]]:
    """Rows a second of both by size of a micro-batch."""
    both, random = Both.filled(customers=customers, events=events), np.random.default_rng(2)
    rates: dict[str, dict[str, float]] = {}
    numbers = count()
    for size in SIZES:
        samples: dict[str, list[float]] = {"cache": [], "plain_lru": []}
        end = time.monotonic() + seconds / len(SIZES)
        while time.monotonic() < end or len(samples["cache"]) < 3:
            both.spent = dict.fromkeys(samples, 0.0)
            for _ in range(ROUND // size):
                owners = random.integers(0, customers, size).tolist()
                both.serve([row(f"n-{n}", NOW + n * SECOND, owner) for owner, n in zip(owners, numbers, strict=False)])
            for name, elapsed in both.spent.items():
                samples[name].append(ROUND // size * size / elapsed)
        medians = {name: round(statistics.median(of)) for name, of in samples.items()}
        rates[f"batch_{size}"] = {**medians, "times": round(medians["cache"] / medians["plain_lru"], 2)}
    return rates


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--customers", type=int, default=5_000)
    parser.add_argument("--events", type=int, default=100, help="of each customer")
    parser.add_argument("--seconds", type=float, default=30.0)
    options = parser.parse_args()
    print(json.dumps(measure(customers=options.customers, events=options.events, seconds=options.seconds)))


if __name__ == "__main__":
    main()
