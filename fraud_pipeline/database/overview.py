"""Statements for people who watch the system: traffic, scores, and one transaction with its decision.

Belongs here: reading. Must not be here: writing, the analysts' alerts (`alerts.py`), texts.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
import sqlalchemy as sa
from numpy.typing import NDArray

from fraud_pipeline.database.alerts import Status
from fraud_pipeline.database.engine import Database
from fraud_pipeline.database.tables import ALERTS, DECISIONS, TRANSACTIONS
from fraud_pipeline.schema.transactions import SECOND, microsecond, times

_MINUTE: Final = 60 * SECOND
_DECIDED: Final = (
    "decision",
    "decided_by",
    "mode",
    "probability",
    "reasons",
    "missing",
    "model_version",
    "request_id",
    "unused_fields",
    "rule",
    "model_decision",
)
_HAPPENED: Final = ("event_time", "amount_cents", "merchant_id", "category", "channel", "country")
OwnFields = Mapping[str, str | float | bool]


@dataclass(frozen=True, slots=True)
class Case:
    """A decided transaction as an analyst sees it; fields of an event that left history are None."""

    transaction_id: str
    decision: str
    probability: float | None
    decided_by: str
    mode: str
    missing: tuple[str, ...]
    reasons: tuple[str, ...]
    model_version: str | None
    request_id: str | None
    event_time: pd.Timestamp | None
    amount_cents: int | None
    merchant_id: str | None
    category: str | None
    channel: str | None
    country: str | None
    own_fields: OwnFields
    unused_fields: tuple[str, ...]
    rule: str | None
    model_decision: str | None


def read_traffic(database: Database, *, start: pd.Timestamp) -> pd.DataFrame:
    """Decisions since an instant, in order of time: minute, decision, decided_by, mode and their number."""
    minute = (DECISIONS.c.decided_at // _MINUTE).label("minute")
    kinds = (DECISIONS.c.decision, DECISIONS.c.decided_by, DECISIONS.c.mode)
    query = (
        sa.select(minute, *kinds, sa.func.count().label("decisions"))
        .where(DECISIONS.c.decided_at >= microsecond(start))
        .group_by(minute, *kinds)
        .order_by(minute)
    )
    traffic = database.frame(query)
    return traffic.assign(minute=times(traffic["minute"].to_numpy(np.int64) * _MINUTE))


def read_probabilities(database: Database, *, start: pd.Timestamp, limit: int) -> NDArray[np.float64]:
    """The model's probabilities of the newest decisions since an instant, at most `limit`."""
    query = (
        sa.select(DECISIONS.c.probability)
        .where(DECISIONS.c.decided_at >= microsecond(start), DECISIONS.c.probability.is_not(None))
        .order_by(DECISIONS.c.decided_at.desc())
        .limit(limit)
    )
    return database.frame(query)["probability"].to_numpy(np.float64)


def read_case(database: Database, transaction_id: str) -> Case | None:
    """One decision and its transaction, or None when there is no decision."""
    query = (
        sa.select(
            DECISIONS.c.transaction_id,
            *(DECISIONS.c[name] for name in _DECIDED),
            *(TRANSACTIONS.c[name] for name in (*_HAPPENED, "own_fields")),
        )
        .outerjoin(TRANSACTIONS, TRANSACTIONS.c.transaction_id == DECISIONS.c.transaction_id)
        .where(DECISIONS.c.transaction_id == transaction_id)
    )
    with database.transaction(read_only=True) as connection:
        row = connection.execute(query).mappings().first()
    if row is None:
        return None
    values = dict(row)
    values["reasons"] = tuple(text for _, text in json.loads(values["reasons"]))
    values["missing"] = tuple(values["missing"].split())
    values["own_fields"] = json.loads(values["own_fields"] or "{}")
    values["unused_fields"] = tuple(json.loads(values["unused_fields"] or "[]"))
    if values["event_time"] is not None:
        values["event_time"] = pd.Timestamp(values["event_time"], unit="us", tz="UTC")
    return Case(**values)


def read_decisions(database: Database, transaction_ids: Sequence[str]) -> dict[str, str]:
    """The decision by transaction id; those that are not decided yet are left out."""
    query = sa.select(DECISIONS.c.transaction_id, DECISIONS.c.decision)
    with database.transaction(read_only=True) as connection:
        rows = connection.execute(query.where(DECISIONS.c.transaction_id.in_(transaction_ids))).all()
    return {row[0]: row[1] for row in rows}


def count_alerts(database: Database) -> dict[Status, int]:
    """The number of alerts of each status."""
    query = sa.select(ALERTS.c.status, sa.func.count()).group_by(ALERTS.c.status)
    return {row[0]: row[1] for row in database.rows(query)}
