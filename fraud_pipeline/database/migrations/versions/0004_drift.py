"""Drift of each feature of a day, from the champion's training data and from the weeks before."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "drift",
        sa.Column("day", sa.BigInteger, primary_key=True),
        sa.Column("feature", sa.Text, primary_key=True),
        sa.Column("baseline", sa.Text, primary_key=True),
        sa.Column("kind", sa.Text, primary_key=True),
        sa.Column("size", sa.Double, nullable=False),
        sa.Column("q", sa.Double, nullable=False),
        sa.Column("drifted", sa.Boolean, nullable=False),
        sa.Column("model_version", sa.Text, nullable=False),
    )


def downgrade() -> None:
    """Drop it; reports can be made again."""
    op.drop_table("drift")
