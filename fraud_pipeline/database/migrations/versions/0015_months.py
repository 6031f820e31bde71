"""Decisions and shadow scores have one partition per month on PostgreSQL, which is dropped when it is too old.

A partitioned table cannot guarantee unique ids. The table of events guarantees them, and when an event leaves before
its decision does, its id is recorded in `spent_ids`.

Existing rows stay in place: their table becomes the partition of everything before the month after next. PostgreSQL
builds one index on it and reads it once.
"""

import sqlalchemy as sa
from alembic import op

from fraud_pipeline.database.months import AFTER, BEFORE, first_bound

revision = "0015"
down_revision = "0014"

_KEYS = {"decisions": "transaction_id", "shadow_decisions": "transaction_id, challenger"}


def upgrade() -> None:
    """Create the list of spent ids, and partitions where the database supports them."""
    op.create_table(
        "spent_ids",
        sa.Column("transaction_id", sa.Text, primary_key=True),
        sa.Column("decided_at", sa.BigInteger, nullable=False),
    )
    op.create_index("spent_ids_by_time", "spent_ids", ["decided_at"], postgresql_using="brin")
    op.create_index("shadow_decisions_by_time", "shadow_decisions", ["decided_at"], postgresql_using="brin")
    if op.get_bind().dialect.name != "postgresql":
        return
    schema = _schema()
    op.execute(f'CREATE SCHEMA IF NOT EXISTS "{schema}"')
    for table, keys in _KEYS.items():
        before = f'"{schema}".{table}{BEFORE}'
        op.execute(f"ALTER INDEX {table}_by_time RENAME TO {table}{BEFORE}_by_time")
        op.execute(f"ALTER TABLE {table} DROP CONSTRAINT {table}_pkey")
        op.execute(f"ALTER TABLE {table} RENAME TO {table}{BEFORE}")
        op.execute(f'ALTER TABLE {table}{BEFORE} SET SCHEMA "{schema}"')
        op.execute(
            f"CREATE TABLE {table} (LIKE {before} INCLUDING DEFAULTS, PRIMARY KEY ({keys}, decided_at)) "
            "PARTITION BY RANGE (decided_at)"
        )
        op.execute(f"CREATE INDEX {table}_by_time ON {table} USING brin (decided_at)")
        op.execute(f"ALTER TABLE {before} ADD PRIMARY KEY ({keys}, decided_at)")
        newest = op.get_bind().exec_driver_sql(f"SELECT coalesce(max(decided_at), 0) FROM {before}").scalar_one()  # noqa: S608 - ours
        bound = first_bound(newest)
        op.execute(f"ALTER TABLE {table} ATTACH PARTITION {before} FOR VALUES FROM (MINVALUE) TO ({bound:d})")
        op.execute(f'CREATE TABLE "{schema}".{table}{AFTER} PARTITION OF {table} DEFAULT')


def downgrade() -> None:
    """Copy the rows back into plain tables."""
    if op.get_bind().dialect.name == "postgresql":
        for table, keys in _KEYS.items():
            op.execute(f"ALTER TABLE {table} RENAME TO {table}_of_months")
            op.execute(f"ALTER INDEX {table}_pkey RENAME TO {table}_of_months_pkey")
            op.execute(f"ALTER INDEX {table}_by_time RENAME TO {table}_of_months_by_time")
            op.execute(f"CREATE TABLE {table} (LIKE {table}_of_months INCLUDING DEFAULTS, PRIMARY KEY ({keys}))")
            op.execute(f"INSERT INTO {table} SELECT * FROM {table}_of_months ON CONFLICT DO NOTHING")  # noqa: S608 - ours
            op.execute(f"CREATE INDEX {table}_by_time ON {table} USING brin (decided_at)")
            op.execute(f"DROP TABLE {table}_of_months")
        op.execute(f'DROP SCHEMA "{_schema()}"')
    op.drop_index("shadow_decisions_by_time", "shadow_decisions")
    op.drop_table("spent_ids")


def _schema() -> str:
    return f"{op.get_bind().exec_driver_sql('SELECT current_schema()').scalar_one()}_months"
