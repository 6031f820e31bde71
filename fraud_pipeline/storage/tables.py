"""The files of tables: one Parquet file per day, or one for a whole table.

Belongs here: placing, replacing and reading files. Must not be here: the meaning of a table.

A file appears complete or not at all: it is written under a temporary name, synced, and renamed. An empty day has a
file, too, so that "ran without rows" differs from "never ran".
"""

import fcntl
import hashlib
import os
import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from typing import IO

import numpy as np
import pandas as pd
import pandera.pandas as pa_schema
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fraud_pipeline.schema.transactions import DAY, empty, microseconds
from fraud_pipeline.storage.content_version import NULLABLE, content_version, to_arrow

_SUFFIX = ".parquet"
_VERSION = b"fraud_detect.version"
_NOTE = b"fraud_detect.note"
_TEMPORARY = ".tmp"
_EPOCH = date(1970, 1, 1)
_WRITERS = 8


class MissingDaysError(LookupError):
    """Requested days of a table that were never written."""

    def __init__(self, name: str, days: Sequence[date]) -> None:
        shown = ", ".join(day.isoformat() for day in days[:3]) + (", ..." if len(days) > 3 else "")
        super().__init__(f"table '{name}' lacks {len(days)} of the requested days ({shown}): materialize those first")
        self.name, self.days = name, tuple(days)


@dataclass(frozen=True, slots=True)
class TableStore:
    """Tables under one directory: `<name>/<day>.parquet` for daily ones, `<name>.parquet` for whole ones.

    Object columns are text: strings come back as strings, missing as None, and any other Python value as `str(value)`.
    Every other dtype comes back as it was.
    """

    root: Path

    def write_days(
        self,
        name: str,
        frame: pd.DataFrame,
        *,
        time_column: str,
        days: Sequence[date],
        misplaced_day: date | None = None,
        notes: Mapping[date, str] | None = None,
    ) -> None:
        """Replace these days of a table by the rows of `frame`, in their order; a day without rows gets an empty file.

        `time_column` (`datetime64[*, tz]`) gives the UTC day of a row. A row whose time is missing or outside `days`
        goes to `misplaced_day`, or is a ValueError without one. Each day is replaced atomically, together with its
        note (see `note`) and its version.
        """
        days = sorted(set(days))
        misplaced = days.index(misplaced_day) if misplaced_day is not None else None
        position = _day_positions(frame[time_column], days=days, misplaced=misplaced)
        order = np.argsort(position, kind="stable")
        bounds = np.searchsorted(position[order], np.arange(len(days) + 1))
        # Days mostly are in order already, and a slice of the whole table costs no copy.
        table = to_arrow(frame if (np.diff(order) == 1).all() else frame.iloc[order])
        directory = self.root / name
        directory.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(directory)

        def write_day(index: int) -> None:
            rows, day = table.slice(bounds[index], bounds[index + 1] - bounds[index]), days[index]
            footer = {_VERSION: content_version(rows).encode()}
            if notes and day in notes:
                footer[_NOTE] = notes[day].encode()
            with _replacing(self._day(name, day)) as file:
                pq.write_table(rows.replace_schema_metadata(footer), file)

        # Most of the time of a small day is spent waiting for the disk.
        with ThreadPoolExecutor(_WRITERS if len(days) > 1 else 1) as pool:
            for _ in pool.map(write_day, range(len(days))):
                pass
        _sync_directory(directory)

    def write(self, name: str, frame: pd.DataFrame) -> None:
        """Replace a whole table atomically."""
        self.root.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(self.root)
        with _replacing(self._whole(name)) as file:
            pq.write_table(to_arrow(frame), file)
        _sync_directory(self.root)

    def read(
        self,
        name: str,
        first: date,
        last: date,
        *,
        schema: pa_schema.DataFrameSchema | None = None,
        columns: Sequence[str] | None = None,
        allow_missing: bool = False,
    ) -> pd.DataFrame:
        """Rows of the days `first` to `last`, both included, in order of day; `columns` of them, or all.

        MissingDaysError when one of them was never written. With `allow_missing` such days count as empty; when none is
        there at all, the answer is no rows of `schema`.
        """
        stored = [day for day in self.days(name) if first <= day <= last]
        if not allow_missing and len(stored) < (last - first).days + 1:
            raise MissingDaysError(name, sorted(_days_between(first, last) - set(stored)))
        if not stored:
            if schema is None:
                raise MissingDaysError(name, sorted(_days_between(first, last)))
            return empty(schema)
        paths = [self._day(name, day) for day in stored]
        with ThreadPoolExecutor() as pool:
            tables = list(pool.map(partial(_read_file, columns=columns), paths))
        return _to_pandas(_concatenate(tables))

    def read_whole(self, name: str) -> pd.DataFrame:
        """A table written by `write`; FileNotFoundError when there is none."""
        return _to_pandas(_read_file(self._require_whole(name)))

    def days(self, name: str) -> list[date]:
        """The days a table has, in order; empty days count."""
        return sorted(date.fromisoformat(path.stem) for path in (self.root / name).glob(f"[!.]*{_SUFFIX}"))

    def version(self, name: str, day: date) -> str:
        """The content version of a stored day: equal for equal rows in equal order, whenever and however written.

        It is read from the file's footer, so it costs no reading of rows. MissingDaysError for a day never written.
        """
        version = self._footer(name, day).get(_VERSION)
        # A file of an earlier release does not carry its version yet.
        return version.decode() if version else content_version(_read_file(self._day(name, day)))

    def versions(self, name: str, first: date, last: date) -> dict[date, str]:
        """The content versions of the stored days from `first` to `last`, both included; other days are left out."""
        return {day: self.version(name, day) for day in self.days(name) if first <= day <= last}

    def note(self, name: str, day: date) -> str | None:
        """The note of the writer of a stored day; None where it left none.

        It is replaced together with the rows, so the two cannot disagree. MissingDaysError for a day never written.
        """
        note = self._footer(name, day).get(_NOTE)
        return None if note is None else note.decode()

    def days_holding(
        self, name: str, values: pd.Series, *, column: str, other_than: Collection[date]
    ) -> dict[date, pd.Series]:
        """The days whose `column` (text) holds some of `values`, with those; days in `other_than` are not looked at.

        One column of one day is in memory at a time.
        """
        texts = pa.array(values.dropna(), type=pa.string())
        holding = {}
        for day in self.days(name):
            if day in other_than:
                continue
            held = _read_file(self._day(name, day), columns=[column]).column(column)
            held = held.filter(pc.is_in(held, value_set=texts))
            if len(held):
                holding[day] = held.to_pandas()
        return holding

    @contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """Hold a lock for writing a table, across processes. Use it where new rows depend on stored ones.

        It waits for its turn. A lock ends with the process that holds it.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / f".{name}.lock").open("wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def fingerprint_whole(self, name: str) -> str:
        """SHA-256 (hex) of a whole table's file: equal content written by one pyarrow version gives an equal one."""
        with self._require_whole(name).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def _day(self, name: str, day: date) -> Path:
        return self.root / name / f"{day.isoformat()}{_SUFFIX}"

    def _footer(self, name: str, day: date) -> Mapping[bytes, bytes]:
        try:
            return pq.read_metadata(self._day(name, day)).metadata or {}
        except FileNotFoundError:
            raise MissingDaysError(name, [day]) from None

    def _whole(self, name: str) -> Path:
        return self.root / f"{name}{_SUFFIX}"

    def _require_whole(self, name: str) -> Path:
        if not self._whole(name).exists():
            raise FileNotFoundError(f"table '{name}' was never written: materialize it first")
        return self._whole(name)


def _days_between(first: date, last: date) -> set[date]:
    return {first + timedelta(days=offset) for offset in range((last - first).days + 1)}


def _day_positions(times: pd.Series, *, days: Sequence[date], misplaced: int | None) -> NDArray[np.int64]:
    """The index in `days` of each row's UTC day, shape (n,)."""
    if times.empty:
        return np.empty(0, dtype=np.int64)
    if not isinstance(times.dtype, pd.DatetimeTZDtype):
        raise TypeError(f"column '{times.name}' has dtype {times.dtype}, not a time with a timezone: convert it first")
    numbers = np.array([(day - _EPOCH).days for day in days], dtype=np.int64)
    row_days = microseconds(times) // DAY
    positions = np.searchsorted(numbers, row_days)
    outside = numbers[np.minimum(positions, len(numbers) - 1)] != row_days
    outside |= times.isna().to_numpy()
    if misplaced is not None:
        positions[outside] = misplaced
    elif outside.any():
        raise ValueError(
            f"{outside.sum()} of {len(times)} rows have a missing '{times.name}' or one outside the {len(days)} days "
            "being written: read exactly these days from the source, or name a misplaced_day"
        )
    return positions


def _read_file(path: Path, *, columns: Sequence[str] | None = None) -> pa.Table:
    with pq.ParquetFile(path) as file:
        return file.read(columns=columns, use_threads=False)


def _concatenate(tables: Sequence[pa.Table]) -> pa.Table:
    """One table. Empty days have no say in the types; a column that is text on some days becomes text on all."""
    tables = [table for table in tables if len(table)] or tables[:1]
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        text = {field.name for table in tables for field in table.schema if field.type == pa.string()}
        return pa.concat_tables([_as_text(table, text) for table in tables], promote_options="permissive")


def _as_text(table: pa.Table, names: set[str]) -> pa.Table:
    fields = [pa.field(field.name, pa.string()) if field.name in names else field for field in table.schema]
    return table.cast(pa.schema(fields))


def _to_pandas(table: pa.Table) -> pd.DataFrame:
    frame: pd.DataFrame = table.unify_dictionaries().to_pandas(split_blocks=True)
    nullable = {field.name: "boolean" for field in table.schema if (field.metadata or {}).items() >= NULLABLE.items()}
    return frame.astype(nullable) if nullable else frame


@contextmanager
def _replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file to write that replaces `path` when the block succeeds, and is removed when it fails.

    It is locked while its writer lives, so the file of a killed writer can be recognized.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}{_TEMPORARY}")
    try:
        with _locked(temporary) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _locked(path: Path) -> IO[bytes]:
    """A new file, locked until it is closed."""
    while True:
        file = path.open("xb")
        fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(file.fileno()).st_nlink:
            return file
        file.close()  # another writer tidied it away before it was locked


def _remove_leftovers(directory: Path) -> None:
    for path in directory.glob(f".*{_TEMPORARY}"):
        try:
            with path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink(missing_ok=True)
        except (BlockingIOError, FileNotFoundError):
            continue  # its writer lives, or has just finished


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
