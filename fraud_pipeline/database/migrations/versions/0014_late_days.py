"""Merchant days are computed again only where one of their inputs arrived late."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"

_NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Make the marks of late events; remember which reports merchants' days know."""
    op.create_table(
        "late_days",
        sa.Column("number", _NUMBER, sa.Identity(), primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("day", sa.BigInteger, nullable=False),
    )
    op.add_column(
        "memory_versions", sa.Column("reports_seen", sa.BigInteger, nullable=False, server_default=sa.text("0"))
    )
    op.create_index("merchant_days_by_day", "merchant_days", ["day"])


def downgrade() -> None:
    """Drop both: the release before makes all days every night."""
    op.drop_index("merchant_days_by_day", "merchant_days")
    op.drop_column("memory_versions", "reports_seen")
    op.drop_table("late_days")
