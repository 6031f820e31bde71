"""Content versions of the loaded days of the offline tables, so that a night sends only changed ones."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "loaded_days",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("day", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("content", sa.Text, nullable=False),
    )


def downgrade() -> None:
    """Drop it: all days are compared with the database again."""
    op.drop_table("loaded_days")
