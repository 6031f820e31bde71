"""Performance of the champion in each day's judged windows, and shadow scores of the challenger."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Make both tables."""
    op.create_table(
        "performance",
        sa.Column("day", sa.BigInteger, primary_key=True),
        sa.Column("kind", sa.Text, primary_key=True),
        sa.Column("segment", sa.Text, primary_key=True),
        sa.Column("group_name", sa.Text, primary_key=True),
        sa.Column("metric", sa.Text, primary_key=True),
        sa.Column("value", sa.Double),
        sa.Column("low", sa.Double),
        sa.Column("high", sa.Double),
        sa.Column("row_count", sa.BigInteger, nullable=False),
        sa.Column("frauds", sa.BigInteger, nullable=False),
        sa.Column("served", sa.BigInteger, nullable=False),
        sa.Column("model_version", sa.Text, nullable=False),
    )
    op.create_table(
        "shadow_decisions",
        sa.Column("transaction_id", sa.Text, primary_key=True),
        sa.Column("challenger", sa.Text, primary_key=True),
        sa.Column("champion", sa.Text, nullable=False),
        sa.Column("decided_at", sa.BigInteger, nullable=False),
        sa.Column("champion_decision", sa.Text, nullable=False),
        sa.Column("challenger_decision", sa.Text, nullable=False),
        sa.Column("champion_probability", sa.Double, nullable=False),
        sa.Column("challenger_probability", sa.Double, nullable=False),
    )


def downgrade() -> None:
    """Drop both: reports can be computed again, shadow scores cannot."""
    op.drop_table("shadow_decisions")
    op.drop_table("performance")
