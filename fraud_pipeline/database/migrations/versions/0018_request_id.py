"""Each decision records the id of its request."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    """Add the column; decisions of earlier releases name no request."""
    op.add_column("decisions", sa.Column("request_id", sa.Text))


def downgrade() -> None:
    """Drop it."""
    op.drop_column("decisions", "request_id")
