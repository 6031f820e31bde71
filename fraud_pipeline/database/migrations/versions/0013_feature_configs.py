"""Each decision records the feature configuration of its features."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """Make the table of configurations; decisions of earlier releases name none."""
    op.create_table(
        "feature_configs",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("content", sa.Text, nullable=False),
    )
    op.add_column("decisions", sa.Column("feature_config", sa.Text))


def downgrade() -> None:
    """Drop both: features of these decisions are then computed again with the deployment's settings."""
    op.drop_column("decisions", "feature_config")
    op.drop_table("feature_configs")
