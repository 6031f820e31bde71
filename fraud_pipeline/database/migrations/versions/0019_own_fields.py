"""Events hold the bank's own fields, and decisions say which of them they did not use."""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"


def upgrade() -> None:
    """Add the columns; events of earlier releases have no own fields."""
    op.add_column("transactions", sa.Column("own_fields", sa.Text))
    op.add_column("decisions", sa.Column("unused_fields", sa.Text))


def downgrade() -> None:
    """Drop them."""
    op.drop_column("decisions", "unused_fields")
    op.drop_column("transactions", "own_fields")
