"""Statements over many rows at once, for both kinds of database.

Belongs here: how columns of values reach a statement. Must not be here: which statement (`batch.py`, `history.py`).

PostgreSQL gets few rows as one JSON text: a parameter per value, or an array per column, costs several times as much.
Many rows are copied, which costs a third of that but knows no conflicts: where a key is taken, nothing was copied, and
the rows come as JSON.
"""

import json
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Final

import sqlalchemy as sa
from psycopg.errors import UniqueViolation
from sqlalchemy.dialects import postgresql, sqlite

from fraud_pipeline.database.tables import MEMORY_VERSIONS

Columns = Mapping[str, Sequence[Any]]
# Below this a copy's three round trips cost more than they save.
_WORTH_COPYING: Final = 16


def insert_new(connection: sa.Connection, table: sa.Table, columns: Columns) -> list[Any]:
    """Insert rows whose key is not there yet; the first column of those that were not."""
    first = next(iter(columns.values()))
    if connection.dialect.name != "postgresql":
        return list(connection.execute(_insert_new(table, "sqlite"), _rows(columns)).scalars())
    if len(first) >= _WORTH_COPYING and _copied(connection, table, columns):
        return list(first)
    return list(connection.execute(_insert_new(table, "postgresql"), _json(columns)).scalars())


def count_up(
    connection: sa.Connection, table: sa.Table, keys: Sequence[str], *, beside: sa.Select[Any] | None = None
) -> tuple[dict[str, int], Sequence[Any]]:
    """Add 1 to the `version` of each key, which starts at 1, and lock its row; sorted keys never deadlock.

    Also the rows of `beside` (text, two whole numbers); PostgreSQL answers both at once.
    """
    columns = {table.primary_key.columns[0].name: keys, "version": [1] * len(keys)}
    if connection.dialect.name != "postgresql":
        counted = connection.execute(_count_up(table, connection.dialect.name), _rows(columns)).all()
        others = () if beside is None else connection.execute(beside).all()
        return {row[0]: row[1] for row in counted}, others
    rows = connection.execute(_count_up_beside(table, beside), _json(columns)).all()
    return {row[0]: row[1] for row in rows if row[3]}, [row[:3] for row in rows if not row[3]]


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


# A statement that is made once is also compiled and keyed once.
@cache
def _insert_new(table: sa.Table, dialect: str) -> sa.Executable:
    return _insert(table, dialect).on_conflict_do_nothing().returning(_given(table)[0])


@cache
def _count_up(table: sa.Table, dialect: str) -> Any:
    key, version = table.primary_key.columns[0], table.c.version
    counted = _insert(table, dialect).on_conflict_do_update(index_elements=[key], set_={"version": version + 1})
    return counted.returning(key, version)


@cache
def _count_up_beside(table: sa.Table, beside: sa.Select[Any] | None) -> sa.Executable:
    counted = _count_up(table, "postgresql").cte("counted")
    mine = sa.select(counted.c[0], counted.c[1], sa.literal(0), sa.true())
    return mine if beside is None else sa.union_all(mine, beside.add_columns(sa.false()))


def _copied(connection: sa.Connection, table: sa.Table, columns: Columns) -> bool:
    """Whether all rows were copied into the table; none was when a key is taken."""
    try:
        with connection.begin_nested():
            cursor = connection.connection.driver_connection.cursor()  # type: ignore[union-attr]  # it is connected
            names = ", ".join(columns)
            with cursor.copy(f"COPY {table.name} ({names}) FROM STDIN (FORMAT BINARY)") as copy:
                copy.set_types(_types(table, tuple(columns)))
                for row in zip(*columns.values(), strict=True):
                    copy.write_row(row)
    except UniqueViolation:
        return False
    return True


@cache
def _types(table: sa.Table, names: tuple[str, ...]) -> list[str]:
    dialect = postgresql.dialect()  # type: ignore[no-untyped-call]  # SQLAlchemy leaves it untyped
    return [table.columns[name].type.compile(dialect).lower() for name in names]


def _insert(table: sa.Table, dialect: str) -> postgresql.Insert | sqlite.Insert:
    if dialect != "postgresql":
        return sqlite.insert(table)
    given = _given(table)
    columns = (sa.column(column.name, column.type) for column in given)
    rows = sa.func.json_to_recordset(sa.bindparam("rows", type_=sa.Text).cast(postgresql.JSON)).table_valued(*columns)
    names = [column.name for column in given]
    return postgresql.insert(table).from_select(names, sa.select(*rows.render_derived(with_types=True).columns))


def _given(table: sa.Table) -> list[sa.Column[Any]]:
    # What the server fills in by itself must not be given at all: no value is not the same as NULL.
    return [column for column in table.columns if column.server_default is None]


def _json(columns: Columns) -> dict[str, str]:
    return {"rows": json.dumps(_rows(columns), default=_bytea, ensure_ascii=False)}


def _bytea(value: bytes) -> str:
    return f"\\x{value.hex()}"


def _rows(columns: Columns) -> list[dict[str, Any]]:
    names = list(columns)
    return [dict(zip(names, values, strict=True)) for values in zip(*columns.values(), strict=True)]
