"""Monthly partitions of the big tables on PostgreSQL: created before a month begins, dropped when all of it has
expired.

Belongs here: creating, finding and dropping partitions. Must not be here: how long rows are kept (`retention.py`).

`<table>_before` holds everything before the first month, and `<table>_after` rows of months without a partition; from
both, rows are deleted. Partitions are in a schema of their own, `<schema>_months`.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import pandas as pd
import sqlalchemy as sa

from fraud_pipeline.database.engine import Database
from fraud_pipeline.database.tables import DECISIONS, SHADOW_DECISIONS
from fraud_pipeline.schema.transactions import microsecond

BEFORE: Final = "_before"
AFTER: Final = "_after"
MONTHLY: Final = (DECISIONS, SHADOW_DECISIONS)
"""Tables with a partition for each month of `decided_at`."""

# Months that are created in advance, so that a job that fails for weeks does no harm.
_AHEAD: Final = 3
_MONTH: Final = re.compile(r"_(\d{4})_(\d{2})$")


def first_bound(newest: int) -> int:
    """The start of the first monthly partition, given the time of the newest decision; both in microseconds."""
    present = pd.Timestamp.now(tz="UTC")
    return _start(max(_month(present) + 2, _month(pd.Timestamp(newest, unit="us", tz="UTC")) + 1))


def open_months(database: Database, *, now: pd.Timestamp) -> int:
    """Create the missing partitions of the current month and the next ones; returns the number created."""
    if not database.is_postgresql:
        return 0
    months = [_month(now) + ahead for ahead in range(_AHEAD + 1)]
    missing = [(table, month) for table in MONTHLY for month in months if _is_missing(database, table, month)]
    for table, month in missing:
        with _changing(database) as (connection, schema):
            name, low, high = f'"{schema}".{_name(table, month)}', _start(month), _start(month + 1)
            connection.exec_driver_sql(f"CREATE TABLE {name} (LIKE {table.name} INCLUDING DEFAULTS INCLUDING INDEXES)")
            # Attaching a table takes a weaker lock than creating a partition.
            connection.exec_driver_sql(
                f"ALTER TABLE {table.name} ATTACH PARTITION {name} FOR VALUES FROM ({low:d}) TO ({high:d})"
            )
    return len(missing)


def drop_months(database: Database, table: sa.Table, *, before: int) -> int:
    """Drop the months that ended before an instant (microseconds); returns the number of rows they held."""
    rows = 0
    for name in _partitions(database, table):
        month = _MONTH.search(name)
        if month and _start(pd.Period(f"{month[1]}-{month[2]}", "M") + 1) <= before:
            with _changing(database) as (connection, schema):
                rows += connection.exec_driver_sql(f'SELECT count(*) FROM "{schema}".{name}').scalar_one()  # noqa: S608 - ours
                connection.exec_driver_sql(f'DROP TABLE "{schema}".{name}')
    return rows


def undated_partitions(database: Database, table: sa.Table) -> list[sa.Table]:
    """The partitions that are not a month."""
    with database.transaction(read_only=True) as connection:
        schema = _schema(connection)
    metadata = sa.MetaData()
    return [table.to_metadata(metadata, schema=schema, name=f"{table.name}{which}") for which in (BEFORE, AFTER)]


def _is_missing(database: Database, table: sa.Table, month: pd.Period) -> bool:
    """Whether a month has no partition and can get one: no row of it is in another partition."""
    if _name(table, month) in _partitions(database, table):
        return False
    with database.transaction(read_only=True) as connection:
        if month < _first_month(connection, table):
            return False
        elsewhere = sa.select(sa.literal(1)).where(
            table.c.decided_at >= _start(month), table.c.decided_at < _start(month + 1)
        )
        return connection.execute(elsewhere.limit(1)).first() is None


def _first_month(connection: sa.Connection, table: sa.Table) -> pd.Period:
    """The month at which `<table>_before` ends."""
    bound = sa.text("SELECT pg_get_expr(relpartbound, oid) FROM pg_class WHERE oid = to_regclass(:name)")
    name = f'"{_schema(connection)}".{table.name}{BEFORE}'
    end = re.search(r"TO \('?(\d+)'?\)", str(connection.execute(bound, {"name": name}).scalar_one()))
    if end is None:
        raise RuntimeError(f"{name} has no upper bound: it was not made by `fraud-detect migrate`")
    return _month(pd.Timestamp(int(end[1]), unit="us", tz="UTC"))


def _partitions(database: Database, table: sa.Table) -> list[str]:
    inherits = sa.text(
        "SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid "
        "WHERE inhparent = to_regclass(:name) ORDER BY relname"
    )
    with database.transaction(read_only=True) as connection:
        return list(connection.execute(inherits, {"name": table.name}).scalars())


@contextmanager
def _changing(database: Database) -> Iterator[tuple[sa.Connection, str]]:
    """A transaction that changes partitions, with a lock timeout shorter than the scorers' patience."""
    with database.transaction() as connection:
        connection.exec_driver_sql("SET LOCAL lock_timeout = '1s'")
        yield connection, _schema(connection)


def _schema(connection: sa.Connection) -> str:
    return f"{connection.exec_driver_sql('SELECT current_schema()').scalar_one()}_months"


def _name(table: sa.Table, month: pd.Period) -> str:
    return f"{table.name}_{month.year:04}_{month.month:02}"


def _month(instant: pd.Timestamp) -> pd.Period:
    return instant.tz_localize(None).to_period("M")


def _start(month: pd.Period) -> int:
    return microsecond(month.start_time.tz_localize("UTC"))
