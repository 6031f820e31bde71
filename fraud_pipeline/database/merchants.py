"""Statements about one merchant: volume, reported fraud, and the customers it has in common with fraud elsewhere.

Belongs here: bounded reading by index. Must not be here: making merchant days (`merchant_days.py`).
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
import sqlalchemy as sa

from fraud_pipeline.database.engine import Database
from fraud_pipeline.database.tables import FRAUD_REPORTS, MERCHANT_DAYS, TRANSACTIONS
from fraud_pipeline.schema.transactions import microsecond, times

MOST_DEFRAUDED: Final = 500


@dataclass(frozen=True, slots=True)
class CommonCustomers:
    """Of the `defrauded` customers with the newest reported frauds elsewhere, those that paid here before theirs."""

    defrauded: int
    customers: tuple[str, ...]


def read_volume(database: Database, merchant_id: str, *, start: pd.Timestamp) -> pd.DataFrame:
    """Whole days from `start` on, in order: day, transactions and amount_cents; empty until merchant days are made.

    Days are made for each label maturity in use, with the same volume; the newest version of each day counts.
    """
    days = MERCHANT_DAYS.c
    query = (
        sa.select(days.day, days.version, days.transaction_count, days.amount_sum_cents)
        .where(days.merchant_id == merchant_id, days.day >= microsecond(start))
        .order_by(days.day, days.version)
    )
    rows = database.frame(query).drop_duplicates("day", keep="last")
    return pd.DataFrame(
        {
            "day": times(rows["day"].to_numpy(np.int64)),
            "transactions": rows["transaction_count"].to_numpy(np.int64),
            "amount_cents": rows["amount_sum_cents"].to_numpy(np.int64),
        }
    )


def read_frauds(database: Database, merchant_id: str, *, start: pd.Timestamp) -> pd.DataFrame:
    """Transactions since `start` whose newest report says fraud, in order of time: event_time and amount_cents."""
    reports = FRAUD_REPORTS.c
    query: sa.Select[Any] = (
        sa.select(reports.transaction_id, reports.event_time, reports.amount_cents, reports.is_fraud)
        .where(reports.merchant_id == merchant_id, reports.event_time >= microsecond(start))
        .order_by(reports.reported_at)
    )
    newest = database.frame(query).drop_duplicates("transaction_id", keep="last")
    frauds = newest[newest["is_fraud"].astype(bool)].sort_values("event_time")
    return pd.DataFrame(
        {
            "event_time": times(frauds["event_time"].to_numpy(np.int64)),
            "amount_cents": frauds["amount_cents"].to_numpy(np.int64),
        }
    )


def read_common_customers(database: Database, merchant_id: str, *, start: pd.Timestamp) -> CommonCustomers:
    """Customers whose fraud at another merchant was reported since `start`, and which of them paid here before it."""
    reports = FRAUD_REPORTS.c
    later = FRAUD_REPORTS.alias("later")
    withdrawn = (
        sa.select(later.c.transaction_id)
        .where(
            later.c.transaction_id == reports.transaction_id,
            later.c.reported_at > reports.reported_at,
            sa.not_(later.c.is_fraud),
        )
        .exists()
    )
    newest = (
        sa.select(reports.customer_id, sa.func.min(reports.event_time).label("fraud_time"))
        .where(reports.reported_at >= microsecond(start), reports.is_fraud, ~withdrawn)
        .where(reports.merchant_id != merchant_id)
        .group_by(reports.customer_id)
        .order_by(sa.func.max(reports.reported_at).desc())
        .limit(MOST_DEFRAUDED)
        .subquery()
    )
    paid_here = (
        sa.select(TRANSACTIONS.c.transaction_id)
        .where(
            TRANSACTIONS.c.customer_id == newest.c.customer_id,
            TRANSACTIONS.c.merchant_id == merchant_id,
            TRANSACTIONS.c.event_time < newest.c.fraud_time,
        )
        .exists()
    )
    defrauded = database.rows(sa.select(sa.func.count()).select_from(newest))[0][0]
    rows = database.rows(sa.select(newest.c.customer_id).where(paid_here).order_by(newest.c.customer_id))
    return CommonCustomers(defrauded, tuple(row[0] for row in rows))
