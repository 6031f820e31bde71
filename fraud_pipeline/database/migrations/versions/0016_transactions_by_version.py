"""An index for reading a customer's rows since the version that a process has cached."""

from alembic import op

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    """Make the index."""
    op.create_index("transactions_by_version", "transactions", ["customer_id", "customer_version"])


def downgrade() -> None:
    """Drop it."""
    op.drop_index("transactions_by_version", "transactions")
