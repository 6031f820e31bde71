"""The history cache equals the database, with other writers and with any size of the cache."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fraud_pipeline.features.definitions import FEATURE_NAMES, NEWEST_EVENTS
from fraud_pipeline.features.engineer import FeatureEngineer, HistoryTables
from fraud_pipeline.features.tiles import TILE, rows_where
from fraud_pipeline.schema.transactions import DAY, HOUR, TRANSACTION_COLUMNS, TransactionRow
from fraud_pipeline.scoring.customer_cache import CrowdedHistoryError
from fraud_pipeline.scoring.history_cache import NO_MERCHANT_DAYS, NO_REPORTS, HistoryCache, rows_to_table

WINDOW = 30 * DAY
NOW = 20_000 * DAY
MINUTE = HOUR // 60
ENGINEER = FeatureEngineer(label_maturity=timedelta(days=7))


@dataclass(slots=True)
class Truth:
    """Events and versions like those of a database, with a count of the events read."""

    events: list[tuple[TransactionRow, int]] = field(default_factory=list)
    versions: Counter[str] = field(default_factory=Counter)
    reads: int = 0
    read_events: int = 0

    def add(self, rows: Sequence[TransactionRow]) -> None:
        self.versions.update({row.customer_id for row in rows})
        self.events += [(row, self.versions[row.customer_id]) for row in rows]

    def of(self, customers: set[str]) -> list[TransactionRow]:
        return [row for row, _ in self.events if row.customer_id in customers]

    def first_events(self, customers: Sequence[str], *, since: Any, up_to: Any, at_most: int) -> Iterator[Any]:
        requests = zip(customers, since, up_to, strict=True)
        return self._read([self._some(name, start, NOW * 2, 0, last)[:at_most] for name, start, last in requests])

    def later_events(self, customers: Sequence[str], *, above: Any, up_to: Any) -> Iterator[Any]:
        requests = zip(customers, above, up_to, strict=True)
        return self._read([self._some(name, 0, NOW * 2, first, last) for name, first, last in requests])

    def events_of_tiles(self, customers: Sequence[str], *, starts: Any, up_to: Any, width: int) -> Iterator[Any]:
        requests = zip(customers, starts, up_to, strict=True)
        return self._read([self._some(name, start, start + width, 0, last) for name, start, last in requests])

    def version(self, customer: str) -> int:
        return self.versions[customer]

    def tiles(self, customer: str, *, since: int, up_to: int, width: int) -> list[tuple[int, ...]]:
        tiles: dict[int, list[int]] = {}
        for row in self._some(customer, since, NOW * 2, 0, up_to):
            tiles.setdefault(row.event_time // width * width, []).append(row.amount_cents)
        return [(start, len(cents), sum(cents)) for start, cents in tiles.items()]

    def _some(self, name: str, since: int, until: int, above: int, up_to: int) -> list[TransactionRow]:
        return [
            row
            for row, version in self.events
            if row.customer_id == name and since <= row.event_time < until and above < version <= up_to
        ]

    def _read(self, rows_by_customer: list[list[TransactionRow]]) -> Iterator[TransactionRow]:
        self.reads += 1
        self.read_events += sum(map(len, rows_by_customer))
        return (row for rows in rows_by_customer for row in rows)


@dataclass(slots=True)
class Process:
    """A scoring process with its own cache."""

    memory: HistoryCache
    truth: Truth

    def features(self, rows: Sequence[TransactionRow], *, commit: bool) -> NDArray[np.uint32]:
        """The bits of customer features of new rows."""
        memory, truth = self.memory, self.truth
        new = memory.table(rows)
        have = {row.transaction_id for row, _ in truth.events}
        known = np.array([row.transaction_id in have for row in rows], np.bool_)
        versions = {name: truth.versions[name] + 1 for name in {row.customer_id for row in rows}}
        try:
            history = memory.customers(new, versions, read=truth)
        except CrowdedHistoryError as crowded:
            memory.read_ahead(crowded.since, read=truth)
            history = memory.customers(new, versions, read=truth)
        is_tile = history["tile_events"] > 0
        if commit:
            memory.committed(versions, rows_where(new, ~known))
        events, tiles = rows_where(history, ~is_tile), rows_where(history, is_tile)
        return bits(HistoryTables(events, NO_REPORTS, NO_MERCHANT_DAYS, known=known, customer_tiles=tiles), new)


def offline(truth: Truth, rows: Sequence[TransactionRow]) -> NDArray[np.uint32]:
    """The bits that training computes, from every event that is known."""
    everything = rows_to_table([*rows, *truth.of({row.customer_id for row in rows})], TRANSACTION_COLUMNS)
    is_new = np.arange(len(everything["event_time"])) < len(rows)
    history = HistoryTables(rows_where(everything, ~is_new), NO_REPORTS, NO_MERCHANT_DAYS)
    return bits(history, rows_where(everything, is_new))


def bits(history: HistoryTables, new: Any) -> NDArray[np.uint32]:
    return np.ascontiguousarray(ENGINEER.values(history=history, new=new)).view(np.uint32)


def assert_same(computed: NDArray[np.uint32], expected: NDArray[np.uint32]) -> None:
    assert {
        name for name, wrong in zip(FEATURE_NAMES, (computed != expected).any(axis=0), strict=True) if wrong
    } == set()


@dataclass(frozen=True, slots=True)
class Visit:
    """Random events in one of two processes, elsewhere, or in a transaction that is rolled back."""

    customers: frozenset[int]
    hours: int
    minutes: tuple[int, ...]
    again: int
    where: str


VISITS = st.lists(
    st.builds(
        Visit,
        customers=st.frozensets(st.integers(0, 3), min_size=1),
        # Mostly forward; now and then somewhat late, or so late that more than what is remembered is needed.
        hours=st.one_of(st.integers(0, 200), st.integers(-60, 0), st.just(-20 * 24)),
        # Single purchases, and crowds that fill some tiles.
        minutes=st.one_of(
            st.lists(st.integers(0, 40), min_size=1, max_size=4).map(tuple),
            st.tuples(st.integers(20, 90), st.integers(1, 9)).map(lambda crowd: tuple(range(*crowd)) * 4),
        ),
        again=st.integers(0, 3),
        where=st.sampled_from(["here", "here", "there", "there", "elsewhere", "undone"]),
    ),
    max_size=30,
)


@pytest.mark.slow
@given(visits=VISITS, max_rows=st.sampled_from([0, 300, 10_000]), many=st.sampled_from([3, 50, 400, 10_000]))
def test_two_processes_compute_what_training_computes(visits: list[Visit], max_rows: int, many: int) -> None:
    """With other writers, late and repeated events, any size of the cache and busy customers."""
    truth = Truth()
    first, second = (Process(HistoryCache(window=WINDOW, max_rows=max_rows, many=many), truth) for _ in range(2))
    now = NOW
    for number, visit in enumerate(visits):
        at = now + visit.hours * HOUR
        now = max(now, at)
        fresh = [
            TransactionRow(f"{number}-{k}-{i}", at + minute * MINUTE, f"c-{k}", f"m-{i % 3}", 100 + 7 * i)
            for k in sorted(visit.customers)
            for i, minute in enumerate(visit.minutes)
        ]
        known = truth.of({row.customer_id for row in fresh})
        rows = fresh + known[:: len(known) // visit.again + 1][: visit.again] if visit.again else fresh
        if visit.where != "elsewhere":
            process = second if visit.where == "there" else first
            expected = offline(truth, rows)
            assert_same(process.features(rows, commit=visit.where != "undone"), expected)
        if visit.where != "undone":
            truth.add(fresh)


def test_a_late_transaction_keeps_its_window_while_newer_events_are_caught_up() -> None:
    """The newer events need space, and the oldest rows, which only the late transaction needs, are evicted first."""
    truth = Truth()
    process = Process(HistoryCache(window=WINDOW, max_rows=10_000, many=50), truth)
    late = NOW - 20 * DAY
    truth.add([TransactionRow(f"old-{day}", late - day * DAY, "c", "m", 100) for day in range(1, 30)])
    for number in range(2):
        rows = [TransactionRow(f"late-{number}", late + number, "c", "m", 100)]
        assert_same(process.features(rows, commit=True), offline(truth, rows))
        truth.add(rows)
        truth.add([TransactionRow(f"new-{number}-{hour}", NOW - hour * HOUR, "c", "m", 100) for hour in range(40)])


@pytest.mark.slow
@pytest.mark.parametrize("late", [1, 12 * HOUR])
def test_a_crowded_customer_costs_what_its_newest_events_and_edges_cost(late: int) -> None:
    """30,000 events and two processes in turn: each reads some tiles and caches few."""
    generator = np.random.default_rng(0)
    many = [
        TransactionRow(f"t-{number}", NOW - int(ago), "guest", "m", 100)
        for number, ago in enumerate(generator.integers(0, WINDOW, 30_000))
    ]
    truth = Truth()
    truth.add(many)
    a_tile = len(many) * TILE // WINDOW
    processes = [Process(HistoryCache(window=WINDOW, max_rows=50_000), truth) for _ in range(2)]
    for process in processes:
        process.features([TransactionRow("first", NOW, "guest", "m", 100)], commit=False)
    for turn in range(20):
        row = TransactionRow(f"n-{turn}", NOW + turn * HOUR - int(generator.integers(late)), "guest", "m", 100)
        truth.read_events = 0
        features = processes[turn % 2].features([row], commit=True)
        assert truth.read_events < 10 * a_tile + NEWEST_EVENTS
        assert_same(features, offline(truth, [row]))
        truth.add([row])
    assert max(process.memory.size for process in processes) < 15_000


def test_cached_rows_in_use_are_not_read_again() -> None:
    truth, memory = Truth(), HistoryCache(window=WINDOW, max_rows=200)
    process = Process(memory, truth)
    for number in range(400):
        rows = [TransactionRow(f"t-{number}", NOW + number * 12 * HOUR, f"c-{number % 2}", "m", 100)]
        process.features(rows, commit=True)
        truth.add(rows)
    assert truth.reads == 2
    assert memory.size < 2 * (200 + 100)


def test_reports_of_late_and_of_present_transactions_are_read_once() -> None:
    memory, reads = HistoryCache(window=WINDOW, max_rows=100), []

    def load(above: int, since: int) -> list[Sequence[Any]]:
        reads.append((above, since))
        return [("t-1", NOW, True, NOW - DAY, "c-1", "m-1", 500)] if above == 0 else []

    new = memory.table([TransactionRow("t-2", NOW, "c-1", "m-1", 100)])
    for late in (0, 40, 0, 40):
        reports = memory.reports(new, version=3, since=NOW - (60 + late) * DAY, load=load)
        assert reports["amount_cents"].tolist() == [500]
    assert len(reads) == 2
