"""An index by which a process reads what became known of a customer since the version that it remembers."""

from alembic import op

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    """Make the index."""
    op.create_index("transactions_by_version", "transactions", ["customer_id", "customer_version"])


def downgrade() -> None:
    """Drop it."""
    op.drop_index("transactions_by_version", "transactions")
