"""The source of the history in the database, so that no other source's history is mixed with it."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Create the table; the next load records its source."""
    op.create_table(
        "history_source",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("source_id", sa.Text, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
    )


def downgrade() -> None:
    """Drop it: an earlier release does not ask."""
    op.drop_table("history_source")
