"""History in bulk: loading it from tables, making merchants' days, and reading it back as frames.

Belongs here: statements over many customers, outside any answer's path. Must not be here: the statements of scoring
(`batch.py`), how days are computed (`features/merchant_days.py`), how long rows stay (`retention.py`).

SQLite lets one writer in at a time, and answers wait for it. So nothing is computed or searched for while a transaction
writes, and what is written goes in chunks, each a transaction, with a pause after it in which others get their turn.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Final

import numpy as np
import pandas as pd
import sqlalchemy as sa

from fraud_pipeline.database.engine import Database
from fraud_pipeline.database.merchant_days import (
    DAY_COLUMNS,
    changed_merchants,
    days_to_make,
    forget_marks,
    made_until,
    mark_late_days,
)
from fraud_pipeline.database.statements import StatementColumns, increment_versions, insert_new, next_version, one_of
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

# Rows that one transaction writes: a quarter of a second on SQLite, of the two that an answer waits.
_CHUNK: Final = 5_000
# Who waits for SQLite's lock looks whether it is free every 0.1 seconds at the latest.
_PAUSE: Final = 0.15
_NAMES: Final = 20_000
# Rows that are read at once, which take about a second to become columns.
_READ: Final = 100_000
_EPOCH: Final = date(1970, 1, 1)
_TIMES: Final = ("event_time", "reported_at", "decided_at")


@dataclass(frozen=True, slots=True)
class Loaded:
    """How many rows were new to the database, and how many customers took a new version because of them."""

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
    """Add accepted transactions and fraud reports (frames of their schemas); what is stored already stays as it is.

    It may run beside scoring: customers with new events are locked like those of a micro-batch, and only they take
    their next version, so that all other customers stay in the caches of scorers.
    """
    new_events, customers = 0, set[str]()
    unknown = _unknown(database, TRANSACTIONS, transactions)
    ordered = unknown.sort_values(["customer_id", "event_time"])
    for part in chunks(database, len(ordered)):
        columns = _columns(ordered.iloc[part], TRANSACTION_COLUMNS)
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
    """Rows whose key is not in the table; they are looked up before anything is locked."""
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
    """The content version of each day of a table that was loaded, by name of the table and day."""
    with database.transaction(read_only=True) as connection:
        rows = connection.execute(sa.select(LOADED_DAYS.c.name, LOADED_DAYS.c.day, LOADED_DAYS.c.content)).all()
    return {(row.name, _EPOCH + timedelta(days=row.day // DAY)): row.content for row in rows}


def mark_loaded(database: Database, name: str, day: date, *, content: str) -> None:
    """Remember that this content version of a table's day was loaded."""
    row = {"name": name, "day": (day - _EPOCH).days * DAY, "content": content}
    with database.transaction() as connection:
        of_day = (LOADED_DAYS.c.name == row["name"], LOADED_DAYS.c.day == row["day"])
        connection.execute(sa.delete(LOADED_DAYS).where(*of_day))
        connection.execute(sa.insert(LOADED_DAYS), [row])


def refresh_merchant_days(
    database: Database, *, now: pd.Timestamp, lookback: timedelta, label_maturity: timedelta
) -> int:
    """Make merchants' days of one label maturity that are new, or rest on what came since, up to the last midnight.

    Returns the number of days of a merchant that are new or changed. Days are never overwritten: a changed one is
    another row with a higher version, so that what a decision knew can be read again.
    """
    nothing_yet: StatementColumns = {"name": [merchant_days_name(label_maturity)], "version": [0], "as_of": [0]}
    with database.transaction() as connection:
        insert_new(connection, MEMORY_VERSIONS, nothing_yet)
    while (changed := _refresh(database, now=now, lookback=lookback, label_maturity=label_maturity)) is None:
        pass
    return changed


def _refresh(database: Database, *, now: pd.Timestamp, lookback: timedelta, label_maturity: timedelta) -> int | None:
    """One try; None when somebody else wrote days since it began, so that its own may be the older ones.

    Each chunk is a version, and whole when it can be read. Only the last one covers `midnight`: until then answers say
    that merchants' days are missing.
    """
    midnight = microsecond(now.floor("D"))
    versions = MEMORY_VERSIONS.c
    of_maturity = versions.name == merchant_days_name(label_maturity)
    with database.transaction(read_only=True) as connection:
        version, as_of, reports_seen = connection.execute(
            sa.select(versions.version, versions.as_of, versions.reports_seen).where(of_maturity)
        ).one()
        work = days_to_make(
            connection,
            label_maturity=label_maturity,
            as_of=as_of,
            reports_seen=reports_seen,
            since=midnight - whole_microseconds(lookback),
            midnight=midnight,
        )
    changed, maturity = 0, whole_microseconds(label_maturity)
    for rows, is_last in _rechunked(_changed_days(database, work.days, label_maturity=label_maturity)):
        covers = {"as_of": midnight, "reports_seen": work.reports_version} if is_last else {}
        following = sa.update(MEMORY_VERSIONS).where(of_maturity, versions.version == version)
        with database.transaction() as connection:
            if not connection.execute(following.values(version=version + 1, **covers)).rowcount:
                return None
            version += 1
            if rows:
                columns: StatementColumns = dict(zip(DAY_COLUMNS, zip(*rows, strict=True), strict=True))
                keys = {"label_maturity": [maturity] * len(rows), "version": [version] * len(rows)}
                insert_new(connection, MERCHANT_DAYS, {**columns, **keys})
            if is_last:
                forget_marks(connection, work.marks)
        changed += len(rows)
        if not is_last:
            let_others_write(database)
    return changed


def _changed_days(
    database: Database, days: Sequence[int], *, label_maturity: timedelta
) -> Iterator[list[tuple[Any, ...]]]:
    for day in days:
        with database.transaction(read_only=True) as connection:
            yield changed_merchants(connection, day, label_maturity=label_maturity)


def _rechunked(parts: Iterable[list[tuple[Any, ...]]]) -> Iterator[tuple[list[tuple[Any, ...]], bool]]:
    """The same rows in chunks that one transaction writes, and whether it is the last one, which may be empty."""
    rest: list[tuple[Any, ...]] = []
    for part in parts:
        rest += part
        while len(rest) > _CHUNK:
            yield rest[:_CHUNK], False
            rest = rest[_CHUNK:]
    yield rest, True


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


def read_newest_decisions(database: Database, *, limit: int) -> pd.DataFrame:
    """The newest decisions, in order of decision; all columns of the table."""
    newest = sa.select(*DECISIONS.columns).order_by(DECISIONS.c.decided_at.desc()).limit(limit)
    with database.transaction(read_only=True) as connection:
        rows = connection.execute(newest).all()
    return _frame(list(reversed(rows)), list(DECISIONS.columns))


def read_feature_configs(database: Database) -> dict[str, str]:
    """What each feature configuration of decisions says, as JSON, by its id."""
    with database.transaction(read_only=True) as connection:
        return {row.id: row.content for row in connection.execute(sa.select(FEATURE_CONFIGS))}


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
    """Merchants' days of one label maturity in [start, end) in all their versions, in order of version.

    `day` is in microseconds.
    """
    days = MERCHANT_DAYS.c
    columns = [column for column in days if column.name != "label_maturity"]
    wanted = (
        sa.select(*columns)
        .where(
            days.label_maturity == whole_microseconds(label_maturity),
            days.day >= microsecond(start),
            days.day < microsecond(end),
        )
        .order_by(days.version)
    )
    with database.transaction(read_only=True) as connection:
        return _frame(connection.execute(wanted).all(), columns)


def made_label_maturities(database: Database) -> list[timedelta]:
    """The label maturities for which merchants' days were ever made."""
    prefix = merchant_days_name(timedelta(0)).removesuffix("0")
    is_label_maturity = MEMORY_VERSIONS.c.name.startswith(prefix, autoescape=True)
    with database.transaction(read_only=True) as connection:
        names = connection.execute(sa.select(MEMORY_VERSIONS.c.name).where(is_label_maturity)).scalars()
        return [timedelta(microseconds=int(name.removeprefix(prefix))) for name in names]


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
    wanted = sa.select(*columns).where(time >= low, time < high).order_by(time).execution_options(yield_per=_READ)
    parts: list[Sequence[str] | None] = [None]
    if customers is not None:
        parts = [customers[first : first + _NAMES] for first in range(0, len(customers), _NAMES)]
    frames = [_frame([], columns)]
    with database.transaction(read_only=True) as connection:
        for part in parts:
            of_part = wanted
            if part is not None:
                of_part = wanted.where(one_of(connection.dialect.name, TRANSACTIONS.c.customer_id))
            # Rows become columns as they come: a transaction that says nothing for long is ended by the database.
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
    """What a column is in a frame, whether it has rows or not."""
    match column.type:
        case sa.Double():
            return "float64"
        case sa.BigInteger():
            return "int64"
        case sa.Boolean():
            return "bool"
    return "object"


def chunks(database: Database, rows: int) -> Iterator[slice]:
    """The parts of so many rows that one transaction writes, with a pause between them."""
    for start in range(0, rows, _CHUNK):
        if start:
            let_others_write(database)
        yield slice(start, start + _CHUNK)


def let_others_write(database: Database) -> None:
    """A pause in which others get SQLite's lock."""
    if not database.is_postgresql:
        time.sleep(_PAUSE)


def _columns(frame: pd.DataFrame, names: tuple[str, ...]) -> dict[str, list[Any]]:
    """Plain Python values of each column; a missing one is None."""
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
