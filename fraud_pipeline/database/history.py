"""History in bulk: loading it from the offline tables, and reading it back as frames.

Belongs here: statements over many customers, outside the path of any answer. Must not be here: the statements of
scoring (`batch.py`), merchants' days (`merchant_day_refresh.py`), how long rows are kept (`retention.py`).

SQLite admits one writer at a time, and answers wait for it. So a transaction that writes computes and searches nothing,
and rows are written in chunks, each in its own transaction, with a pause for other writers between them.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Final

import numpy as np
import pandas as pd
import sqlalchemy as sa

from fraud_pipeline.database.engine import Database
from fraud_pipeline.database.merchant_days import made_until, mark_late_days
from fraud_pipeline.database.own_fields import own_texts
from fraud_pipeline.database.statements import increment_versions, insert_new, next_version, one_of
from fraud_pipeline.database.tables import (
    CUSTOMERS,
    DECISIONS,
    FEATURE_CONFIGS,
    FRAUD_REPORTS,
    LOADED_DAYS,
    MEMORY_VERSIONS,
    MERCHANT_DAYS,
    TRANSACTIONS,
    merchant_days_name,
    whole_microseconds,
)
from fraud_pipeline.schema.transactions import (
    DAY,
    REPORT_COLUMNS,
    TRANSACTION_COLUMNS,
    microsecond,
    microseconds,
    times,
)

# Rows that one transaction writes: it takes a quarter of a second on SQLite, and an answer waits up to two seconds.
CHUNK: Final = 5_000
# A process that waits for SQLite's lock retries at least every 0.1 seconds.
_PAUSE: Final = 0.15
_NAMES: Final = 20_000
# Rows that are read at once; converting them to columns takes about a second.
_READ: Final = 100_000
_EPOCH: Final = date(1970, 1, 1)
_TIMES: Final = ("event_time", "reported_at", "decided_at")


@dataclass(frozen=True, slots=True)
class Loaded:
    """Counts of rows that were new to the database, and of customers that got a new version."""

    transactions: int = 0
    reports: int = 0
    customers: int = 0

    def __add__(self, other: "Loaded") -> "Loaded":
        return Loaded(
            transactions=self.transactions + other.transactions,
            reports=self.reports + other.reports,
            customers=self.customers + other.customers,
        )


def load_history(database: Database, *, transactions: pd.DataFrame, reports: pd.DataFrame) -> Loaded:
    """Add accepted transactions and fraud reports (frames of their schemas); stored rows are not changed.

    Columns after the fixed ones are own fields. It may run during scoring. Only customers with new events are locked
    and get a new version, so that all other customers stay valid in the scorers' caches.
    """
    new_events, customers = 0, set[str]()
    unknown = _unknown(database, TRANSACTIONS, transactions)
    ordered = unknown.sort_values(["customer_id", "event_time"])
    for part in chunks(database, len(ordered)):
        rows = ordered.iloc[part]
        columns = _columns(rows, TRANSACTION_COLUMNS) | {"own_fields": own_texts(rows)}
        with database.transaction() as connection:
            versions, _ = increment_versions(connection, CUSTOMERS, sorted(set(columns["customer_id"])))
            columns["customer_version"] = [versions[customer] for customer in columns["customer_id"]]
            added = set(insert_new(connection, TRANSACTIONS, columns))
            both = zip(columns["transaction_id"], columns["event_time"], strict=True)
            times = [time for id_, time in both if id_ in added]
            mark_late_days(connection, times, made_until=made_until(connection))
        new_events += len(added)
        customers.update(versions)
    new_reports = 0
    unknown = _unknown(database, FRAUD_REPORTS, reports)
    ordered = unknown.sort_values("reported_at")
    for part in chunks(database, len(ordered)):
        columns = _columns(ordered.iloc[part], REPORT_COLUMNS)
        with database.transaction() as connection:
            version = next_version(connection, "reports", as_of=columns["reported_at"][-1])
            columns["version"] = [version] * len(columns["reported_at"])
            new_reports += len(insert_new(connection, FRAUD_REPORTS, columns))
    return Loaded(transactions=new_events, reports=new_reports, customers=len(customers))


def _unknown(database: Database, table: sa.Table, rows: pd.DataFrame) -> pd.DataFrame:
    """Rows whose key is not in the table; the lookup takes no lock."""
    keys = list(table.primary_key.columns)
    given = _columns(rows, tuple(key.name for key in keys))
    is_new = np.ones(len(rows), bool)
    with database.transaction(read_only=True) as connection:
        lookup = sa.select(*keys).where(one_of(connection.dialect.name, keys[0]))
        for first in range(0, len(rows), _NAMES):
            part = slice(first, first + _NAMES)
            stored = set(map(tuple, connection.execute(lookup, {"names": given[keys[0].name][part]})))
            is_new[part] = [key not in stored for key in zip(*(column[part] for column in given.values()), strict=True)]
    return rows[is_new]


def loaded_days(database: Database) -> dict[tuple[str, date], str]:
    """The content version of each loaded day, by name of the table and day."""
    rows = database.rows(sa.select(LOADED_DAYS.c.name, LOADED_DAYS.c.day, LOADED_DAYS.c.content))
    return {(row.name, _EPOCH + timedelta(days=row.day // DAY)): row.content for row in rows}


def mark_loaded(database: Database, name: str, day: date, *, content: str) -> None:
    """Record that this content version of a table's day was loaded."""
    row = {"name": name, "day": (day - _EPOCH).days * DAY, "content": content}
    with database.transaction() as connection:
        of_day = (LOADED_DAYS.c.name == row["name"], LOADED_DAYS.c.day == row["day"])
        connection.execute(sa.delete(LOADED_DAYS).where(*of_day))
        connection.execute(sa.insert(LOADED_DAYS), [row])


def read_transactions(
    database: Database,
    *,
    start: pd.Timestamp,
    end: pd.Timestamp,
    with_version: bool = False,
    with_own_fields: bool = False,
    customers: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Accepted transactions with `event_time` in [start, end), in order of time; only of `customers`, if given.

    The texts of their own fields, and their customer's version, are further columns.
    """
    further = {"own_fields": with_own_fields, "customer_version": with_version}
    names = [*TRANSACTION_COLUMNS, *(name for name, is_wanted in further.items() if is_wanted)]
    columns = [TRANSACTIONS.c[name] for name in names]
    return _read(database, columns, time=TRANSACTIONS.c.event_time, start=start, end=end, customers=customers)


def read_reports(
    database: Database, *, start: pd.Timestamp, end: pd.Timestamp, with_version: bool = False
) -> pd.DataFrame:
    """Fraud reports with `reported_at` in [start, end), in order of report."""
    columns = list(FRAUD_REPORTS.columns) if with_version else [FRAUD_REPORTS.c[name] for name in REPORT_COLUMNS]
    return _read(database, columns, time=FRAUD_REPORTS.c.reported_at, start=start, end=end)


def read_newest_decisions(database: Database, *, limit: int) -> pd.DataFrame:
    """The newest decisions, in order of decision; all columns of the table."""
    newest = sa.select(*DECISIONS.columns).order_by(DECISIONS.c.decided_at.desc()).limit(limit)
    return _frame(database.rows(newest)[::-1], list(DECISIONS.columns))


def read_feature_configs(database: Database) -> dict[str, str]:
    """The content of each feature configuration as JSON, by its id."""
    return {row.id: row.content for row in database.rows(sa.select(FEATURE_CONFIGS))}


def customers_of(database: Database, transaction_ids: Sequence[str]) -> list[str]:
    """The customers of these transactions, each once."""
    customers: set[str] = set()
    with database.transaction(read_only=True) as connection:
        for first in range(0, len(transaction_ids), _NAMES):
            ids = {"names": transaction_ids[first : first + _NAMES]}
            of_ids = one_of(connection.dialect.name, TRANSACTIONS.c.transaction_id)
            customers.update(connection.execute(sa.select(TRANSACTIONS.c.customer_id).where(of_ids), ids).scalars())
    return sorted(customers)


def read_merchant_days(
    database: Database, *, start: pd.Timestamp, end: pd.Timestamp, label_maturity: timedelta
) -> pd.DataFrame:
    """All versions of merchants' days of one label maturity in [start, end), in order of version.

    `day` is in microseconds.
    """
    days = MERCHANT_DAYS.c
    columns = [column for column in days if column.name != "label_maturity"]
    query = (
        sa.select(*columns)
        .where(
            days.label_maturity == whole_microseconds(label_maturity),
            days.day >= microsecond(start),
            days.day < microsecond(end),
        )
        .order_by(days.version)
    )
    return _frame(database.rows(query), columns)


def made_label_maturities(database: Database) -> list[timedelta]:
    """The label maturities that have merchants' days."""
    prefix = merchant_days_name(timedelta(0)).removesuffix("0")
    is_label_maturity = MEMORY_VERSIONS.c.name.startswith(prefix, autoescape=True)
    rows = database.rows(sa.select(MEMORY_VERSIONS.c.name).where(is_label_maturity))
    return [timedelta(microseconds=int(name.removeprefix(prefix))) for (name,) in rows]


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
    query = sa.select(*columns).where(time >= low, time < high).order_by(time).execution_options(yield_per=_READ)
    parts: list[Sequence[str] | None] = [None]
    if customers is not None:
        parts = [customers[first : first + _NAMES] for first in range(0, len(customers), _NAMES)]
    frames = [_frame([], columns)]
    with database.transaction(read_only=True) as connection:
        for part in parts:
            of_part = query
            if part is not None:
                of_part = query.where(one_of(connection.dialect.name, TRANSACTIONS.c.customer_id))
            # Rows are converted while they arrive, because the database ends a transaction that is idle for long.
            read = connection.execute(of_part, {} if part is None else {"names": part})
            frames.extend(_frame(rows, columns) for rows in read.partitions())
    return pd.concat(frames[1:] or frames, ignore_index=True)


def _frame(rows: Sequence[Any], columns: list[sa.Column[Any]]) -> pd.DataFrame:
    frame = pd.DataFrame(rows, columns=[column.name for column in columns])
    frame = frame.astype({column.name: _dtype(column) for column in columns})
    for name in set(_TIMES) & set(frame.columns):
        frame[name] = times(frame[name].to_numpy(np.int64))
    return frame


def _dtype(column: sa.Column[Any]) -> str:
    """The pandas dtype of a column, also without rows."""
    match column.type:
        case sa.Double():
            return "float64"
        case sa.BigInteger():
            return "int64"
        case sa.Boolean():
            return "bool"
    return "object"


def chunks(database: Database, rows: int) -> Iterator[slice]:
    """Slices of `rows` rows that one transaction writes, with a pause between them."""
    for start in range(0, rows, CHUNK):
        if start:
            let_others_write(database)
        yield slice(start, start + CHUNK)


def let_others_write(database: Database) -> None:
    """Pause so that other processes get SQLite's lock."""
    if not database.is_postgresql:
        time.sleep(_PAUSE)


def _columns(frame: pd.DataFrame, names: tuple[str, ...]) -> dict[str, list[Any]]:
    """Python values of each column; a missing value is None."""
    columns: dict[str, list[Any]] = {}
    for name in names:
        column = frame[name]
        if column.dtype.kind == "M":
            columns[name] = microseconds(column).tolist()
        elif column.dtype.kind == "f" or column.dtype == object:
            columns[name] = [None if missing else value for value, missing in zip(column, column.isna(), strict=True)]
        else:
            columns[name] = column.tolist()
    return columns
