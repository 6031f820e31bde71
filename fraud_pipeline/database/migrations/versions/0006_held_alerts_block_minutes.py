"""Alerts that the webhook did not take are held back one by one, and all processes together keep one cap on blocks."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """Add when to post an alert again, and the count of blocks of each minute."""
    op.add_column("alerts", sa.Column("retry_at", sa.BigInteger))
    held = sa.text("retry_at IS NOT NULL")
    op.create_index("alerts_held", "alerts", ["retry_at"], postgresql_where=held, sqlite_where=held)
    op.create_table(
        "block_minutes",
        sa.Column("minute", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("blocks", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    """Drop both: held alerts are tried again at once, and the count of the cap starts at zero."""
    op.drop_table("block_minutes")
    op.drop_index("alerts_held", "alerts")
    op.drop_column("alerts", "retry_at")
