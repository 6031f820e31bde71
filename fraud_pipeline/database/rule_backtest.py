"""What a backtest of a rule reads: stored decisions with their transactions, features and labels, a day at a time.

Belongs here: the statements. Must not be here: evaluation and figures (`policy/`), columns of rules
(`scoring/rule_columns.py`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import sqlalchemy as sa

from fraud_pipeline.database.engine import Database
from fraud_pipeline.database.tables import DECISIONS, FRAUD_REPORTS, TRANSACTIONS, whole_microseconds
from fraud_pipeline.schema.transactions import DAY

_ALWAYS: Final = ("transaction_id", "event_time", "customer_id", "amount_cents")


@dataclass(frozen=True, slots=True)
class StoredDay:
    """The decided transactions of a day in order of time: stored columns by name, and `label`, True, False or None.

    `features` and `own_fields` are there only if asked for.
    """

    columns: dict[str, Sequence[Any]]
    count: int


def stored_days(
    database: Database, *, start: int, end: int, label_maturity: timedelta, columns: frozenset[str]
) -> Iterator[StoredDay]:
    """The days of [start, end), in microseconds, with these columns of `transactions` and `decisions`.

    A transaction is fraud by its newest report. Without one it is legitimate when its label is mature at `end` and it
    was not blocked; else its label is None.
    """
    names = [*_ALWAYS, *sorted(columns - set(_ALWAYS))]
    stored = [(TRANSACTIONS if name in TRANSACTIONS.c else DECISIONS).c[name] for name in names]
    without_rules = sa.func.coalesce(DECISIONS.c.model_decision, DECISIONS.c.decision).label("without_rules")
    query = (
        sa.select(*stored, without_rules, DECISIONS.c.decision.label("final"))
        .join(DECISIONS, DECISIONS.c.transaction_id == TRANSACTIONS.c.transaction_id)
        .order_by(TRANSACTIONS.c.event_time, TRANSACTIONS.c.transaction_id)
    )
    reports = sa.select(FRAUD_REPORTS.c.transaction_id, FRAUD_REPORTS.c.is_fraud).order_by(FRAUD_REPORTS.c.reported_at)
    mature_until = end - whole_microseconds(label_maturity)
    for day in range(start // DAY * DAY, end, DAY):
        since, until = max(day, start), min(day + DAY, end)
        of_day = sa.and_(TRANSACTIONS.c.event_time >= since, TRANSACTIONS.c.event_time < until)
        rows = database.rows(query.where(of_day))
        # A later report replaces an earlier one.
        known = dict(
            database.rows(reports.where(FRAUD_REPORTS.c.event_time >= since, FRAUD_REPORTS.c.event_time < until))
        )
        by_name: dict[str, Sequence[Any]] = (
            dict(zip((*names, "without_rules", "final"), zip(*rows, strict=True), strict=True)) if rows else {}
        )
        if rows:
            by_name["label"] = [
                known.get(id_, None if final == "block" or time > mature_until else False)
                for id_, time, final in zip(
                    by_name["transaction_id"], by_name["event_time"], by_name["final"], strict=True
                )
            ]
            yield StoredDay(columns=by_name, count=len(rows))
