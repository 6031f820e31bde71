"""The table of leases is gone: one sensor posts alerts, and the daemon evaluates it once at a time."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    """Drop the table."""
    op.drop_table("leases")


def downgrade() -> None:
    """Make it again, empty."""
    op.create_table(
        "leases",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("holder", sa.Text, nullable=False),
        sa.Column("until", sa.BigInteger, nullable=False),
    )
