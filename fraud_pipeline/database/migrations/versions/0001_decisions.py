"""Decisions, alerts, and the history they are made from."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make all tables."""
    op.create_table(
        "transactions",
        sa.Column("transaction_id", sa.Text, primary_key=True),
        sa.Column("event_time", sa.BigInteger, nullable=False),
        sa.Column("customer_id", sa.Text, nullable=False),
        sa.Column("merchant_id", sa.Text, nullable=False),
        sa.Column("amount_cents", sa.BigInteger, nullable=False),
        sa.Column("category", sa.Text),
        sa.Column("channel", sa.Text),
        sa.Column("country", sa.Text),
        sa.Column("latitude", sa.Double),
        sa.Column("longitude", sa.Double),
        sa.Column("customer_version", sa.BigInteger, nullable=False),
    )
    op.create_index("transactions_of_customer", "transactions", ["customer_id", "event_time"])
    op.create_index("transactions_by_time", "transactions", ["event_time"], postgresql_using="brin")
    op.create_table(
        "decisions",
        sa.Column("transaction_id", sa.Text, primary_key=True),
        sa.Column("decided_at", sa.BigInteger, nullable=False),
        sa.Column("decision", sa.Text, nullable=False),
        sa.Column("probability", sa.Double),
        sa.Column("decided_by", sa.Text, nullable=False),
        sa.Column("mode", sa.Text, nullable=False),
        sa.Column("missing", sa.Text, nullable=False),
        sa.Column("reasons", sa.Text, nullable=False),
        sa.Column("model_version", sa.Text),
        sa.Column("model_sha256", sa.Text),
        sa.Column("features", sa.LargeBinary, nullable=False),
        sa.Column("customer_version", sa.BigInteger, nullable=False),
        sa.Column("reports_version", sa.BigInteger, nullable=False),
        sa.Column("merchant_days_version", sa.BigInteger, nullable=False),
    )
    op.create_index("decisions_by_time", "decisions", ["decided_at"], postgresql_using="brin")
    op.create_table(
        "customers",
        sa.Column("customer_id", sa.Text, primary_key=True),
        sa.Column("version", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "fraud_reports",
        sa.Column("transaction_id", sa.Text, primary_key=True),
        sa.Column("reported_at", sa.BigInteger, primary_key=True),
        sa.Column("is_fraud", sa.Boolean, nullable=False),
        sa.Column("event_time", sa.BigInteger, nullable=False),
        sa.Column("customer_id", sa.Text, nullable=False),
        sa.Column("merchant_id", sa.Text, nullable=False),
        sa.Column("amount_cents", sa.BigInteger, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
    )
    op.create_index("fraud_reports_by_version", "fraud_reports", ["version"])
    op.create_index("fraud_reports_by_time", "fraud_reports", ["reported_at"])
    op.create_table(
        "merchant_days",
        sa.Column("merchant_id", sa.Text, primary_key=True),
        sa.Column("day", sa.BigInteger, primary_key=True),
        sa.Column("version", sa.BigInteger, primary_key=True),
        sa.Column("transaction_count", sa.BigInteger, nullable=False),
        sa.Column("amount_sum_cents", sa.BigInteger, nullable=False),
        sa.Column("cleared_count", sa.BigInteger, nullable=False),
        sa.Column("last_cleared_time", sa.BigInteger, nullable=False),
    )
    versions = op.create_table(
        "memory_versions",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("as_of", sa.BigInteger, nullable=False),
    )
    op.bulk_insert(versions, [{"name": name, "version": 0, "as_of": 0} for name in ("reports", "merchant_days")])
    op.create_table(
        "alerts",
        sa.Column("transaction_id", sa.Text, primary_key=True),
        sa.Column("customer_id", sa.Text, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("decision", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
    )
    op.create_index("alerts_by_status", "alerts", ["status", "created_at"])


def downgrade() -> None:
    """Drop all tables with everything in them."""
    for name in (
        "alerts",
        "memory_versions",
        "merchant_days",
        "fraud_reports",
        "customers",
        "decisions",
        "transactions",
    ):
        op.drop_table(name)
