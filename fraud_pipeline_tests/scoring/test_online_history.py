"""The database's copy of the offline tables: a night sends only new rows and invalidates no other customer's cache."""

import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import sqlalchemy as sa

from fraud_pipeline.database import Database, scoring_batch
from fraud_pipeline.database.history import Loaded, read_reports, read_transactions
from fraud_pipeline.database.tables import CUSTOMERS
from fraud_pipeline.schema.transactions import FRAUD_REPORTS, TransactionRow, empty
from fraud_pipeline.scoring.online_history import load_changed_days
from fraud_pipeline.storage.tables import TableStore
from fraud_pipeline_tests.support.transaction_rows import transaction_rows

LAST = date(2026, 1, 30)
FIRST = LAST - timedelta(days=4)
DAYS = [FIRST + timedelta(days=offset) for offset in range(5)]


def events(day: date, *, per_customer: int = 2, customers: int = 20, prefix: str = "t") -> pd.DataFrame:
    """Transactions of a day."""
    rows = [
        TransactionRow(
            f"{prefix}-{day}-{customer}-{number}",
            int(pd.Timestamp(day, tz="UTC").value // 1_000) + 60_000_000 * (customer + 100 * number),
            f"c-{customer}",
            f"m-{customer % 3}",
            1_000 + number,
        )
        for customer in range(customers)
        for number in range(per_customer)
    ]
    frame = pd.DataFrame(rows, columns=TransactionRow._fields)
    return frame.assign(
        event_time=pd.to_datetime(frame["event_time"], unit="us", utc=True).astype("datetime64[us, UTC]")
    )


def reports_on(transactions: pd.DataFrame, *, after: timedelta = timedelta(hours=1)) -> pd.DataFrame:
    """A fraud report on each of these transactions."""
    columns = ["transaction_id", "event_time", "customer_id", "merchant_id", "amount_cents"]
    reports = transactions[columns].assign(is_fraud=True, reported_at=transactions["event_time"] + after)
    return reports[list(empty(FRAUD_REPORTS).columns)]


@pytest.fixture
def store(tmp_path: Path) -> TableStore:
    """Five days with 40 transactions each, of which two are reported."""
    made = TableStore(tmp_path / "tables")
    for day in DAYS:
        put(made, day, events(day))
    return made


def put(store: TableStore, day: date, transactions: pd.DataFrame) -> None:
    reports = reports_on(transactions.head(2))
    store.write_days("transactions", transactions, time_column="event_time", days=[day])
    store.write_days("fraud_reports", reports, time_column="reported_at", days=[day])


def customer_versions(database: Database) -> dict[str, int]:
    with database.transaction(read_only=True) as connection:
        return dict(map(tuple, connection.execute(sa.select(CUSTOMERS)).all()))


def load(database: Database, store: TableStore) -> tuple[int, Loaded]:
    done = load_changed_days(database, store, first=FIRST, last=LAST)
    return done.days_read, done.added


@contextmanager
def written_rows(database: Database) -> Iterator[list[str]]:
    """Statements that change a table of events, reports or versions."""
    statements: list[str] = []

    def executed(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.lstrip().upper().startswith(("INSERT", "UPDATE", "DELETE", "WITH")):
            statements.append(statement)

    sa.event.listen(database.engine, "before_cursor_execute", executed)
    yield statements
    sa.event.remove(database.engine, "before_cursor_execute", executed)


def test_the_first_load_sends_everything_and_an_unchanged_night_nothing(database: Database, store: TableStore) -> None:
    assert load(database, store) == (10, Loaded(transactions=200, reports=10, customers=100))
    before = customer_versions(database)
    with written_rows(database) as statements:
        assert load(database, store) == (0, Loaded())
    assert statements == []
    assert customer_versions(database) == before


def test_one_new_row_gives_one_customer_a_new_version(database: Database, store: TableStore) -> None:
    load(database, store)
    before = customer_versions(database)
    late = events(FIRST, per_customer=1, customers=1, prefix="late")
    put(store, FIRST, pd.concat([events(FIRST), late], ignore_index=True))
    assert load(database, store) == (1, Loaded(transactions=1, customers=1))
    after = customer_versions(database)
    assert {name for name in after if after[name] != before[name]} == {"c-0"}
    assert after["c-0"] == before["c-0"] + 1


def test_a_new_report_changes_no_customer(database: Database, store: TableStore) -> None:
    load(database, store)
    before = customer_versions(database)
    third = reports_on(events(LAST).iloc[[2]])
    both = pd.concat([reports_on(events(LAST).head(2)), third], ignore_index=True)
    store.write_days("fraud_reports", both, time_column="reported_at", days=[LAST])
    assert load(database, store) == (1, Loaded(reports=1))
    assert customer_versions(database) == before


def test_served_rows_are_not_sent_again_with_their_day(database: Database, store: TableStore) -> None:
    """With FRAUD_LEARN_FROM_SERVED a day's table comes from the database, so that nothing is new."""
    with scoring_batch(database) as batch:
        batch.remember(transaction_rows(events(LAST)))
    before = customer_versions(database)
    assert load_changed_days(database, store, first=LAST, last=LAST).added == Loaded(reports=2)
    assert customer_versions(database) == before


def test_an_interrupted_load_continues_where_it_stopped(
    database: Database, store: TableStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: Callable[..., pd.DataFrame] = TableStore.read
    days: list[date] = []

    def read_three(self: TableStore, name: str, first: date, last: date) -> pd.DataFrame:
        if len(days) == 3:
            raise KeyboardInterrupt
        days.append(first)
        return read(self, name, first, last)

    with monkeypatch.context() as patch:
        patch.setattr(TableStore, "read", read_three)
        with pytest.raises(KeyboardInterrupt):
            load(database, store)
    assert load(database, store)[0] == 10 - 3
    start, end = (pd.Timestamp(day, tz="UTC") for day in (FIRST, LAST + timedelta(days=1)))
    assert len(read_transactions(database, start=start, end=end)) == 200
    assert len(read_reports(database, start=start, end=end)) == 10


def test_an_empty_database_is_filled_again(database: Database, store: TableStore) -> None:
    load(database, store)
    database.downgrade("base")
    database.upgrade()
    assert load(database, store)[1].transactions == 200


@pytest.mark.slow
def test_one_day_at_a_time_is_in_memory(database: Database, tmp_path: Path) -> None:
    """Ten days need hardly more memory than one."""

    def most_memory(days: int) -> int:
        store = TableStore(tmp_path / str(days))
        for day in [FIRST + timedelta(days=offset) for offset in range(days)]:
            put(store, day, events(day, customers=1_000, prefix=f"of-{days}"))
        tracemalloc.start()
        load_changed_days(database, store, first=FIRST, last=FIRST + timedelta(days=days - 1))
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    one_day = most_memory(1)
    assert most_memory(10) < 1.5 * one_day
