"""What a process remembers is what the database would tell, whoever else writes and however little fits in."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fraud_pipeline.columns import tie_breakers
from fraud_pipeline.memory import Memory
from fraud_pipeline.transactions import DAY, HOUR, TransactionRow

WINDOW = 30 * DAY
NOW = 20_000 * DAY


@dataclass(slots=True)
class Truth:
    """Events and versions as a database keeps them."""

    events: dict[str, list[TransactionRow]] = field(default_factory=dict)
    versions: Counter[str] = field(default_factory=Counter)
    reads: int = 0

    def add(self, rows: Sequence[TransactionRow]) -> None:
        for row in rows:
            self.events.setdefault(row.customer_id, []).append(row)

    def load(self, customers: Sequence[str], since: int) -> Iterator[Sequence[Any]]:
        self.reads += 1
        return iter([row for name in customers for row in self.events.get(name, []) if row.event_time >= since])


@dataclass(frozen=True, slots=True)
class Visit:
    """Some customers buy at one instant, at this entrance or at another one, or this one's transaction is undone."""

    customers: frozenset[int]
    hours: int
    times: int
    where: str


VISITS = st.lists(
    st.builds(
        Visit,
        customers=st.frozensets(st.integers(0, 5), min_size=1),
        # Mostly forward; now and then somewhat late, or so late that more than what is remembered is needed.
        hours=st.one_of(st.integers(0, 200), st.integers(-60, 0), st.just(-20 * 24)),
        times=st.integers(1, 12),
        where=st.sampled_from(["here", "here", "elsewhere", "undone"]),
    ),
    max_size=40,
)


@given(visits=VISITS, max_rows=st.sampled_from([0, 20, 10_000]))
def test_what_is_remembered_is_what_the_database_knows(visits: list[Visit], max_rows: int) -> None:
    truth, memory = Truth(), Memory(window=WINDOW, max_rows=max_rows)
    now = NOW
    for number, visit in enumerate(visits):
        at = now + visit.hours * HOUR
        now = max(now, at)
        rows = [
            TransactionRow(f"{number}-{customer}-{i}", at, f"c-{customer}", f"m-{i % 3}", 100 + i)
            for customer in sorted(visit.customers)
            for i in range(visit.times)
        ]
        names = {row.customer_id for row in rows}
        versions = {name: truth.versions[name] + 1 for name in names}
        if visit.where != "elsewhere":
            new = memory.table(rows)
            since = at - WINDOW
            found = memory.customers(new["customer_id"], versions, since=since, load=truth.load)
            known = [row for name in names for row in truth.events.get(name, []) if row.event_time >= since]
            recent = found["event_time"] >= since
            assert Counter(found["transaction_id"][recent].tolist()) == Counter(numbers_of(known))
        if visit.where == "here":
            memory.committed(versions, new)
        if visit.where != "undone":
            truth.add(rows)
            truth.versions.update(names)


def test_what_is_in_use_is_not_read_again() -> None:
    truth, memory = Truth(), Memory(window=WINDOW, max_rows=200)
    for number in range(400):
        at = NOW + number * 12 * HOUR
        rows = [TransactionRow(f"t-{number}", at, f"c-{number % 2}", "m", 100)]
        versions = {name: truth.versions[name] + 1 for name in {row.customer_id for row in rows}}
        new = memory.table(rows)
        memory.customers(new["customer_id"], versions, since=at - WINDOW, load=truth.load)
        memory.committed(versions, new)
        truth.add(rows)
        truth.versions.update(versions.keys())
    assert truth.reads == 2
    assert memory.size < 2 * (200 + 100)


def test_reports_of_late_and_of_present_transactions_are_read_once() -> None:
    memory, reads = Memory(window=WINDOW, max_rows=100), []

    def load(above: int, since: int) -> list[Sequence[Any]]:
        reads.append((above, since))
        return [("t-1", NOW, True, NOW - DAY, "c-1", "m-1", 500)] if above == 0 else []

    new = memory.table([TransactionRow("t-2", NOW, "c-1", "m-1", 100)])
    for late in (0, 40, 0, 40):
        found = memory.reports(new, version=3, since=NOW - (60 + late) * DAY, load=load)
        assert found["amount_cents"].tolist() == [500]
    assert len(reads) == 2


def numbers_of(rows: Sequence[TransactionRow]) -> list[int]:
    ids = np.array([row.transaction_id for row in rows], object)
    return tie_breakers(ids).tolist() if len(ids) else []
