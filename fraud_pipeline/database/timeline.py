"""Statements for the history of one customer around a moment, and the newest transactions of one merchant.

Belongs here: bounded pages of rows with their decision and label. Must not be here: one decision (`overview.py`).
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
import sqlalchemy as sa

from fraud_pipeline.database.engine import Database
from fraud_pipeline.database.tables import DECISIONS, FRAUD_REPORTS, TRANSACTIONS
from fraud_pipeline.schema.transactions import times

_HAPPENED: Final = (
    *("transaction_id", "event_time", "customer_id", "amount_cents", "merchant_id", "category", "channel", "country"),
)
_LABEL: Final = (
    sa.select(FRAUD_REPORTS.c.is_fraud)
    .where(FRAUD_REPORTS.c.transaction_id == TRANSACTIONS.c.transaction_id)
    .order_by(FRAUD_REPORTS.c.reported_at.desc())
    .limit(1)
    .scalar_subquery()
    .label("is_fraud")
)


@dataclass(frozen=True, slots=True)
class KnownTransaction:
    """Whose and where a transaction of history was, and when."""

    transaction_id: str
    customer_id: str
    merchant_id: str
    event_time: pd.Timestamp


def read_transaction(database: Database, transaction_id: str) -> KnownTransaction | None:
    """A transaction of history, decided on or loaded; None when there is none."""
    columns = TRANSACTIONS.c
    query = sa.select(columns.customer_id, columns.merchant_id, columns.event_time)
    row = next(iter(database.rows(query.where(columns.transaction_id == transaction_id))), None)
    if row is None:
        return None
    return KnownTransaction(transaction_id, row[0], row[1], pd.Timestamp(row[2], unit="us", tz="UTC"))


def read_before(database: Database, customer_id: str, *, before: int, limit: int) -> pd.DataFrame:
    """The customer's last rows strictly before a moment (microseconds), newest first."""
    return _read(database, customer_id, TRANSACTIONS.c.event_time < before, limit=limit)


def read_from(database: Database, customer_id: str, *, start: int, limit: int) -> pd.DataFrame:
    """The customer's first rows from a moment (microseconds) on, newest first."""
    return _read(database, customer_id, TRANSACTIONS.c.event_time >= start, limit=limit, forwards=True)


def read_merchant(database: Database, merchant_id: str, *, limit: int) -> pd.DataFrame:
    """The merchant's newest transactions, newest first."""
    return _rows(database, TRANSACTIONS.c.merchant_id == merchant_id, limit=limit)


def _read(
    database: Database, customer_id: str, moment: sa.ColumnElement[bool], *, limit: int, forwards: bool = False
) -> pd.DataFrame:
    return _rows(database, sa.and_(TRANSACTIONS.c.customer_id == customer_id, moment), limit=limit, forwards=forwards)


def _rows(database: Database, condition: sa.ColumnElement[bool], *, limit: int, forwards: bool = False) -> pd.DataFrame:
    time = TRANSACTIONS.c.event_time
    query: sa.Select[Any] = (
        sa.select(*(TRANSACTIONS.c[name] for name in _HAPPENED), DECISIONS.c.decision, DECISIONS.c.probability, _LABEL)
        .outerjoin(DECISIONS, DECISIONS.c.transaction_id == TRANSACTIONS.c.transaction_id)
        .where(condition)
        .order_by(time if forwards else time.desc())
        .limit(limit)
    )
    rows = database.frame(query)
    rows = rows.assign(
        event_time=times(rows["event_time"].to_numpy(np.int64)),
        probability=rows["probability"].astype("float64"),
        is_fraud=rows["is_fraud"].astype(object),
    )
    return rows.iloc[::-1].reset_index(drop=True) if forwards else rows
