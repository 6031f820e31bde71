"""Statements for the verdicts of the daily reports on the champion.

Belongs here: writing and reading one row per report and day. Must not be here: measures, when a report is red.
"""

import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd
import sqlalchemy as sa

from fraud_pipeline.database.engine import Database
from fraud_pipeline.database.tables import REPORT_VERDICTS
from fraud_pipeline.schema.transactions import microsecond

ReportName = Literal["drift", "performance", "missed_fraud"]


@dataclass(frozen=True, slots=True)
class ReportVerdict:
    """The verdict of a report on a day; `summary` is one line with a remedy.

    A day that was not `judged` is not red, and does not end an earlier red verdict.
    """

    report: ReportName
    day: pd.Timestamp
    red: bool
    summary: str
    judged: bool = True


def replace_verdict(database: Database, verdict: ReportVerdict, *, page: str | None = None) -> None:
    """Store a day's verdict and report page, and replace those of an earlier run for the day."""
    at, table = microsecond(verdict.day), REPORT_VERDICTS
    row = {
        "report": verdict.report,
        "day": at,
        "judged": verdict.judged,
        "red": verdict.red,
        "summary": verdict.summary,
        "page": gzip.compress(page.encode()) if page is not None else None,
    }
    of_this_report = table.c.report == verdict.report
    with database.transaction() as connection:
        connection.execute(sa.delete(table).where(of_this_report, table.c.day == at))
        connection.execute(sa.insert(table), [row])


def newest_verdicts(database: Database) -> Sequence[ReportVerdict]:
    """The verdict of each report on the last day that it judged."""
    return _newest(database, REPORT_VERDICTS.c.judged)


def newest_reported(database: Database) -> Sequence[ReportVerdict]:
    """The verdict of each report on its last day, judged or not."""
    return _newest(database, sa.true())


def not_judged_days(database: Database, report: ReportName, *, start: pd.Timestamp) -> Sequence[ReportVerdict]:
    """The verdicts of days from `start` on that a report could not judge, the newest first."""
    table = REPORT_VERDICTS
    of_report = (table.c.report == report, table.c.day >= microsecond(start), sa.not_(table.c.judged))
    return _read(database, sa.select(*_columns()).where(*of_report).order_by(table.c.day.desc()))


def _newest(database: Database, condition: sa.ColumnElement[bool]) -> Sequence[ReportVerdict]:
    table = REPORT_VERDICTS
    days = sa.select(table.c.report, sa.func.max(table.c.day).label("day")).where(condition)
    last = days.group_by(table.c.report).subquery()
    same_day = sa.and_(last.c.report == table.c.report, last.c.day == table.c.day)
    return _read(database, sa.select(*_columns()).join(last, same_day).order_by(table.c.report))


def _columns() -> tuple[sa.Column[Any], ...]:
    columns = REPORT_VERDICTS.c
    return (columns.report, columns.day, columns.red, columns.summary, columns.judged)


def _read(database: Database, statement: sa.Select[Any]) -> Sequence[ReportVerdict]:
    rows = database.rows(statement)
    return [ReportVerdict(row[0], pd.Timestamp(row.day, unit="us", tz="UTC"), *row[2:]) for row in rows]


def days_with_page(database: Database, report: ReportName) -> list[pd.Timestamp]:
    """Days with a stored report page, the newest first."""
    table = REPORT_VERDICTS
    query = sa.select(table.c.day).where(table.c.report == report, table.c.page.is_not(None))
    return [pd.Timestamp(day, unit="us", tz="UTC") for (day,) in database.rows(query.order_by(table.c.day.desc()))]


def read_page(database: Database, report: ReportName, day: pd.Timestamp) -> str | None:
    """The stored report page of a day, or None."""
    table = REPORT_VERDICTS
    query = sa.select(table.c.page).where(table.c.report == report, table.c.day == microsecond(day))
    return next((gzip.decompress(page).decode() for (page,) in database.rows(query) if page is not None), None)
