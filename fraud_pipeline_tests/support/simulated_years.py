"""Years of a deployment on a simulated clock: the rows that each day adds to the database, and each night's jobs.

Belongs here: rows of every table that grows. Must not be here: assertions about their number.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Final

import pandas as pd
import sqlalchemy as sa

from fraud_pipeline.database import Database, StoredDecision, scoring_batch
from fraud_pipeline.database.drift import DriftRow, replace_drift
from fraud_pipeline.database.history import mark_loaded
from fraud_pipeline.database.merchant_day_refresh import refresh_merchant_days
from fraud_pipeline.database.months import open_months
from fraud_pipeline.database.performance import PerformanceRow, ShadowRow, add_shadow_rows, replace_performance
from fraud_pipeline.database.retention import Retention, give_back_space, remove_expired
from fraud_pipeline.database.tables import ALERT_EVENTS, METADATA
from fraud_pipeline.database.verdicts import ReportVerdict, replace_verdict
from fraud_pipeline.schema.transactions import HOUR, SECOND, TransactionRow, microsecond

START: Final = pd.Timestamp("2030-01-01", tz="UTC")
LABEL_MATURITY: Final = timedelta(days=21)
LOOKBACK: Final = timedelta(days=61)


def live(
    database: Database, *, days: int, per_day: int, retentions: Mapping[Retention, timedelta]
) -> Iterator[pd.Timestamp]:
    """One midnight after another, when the day before is stored and the night's jobs have run."""
    for number in range(days):
        day = START + pd.Timedelta(days=number)
        _day(database, day, number=number, per_day=per_day)
        midnight = day + pd.Timedelta(days=1)
        open_months(database, now=midnight)
        refresh_merchant_days(database, now=midnight, lookback=LOOKBACK, label_maturity=LABEL_MATURITY)
        remove_expired(database, limits={name: midnight - span for name, span in retentions.items()})
        give_back_space(database)
        yield midnight


def rows_of_tables(database: Database) -> dict[str, int]:
    """The number of rows of each table."""
    with database.transaction(read_only=True) as connection:
        return {
            name: int(connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one())
            for name, table in METADATA.tables.items()
        }


def bytes_of(database: Database) -> int:
    """The size of the database on the disk."""
    size = "pg_database_size(current_database())"
    if not database.is_postgresql:
        size = "page_count * page_size FROM pragma_page_count(), pragma_page_size()"
    with database.transaction(read_only=True) as connection:
        return int(connection.exec_driver_sql(f"SELECT {size}").scalar_one())


def _day(database: Database, day: pd.Timestamp, *, number: int, per_day: int) -> None:
    start = microsecond(day)
    rows = [
        TransactionRow(f"t-{number}-{n}", start + n * SECOND, f"c-{n % 50}", f"m-{n % 20}", 1_000, channel="online")
        for n in range(per_day)
    ]
    with scoring_batch(database) as batch:
        versions, added = batch.remember(rows)
        batch.add_decisions([_decision(row, version=versions.customers[row.customer_id]) for row in rows])
        ids = sorted(added)[:2]
        batch.add_alerts(ids=ids, customers=["c-0"] * len(ids), decisions=["review"] * len(ids), created_at=start)
        batch.blocks.take([start], most=1)
        batch.add_report(rows[0].transaction_id, reported_at=start + HOUR, is_fraud=True)
    with database.transaction() as connection:
        taken = {"at": start, "who": "ada", "what": "taken", "note": ""}
        connection.execute(sa.insert(ALERT_EVENTS), [{"transaction_id": id_, **taken} for id_ in ids])
    add_shadow_rows(database, [_shadow(row) for row in rows])
    mark_loaded(database, "transactions", day.date(), content="0" * 64)
    replace_drift(database, day=day, rows=[DriftRow("amount", "reference", "psi", 0.1, 1.0, False, "1")])
    replace_performance(database, day=day, rows=_figures())
    replace_verdict(database, ReportVerdict("drift", day, red=False, summary="nothing drifted"), page="<p>" * 1_000)


def _decision(row: TransactionRow, *, version: int) -> StoredDecision:
    decided_at, features = row.event_time + SECOND, bytes(4 * 68)
    return StoredDecision(
        row.transaction_id, decided_at, "allow", 0.1, "model", "full", "", "[]", "1", "0" * 64, features, version, 1, 1
    )


def _shadow(row: TransactionRow) -> ShadowRow:
    return ShadowRow(row.transaction_id, row.event_time + SECOND, "1", "2", "allow", "allow", 0.1, 0.2)


def _figures() -> Sequence[PerformanceRow]:
    return [PerformanceRow("matured", "", "", "recall", 0.5, 0.4, 0.6, 100, 3, 100, "1")]
