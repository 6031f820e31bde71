"""A merchant's transactions and fraud reports are found by index."""

from alembic import op

revision = "0022"
down_revision = "0021"


def upgrade() -> None:
    """Create the indexes."""
    op.create_index("transactions_of_merchant", "transactions", ["merchant_id", "event_time"])
    op.create_index("fraud_reports_of_merchant", "fraud_reports", ["merchant_id", "event_time"])


def downgrade() -> None:
    """Drop them."""
    op.drop_index("fraud_reports_of_merchant", "fraud_reports")
    op.drop_index("transactions_of_merchant", "transactions")
