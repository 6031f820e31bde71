"""Positions: how far each partition of a topic was read, in the same database as the decisions."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "stream_positions",
        sa.Column("topic", sa.Text, primary_key=True),
        sa.Column("partition", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("next_offset", sa.BigInteger, nullable=False),
        sa.Column("published_offset", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    """Drop the table: the stream is then read again from the oldest record that the broker still has."""
    op.drop_table("stream_positions")
