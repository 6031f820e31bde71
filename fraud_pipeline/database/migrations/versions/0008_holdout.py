"""The holdout: the secret that its draws hang on, and the share with which each would-be block was drawn."""

import secrets

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Add the share, and make the secret once for all processes."""
    op.add_column("decisions", sa.Column("holdout_share", sa.Double))
    table = op.create_table(
        "secrets",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("value", sa.Text, nullable=False),
    )
    op.bulk_insert(table, [{"name": "holdout", "value": secrets.token_hex(32)}])


def downgrade() -> None:
    """Drop both: decisions of the draw stay, but no longer record its probability."""
    op.drop_table("secrets")
    op.drop_column("decisions", "holdout_share")
