"""Reports of transactions that are not known yet are kept until they are."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "pending_reports",
        sa.Column("topic", sa.Text, primary_key=True),
        sa.Column("partition", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("offset", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("transaction_id", sa.Text, nullable=False),
        sa.Column("is_fraud", sa.Boolean, nullable=False),
        sa.Column("reported_at", sa.BigInteger, nullable=False),
        sa.Column("kept_at", sa.BigInteger, nullable=False),
        sa.Column("value", sa.LargeBinary, nullable=False),
    )
    op.create_index("pending_reports_of_transaction", "pending_reports", ["transaction_id"])
    op.create_index("pending_reports_by_time", "pending_reports", ["kept_at"])


def downgrade() -> None:
    """Drop the table: the reports in it are still in their topic, as long as that keeps them."""
    op.drop_table("pending_reports")
