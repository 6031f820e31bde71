"""The version of each day of history, computed by the database.

Belongs here: the statement that counts and sums. Must not be here: the comparison of versions (`ingest/day_plan.py`).

Rows of history are added and pruned, but never changed. A restored or hand-edited database must still get other
versions. So a day's version is the number of its rows and the sum of a hash of each, in any order.
"""

import zlib
from collections.abc import Sequence
from datetime import date, timedelta
from functools import reduce
from typing import Any, Final

import pandas as pd
import sqlalchemy as sa

from fraud_pipeline.database.engine import Database
from fraud_pipeline.database.tables import FRAUD_REPORTS, TRANSACTIONS
from fraud_pipeline.ingest.day_plan import SourceDay, days_between
from fraud_pipeline.schema.transactions import DAY, REPORT_COLUMNS, TRANSACTION_COLUMNS, microsecond

_DAYS_OF_STATEMENT: Final = timedelta(days=31)
_EMPTY: Final = "0-0"
_EPOCH: Final = date(1970, 1, 1)
_SEPARATOR: Final = "\x1f"  # validated texts have no control characters


def read_day_versions(database: Database, *, start: pd.Timestamp, end: pd.Timestamp) -> dict[date, SourceDay]:
    """The version of each UTC day of [start, end), from the first day with history on; `start` is a midnight."""
    transactions: dict[date, str] = {}
    reports: dict[date, str] = {}
    low = start
    while low < end:
        high = min(low + _DAYS_OF_STATEMENT, end)
        transactions |= _versions(database, TRANSACTIONS, TRANSACTIONS.c.event_time, TRANSACTION_COLUMNS, low, high)
        reports |= _versions(database, FRAUD_REPORTS, FRAUD_REPORTS.c.reported_at, REPORT_COLUMNS, low, high)
        low = high
    earlier = sa.select(sa.literal(1)).where(TRANSACTIONS.c.event_time < microsecond(start)).limit(1)
    first = start.date() if database.rows(earlier) else min(transactions, default=end.date())
    return {
        day: SourceDay(transactions=transactions.get(day, _EMPTY), reports=reports.get(day, _EMPTY))
        for day in days_between(first, end.date() - timedelta(days=1))
    }


def _versions(
    database: Database,
    table: sa.Table,
    time: sa.Column[int],
    columns: Sequence[str],
    start: pd.Timestamp,
    end: pd.Timestamp,
) -> dict[date, str]:
    texts: list[sa.ColumnElement[Any]] = [sa.func.coalesce(sa.cast(table.c[name], sa.Text), "") for name in columns]
    row = reduce(lambda left, right: left.concat(_SEPARATOR).concat(right), texts)
    if "own_fields" in table.c:
        # Rows without own fields keep the hash that they had before there were any.
        row = row.concat(sa.func.coalesce(sa.literal(_SEPARATOR).concat(table.c.own_fields), ""))
    day = (time // DAY).label("day")
    of_days = (
        sa.select(day, sa.func.count(), sa.func.sum(sa.func.hashtext(row)))
        .where(time >= microsecond(start), time < microsecond(end))
        .group_by(day)
    )
    with database.transaction(read_only=True) as connection:
        if not database.is_postgresql:
            # SQLite has no hash function.
            connection.connection.dbapi_connection.create_function(  # type: ignore[union-attr]  # it is connected
                "hashtext", 1, lambda text: zlib.crc32(text.encode()), deterministic=True
            )
        rows = connection.execute(of_days).all()
    return {_EPOCH + timedelta(days=number): f"{count}-{total}" for number, count, total in rows}
