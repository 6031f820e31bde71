"""Alerts in a database, as scoring opens them.

Must not be here: the analysts' work on them.
"""

from typing import Final

from fraud_pipeline.database import Database, scoring_batch
from fraud_pipeline.schema.transactions import DAY, TransactionRow

CUSTOMERS: Final = 7


def open_alerts(database: Database, count: int, *, first: int = 0) -> list[str]:
    """Transactions with an alert each, as scoring opens them; their ids in order."""
    ids = [f"t-{number:03}" for number in range(first, first + count)]
    rows = [
        TransactionRow(id_, 20_000 * DAY + number, f"c-{number % CUSTOMERS}", "m-1", 4_242)
        for number, id_ in enumerate(ids, first)
    ]
    # Ids count down while time counts up, so that an order by id would fail the test.
    rows = [row._replace(transaction_id=id_) for row, id_ in zip(rows, reversed(ids), strict=True)]
    with scoring_batch(database) as batch:
        batch.remember(rows)
        batch.add_alerts(
            ids=[row.transaction_id for row in rows],
            customers=[row.customer_id for row in rows],
            decisions=["review"] * count,
            created_at=20_000 * DAY,
        )
    return [row.transaction_id for row in rows]
