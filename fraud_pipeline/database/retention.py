"""The retention of each table, and the removal of expired rows.

Belongs here: the list of all tables with their retention setting. Must not be here: durations (`settings.py`).
"""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Final, Literal

import pandas as pd
import sqlalchemy as sa

from fraud_pipeline.database import rule_tables, tables
from fraud_pipeline.database.engine import Database
from fraud_pipeline.database.history import chunks, let_others_write
from fraud_pipeline.database.months import MONTHLY, drop_months, undated_partitions
from fraud_pipeline.database.statements import insert_new, one_of
from fraud_pipeline.schema.transactions import DAY, microsecond

Retention = Literal[
    "history_retention",
    "decision_retention",
    "shadow_retention",
    "alert_retention",
    "report_retention",
    "report_page_retention",
]
"""Names of the retention settings."""

# Keys per search. A search also scans the rows removed before, until the server has vacuumed them.
_SEARCHED: Final = 100_000
# Pages of SQLite's file that one transaction frees.
_PAGES: Final = 1_000


@dataclass(frozen=True, slots=True)
class Kept:
    """A table whose rows expire when `column` (microseconds) is older than a retention plus `grace`."""

    table: sa.Table
    column: sa.Column[int]
    retention: Retention
    grace: int = 0


@dataclass(frozen=True, slots=True)
class Unbounded:
    """A table that keeps all rows, and the reason why it stays small."""

    table: sa.Table
    reason: str


RULES: Final[tuple[Kept | Unbounded, ...]] = (
    Kept(tables.TRANSACTIONS, tables.TRANSACTIONS.c.event_time, "history_retention"),
    Kept(tables.FRAUD_REPORTS, tables.FRAUD_REPORTS.c.reported_at, "history_retention"),
    # A day expires with its last transaction.
    Kept(tables.MERCHANT_DAYS, tables.MERCHANT_DAYS.c.day, "history_retention", grace=DAY),
    Kept(tables.BLOCK_MINUTES, tables.BLOCK_MINUTES.c.minute, "history_retention"),
    # Nothing else removes the marks of a label maturity that no model uses any more.
    Kept(tables.LATE_DAYS, tables.LATE_DAYS.c.day, "history_retention"),
    Kept(tables.LOADED_DAYS, tables.LOADED_DAYS.c.day, "history_retention"),
    Kept(tables.DECISIONS, tables.DECISIONS.c.decided_at, "decision_retention"),
    Kept(tables.SPENT_IDS, tables.SPENT_IDS.c.decided_at, "decision_retention"),
    Kept(tables.SHADOW_DECISIONS, tables.SHADOW_DECISIONS.c.decided_at, "shadow_retention"),
    Kept(tables.ALERTS, tables.ALERTS.c.created_at, "alert_retention"),
    Kept(tables.ALERT_EVENTS, tables.ALERT_EVENTS.c.at, "alert_retention"),
    Kept(tables.DRIFT, tables.DRIFT.c.day, "report_retention"),
    Kept(tables.PERFORMANCE, tables.PERFORMANCE.c.day, "report_retention"),
    Kept(tables.REPORT_VERDICTS, tables.REPORT_VERDICTS.c.day, "report_retention"),
    Unbounded(
        tables.CUSTOMERS,
        "one narrow row per customer: a version that began again at 1 would make caches trust what is out of date",
    ),
    Unbounded(tables.FEATURE_CONFIGS, "one row for each model that ever decided, and for the rules"),
    Unbounded(tables.PENDING_REPORTS, "the consumer makes dead letters of what waits for more than a week"),
    Unbounded(tables.MEMORY_VERSIONS, "one row for the reports and one for each label maturity in use"),
    Unbounded(tables.HISTORY_SOURCE, "one row: the source that the history came from"),
    Unbounded(tables.STREAM_POSITIONS, "one row per partition of a topic"),
    Unbounded(tables.SECRETS, "one row per secret"),
    Unbounded(rule_tables.RULES_VERSIONS, "one row"),
    Unbounded(rule_tables.ANALYST_RULES, "one row per rule that a person wrote"),
    Unbounded(rule_tables.ANALYST_RULE_VERSIONS, "one row per version that a person wrote: decisions cite them"),
    Unbounded(rule_tables.RULE_EVENTS, "one row per change that a person made: the audit trail"),
    Unbounded(rule_tables.RULE_SNOOZES, "one row per rule and customer that a person snoozed"),
    Unbounded(rule_tables.VALUE_LISTS, "one row per list"),
    Unbounded(rule_tables.VALUE_LIST_ENTRIES, "one row per value that a person or a file listed"),
)


def remove_expired(database: Database, *, limits: Mapping[Retention, pd.Timestamp]) -> dict[str, int]:
    """Remove the expired rows of each table; returns their number by table.

    `limits` gives the oldest instant to keep by retention; tables without one are not touched. Each transaction removes
    a bounded number of rows, so that scorers are not held up.
    """
    removed = {
        rule.table.name: _remove(database, rule, before=microsecond(limits[rule.retention]) - rule.grace)
        for rule in RULES
        if isinstance(rule, Kept) and rule.retention in limits
    }
    if "report_page_retention" in limits:
        removed["report_pages"] = _remove_pages(database, before=microsecond(limits["report_page_retention"]))
    return removed


def remove_settled_shadow_rows(database: Database, *, judged: tuple[str, str] | None) -> int:
    """Remove shadow decisions except those of the `judged` champion and challenger; returns the number of rows."""
    rows = tables.SHADOW_DECISIONS.c
    is_settled = sa.true() if judged is None else sa.or_(rows.champion != judged[0], rows.challenger != judged[1])
    return _delete(database, tables.SHADOW_DECISIONS, is_settled)


def _remove(database: Database, rule: Kept, *, before: int) -> int:
    if not (database.is_postgresql and rule.table in MONTHLY):
        return _delete(database, rule.table, rule.column < before)
    # A monthly partition stays until all of it has expired.
    return drop_months(database, rule.table, before=before) + sum(
        _delete(database, partition, partition.c[rule.column.name] < before)
        for partition in undated_partitions(database, rule.table)
    )


def _delete(database: Database, table: sa.Table, is_old: sa.ColumnElement[bool]) -> int:
    keys = list(table.primary_key.columns)
    search = sa.select(*keys).where(is_old).limit(_SEARCHED)
    names = [f"old_{key.name}" for key in keys]
    of_key = sa.delete(table).where(*(key == sa.bindparam(name) for key, name in zip(keys, names, strict=True)))
    removed = 0
    while True:
        rows = database.rows(search)
        for part in chunks(database, len(rows)):
            with database.transaction() as connection:
                if table is tables.TRANSACTIONS:
                    _keep_ids_spent(connection, [row[0] for row in rows[part]])
                connection.execute(of_key, [dict(zip(names, row, strict=True)) for row in rows[part]])
        removed += len(rows)
        if len(rows) < _SEARCHED:
            return removed


def _keep_ids_spent(connection: sa.Connection, ids: Sequence[str]) -> None:
    """Store which of these ids were decided: their events are removed and no longer prevent a second decision."""
    decisions = tables.DECISIONS.c
    decided = sa.select(decisions.transaction_id, decisions.decided_at).where(
        one_of(connection.dialect.name, decisions.transaction_id)
    )
    rows = connection.execute(decided, {"names": ids}).all()
    if rows:
        spent = {"transaction_id": [row[0] for row in rows], "decided_at": [row[1] for row in rows]}
        insert_new(connection, tables.SPENT_IDS, spent)


def _remove_pages(database: Database, *, before: int) -> int:
    """Remove report pages, which take about 100 kB each; their verdict stays in the row."""
    verdicts = tables.REPORT_VERDICTS
    with database.transaction() as connection:
        is_old = (verdicts.c.day < before, verdicts.c.page.is_not(None))
        return connection.execute(sa.update(verdicts).where(*is_old).values(page=None)).rowcount


def give_back_space(database: Database) -> None:
    """Shrink SQLite's file by the removed rows; PostgreSQL reuses that space by itself."""
    free_before = -1
    while not database.is_postgresql and (free := _free_pages(database)) not in (0, free_before):
        with closing(database.engine.raw_connection()) as connection:
            # A cursor would free one page and stop; a script is a transaction of its own and runs to its end.
            connection.driver_connection.executescript(f"PRAGMA incremental_vacuum({_PAGES})")  # type: ignore[union-attr]  # it is connected
        # A file of an earlier release keeps its free pages and reuses them.
        free_before = free
        let_others_write(database)


def _free_pages(database: Database) -> int:
    with database.transaction(read_only=True) as connection:
        return int(connection.exec_driver_sql("PRAGMA freelist_count").scalar_one())
