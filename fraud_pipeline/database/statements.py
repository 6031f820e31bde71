"""Statements over many rows at once, for both kinds of database.

Belongs here: how columns of values reach a statement. Must not be here: which statement (`batch.py`, `history.py`).

PostgreSQL takes a column as one array, which is three times as fast as a parameter per value; SQLite has no arrays.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from fraud_pipeline.database.tables import MEMORY_VERSIONS

Columns = Mapping[str, Sequence[Any]]


def insert_new(connection: sa.Connection, table: sa.Table, columns: Columns) -> list[Any]:
    """Insert rows whose key is not there yet; the first key column of those that were not."""
    if connection.dialect.name == "postgresql":
        statement = _insert_arrays(table).on_conflict_do_nothing().returning(table.primary_key.columns[0])
        return list(connection.execute(statement, columns).scalars())
    statement = sqlite.insert(table).on_conflict_do_nothing().returning(table.primary_key.columns[0])
    return list(connection.execute(statement, _rows(columns)).scalars())


def count_up(connection: sa.Connection, table: sa.Table, keys: Sequence[str]) -> dict[str, int]:
    """Add 1 to the `version` of each key, which starts at 1, and lock its row; sorted keys never deadlock."""
    key = table.primary_key.columns[0]
    columns = {key.name: keys, "version": [1] * len(keys)}
    if connection.dialect.name == "postgresql":
        statement = _insert_arrays(table)
        changed = statement.on_conflict_do_update(index_elements=[key], set_={"version": table.c.version + 1})
        return _pairs(connection.execute(changed.returning(key, table.c.version), columns))
    changed = sqlite.insert(table).on_conflict_do_update(index_elements=[key], set_={"version": table.c.version + 1})
    return _pairs(connection.execute(changed.returning(key, table.c.version), _rows(columns)))


def next_version(connection: sa.Connection, name: str, *, as_of: int) -> int:
    """The next version of reports or merchants' days; its row stays locked, so versions appear in their order."""
    return int(
        connection.execute(
            sa.update(MEMORY_VERSIONS)
            .where(MEMORY_VERSIONS.c.name == name)
            .values(version=MEMORY_VERSIONS.c.version + 1, as_of=as_of)
            .returning(MEMORY_VERSIONS.c.version)
        ).scalar_one()
    )


def one_of(connection: sa.Connection, column: sa.Column[str], values: Sequence[str]) -> sa.ColumnElement[bool]:
    """The condition that a column holds one of these values."""
    if connection.dialect.name == "postgresql":
        # One parameter, whatever the number of values: the server keeps one plan.
        return column == sa.any_(sa.literal(list(values), postgresql.ARRAY(sa.Text)))
    return column.in_(values)


@lru_cache(maxsize=16)
def _insert_arrays(table: sa.Table) -> postgresql.Insert:
    arrays = [sa.bindparam(column.name, type_=postgresql.ARRAY(column.type)) for column in table.columns]
    rows = sa.func.unnest(*arrays).table_valued(*(sa.column(column.name, column.type) for column in table.columns))
    names = [column.name for column in table.columns]
    return postgresql.insert(table).from_select(names, sa.select(*rows.render_derived().columns))


def _pairs(result: sa.Result[Any]) -> dict[str, int]:
    return {key: version for key, version in result}  # noqa: C416 - rows are no plain tuples for dict()


def _rows(columns: Columns) -> list[dict[str, Any]]:
    names = list(columns)
    return [dict(zip(names, values, strict=True)) for values in zip(*columns.values(), strict=True)]
