"""History in bulk: loading it from tables, making merchants' days, pruning, and reading it back as frames.

Belongs here: statements over many customers, outside any answer's path. Must not be here: the statements of scoring
(`batch.py`), how days are computed (`snapshots.py`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import numpy as np
import pandas as pd
import sqlalchemy as sa

from fraud_pipeline.database.engine import Database
from fraud_pipeline.database.statements import count_up, insert_new, next_version, one_of
from fraud_pipeline.database.tables import (
    CUSTOMERS,
    DECISIONS,
    FRAUD_REPORTS,
    MEMORY_VERSIONS,
    MERCHANT_DAYS,
    TRANSACTIONS,
)
from fraud_pipeline.snapshots import merchant_days
from fraud_pipeline.transactions import (
    DAY,
    REPORT_COLUMNS,
    TRANSACTION_COLUMNS,
    microsecond,
    microseconds,
    times,
)

_CHUNK: Final = 20_000
_TIMES: Final = ("event_time", "reported_at", "decided_at")


@dataclass(frozen=True, slots=True)
class Loaded:
    """How many rows were new to the database."""

    transactions: int
    reports: int


@dataclass(frozen=True, slots=True)
class Pruned:
    """How many rows were removed."""

    transactions: int
    reports: int
    merchant_days: int


def load_history(database: Database, *, transactions: pd.DataFrame, reports: pd.DataFrame) -> Loaded:
    """Add accepted transactions and fraud reports (frames of their schemas); what is there already stays as it is.

    It may run beside scoring: each chunk of customers is locked like a micro-batch, and takes their next version.
    """
    ordered = transactions.sort_values(["customer_id", "event_time"], ignore_index=True)
    new_events = 0
    for rows in _chunks(ordered):
        columns = _columns(rows, TRANSACTION_COLUMNS)
        with database.transaction() as connection:
            versions = count_up(connection, CUSTOMERS, sorted(set(columns["customer_id"])))
            columns["customer_version"] = [versions[customer] for customer in columns["customer_id"]]
            new_events += len(insert_new(connection, TRANSACTIONS, columns))
    new_reports = 0
    for rows in _chunks(reports.sort_values("reported_at", ignore_index=True)):
        columns = _columns(rows, REPORT_COLUMNS)
        with database.transaction() as connection:
            version = next_version(connection, "reports", as_of=columns["reported_at"][-1])
            new_reports += len(insert_new(connection, FRAUD_REPORTS, columns | {"version": [version] * len(rows)}))
    return Loaded(transactions=new_events, reports=new_reports)


def refresh_merchant_days(
    database: Database, *, now: pd.Timestamp, lookback: timedelta, label_maturity: timedelta
) -> int:
    """Make merchants' days from the events before the last midnight; the number of days that are new or changed.

    Days are never overwritten: a changed one is another row with a higher version, so that what a decision knew can
    be read again.
    """
    midnight = now.floor("D")
    since = midnight - lookback
    days = merchant_days(
        read_transactions(database, start=since, end=midnight),
        read_reports(database, start=since, end=now),
        label_maturity=label_maturity,
    )
    days["day"] = microseconds(days["day"])
    names = [column.name for column in MERCHANT_DAYS.columns if column.name != "version"]
    with database.transaction() as connection:
        version = next_version(connection, "merchant_days", as_of=microsecond(midnight))
        rows = connection.execute(
            sa.select(*(MERCHANT_DAYS.c[name] for name in names))
            .where(MERCHANT_DAYS.c.day >= microsecond(since))
            .order_by(MERCHANT_DAYS.c.version)
        ).all()
        known = pd.DataFrame(rows, columns=names).drop_duplicates(["merchant_id", "day"], keep="last")
        known = known.astype(days[names].dtypes.to_dict()).assign(known=True)
        changed = days[names].merge(known, how="left", on=names)
        changed = changed[changed["known"].isna()]
        for chunk in _chunks(changed):
            insert_new(connection, MERCHANT_DAYS, _columns(chunk, tuple(names)) | {"version": [version] * len(chunk)})
    return len(changed)


def read_transactions(
    database: Database,
    *,
    start: pd.Timestamp,
    end: pd.Timestamp,
    with_version: bool = False,
    customers: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Accepted transactions with `event_time` in [start, end), in order of time; of these customers, if given."""
    columns = list(TRANSACTIONS.columns) if with_version else [TRANSACTIONS.c[name] for name in TRANSACTION_COLUMNS]
    return _read(database, columns, time=TRANSACTIONS.c.event_time, start=start, end=end, customers=customers)


def read_reports(
    database: Database, *, start: pd.Timestamp, end: pd.Timestamp, with_version: bool = False
) -> pd.DataFrame:
    """Fraud reports with `reported_at` in [start, end), in order of report."""
    columns = list(FRAUD_REPORTS.columns) if with_version else [FRAUD_REPORTS.c[name] for name in REPORT_COLUMNS]
    return _read(database, columns, time=FRAUD_REPORTS.c.reported_at, start=start, end=end)


def read_decisions(database: Database, *, start: pd.Timestamp, end: pd.Timestamp) -> pd.DataFrame:
    """Decisions with `decided_at` in [start, end), in order of decision; all columns of the table."""
    return _read(database, list(DECISIONS.columns), time=DECISIONS.c.decided_at, start=start, end=end)


def read_newest_decisions(database: Database, *, limit: int) -> pd.DataFrame:
    """The newest decisions, in order of decision; all columns of the table."""
    newest = sa.select(*DECISIONS.columns).order_by(DECISIONS.c.decided_at.desc()).limit(limit)
    with database.transaction(read_only=True) as connection:
        rows = connection.execute(newest).all()
    return _frame(list(reversed(rows)), list(DECISIONS.columns))


def customers_of(database: Database, transaction_ids: Sequence[str]) -> list[str]:
    """The customers of these transactions, each once."""
    found: set[str] = set()
    with database.transaction(read_only=True) as connection:
        for first in range(0, len(transaction_ids), _CHUNK):
            ids = transaction_ids[first : first + _CHUNK]
            chosen = sa.select(TRANSACTIONS.c.customer_id).where(one_of(connection, TRANSACTIONS.c.transaction_id, ids))
            found.update(connection.execute(chosen).scalars())
    return sorted(found)


def read_merchant_days(database: Database, *, start: pd.Timestamp, end: pd.Timestamp) -> pd.DataFrame:
    """Merchants' days in [start, end) in all their versions, `day` in microseconds, in order of version."""
    low, high = microsecond(start), microsecond(end)
    day, version = MERCHANT_DAYS.c.day, MERCHANT_DAYS.c.version
    with database.transaction(read_only=True) as connection:
        rows = connection.execute(
            sa.select(*MERCHANT_DAYS.columns).where(day >= low, day < high).order_by(version)
        ).all()
    return _frame(rows, list(MERCHANT_DAYS.columns))


def prune(database: Database, *, before: pd.Timestamp) -> Pruned:
    """Remove events, reports and merchants' days older than that instant; decisions and alerts stay."""
    limit = microsecond(before)
    with database.transaction() as connection:
        events = connection.execute(sa.delete(TRANSACTIONS).where(TRANSACTIONS.c.event_time < limit)).rowcount
    with database.transaction() as connection:
        reports = connection.execute(sa.delete(FRAUD_REPORTS).where(FRAUD_REPORTS.c.reported_at < limit)).rowcount
        days = connection.execute(sa.delete(MERCHANT_DAYS).where(MERCHANT_DAYS.c.day < limit - DAY)).rowcount
    return Pruned(transactions=events, reports=reports, merchant_days=days)


def merchant_days_as_of(database: Database) -> pd.Timestamp:
    """The midnight up to which merchants' days were made."""
    with database.transaction(read_only=True) as connection:
        as_of = connection.execute(
            sa.select(MEMORY_VERSIONS.c.as_of).where(MEMORY_VERSIONS.c.name == "merchant_days")
        ).scalar_one()
    return pd.Timestamp(as_of, unit="us", tz="UTC")


def _read(
    database: Database,
    columns: list[sa.Column[Any]],
    *,
    time: sa.Column[int],
    start: pd.Timestamp,
    end: pd.Timestamp,
    customers: Sequence[str] | None = None,
) -> pd.DataFrame:
    low, high = microsecond(start), microsecond(end)
    wanted = sa.select(*columns).where(time >= low, time < high).order_by(time)
    with database.transaction(read_only=True) as connection:
        if customers is None:
            return _frame(connection.execute(wanted).all(), columns)
        parts = (customers[first : first + _CHUNK] for first in range(0, len(customers), _CHUNK))
        rows = [
            row
            for part in parts
            for row in connection.execute(wanted.where(one_of(connection, TRANSACTIONS.c.customer_id, part)))
        ]
    return _frame(rows, columns)


def _frame(rows: Sequence[Any], columns: list[sa.Column[Any]]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=[column.name for column in columns])
    frame = frame.astype({column.name: _dtype(column) for column in columns})
    for name in set(_TIMES) & set(frame.columns):
        frame[name] = times(frame[name].to_numpy(np.int64))
    return frame


def _dtype(column: sa.Column[Any]) -> str:
    """What a column is in a frame, whether it has rows or not."""
    match column.type:
        case sa.Double():
            return "float64"
        case sa.BigInteger():
            return "int64"
        case sa.Boolean():
            return "bool"
    return "object"


def _chunks(frame: pd.DataFrame) -> Iterator[pd.DataFrame]:
    return (frame.iloc[start : start + _CHUNK] for start in range(0, len(frame), _CHUNK))


def _columns(frame: pd.DataFrame, names: tuple[str, ...]) -> dict[str, list[Any]]:
    """Plain Python values of each column; a missing one is None."""
    found: dict[str, list[Any]] = {}
    for name in names:
        column = frame[name]
        if column.dtype.kind == "M":
            found[name] = microseconds(column).tolist()
        elif column.dtype.kind == "f" or column.dtype == object:
            found[name] = [None if missing else value for value, missing in zip(column, column.isna(), strict=True)]
        else:
            found[name] = column.tolist()
    return found
