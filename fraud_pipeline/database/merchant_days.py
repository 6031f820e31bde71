"""Merchants' days from the database's events: which days must be made, and the statement that makes one.

Belongs here: statements of one open transaction. Must not be here: the order of a refresh (`merchant_day_refresh.py`),
the meaning of the columns (`features/merchant_days.py`, which computes the same bits).

A day is made when it is over, and again when its labels have matured. Later it is made again only after a late event,
which leaves a mark in its transaction, or after a late report, which has a version.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any, Final

import sqlalchemy as sa

from fraud_pipeline.database.tables import (
    FRAUD_REPORTS,
    LATE_DAYS,
    MEMORY_VERSIONS,
    MERCHANT_DAYS,
    TRANSACTIONS,
    merchant_days_name,
    whole_microseconds,
)
from fraud_pipeline.features.merchant_days import NEVER, days_to_clear
from fraud_pipeline.schema.fields import NO_MERCHANT
from fraud_pipeline.schema.transactions import DAY

DAY_COLUMNS: Final = tuple(
    column.name for column in MERCHANT_DAYS.columns if column.name not in ("label_maturity", "version")
)
# Marks per DELETE statement.
_MARKS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Work:
    """Days (microseconds) that must be made, with the marks and the version of reports that this covers."""

    days: Sequence[int]
    marks: Sequence[int]
    reports_version: int


def mark_late_days(connection: sa.Connection, event_times: Iterable[int], *, made_until: Mapping[str, int]) -> None:
    """Mark each day of new events that was already made, by name of the merchants' days.

    Marks are only inserted, so that scorers of late events do not wait for each other.
    """
    days = {time // DAY * DAY for time in event_times}
    marks = [{"name": name, "day": day} for name, until in made_until.items() for day in sorted(days) if day < until]
    if marks:
        connection.execute(sa.insert(LATE_DAYS), marks)


def made_until(connection: sa.Connection) -> dict[str, int]:
    """The midnight up to which merchants' days were made, by their name."""
    of_merchants = MEMORY_VERSIONS.c.name.startswith("merchant_days/")
    rows = connection.execute(sa.select(MEMORY_VERSIONS.c.name, MEMORY_VERSIONS.c.as_of).where(of_merchants))
    return {row.name: row.as_of for row in rows}


def days_to_make(
    connection: sa.Connection, *, label_maturity: timedelta, as_of: int, reports_seen: int, since: int, midnight: int
) -> Work:
    """The days to make since the last refresh, which covered `as_of` and the reports up to version `reports_seen`."""
    # The newest day is made again, because a transaction that started before the last refresh may have committed after
    # it.
    again_from = max(since, as_of - DAY)
    matured, cleared = (instant - days_to_clear(label_maturity) * DAY for instant in (midnight, as_of))
    name = merchant_days_name(label_maturity)
    marks = connection.execute(sa.select(LATE_DAYS.c.number, LATE_DAYS.c.day).where(LATE_DAYS.c.name == name)).all()
    reports_version = connection.execute(
        sa.select(MEMORY_VERSIONS.c.version).where(MEMORY_VERSIONS.c.name == "reports")
    ).scalar_one()
    reports = FRAUD_REPORTS.c
    reported = sa.select(reports.event_time).where(
        reports.version > reports_seen,
        reports.version <= reports_version,
        _is_prompt(whole_microseconds(label_maturity)),
        reports.event_time < cleared,
    )
    days = {
        *range(again_from, midnight, DAY),
        *range(max(since, min(cleared, matured)), min(matured, midnight), DAY),
        *(mark.day for mark in marks),
        *(time // DAY * DAY for time in connection.execute(reported).scalars()),
    }
    return Work(
        days=sorted(day for day in days if since <= day < midnight),
        marks=[mark.number for mark in marks],
        reports_version=reports_version,
    )


def changed_merchants(connection: sa.Connection, day: int, *, label_maturity: timedelta) -> list[tuple[Any, ...]]:
    """Rows of DAY_COLUMNS of a day that differ from the stored ones."""
    maturity = whole_microseconds(label_maturity)
    days = MERCHANT_DAYS.c
    newest = (
        sa.select(*(days[name] for name in DAY_COLUMNS))
        .where(days.label_maturity == maturity, days.day == day)
        .order_by(days.version)
    )
    stored = {row[0]: tuple(row) for row in connection.execute(newest)}
    made = connection.execute(_day(), {"day": day, "next_day": day + DAY, "label_maturity": maturity})
    return [tuple(row) for row in made if stored.get(row[0]) != tuple(row)]


def forget_marks(connection: sa.Connection, marks: Sequence[int]) -> None:
    """Delete marks whose days were made."""
    for first in range(0, len(marks), _MARKS):
        connection.execute(sa.delete(LATE_DAYS).where(LATE_DAYS.c.number.in_(marks[first : first + _MARKS])))


def _is_prompt(label_maturity: int | sa.BindParameter[int]) -> sa.ColumnElement[bool]:
    """Whether a transaction was reported as fraud within the label maturity, so that it is not matured legitimate."""
    reports = FRAUD_REPORTS.c
    return sa.and_(reports.is_fraud, reports.reported_at <= reports.event_time + label_maturity)


# Cached, because SQLAlchemy compiles a statement object only once.
@cache
def _day() -> sa.Select[Any]:
    events = TRANSACTIONS.c
    maturity = sa.bindparam("label_maturity", type_=sa.BigInteger)
    frauds = sa.select(FRAUD_REPORTS.c.transaction_id).distinct().where(_is_prompt(maturity)).subquery()
    is_cleared = frauds.c.transaction_id.is_(None)
    never = sa.literal(NEVER, sa.BigInteger)
    return (
        sa.select(
            events.merchant_id,
            sa.bindparam("day", type_=sa.BigInteger).label("day"),
            sa.func.count(),
            sa.cast(sa.func.sum(events.amount_cents), sa.BigInteger),
            sa.func.count().filter(is_cleared),
            sa.func.max(sa.case((is_cleared, events.event_time), else_=never)),
        )
        .outerjoin(frauds, frauds.c.transaction_id == events.transaction_id)
        .where(
            events.event_time >= sa.bindparam("day"),
            events.event_time < sa.bindparam("next_day"),
            events.merchant_id != NO_MERCHANT,
        )
        .group_by(events.merchant_id)
        .order_by(events.merchant_id)
    )
