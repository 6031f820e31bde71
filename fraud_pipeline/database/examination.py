"""Checks that a database fits this release: tables, columns and rights.

Belongs here: inspection, and statements that touch no row. Must not be here: repairs (`migrations/`).
"""

import warnings
from itertools import chain
from typing import Any, Final

import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from fraud_pipeline.database.engine import Database, DatabaseUnavailableError
from fraud_pipeline.database.tables import METADATA

_MIGRATE: Final = "run `fraud-detect migrate` of the release that runs here"


def differences(database: Database) -> list[str]:
    """The differences between the tables and those of this release that keep it from writing, in words.

    Raises DatabaseUnavailableError.
    """
    with database.transaction(read_only=True) as connection, warnings.catch_warnings():
        # Alembic warns about foreign constraints that it cannot describe; they are ignored.
        warnings.simplefilter("ignore", sa.exc.SAWarning)
        options = {"compare_type": True, "include_object": _is_table_or_column}
        differing = compare_metadata(MigrationContext.configure(connection, opts=options), METADATA)
    # Alembic groups the changes of one column in a list.
    changes = chain.from_iterable(change if isinstance(change, list) else [change] for change in differing)
    return [words for change in changes if (words := _words(change))]


def refusals(database: Database) -> list[str]:
    """The rights on the tables that this user lacks, in words; no row is touched. Raises DatabaseUnavailableError."""
    failures = []
    for table in METADATA.sorted_tables:
        same = {column.name: column for column in table.primary_key}
        statements: dict[str, sa.Executable] = {
            "read": sa.select(table).where(sa.false()),
            "insert into": sa.insert(table).from_select(list(table.c), sa.select(table).where(sa.false())),
            "update": sa.update(table).where(sa.false()).values(same),
            "delete from": sa.delete(table).where(sa.false()),
        }
        for what, statement in statements.items():
            try:
                with database.transaction() as connection:
                    connection.execute(statement)
            except DatabaseUnavailableError as error:
                failures.append(f"we cannot {what} {table.name}: {error}")
    return failures


def _is_table_or_column(_object: Any, _name: str | None, kind: str, *_: Any) -> bool:
    return kind in ("table", "column")


def _words(change: Any) -> str | None:
    """A difference that alembic reports, in words; None for a harmless one, such as a foreign table."""
    match change:
        case ("add_table", table):
            return f"there is no table {table.name}: {_MIGRATE}"
        case ("add_column", _, table, column):
            return f"table {table} has no column {column.name}: {_MIGRATE}"
        case ("remove_column", _, table, column) if not column.nullable and column.server_default is None:
            return f"table {table} has a foreign column {column.name} that requires a value: {_MIGRATE}"
        case ("modify_type", _, table, column, _, before, after):
            return f"column {column} of table {table} is {before}, not {after}: {_MIGRATE}"
        case ("modify_nullable", _, table, column, _, _, True):
            return f"column {column} of table {table} wants a value, which may be missing: {_MIGRATE}"
    return None
