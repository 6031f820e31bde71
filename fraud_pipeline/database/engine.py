"""Connections to SQLite (default) or PostgreSQL, transactions, and migrations.

Belongs here: engines, pools, time limits, errors of an unavailable database. Must not be here: statements.
"""

import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

import pandas as pd
import psycopg
import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from fraud_pipeline.database.causes import cause_of
from fraud_pipeline.database.urls import place, read_url

MIGRATIONS: Final = Path(__file__).parent / "migrations"
READ_ONLY: Final = "fraud_read_only"
_MIGRATION_LOCK: Final = 7_266_843  # an arbitrary number that identifies the lock
_IDLE_MILLISECONDS: Final = 10_000
_POOLED: Final = "fraud_pooled"
_UTF8: Final = "UTF8"


class DatabaseUnavailableError(RuntimeError):
    """The database is unreachable, too slow, or refuses; the transaction was rolled back, or its outcome is unknown.

    `retry` is true when an immediate retry may help: after a stale connection or a deadlock.
    """

    def __init__(self, message: str, *, retry: bool = False) -> None:
        super().__init__(message)
        self.retry = retry


class DatabaseRefusedError(DatabaseUnavailableError):
    """The database refused values: those of one record, or those of all records because of a foreign constraint."""


class DatabaseUnsuitableError(RuntimeError):
    """The database cannot be used as it is; an operator has to change it."""


class DatabaseOutdatedError(DatabaseUnsuitableError):
    """The tables belong to another release."""


@contextmanager
def translated(url: sa.URL, kind: type[DatabaseUnavailableError] | None = None) -> Iterator[None]:
    """Translate errors of the database within the block into `kind`, or into the error class of their cause.

    The drivers' own errors are not chained, because their texts hold values and would be logged.
    """
    try:
        yield
    except (sa.exc.SQLAlchemyError, psycopg.Error, sqlite3.Error) as error:
        cause = cause_of(error, url)
        of = kind or (DatabaseRefusedError if cause.by_values else DatabaseUnavailableError)
        raise of(f"{cause.problem}: {cause.remedy}", retry=cause.retry) from None


class Database:
    """One database of decisions; `url` is an SQLAlchemy URL of SQLite or PostgreSQL. Raises ValueError for others."""

    def __init__(self, url: str, *, statement_timeout: timedelta = timedelta(seconds=2)) -> None:
        self.engine = _engine(read_url(url), statement_timeout=statement_timeout)

    @property
    def is_postgresql(self) -> bool:
        """Whether the database is PostgreSQL, which accepts arrays and locks rows."""
        return self.engine.dialect.name == "postgresql"

    @contextmanager
    def transaction(self, *, read_only: bool = False) -> Iterator[sa.Connection]:
        """One transaction, committed when the block ends without an error.

        Raises DatabaseUnavailableError when the database is unreachable, cancels a slow statement, breaks a deadlock or
        refuses, and DatabaseRefusedError when the values may be the cause.
        """
        with (
            translated(self.engine.url),
            self.engine.connect().execution_options(**{READ_ONLY: read_only}) as connection,
            connection.begin(),
        ):
            yield connection

    def rows(self, query: sa.Select[Any]) -> Sequence[Any]:
        """The rows of a query, in a transaction of its own. Raises what `transaction` raises."""
        with self.transaction(read_only=True) as connection:
            return connection.execute(query).all()

    def frame(self, query: sa.Select[Any]) -> pd.DataFrame:
        """The rows of a query as a frame."""
        return pd.DataFrame(self.rows(query), columns=[column.name for column in query.selected_columns])

    def upgrade(self, revision: str = "head") -> None:
        """Migrate the tables up to a revision; processes that start together wait for each other.

        Raises DatabaseUnsuitableError for a PostgreSQL database that cannot hold every text.
        """
        with self.transaction() as connection:
            self._check_encoding(connection)
            if self.is_postgresql:
                connection.execute(sa.text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
            command.upgrade(_alembic(connection), revision)

    def downgrade(self, revision: str) -> None:
        """Migrate the tables down to a revision; `base` is an empty database."""
        with self.transaction() as connection:
            command.downgrade(_alembic(connection), revision)

    def check_revision(self) -> None:
        """Raise DatabaseOutdatedError for tables of another release; DatabaseUnsuitableError as `upgrade`."""
        with self.transaction(read_only=True) as connection:
            self._check_encoding(connection)
            revision = MigrationContext.configure(connection).get_current_revision()
        expected = ScriptDirectory(str(MIGRATIONS)).get_current_head()
        if revision != expected:
            raise DatabaseOutdatedError(
                f"the database is at revision {revision or 'none'} and not {expected}: run `fraud-detect migrate`"
            )

    def prepare(self) -> None:
        """Migrate a SQLite file; for PostgreSQL only check the revision, because operators run `fraud-detect migrate`.

        Raises DatabaseOutdatedError for a PostgreSQL database of another release; DatabaseUnsuitableError as `upgrade`.
        """
        if self.is_postgresql:
            self.check_revision()
        else:
            self.upgrade()

    def _check_encoding(self, connection: sa.Connection) -> None:
        """Require UTF-8, so that every database accepts every text."""
        if not self.is_postgresql:
            return
        encoding = connection.exec_driver_sql("SHOW server_encoding").scalar_one()
        if encoding != _UTF8:
            raise DatabaseUnsuitableError(
                f"{place(self.engine.url)} keeps {self.engine.url.database} in {encoding}, which cannot "
                "hold every text: make one with CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0, and move "
                "into it what the old one holds"
            )

    def server_time(self) -> float | None:
        """Seconds since 1970 by the server's clock; None for SQLite, which has no server."""
        if not self.is_postgresql:
            return None
        with self.transaction(read_only=True) as connection:
            return float(connection.execute(sa.text("SELECT extract(epoch FROM clock_timestamp())")).scalar_one())

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


@contextmanager
def open_database(url: str, *, statement_timeout: timedelta = timedelta(seconds=2)) -> Iterator[Database]:
    """The database with the tables of this release, closed after the block. Raises what `prepare` raises."""
    database = Database(url, statement_timeout=statement_timeout)
    try:
        database.prepare()
        yield database
    finally:
        database.close()


def _alembic(connection: sa.Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    return config


def _engine(url: sa.URL, *, statement_timeout: timedelta) -> sa.Engine:
    seconds = statement_timeout.total_seconds()
    if url.get_backend_name() == "postgresql":
        engine = sa.create_engine(
            url.set(drivername="postgresql+psycopg"),
            pool_size=4,
            max_overflow=8,
            pool_timeout=seconds,
            hide_parameters=True,
            connect_args={
                "connect_timeout": max(2, round(seconds)),
                "client_encoding": "utf8",
                "application_name": "fraud-detect",
                "keepalives_idle": 5,
                "keepalives_interval": 2,
                "keepalives_count": 3,
            },
        )
        limits = {
            "statement_timeout": round(1_000 * seconds),
            "idle_in_transaction_session_timeout": _IDLE_MILLISECONDS,
        }
        sa.event.listen(engine, "connect", partial(_configure_postgresql, limits=limits))
        sa.event.listen(engine, "begin", partial(_begin_postgresql, limits=limits))
        return engine
    if url.database:
        Path(url.database).parent.mkdir(parents=True, exist_ok=True)
    engine = sa.create_engine(
        url,
        hide_parameters=True,
        connect_args={"timeout": seconds, "check_same_thread": False, "isolation_level": None},
    )
    sa.event.listen(engine, "connect", partial(_configure_sqlite, seconds=seconds))
    sa.event.listen(engine, "begin", _begin_sqlite)
    return engine


def _configure_postgresql(connection: psycopg.Connection, record: Any, *, limits: Mapping[str, int]) -> None:
    """Set a session's time limits; behind a pooler, set nothing in the session.

    A pooler reports a process number of its own, and gives each transaction another session.
    """
    connection.autocommit = True
    (process,) = connection.execute("SELECT pg_backend_pid()").fetchone() or (None,)
    pooled = record.info[_POOLED] = process != connection.info.backend_pid
    if pooled:
        connection.prepare_threshold = None
    else:
        connection.execute("; ".join(f"SET {name} = {value}" for name, value in limits.items()))
        connection.autocommit = False


def _begin_postgresql(connection: sa.Connection, *, limits: Mapping[str, int]) -> None:
    if connection.info[_POOLED]:
        # One round trip, like the driver's own BEGIN.
        connection.exec_driver_sql(
            "; ".join(["BEGIN", *(f"SET LOCAL {name} = {value}" for name, value in limits.items())])
        )


def _configure_sqlite(connection: sqlite3.Connection, _record: Any, *, seconds: float) -> None:
    # Lets the file shrink after rows are removed; it has an effect only before the first table is created.
    connection.execute("PRAGMA auto_vacuum=INCREMENTAL")
    end = time.monotonic() + seconds
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            break
        except sqlite3.OperationalError as error:
            # SQLite does not wait when several processes switch a new file to WAL at once.
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > end:
                raise
            time.sleep(0.01)
    connection.execute("PRAGMA synchronous=FULL")


def _begin_sqlite(connection: sa.Connection) -> None:
    # A transaction that starts as a reader cannot wait to become a writer, so it takes the lock at once.
    read_only = connection.get_execution_options().get(READ_ONLY, False)
    connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")
