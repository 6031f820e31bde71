"""The alerts of a filter as CSV, for a spreadsheet.

Belongs here: columns and spelling. Must not be here: reading (`database/alert_queue.py`).
"""

import csv
import io
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final

from fraud_pipeline.database.alert_queue import QueueRow

COLUMNS: Final = (
    *("alert", "opened", "status", "fraud_kind", "decision", "amount", "customer", "merchant", "transaction"),
    *("score", "expected_loss", "reasons", "assignee", "resolved"),
)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# A spreadsheet would run a text that begins with one of these as a formula.
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


def as_csv(rows: Iterable[QueueRow]) -> str:
    """The rows as CSV with a header. Amounts are in currency units, times in UTC."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in rows:
        alert = row.alert
        writer.writerow(
            (
                *(alert.number, _time(alert.created_at), alert.status, alert.fraud_kind or "", alert.decision),
                *(
                    _money(alert.amount_cents),
                    *map(_text, (alert.customer_id, alert.merchant_id, alert.transaction_id)),
                ),
                *("" if alert.probability is None else f"{alert.probability:.6f}", _money(alert.expected_loss_cents)),
                *(_text("; ".join(row.reasons)), _text(alert.assignee), _time(alert.resolved_at)),
            )
        )
    return text.getvalue()


def _text(text: str | None) -> str:
    return f"'{text}" if text and text.startswith(_FORMULA) else text or ""


def _money(cents: int | None) -> str:
    return "" if cents is None else f"{cents / 100:.2f}"


def _time(microseconds: int | None) -> str:
    return "" if microseconds is None else (_EPOCH + timedelta(microseconds=microseconds)).isoformat()
