"""Statements for model performance: served decisions, shadow decisions of a challenger, daily reports.

Belongs here: writing and reading these rows. Must not be here: metrics, periods and verdicts.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final

import numpy as np
import pandas as pd
import sqlalchemy as sa

from fraud_pipeline.database.engine import Database
from fraud_pipeline.database.statements import insert_new, replace_day
from fraud_pipeline.database.tables import DECISIONS, FRAUD_REPORTS, PERFORMANCE, SHADOW_DECISIONS, TRANSACTIONS
from fraud_pipeline.policy.holdout import HOLDOUT
from fraud_pipeline.schema.transactions import TRANSACTION_COLUMNS, microsecond, times

_AT_ONCE: Final = 10_000
"""Ids per statement; SQLite accepts some 30,000 parameters, PostgreSQL 65,000."""
# Only a code can match this pattern: in a reason's text JSON would escape the quotes.
# Figures about a model are about its own decisions, and not about those of the rules that overruled it.
_WITHOUT_RULES: Final = sa.func.coalesce(DECISIONS.c.model_decision, DECISIONS.c.decision).label("decision")
_HELD_OUT: Final = DECISIONS.c.reasons.contains(f'["{HOLDOUT}"')


@dataclass(frozen=True, slots=True)
class PerformanceRow:
    """One figure of a day's report; an undefined bound is None."""

    kind: str
    segment: str
    group_name: str
    metric: str
    value: float | None
    low: float | None
    high: float | None
    row_count: int
    frauds: int
    served: int
    model_version: str


@dataclass(frozen=True, slots=True)
class ShadowRow:
    """Decisions of champion and challenger on one transaction; `decided_at` in microseconds since 1970-01-01 UTC."""

    transaction_id: str
    decided_at: int
    champion: str
    challenger: str
    champion_decision: str
    challenger_decision: str
    champion_probability: float
    challenger_probability: float


def replace_performance(database: Database, *, day: pd.Timestamp, rows: Sequence[PerformanceRow]) -> None:
    """Store a day's figures and replace those of an earlier run for the day."""
    replace_day(database, PERFORMANCE, day=microsecond(day), rows=[asdict(row) for row in rows])


def read_performance(database: Database, *, start: pd.Timestamp, end: pd.Timestamp) -> pd.DataFrame:
    """Figures over all rows for the days of [start, end), in order of day.

    Columns: day, kind, metric, value, low, high, and the champion's model_version.
    """
    names = ("day", "kind", "metric", "value", "low", "high", "model_version")
    columns = [PERFORMANCE.c[name] for name in names]
    query = sa.select(*columns).where(
        PERFORMANCE.c.segment == "", PERFORMANCE.c.day >= microsecond(start), PERFORMANCE.c.day < microsecond(end)
    )
    figures = database.frame(query.order_by(PERFORMANCE.c.day))
    numbers = figures.astype({"value": "float64", "low": "float64", "high": "float64"})
    return numbers.assign(day=times(figures["day"].to_numpy(np.int64)))


def served_decisions(database: Database, *, start: pd.Timestamp, end: pd.Timestamp, model_sha256: str) -> pd.DataFrame:
    """A model's decisions on transactions with `event_time` in [start, end): transaction_id, decision, probability."""
    event_time = TRANSACTIONS.c.event_time
    query = (
        sa.select(DECISIONS.c.transaction_id, _WITHOUT_RULES, DECISIONS.c.probability)
        .join(TRANSACTIONS, TRANSACTIONS.c.transaction_id == DECISIONS.c.transaction_id)
        .where(event_time >= microsecond(start), event_time < microsecond(end))
        .where(DECISIONS.c.model_sha256 == model_sha256, DECISIONS.c.probability.is_not(None))
    )
    return database.frame(query)


def decisions_on(database: Database, transaction_ids: Sequence[str], *, model_sha256: str) -> pd.DataFrame:
    """A model's decisions on those of these transactions that it served: transaction_id, decision."""
    by_this_model = sa.select(DECISIONS.c.transaction_id, _WITHOUT_RULES).where(
        DECISIONS.c.model_sha256 == model_sha256
    )
    pieces = [transaction_ids[at : at + _AT_ONCE] for at in range(0, len(transaction_ids), _AT_ONCE)]
    frames = [database.frame(by_this_model.where(DECISIONS.c.transaction_id.in_(piece))) for piece in pieces]
    return pd.concat(frames) if frames else pd.DataFrame(columns=["transaction_id", "decision"])


def would_be_blocks(database: Database, *, start: pd.Timestamp, end: pd.Timestamp) -> pd.DataFrame:
    """Transactions with `event_time` in [start, end) that were blocked or held out.

    Columns: transaction_id, held_out, by_model (or by a rule of analysts, which the holdout covers, too), and the share
    of the holdout draw (NaN without a draw).
    """
    event_time = TRANSACTIONS.c.event_time
    held_out = _HELD_OUT.label("held_out")
    by_model = DECISIONS.c.decided_by.in_(("model", "analyst_rule")).label("by_model")
    query = (
        sa.select(DECISIONS.c.transaction_id, held_out, by_model, DECISIONS.c.holdout_share.label("share"))
        .join(TRANSACTIONS, TRANSACTIONS.c.transaction_id == DECISIONS.c.transaction_id)
        .where(event_time >= microsecond(start), event_time < microsecond(end))
        .where(sa.or_(DECISIONS.c.decision == "block", held_out))
    )
    return database.frame(query).astype({"held_out": bool, "by_model": bool, "share": "float64"})


def blocked_ids(database: Database, *, since: pd.Timestamp) -> list[str]:
    """Ids of transactions that were blocked from an instant on, also of those that have left history."""
    query = sa.select(DECISIONS.c.transaction_id).where(
        DECISIONS.c.decision == "block", DECISIONS.c.decided_at >= microsecond(since)
    )
    return [id_ for (id_,) in database.rows(query)]


def add_shadow_rows(database: Database, rows: Sequence[ShadowRow]) -> None:
    """Store shadow decisions; a transaction that the challenger scored before is not changed."""
    if rows:
        columns = {column.name: [getattr(row, column.name) for row in rows] for column in SHADOW_DECISIONS.columns}
        with database.transaction() as connection:
            insert_new(connection, SHADOW_DECISIONS, columns)


def shadow_rows(database: Database, *, champion: str, challenger: str) -> pd.DataFrame:
    """The decisions of this challenger on transactions that this champion decided.

    Columns: the transaction's, decision and probability of both models, held_out, and the share of the holdout draw
    (NaN without a draw).
    """
    columns = [TRANSACTIONS.c[name] for name in TRANSACTION_COLUMNS]
    both = [
        SHADOW_DECISIONS.c[f"{whose}_{what}"]
        for whose in ("champion", "challenger")
        for what in ("decision", "probability")
    ]
    drawn = [sa.func.coalesce(_HELD_OUT, sa.false()).label("held_out"), DECISIONS.c.holdout_share.label("share")]
    query = (
        sa.select(*columns, *both, *drawn)
        .join(TRANSACTIONS, TRANSACTIONS.c.transaction_id == SHADOW_DECISIONS.c.transaction_id)
        .join(DECISIONS, DECISIONS.c.transaction_id == SHADOW_DECISIONS.c.transaction_id, isouter=True)
        .where(SHADOW_DECISIONS.c.champion == champion, SHADOW_DECISIONS.c.challenger == challenger)
        .order_by(TRANSACTIONS.c.event_time)
    )
    decisions = database.frame(query).astype({"held_out": bool, "share": "float64"})
    return decisions.assign(event_time=times(decisions["event_time"].to_numpy(np.int64)))


def shadowed_frauds(database: Database, *, champion: str, challenger: str, before: pd.Timestamp) -> int:
    """An upper bound of the frauds before an instant that both models scored."""
    query = (
        sa.select(sa.func.count(sa.distinct(FRAUD_REPORTS.c.transaction_id)))
        .join(SHADOW_DECISIONS, SHADOW_DECISIONS.c.transaction_id == FRAUD_REPORTS.c.transaction_id)
        .where(SHADOW_DECISIONS.c.champion == champion, SHADOW_DECISIONS.c.challenger == challenger)
        .where(FRAUD_REPORTS.c.is_fraud, FRAUD_REPORTS.c.event_time < microsecond(before))
    )
    ((frauds,),) = database.rows(query)
    return int(frauds)
