"""Statements over many rows at once, for SQLite and PostgreSQL.

Belongs here: how columns of values are passed to a statement. Must not be here: the statements of a use case
(`batch.py`, `history.py`).

PostgreSQL gets few rows as one JSON text, because a parameter per value, or an array per column, takes several times as
long. Many rows are copied with COPY, which takes a third of that but handles no conflicts: if a key is taken, nothing
is copied, and the rows are sent as JSON.
"""

import json
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import compress
from typing import Any, Final

import sqlalchemy as sa
from psycopg.errors import UniqueViolation
from sqlalchemy.dialects import postgresql, sqlite

from fraud_pipeline.database.engine import Database
from fraud_pipeline.database.tables import MEMORY_VERSIONS

StatementColumns = Mapping[str, Sequence[Any]]
WORTH_COPYING: Final = 16
"""Number of rows from which on COPY saves more than its three round trips cost."""


def insert_new(
    connection: sa.Connection, table: sa.Table, columns: StatementColumns, *, unless: sa.Table | None = None
) -> list[Any]:
    """Insert rows whose key is new in the table and in `unless`; returns the first column of the inserted rows.

    `columns` begin with the first column of the table.
    """
    dialect, first = connection.dialect.name, next(iter(columns.values()))
    is_copied = dialect == "postgresql" and len(first) >= WORTH_COPYING
    if unless is not None and (is_copied or dialect != "postgresql"):
        taken = set(connection.execute(_keys_among(unless, dialect), {"names": first}).scalars())
        if taken:
            is_free = [key not in taken for key in first]
            columns = {name: list(compress(values, is_free)) for name, values in columns.items()}
            first = next(iter(columns.values()))
        if not first:
            return []
    if dialect != "postgresql":
        return list(connection.execute(_insert_new(table, dialect, None), _rows(columns)).scalars())
    if is_copied and _copied(connection, table, columns):
        return list(first)
    return list(connection.execute(_insert_new(table, dialect, unless), as_json(columns)).scalars())


def increment_versions(
    connection: sa.Connection, table: sa.Table, keys: Sequence[str], *, also_select: sa.Select[Any] | None = None
) -> tuple[dict[str, int], Sequence[Any]]:
    """Increment the `version` of each key, which starts at 1, and lock its row; sorted keys never deadlock.

    Also returns the rows of `also_select` (a text and two integers), which PostgreSQL reads in the same round trip.
    """
    columns = {table.primary_key.columns[0].name: keys, "version": [1] * len(keys)}
    if connection.dialect.name != "postgresql":
        counted = connection.execute(_increment(table, connection.dialect.name), _rows(columns)).all()
        selected = () if also_select is None else connection.execute(also_select).all()
        return {row[0]: row[1] for row in counted}, selected
    rows = connection.execute(_increment_and_select(table, also_select), as_json(columns)).all()
    return {row[0]: row[1] for row in rows if row[3]}, [row[:3] for row in rows if not row[3]]


def increment_versions_and_insert_new(
    connection: sa.Connection,
    counters: sa.Table,
    table: sa.Table,
    columns: StatementColumns,
    *,
    also_select: sa.Select[Any],
) -> tuple[dict[str, int], list[Any], Sequence[Any]]:
    """Run `increment_versions` for the counters of the rows and `insert_new` for the rows, in one round trip of
    PostgreSQL.

    The last column of `table` takes the counter's version. Returns the results of both, and the rows of `also_select`.
    """
    results: dict[str, list[Any]] = {"counted": [], "inserted": [], "also_select": []}
    for *row, kind in connection.execute(_increment_and_insert_new(counters, table, also_select), as_json(columns)):
        results[kind].append(row)
    counted = {key: version for key, version, _ in results["counted"]}
    return counted, [row[0] for row in results["inserted"]], results["also_select"]


def replace_day(database: Database, table: sa.Table, *, day: int, rows: Sequence[Mapping[str, Any]]) -> None:
    """Store the rows of a day (its midnight in microseconds) in place of those of an earlier run."""
    with database.transaction() as connection:
        connection.execute(sa.delete(table).where(table.c.day == day))
        if rows:
            connection.execute(sa.insert(table), [{"day": day, **row} for row in rows])


def next_version(connection: sa.Connection, name: str, *, as_of: int) -> int:
    """The next version of reports or merchants' days; its row stays locked, so versions become visible in order."""
    return int(
        connection.execute(
            sa.update(MEMORY_VERSIONS)
            .where(MEMORY_VERSIONS.c.name == name)
            .values(version=MEMORY_VERSIONS.c.version + 1, as_of=as_of)
            .returning(MEMORY_VERSIONS.c.version)
        ).scalar_one()
    )


def one_of(dialect: str, column: sa.Column[str]) -> sa.ColumnElement[bool]:
    """The condition that a column holds one of the texts of the parameter `names`, a list."""
    if dialect == "postgresql":
        # One parameter for any number of values, so that the server keeps one plan.
        return column == sa.any_(sa.bindparam("names", type_=postgresql.ARRAY(sa.Text)))
    return column.in_(sa.bindparam("names", expanding=True))


def given_records(
    dialect: str, *columns: sa.Column[Any], **further_types: type[sa.types.TypeEngine[Any]]
) -> sa.Subquery:
    """The rows of the parameter that `as_json` makes, as a subquery; `further_types` are columns by name and type."""
    fields_of_record = [*columns, *(sa.column(name, kind) for name, kind in further_types.items())]
    if dialect == "postgresql":
        return _records(fields_of_record).subquery("given")
    each = sa.func.json_each(sa.bindparam("rows", type_=sa.Text)).table_valued("value")
    fields = (
        sa.type_coerce(sa.func.json_extract(each.c.value, f"$.{column.name}"), column.type).label(column.name)
        for column in fields_of_record
    )
    return sa.select(*fields).subquery("given")


def as_json(columns: StatementColumns) -> dict[str, str]:
    """Rows as one JSON parameter of a statement."""
    return {"rows": json.dumps(_rows(columns), default=_bytea, ensure_ascii=False)}


# Cached, because SQLAlchemy compiles a statement object only once.
@cache
def _insert_new(table: sa.Table, dialect: str, unless: sa.Table | None) -> sa.Executable:
    return _insert(table, dialect, unless).on_conflict_do_nothing().returning(_given(table)[0])


@cache
def _keys_among(table: sa.Table, dialect: str) -> sa.Select[Any]:
    key = table.primary_key.columns[0]
    return sa.select(key).where(one_of(dialect, key))


@cache
def _increment(table: sa.Table, dialect: str) -> Any:
    return _on_conflict_increment(_insert(table, dialect), table)


def _on_conflict_increment(insert: Any, table: sa.Table) -> Any:
    key, version = table.primary_key.columns[0], table.c.version
    return insert.on_conflict_do_update(index_elements=[key], set_={"version": version + 1}).returning(key, version)


@cache
def _increment_and_insert_new(counters: sa.Table, table: sa.Table, also_select: sa.Select[Any]) -> sa.Executable:
    key = counters.primary_key.columns[0].name
    *columns, version = _given(table)
    names = [column.name for column in columns]
    rows = _records(columns).cte("given")
    once = sa.select(rows.c[key]).distinct().subquery()
    # In the order of Python's `sorted`, so that this and `increment_versions` never deadlock.
    keys = sa.select(once.c[key], sa.literal_column("1")).order_by(sa.collate(once.c[key], "C"))
    counted = _on_conflict_increment(postgresql.insert(counters).from_select([key, "version"], keys), counters).cte(
        "counted"
    )
    versioned = sa.select(*rows.c, counted.c.version).join_from(rows, counted, rows.c[key] == counted.c[key])
    new = postgresql.insert(table).from_select([*names, version.name], versioned)
    inserted = new.on_conflict_do_nothing().returning(columns[0]).cte("inserted")
    kind = sa.literal_column
    nought: sa.ColumnElement[int] = sa.literal_column("0")
    return sa.union_all(
        sa.select(counted.c[key], counted.c.version, nought, kind("'counted'")),
        sa.select(inserted.c[0], nought, nought, kind("'inserted'")),
        also_select.add_columns(kind("'also_select'")),
    )


@cache
def _increment_and_select(table: sa.Table, also_select: sa.Select[Any] | None) -> sa.Executable:
    counted = _increment(table, "postgresql").cte("counted")
    increments = sa.select(counted.c[0], counted.c[1], sa.literal(0), sa.true())
    return increments if also_select is None else sa.union_all(increments, also_select.add_columns(sa.false()))


def _copied(connection: sa.Connection, table: sa.Table, columns: StatementColumns) -> bool:
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


def _insert(table: sa.Table, dialect: str, unless: sa.Table | None = None) -> postgresql.Insert | sqlite.Insert:
    if dialect != "postgresql":
        return sqlite.insert(table)
    given = _given(table)
    rows = _records(given)
    if unless is not None:
        key = unless.primary_key.columns[0]
        rows = rows.where(~sa.exists().where(key == rows.selected_columns[0]))
    return postgresql.insert(table).from_select([column.name for column in given], rows)


def _records(given: Sequence[sa.ColumnClause[Any]]) -> sa.Select[Any]:
    """Rows of the parameter `rows`."""
    columns = (sa.column(column.name, column.type) for column in given)
    rows = sa.func.json_to_recordset(sa.bindparam("rows", type_=sa.Text).cast(postgresql.JSON)).table_valued(*columns)
    return sa.select(*rows.render_derived(with_types=True).columns)


def _given(table: sa.Table) -> list[sa.Column[Any]]:
    # Columns with a server default are left out: NULL would replace the default.
    return [column for column in table.columns if column.server_default is None]


def _bytea(value: bytes) -> str:
    return f"\\x{value.hex()}"


def _rows(columns: StatementColumns) -> list[dict[str, Any]]:
    names = list(columns)
    return [dict(zip(names, values, strict=True)) for values in zip(*columns.values(), strict=True)]
