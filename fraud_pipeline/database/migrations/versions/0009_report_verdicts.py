"""Verdicts of each day's reports on the champion, for notifications, and the reports as pages."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "report_verdicts",
        sa.Column("report", sa.Text, primary_key=True),
        sa.Column("day", sa.BigInteger, primary_key=True),
        sa.Column("judged", sa.Boolean, nullable=False),
        sa.Column("red", sa.Boolean, nullable=False),
        sa.Column("summary", sa.Text, nullable=False),
        sa.Column("page", sa.LargeBinary),
    )


def downgrade() -> None:
    """Drop it: reports can be made again."""
    op.drop_table("report_verdicts")
