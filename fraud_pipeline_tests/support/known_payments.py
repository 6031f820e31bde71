"""Payments with their decisions, alerts and reports, as the desk looks them up.

Must not be here: a model (`small_world.py`), pages.
"""

from typing import Any

from fraud_pipeline.database import Database, StoredDecision, scoring_batch
from fraud_pipeline.schema.transactions import TransactionRow, now_microseconds


def payment(number: int, *, ago: int, customer: str = "c-1", merchant: str = "m-1", **fields: Any) -> TransactionRow:
    row = TransactionRow(f"t-{number}", now_microseconds() - ago, customer, merchant, 1_000 + number)
    return row._replace(**fields)


def store(database: Database, rows: list[TransactionRow], *, decision: str = "review") -> list[str]:
    """Decide on rows, and open alerts unless they are allowed."""
    with scoring_batch(database) as batch:
        batch.remember(rows)
        batch.add_decisions(
            [
                StoredDecision(
                    *(row.transaction_id, row.event_time, decision, 0.5, "model", "full", "", "[]", "1", "0" * 64, b""),
                    customer_version=1,
                    reports_version=0,
                    merchant_days_version=0,
                )
                for row in rows
            ]
        )
        if decision != "allow":
            batch.add_alerts(
                ids=[row.transaction_id for row in rows],
                customers=[row.customer_id for row in rows],
                decisions=[decision] * len(rows),
                created_at=max(row.event_time for row in rows),
                merchant_id=[row.merchant_id for row in rows],
                amount_cents=[row.amount_cents for row in rows],
            )
    return [row.transaction_id for row in rows]


def report(database: Database, transaction_id: str, *, is_fraud: bool = True) -> None:
    with scoring_batch(database) as batch:
        batch.add_report(transaction_id, reported_at=now_microseconds(), is_fraud=is_fraud)
