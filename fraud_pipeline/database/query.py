"""A query of a bank's own database, between two moments.

Belongs here: the query's text, connections, rows as Arrow tables. Must not be here: the meaning of columns
(`query_source.py`), our own database (`engine.py`).
No message holds a password or a cell.
"""

import os
import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import psycopg
import pyarrow as pa
import sqlalchemy as sa

from fraud_pipeline.database.causes import cause_of
from fraud_pipeline.ingest.column_mapping import SourceError

PASSWORD_VARIABLE: Final = "FRAUD_DATA_PASSWORD"  # noqa: S105 - the name of a variable
EARLIEST: Final = datetime(1970, 1, 1, tzinfo=UTC)
_BATCH: Final = 50_000
_FORM: Final = "SELECT ... WHERE event_time >= :start AND event_time < :end"
_STARTS: Final = re.compile(r"(?:\s|--[^\n]*(?:\n|$)|/\*.*?\*/)*(?:select|with)\b", re.IGNORECASE | re.DOTALL)
_UTC_SESSION: Final = {
    "postgresql": "SET LOCAL TIME ZONE 'UTC'",
    "mysql": "SET time_zone = '+00:00'",
    "mariadb": "SET time_zone = '+00:00'",
}


def latest() -> datetime:
    """A moment after every transaction."""
    return datetime.now(UTC) + timedelta(days=366)


@dataclass(frozen=True)
class Query:
    """A file with one `SELECT` that has the parameters `:start` and `:end`, and the URL of its database."""

    path: Path
    url: str

    @cached_property
    def text(self) -> str:
        """The query without its semicolon. Raises SourceError for one that cannot be used."""
        try:
            text = self.path.read_text(encoding="utf-8").strip().rstrip(";").rstrip()
        except (OSError, UnicodeError) as error:
            raise SourceError(f"{self.path}: the query cannot be read ({type(error).__name__}): name a file") from None
        if not _STARTS.match(text):
            raise SourceError(f"{self.path}: the file is no query: write one {_FORM}")
        parameters = set(sa.text(text).compile().params)
        if missing := {"start", "end"} - parameters:
            shown = " and ".join(f":{name}" for name in sorted(missing, reverse=True))
            raise SourceError(
                f"{self.path}: the query has no {shown}, so no day could be read by itself: write {_FORM}"
            )
        if others := parameters - {"start", "end"}:
            raise SourceError(
                f"{self.path}: the query has other parameters (:{', :'.join(sorted(others))}): write their values, and "
                r"a colon that is none as \:"
            )
        return text

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The columns. Raises SourceError when two have one name."""
        with self._executed(sa.text(self.text), start=EARLIEST, end=EARLIEST) as result:
            names = tuple(map(str, result.keys()))
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise SourceError(f"{self.path}: the query has two columns named {', '.join(repeated)}: name one by AS")
        return names

    def rows(self, *, start: datetime, end: datetime) -> pa.Table:
        """All columns of the rows from `start` until before `end`."""
        return self._table(sa.text(self.text), start=start, end=end)

    def columns(self, names: Sequence[str], *, filled: str = "", distinct: bool = False) -> pa.Table:
        """These columns of the rows of all time, or only of those where the column `filled` is."""
        inner = self._inner
        query = sa.select(*(inner.c[name] for name in names))
        query = query.where(inner.c[filled].is_not(None)) if filled else query
        return self._table(query.distinct() if distinct else query, start=EARLIEST, end=latest())

    def extremes(self, column: str) -> pa.Array:
        """The least and the greatest value of a column."""
        value = self._inner.c[column]
        table = self._table(sa.select(sa.func.min(value).label("a"), sa.func.max(value).label("b")), EARLIEST, latest())
        return pa.concat_arrays([table.column(name).combine_chunks() for name in ("a", "b")])

    def count(self) -> int:
        """The number of rows of all time."""
        counting = sa.select(sa.func.count()).select_from(self._inner)
        with self._executed(counting, start=EARLIEST, end=latest()) as result:
            return int(result.scalar_one())

    def piece(self, *, offset: int, limit: int) -> pa.Table:
        """Some rows, in the order in which the database gives them."""
        query = sa.select(*self._inner.c).offset(offset).limit(limit)
        return self._table(query, start=EARLIEST, end=latest())

    @property
    def _inner(self) -> sa.Subquery:
        # The line break ends a comment at the end of the text.
        columns: list[sa.ColumnClause[Any]] = [sa.column(name) for name in self.names]
        return self._bound(sa.text(f"{self.text}\n")).columns(*columns).subquery("transactions")

    def _bound(self, text: sa.TextClause) -> sa.TextClause:
        # SQLite has no times, only texts that compare like them.
        kind: sa.types.TypeEngine[Any] = sa.String() if self._is_sqlite else sa.DateTime()
        return text.bindparams(sa.bindparam("start", type_=kind), sa.bindparam("end", type_=kind))

    def _table(self, statement: Any, start: datetime, end: datetime) -> pa.Table:
        with self._executed(statement, start=start, end=end) as result:
            names = list(map(str, result.keys()))
            chunks: list[list[pa.Array]] = [[] for _ in names]
            for rows in result.partitions(_BATCH):
                for pieces, values in zip(chunks, zip(*rows, strict=True), strict=True):
                    pieces.append(_array(values))
        return pa.table([_joined(pieces) for pieces in chunks], names=names)

    @contextmanager
    def _executed(self, statement: Any, *, start: datetime, end: datetime) -> Iterator[sa.CursorResult[Any]]:
        moments = {"start": start.astimezone(UTC), "end": end.astimezone(UTC)}
        if self._is_sqlite:
            values: dict[str, Any] = {name: f"{moment:%Y-%m-%d %H:%M:%S}" for name, moment in moments.items()}
        else:
            values = {name: moment.replace(tzinfo=None) for name, moment in moments.items()}
        bound = self._bound(statement) if isinstance(statement, sa.TextClause) else statement
        engine = self._engine()
        try:
            with self._translated(engine.url), engine.connect() as connection:
                if engine.dialect.name == "postgresql":
                    connection.execution_options(postgresql_readonly=True)
                if command := _UTC_SESSION.get(engine.dialect.name):
                    connection.exec_driver_sql(command)
                options = {"stream_results": True, "yield_per": _BATCH}
                with connection.execute(bound, values, execution_options=options) as result:
                    yield result
        finally:
            engine.dispose()

    def _engine(self) -> sa.Engine:
        url = sa.make_url(self.url)
        try:
            if self._is_sqlite:
                return sa.create_engine(self._sqlite_url(url), poolclass=sa.NullPool, hide_parameters=True)
            if url.drivername == "postgresql":
                url = url.set(drivername="postgresql+psycopg")
            if password := os.environ.get(PASSWORD_VARIABLE):
                url = url.set(password=password)
            return sa.create_engine(url, poolclass=sa.NullPool, hide_parameters=True)
        except (sa.exc.NoSuchModuleError, ImportError):
            raise SourceError(
                f"--data-url: no driver for {url.drivername}:// is installed here: install one, and name it as in "
                "mysql+pymysql://"
            ) from None

    @property
    def _is_sqlite(self) -> bool:
        return sa.make_url(self.url).get_backend_name() == "sqlite"

    @staticmethod
    def _sqlite_url(url: sa.URL) -> sa.URL:
        """A URL that opens the file for reading only, and never creates one."""
        if not url.database or not Path(url.database).is_file():
            raise SourceError(f"--data-url: {url.database or 'SQLite in memory'}: there is no such SQLite file")
        return url.set(database=f"file:{quote(url.database)}", query={"mode": "ro", "uri": "true"})

    @contextmanager
    def _translated(self, url: sa.URL) -> Iterator[None]:
        """Translate errors of the database within the block; their own texts may hold values."""
        try:
            yield
        except (sa.exc.SQLAlchemyError, psycopg.Error, sqlite3.Error) as error:
            if url.get_backend_name() not in ("postgresql", "sqlite"):
                kind = type(getattr(error, "orig", None) or error).__name__
                problem = f"the {url.get_backend_name()} database at {url.host} refused ({kind})"
                raise SourceError(f"{self.path}: {problem}: {_REMEDY}") from None
            cause = cause_of(error, url)
            own_tables = "FRAUD_DATABASE_URL" in cause.remedy or "release" in cause.remedy
            raise SourceError(f"{self.path}: {cause.problem}: {_REMEDY if own_tables else cause.remedy}") from None


_REMEDY: Final = f"check the query, --data-url and {PASSWORD_VARIABLE}"


def _array(values: Sequence[Any]) -> pa.Array:
    """The cells of one column; those without an Arrow type of their own are text."""
    if any(isinstance(value, datetime) and value.tzinfo for value in values):
        moments = [value and value.astimezone(UTC).replace(tzinfo=None) for value in values]
        return pa.array(moments, type=pa.timestamp("us", tz="UTC"))
    kinds = {type(value) for value in values} - {type(None)}
    if kinds == {Decimal}:
        # Arrow would give all of them as many decimals as the longest has, which makes texts depend on other rows.
        whole = all(value is None or (value.is_finite() and value == value.to_integral_value()) for value in values)
        values = [None if value is None else int(value) if whole else float(value) for value in values]
    if all(kind.__module__ in ("builtins", "datetime", "decimal") and kind is not timedelta for kind in kinds):
        try:
            return pa.array(values)
        except (pa.ArrowException, OverflowError):
            pass
    return pa.array([None if value is None else str(value) for value in values], type=pa.string())


def _joined(pieces: Sequence[pa.Array]) -> pa.ChunkedArray:
    """One column of pieces whose types may differ."""
    kinds = {piece.type for piece in pieces} - {pa.null()}
    if not kinds:
        return pa.chunked_array(pieces, type=pa.null())
    kind = kinds.pop() if len(kinds) == 1 else None
    if kind is None and kinds <= {pa.int64(), pa.float64()}:
        kind = pa.float64()
    return pa.chunked_array([piece.cast(kind or pa.string()) for piece in pieces])
