"""Work on alerts: assignee, status, notes, and whether an alert was posted."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_BEFORE = "transaction_id, customer_id, created_at, decision, status"


def upgrade() -> None:
    """Number the alerts in order of time, and create the tables of events."""
    op.drop_index("alerts_by_status", "alerts")
    op.rename_table("alerts", "alerts_before")
    op.create_table(
        "alerts",
        sa.Column("number", _NUMBER, sa.Identity(), primary_key=True),
        sa.Column("transaction_id", sa.Text, nullable=False, unique=True),
        sa.Column("customer_id", sa.Text, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("decision", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("assignee", sa.Text),
        sa.Column("taken_at", sa.BigInteger),
        sa.Column("resolved_at", sa.BigInteger),
        sa.Column("version", sa.BigInteger, nullable=False, server_default=sa.text("0")),
        sa.Column("posted_at", sa.BigInteger),
    )
    copied = f"INSERT INTO alerts ({_BEFORE}) SELECT {_BEFORE} FROM alerts_before ORDER BY created_at"  # noqa: S608 - ours
    op.execute(copied)
    op.drop_table("alerts_before")
    op.create_index("alerts_by_status", "alerts", ["status", "number"])
    unposted = sa.text("posted_at IS NULL")
    op.create_index("alerts_not_posted", "alerts", ["number"], postgresql_where=unposted, sqlite_where=unposted)
    op.create_table(
        "alert_events",
        sa.Column("number", _NUMBER, sa.Identity(), primary_key=True),
        sa.Column("transaction_id", sa.Text, nullable=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("who", sa.Text, nullable=False),
        sa.Column("what", sa.Text, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
    )
    op.create_index("alert_events_of_alert", "alert_events", ["transaction_id", "number"])
    op.create_table(
        "leases",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("holder", sa.Text, nullable=False),
        sa.Column("until", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    """Drop the events; alerts and their status stay."""
    op.drop_table("leases")
    op.drop_table("alert_events")
    op.drop_index("alerts_not_posted", "alerts")
    op.drop_index("alerts_by_status", "alerts")
    op.rename_table("alerts", "alerts_after")
    op.create_table(
        "alerts",
        sa.Column("transaction_id", sa.Text, primary_key=True),
        sa.Column("customer_id", sa.Text, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("decision", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
    )
    op.execute(f"INSERT INTO alerts ({_BEFORE}) SELECT {_BEFORE} FROM alerts_after")  # noqa: S608 - ours
    op.drop_table("alerts_after")
    op.create_index("alerts_by_status", "alerts", ["status", "created_at"])
