"""Analysts' rules, lists and snoozes; decisions say which rule decided, and what the model alone would have."""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"

_NUMBER = sa.BigInteger().with_variant(sa.Integer, "sqlite")
_OF_DECISIONS = ("rule", "model_decision", "rule_matches")


def upgrade() -> None:
    """Create the tables and add the columns; decisions of earlier releases were made without rules."""
    versions = op.create_table(
        "rules_versions",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("version", sa.BigInteger, nullable=False),
    )
    op.bulk_insert(versions, [{"name": "rules", "version": 0}])
    op.create_table(
        "analyst_rules",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("percent", sa.Double, nullable=False),
    )
    op.create_table(
        "analyst_rule_versions",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("version", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("expression", sa.Text, nullable=False),
        sa.Column("description", sa.Text, nullable=False),
        sa.Column("own_types", sa.Text, nullable=False),
        sa.Column("author", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "rule_events",
        sa.Column("number", _NUMBER, sa.Identity(), primary_key=True),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("who", sa.Text, nullable=False),
        sa.Column("what", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
    )
    op.create_index("rule_events_of", "rule_events", ["name", "number"])
    op.create_table(
        "rule_snoozes",
        sa.Column("rule", sa.Text, primary_key=True),
        sa.Column("customer_id", sa.Text, primary_key=True),
        sa.Column("ends_at", sa.BigInteger, nullable=False),
        sa.Column("who", sa.Text, nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
    )
    op.create_table(
        "value_lists",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("match", sa.Text, nullable=False),
        sa.Column("comment", sa.Text, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "value_list_entries",
        sa.Column("list", sa.Text, primary_key=True),
        sa.Column("value", sa.Text, primary_key=True),
        sa.Column("key", sa.BigInteger, nullable=False),
        sa.Column("width", sa.Text, nullable=False),
        sa.Column("comment", sa.Text, nullable=False),
        sa.Column("ends_at", sa.BigInteger, nullable=False),
        sa.Column("added_at", sa.BigInteger, nullable=False),
        sa.Column("who", sa.Text, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
    )
    op.create_index("value_list_entries_by_version", "value_list_entries", ["version", "list", "value"])
    for name in _OF_DECISIONS:
        op.add_column("decisions", sa.Column(name, sa.Text))


def downgrade() -> None:
    """Drop them."""
    for name in reversed(_OF_DECISIONS):
        op.drop_column("decisions", name)
    for name in (
        *("value_list_entries", "value_lists", "rule_snoozes", "rule_events", "analyst_rule_versions"),
        *("analyst_rules", "rules_versions"),
    ):
        op.drop_table(name)
