"""Alerts carry what the queue is sorted and filtered by, and when a snoozed one comes back."""

from math import log2

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"

_COLUMNS = (
    sa.Column("merchant_id", sa.Text),
    sa.Column("amount_cents", sa.BigInteger),
    sa.Column("probability", sa.Double),
    sa.Column("expected_loss_cents", sa.BigInteger),
    sa.Column("queue_order", sa.Double),
    sa.Column("snoozed_until", sa.BigInteger),
    sa.Column("fraud_kind", sa.Text),
)
_COPY = """
UPDATE alerts SET
  merchant_id = (SELECT merchant_id FROM transactions WHERE transactions.transaction_id = alerts.transaction_id),
  amount_cents = (SELECT amount_cents FROM transactions WHERE transactions.transaction_id = alerts.transaction_id),
  probability = (SELECT max(probability) FROM decisions WHERE decisions.transaction_id = alerts.transaction_id)
"""
_WEEK = 7 * 86_400_000_000
_ALERTS = sa.table("alerts", *(sa.column(name) for name in ("number", "created_at", *(c.name for c in _COLUMNS))))
_MANY = 10_000


def upgrade() -> None:
    """Add the columns, and copy amount, merchant and score of earlier alerts as far as they are still there."""
    for column in _COLUMNS:
        op.add_column("alerts", sa.Column(column.name, column.type))
    op.execute(_COPY)
    _order()
    op.create_index("alerts_in_queue", "alerts", ["status", "queue_order", "number"])
    op.create_index("alerts_of_customer", "alerts", ["customer_id", "number"])
    op.create_index("alerts_of_merchant", "alerts", ["merchant_id", "number"])
    op.create_index("alerts_by_time", "alerts", ["created_at"])


def _order() -> None:
    """Compute the place in the queue in Python, because not every SQLite has logarithms."""
    connection, after = op.get_bind(), 0
    columns = _ALERTS.c
    query = sa.select(columns.number, columns.created_at, columns.amount_cents, columns.probability)
    change = (
        sa.update(_ALERTS)
        .where(columns.number == sa.bindparam("alert"))
        .values(expected_loss_cents=sa.bindparam("loss"), queue_order=sa.bindparam("place"))
    )
    while rows := connection.execute(query.where(columns.number > after).order_by(columns.number).limit(_MANY)).all():
        losses = [_loss(row.amount_cents, row.probability) for row in rows]
        connection.execute(
            change,
            [
                {"alert": row.number, "loss": loss, "place": row.created_at / _WEEK - log2(max(loss or 1, 1))}
                for row, loss in zip(rows, losses, strict=True)
            ],
        )
        after = rows[-1].number


def _loss(amount_cents: int | None, probability: float | None) -> int | None:
    if amount_cents is None:
        return None
    return round(abs(amount_cents) * (1.0 if probability is None else probability))


def downgrade() -> None:
    """Drop them."""
    op.drop_index("alerts_by_time", "alerts")
    op.drop_index("alerts_of_merchant", "alerts")
    op.drop_index("alerts_of_customer", "alerts")
    op.drop_index("alerts_in_queue", "alerts")
    for column in reversed(_COLUMNS):
        op.drop_column("alerts", column.name)
