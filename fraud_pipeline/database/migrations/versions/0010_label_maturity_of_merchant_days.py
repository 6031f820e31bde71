"""Merchants' days carry the label maturity that they were made with; each label maturity has its own versions."""

from datetime import timedelta

import sqlalchemy as sa
from alembic import op

from fraud_pipeline.settings import load_settings

revision = "0010"
down_revision = "0009"

_DAY = ("day", "version", "transaction_count", "amount_sum_cents", "cleared_count", "last_cleared_time")
_VERSIONS = sa.table("memory_versions", sa.column("name"), sa.column("version"), sa.column("as_of"))


def upgrade() -> None:
    """Add the label maturity. Existing days were computed with the one in this deployment's settings."""
    maturity = _microseconds()
    old = _old_table("merchant_id", *_DAY)
    _make_table("merchant_id", "label_maturity", "day", "version")
    _copy(old, sa.select(old.c.merchant_id, sa.literal(maturity), *(old.c[name] for name in _DAY)), "label_maturity")
    _rename("merchant_days", f"merchant_days/{maturity}")


def downgrade() -> None:
    """Keep the days of the label maturity in this deployment's settings; the nightly job makes them again."""
    maturity = _microseconds()
    old = _old_table("merchant_id", "label_maturity", *_DAY)
    _make_table("merchant_id", "day", "version")
    _copy(old, sa.select(old.c.merchant_id, *(old.c[name] for name in _DAY)).where(old.c.label_maturity == maturity))
    op.bulk_insert(_VERSIONS, [{"name": "merchant_days", "version": 0, "as_of": 0}])
    kept = op.get_bind().execute(sa.select(_VERSIONS).where(_VERSIONS.c.name == f"merchant_days/{maturity}")).first()
    if kept is not None:
        op.execute(sa.delete(_VERSIONS).where(_VERSIONS.c.name == "merchant_days"))
        _rename(f"merchant_days/{maturity}", "merchant_days")
    op.execute(sa.delete(_VERSIONS).where(_VERSIONS.c.name.like("merchant_days/%")))


def _microseconds() -> int:
    return load_settings().label_maturity // timedelta(microseconds=1)


def _old_table(*names: str) -> sa.TableClause:
    """The table out of the way: SQLite cannot change a key, and a new table costs PostgreSQL no more than a new key."""
    op.rename_table("merchant_days", "old_merchant_days")
    if op.get_bind().dialect.name == "postgresql":
        op.execute("ALTER INDEX merchant_days_pkey RENAME TO old_merchant_days_pkey")
    return sa.table("old_merchant_days", *(sa.column(name) for name in names))


def _make_table(*keys: str) -> None:
    columns = [name for name in ("merchant_id", "label_maturity", *_DAY) if name in keys or name in _DAY]
    kinds = {"merchant_id": sa.Text}
    op.create_table(
        "merchant_days",
        *(
            sa.Column(name, kinds.get(name, sa.BigInteger), primary_key=name in keys, nullable=False)
            for name in columns
        ),
    )


def _copy(old: sa.TableClause, rows: sa.Select[tuple[object, ...]], *more: str) -> None:
    names = ["merchant_id", *more, *_DAY]
    op.execute(sa.insert(sa.table("merchant_days", *(sa.column(name) for name in names))).from_select(names, rows))
    op.drop_table(old.name)


def _rename(name: str, new_name: str) -> None:
    op.execute(sa.update(_VERSIONS).where(_VERSIONS.c.name == name).values(name=new_name))
