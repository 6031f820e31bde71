"""Statements for the overview of the desk: reported fraud by decision, and what became of the alerts, by day.

Belongs here: bounded reading by time. Must not be here: shares and charts.
"""

from typing import Any

import numpy as np
import pandas as pd
import sqlalchemy as sa

from fraud_pipeline.database.engine import Database
from fraud_pipeline.database.tables import ALERTS, DECISIONS, FRAUD_REPORTS
from fraud_pipeline.schema.transactions import DAY, microsecond, times


def read_frauds_by_decision(database: Database, *, start: pd.Timestamp) -> pd.DataFrame:
    """Transactions since `start` that are reported as fraud now: day (UTC), decision and amount_cents.

    Transactions that were never decided on, such as loaded history, are left out.
    """
    reports, since = FRAUD_REPORTS.c, microsecond(start)
    query: sa.Select[Any] = (
        sa.select(
            reports.transaction_id, reports.event_time, reports.amount_cents, reports.is_fraud, DECISIONS.c.decision
        )
        .join(DECISIONS, DECISIONS.c.transaction_id == reports.transaction_id)
        # A report is never earlier than its transaction, so the index by time of report bounds the search.
        .where(reports.reported_at >= since, reports.event_time >= since)
        .order_by(reports.reported_at)
    )
    newest = database.frame(query).drop_duplicates("transaction_id", keep="last")
    frauds = newest[newest["is_fraud"].astype(bool)]
    return pd.DataFrame(
        {
            "day": times(frauds["event_time"].to_numpy(np.int64) // DAY * DAY),
            "decision": frauds["decision"].to_numpy(),
            "amount_cents": frauds["amount_cents"].to_numpy(np.int64),
        }
    )


def read_alert_outcomes(database: Database, *, start: pd.Timestamp) -> pd.DataFrame:
    """Alerts since `start` by the day on which they opened and their status: day, status and alerts."""
    day = (ALERTS.c.created_at // DAY).label("day")
    query: sa.Select[Any] = (
        sa.select(day, ALERTS.c.status, sa.func.count().label("alerts"))
        .where(ALERTS.c.created_at >= microsecond(start))
        .group_by(day, ALERTS.c.status)
        .order_by(day)
    )
    outcomes = database.frame(query)
    return outcomes.assign(day=times(outcomes["day"].to_numpy(np.int64) * DAY))
