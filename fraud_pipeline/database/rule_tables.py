"""The tables of analysts' rules and lists.

Belongs here: columns and keys. Must not be here: statements (`analyst_rules.py`, `value_lists.py`).

`rules_versions` holds one row. Every change of a rule, a list or a snooze increments it and carries its number, so a
process that evaluates rules reads one row to see that something changed, and then only what did.
"""

from typing import Final

import sqlalchemy as sa

from fraud_pipeline.database.tables import METADATA

_NUMBER: Final = sa.BigInteger().with_variant(sa.Integer, "sqlite")

RULES_VERSIONS: Final = sa.Table(
    "rules_versions",
    METADATA,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("version", sa.BigInteger, nullable=False),
)

# The version of each rule that counts, and its state.
ANALYST_RULES: Final = sa.Table(
    "analyst_rules",
    METADATA,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("percent", sa.Double, nullable=False),
)

# What a rule was in each of its versions; rows are only inserted. `own_types` are the types of its own fields, as JSON.
ANALYST_RULE_VERSIONS: Final = sa.Table(
    "analyst_rule_versions",
    METADATA,
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

# The audit trail of rules, lists and snoozes: who did what, why, and when; rows are only inserted.
RULE_EVENTS: Final = sa.Table(
    "rule_events",
    METADATA,
    sa.Column("number", _NUMBER, sa.Identity(), primary_key=True),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("who", sa.Text, nullable=False),
    sa.Column("what", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("detail", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Index("rule_events_of", "name", "number"),
)

# A rule that is off for a customer until an instant.
RULE_SNOOZES: Final = sa.Table(
    "rule_snoozes",
    METADATA,
    sa.Column("rule", sa.Text, primary_key=True),
    sa.Column("customer_id", sa.Text, primary_key=True),
    sa.Column("ends_at", sa.BigInteger, nullable=False),
    sa.Column("who", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
)

VALUE_LISTS: Final = sa.Table(
    "value_lists",
    METADATA,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("match", sa.Text, nullable=False),
    sa.Column("comment", sa.Text, nullable=False),
    sa.Column("created_at", sa.BigInteger, nullable=False),
)

# `key` is the value's hash, which is all that processes keep. A removed entry ends at 0, and stays for those processes
# that have not read its removal; `version` is that of its last change.
VALUE_LIST_ENTRIES: Final = sa.Table(
    "value_list_entries",
    METADATA,
    sa.Column("list", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, primary_key=True),
    sa.Column("key", sa.BigInteger, nullable=False),
    sa.Column("width", sa.Text, nullable=False),
    sa.Column("comment", sa.Text, nullable=False),
    # Without an end it is the largest number of 64 bits.
    sa.Column("ends_at", sa.BigInteger, nullable=False),
    sa.Column("added_at", sa.BigInteger, nullable=False),
    sa.Column("who", sa.Text, nullable=False),
    sa.Column("version", sa.BigInteger, nullable=False),
    sa.Index("value_list_entries_by_version", "version", "list", "value"),
)
