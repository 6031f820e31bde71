"""The refresh of merchants' days in the database: the days that are new or changed, in versioned chunks.

Belongs here: the order of a refresh. Must not be here: which days must be made, and the statement that makes one
(`merchant_days.py`), the meaning of the columns (`features/merchant_days.py`).
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Any

import pandas as pd
import sqlalchemy as sa

from fraud_pipeline.database.engine import Database
from fraud_pipeline.database.history import CHUNK, let_others_write
from fraud_pipeline.database.merchant_days import DAY_COLUMNS, changed_merchants, days_to_make, forget_marks
from fraud_pipeline.database.statements import StatementColumns, insert_new
from fraud_pipeline.database.tables import MEMORY_VERSIONS, MERCHANT_DAYS, merchant_days_name, whole_microseconds
from fraud_pipeline.schema.transactions import microsecond


def refresh_merchant_days(
    database: Database, *, now: pd.Timestamp, lookback: timedelta, label_maturity: timedelta
) -> int:
    """Compute new and changed merchant days of one label maturity, up to the last midnight.

    Returns the number of new or changed rows. Rows are never overwritten: a changed day is another row with a higher
    version, so that the state behind an earlier decision can be read again.
    """
    nothing_yet: StatementColumns = {"name": [merchant_days_name(label_maturity)], "version": [0], "as_of": [0]}
    with database.transaction() as connection:
        insert_new(connection, MEMORY_VERSIONS, nothing_yet)
    while (changed := _refresh(database, now=now, lookback=lookback, label_maturity=label_maturity)) is None:
        pass
    return changed


def _refresh(database: Database, *, now: pd.Timestamp, lookback: timedelta, label_maturity: timedelta) -> int | None:
    """One attempt; None when another process wrote days meanwhile, because this attempt's days may be older.

    Each chunk is one version in one transaction. Only the last one covers `midnight`: until then answers say that
    merchants' days are missing.
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
    """The rows in chunks of one transaction each, with a flag for the last chunk, which may be empty."""
    rest: list[tuple[Any, ...]] = []
    for part in parts:
        rest += part
        while len(rest) > CHUNK:
            yield rest[:CHUNK], False
            rest = rest[CHUNK:]
    yield rest, True
