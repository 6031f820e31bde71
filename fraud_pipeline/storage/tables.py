"""The tables of a deployment: daily ones and whole ones, each a Delta table that other tools can read.

Belongs here: placing, replacing and reading rows by day. Must not be here: the meaning of a table, the log
(`delta_log.py`), files (`table_files.py`).

A write appears complete or not at all, for all of its days at once. An empty day has a file, too, so that "ran without
rows" differs from "never ran".
"""

import fcntl
import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from typing import Final, Self

import numpy as np
import pandas as pd
import pandera.pandas as pa_schema
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fraud_pipeline.host.data_location import DataLocation, below
from fraud_pipeline.schema.transactions import DAY, empty, microseconds
from fraud_pipeline.storage.arrow_frames import concatenate, to_arrow, to_pandas
from fraud_pipeline.storage.content_version import content_version
from fraud_pipeline.storage.delta_log import WHOLE, NewFile, Snapshot, commit, snapshot, vacuum
from fraud_pipeline.storage.delta_schema import PARTITION
from fraud_pipeline.storage.earlier_tables import adopt_earlier_files
from fraud_pipeline.storage.object_store import open_file
from fraud_pipeline.storage.table_files import footer_of, read_rows, statistics, write_file

KEEP_VERSIONS: Final = timedelta(days=30)
"""How long the files of a replaced version are kept."""
_VERSION = b"fraud_detect.version"
_NOTE = b"fraud_detect.note"
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
    """Tables below one directory of this machine or of an object store, each a Delta table of its name.

    Daily ones are partitioned by day. Object columns are text: strings come back as strings, missing as None, and any
    other Python value as `str(value)`. Every other dtype comes back as it was. `unchanged` gives the version that a
    table must still have when it is written (see `locked`).
    """

    root: DataLocation
    keep_versions: timedelta = KEEP_VERSIONS
    unchanged: tuple[str, int] | None = None

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
        goes to `misplaced_day`, or is a ValueError without one. All days are replaced at once, together with their
        notes (see `note`) and versions. Raises ConcurrentWriteError for a table that is not `unchanged`.
        """
        days = sorted(set(days))
        misplaced = days.index(misplaced_day) if misplaced_day is not None else None
        position = _day_positions(frame[time_column], days=days, misplaced=misplaced)
        order = np.argsort(position, kind="stable")
        bounds = np.searchsorted(position[order], np.arange(len(days) + 1))
        # Days mostly are in order already, and a slice of the whole table costs no copy.
        table = to_arrow(frame if (np.diff(order) == 1).all() else frame.iloc[order])

        def write_day(index: int) -> NewFile:
            rows, day = table.slice(bounds[index], bounds[index + 1] - bounds[index]), days[index]
            footer = {_VERSION: content_version(rows).encode()}
            if notes and day in notes:
                footer[_NOTE] = notes[day].encode()
            return self._write_file(name, rows, partition=day.isoformat(), footer=footer)

        self._adopt(name)
        # Most of the time of a small day is spent waiting for the disk.
        with ThreadPoolExecutor(_WRITERS if len(days) > 1 else 1) as pool:
            added = list(pool.map(write_day, range(len(days))))
        self._commit(name, added, columns=table.schema, partitioned=True)

    def write(self, name: str, frame: pd.DataFrame) -> None:
        """Replace a whole table at once."""
        table = to_arrow(frame)
        self._adopt(name)
        added = self._write_file(name, table, partition=WHOLE, footer={})
        self._commit(name, [added], columns=table.schema, partitioned=False)

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
        files = self._files(name)
        stored = sorted(day for day in files if first <= day <= last)
        if not allow_missing and len(stored) < (last - first).days + 1:
            raise MissingDaysError(name, sorted(_days_between(first, last) - set(stored)))
        if not stored:
            if schema is None:
                raise MissingDaysError(name, sorted(_days_between(first, last)))
            return empty(schema)
        with ThreadPoolExecutor() as pool:
            tables = list(pool.map(partial(read_rows, columns=columns), [files[day] for day in stored]))
        return to_pandas(concatenate(tables))

    def read_whole(self, name: str, *, version: int | None = None) -> pd.DataFrame:
        """A table written by `write`, as it is or as an earlier version was.

        Raises FileNotFoundError when there is none, and ValueError for a version that is not kept.
        """
        return to_pandas(read_rows(self._whole(name, version)))

    def days(self, name: str) -> list[date]:
        """The days a table has, in order; empty days count."""
        return sorted(self._files(name))

    def version(self, name: str, day: date) -> str:
        """The content version of a stored day: equal for equal rows in equal order, whenever and however written.

        It is read from the file's footer, so it costs no reading of rows. MissingDaysError for a day never written.
        """
        return _content_version_of(self._file(name, day))

    def versions(self, name: str, first: date, last: date) -> dict[date, str]:
        """The content versions of the stored days from `first` to `last`, both included; other days are left out."""
        files = self._files(name)
        days = [day for day in sorted(files) if first <= day <= last]
        with ThreadPoolExecutor(_WRITERS) as pool:
            return dict(zip(days, pool.map(_content_version_of, [files[day] for day in days]), strict=True))

    def note(self, name: str, day: date) -> str | None:
        """The note of the writer of a stored day; None where it left none.

        It is replaced together with the rows, so the two cannot disagree. MissingDaysError for a day never written.
        """
        note = footer_of(self._file(name, day)).get(_NOTE)
        return None if note is None else note.decode()

    def days_holding(
        self, name: str, values: pd.Series, *, column: str, other_than: Collection[date]
    ) -> dict[date, pd.Series]:
        """The days whose `column` (text) holds some of `values`, with those; days in `other_than` are not looked at.

        One column of one day is in memory at a time.
        """
        texts = pa.array(values.dropna(), type=pa.string())
        holding = {}
        for day, file in sorted(self._files(name).items()):
            if day in other_than:
                continue
            held = read_rows(file, columns=[column]).column(column)
            held = held.filter(pc.is_in(held, value_set=texts))
            if len(held):
                holding[day] = held.to_pandas()
        return holding

    def table_version(self, name: str) -> int | None:
        """The number of a table's version, which grows with each write; None for a table that was never written."""
        present = self._snapshot(name)
        return present.version if present else None

    def remove_replaced(self, name: str) -> int:
        """Remove the files of all replaced versions of a table now, as an erasure of personal data needs it.

        Returns their number. Earlier versions cannot be read any more.
        """
        present = self._snapshot(name)
        return vacuum(self._table(name), keep=timedelta(0), orphans=False) if present else 0

    @contextmanager
    def locked(self, name: str) -> Iterator[Self]:
        """A store for writing a table whose new rows depend on stored ones.

        On this machine it holds a lock across processes, which ends with its process, and waits for its turn. In an
        object store its writes raise ConcurrentWriteError when another writer changed the table within the block.
        """
        if not isinstance(self.root, Path):
            version = self.table_version(name)
            yield replace(self, unchanged=(name, -1 if version is None else version))
            return
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / f".{name}.lock").open("wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield self

    def fingerprint_whole(self, name: str) -> str:
        """SHA-256 (hex) of a whole table's file: equal content written by one pyarrow version gives an equal one."""
        with open_file(self._whole(name)) as file:
            return hashlib.sha256(file.read()).hexdigest()

    def _table(self, name: str) -> DataLocation:
        return below(self.root, name)

    def _adopt(self, name: str) -> None:
        if isinstance(self.root, Path):
            adopt_earlier_files(self.root, name, keep=self.keep_versions)

    def _snapshot(self, name: str) -> Snapshot | None:
        self._adopt(name)
        return snapshot(self._table(name))

    def _files(self, name: str) -> dict[date, DataLocation]:
        present = self._snapshot(name)
        files = present.files if present else {}
        return {date.fromisoformat(day): below(self._table(name), path) for day, path in files.items()}

    def _file(self, name: str, day: date) -> DataLocation:
        present = self._snapshot(name)
        if present is None or day.isoformat() not in present.files:
            raise MissingDaysError(name, [day])
        return below(self._table(name), present.files[day.isoformat()])

    def _whole(self, name: str, version: int | None = None) -> DataLocation:
        present = self._snapshot(name) if version is None else snapshot(self._table(name), version)
        if present is None:
            raise FileNotFoundError(f"table '{name}' was never written: materialize it first")
        return below(self._table(name), present.files[WHOLE])

    def _write_file(self, name: str, rows: pa.Table, *, partition: str, footer: Mapping[bytes, bytes]) -> NewFile:
        table, day = self._table(name), f"{PARTITION}={partition}"
        file, size = write_file(below(table, day) if partition else table, rows, footer=footer)
        return NewFile(partition, f"{day}/{file}" if partition else file, size, statistics(rows))

    def _commit(self, name: str, added: Sequence[NewFile], *, columns: pa.Schema, partitioned: bool) -> None:
        on_top_of = self.unchanged[1] if self.unchanged and self.unchanged[0] == name else None
        commit(
            self._table(name),
            added,
            columns=columns,
            partitioned=partitioned,
            on_top_of=on_top_of,
            keep=self.keep_versions,
        )


def _content_version_of(file: DataLocation) -> str:
    version = footer_of(file).get(_VERSION)
    # A file of an earlier release does not carry its version yet.
    return version.decode() if version else content_version(read_rows(file))


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
