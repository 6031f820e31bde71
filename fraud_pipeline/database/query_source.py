"""A bank's own database as a source: the rows that a query gives, day by day.

Belongs here: days, reports and versions from a query's rows. Must not be here: connections (`query.py`), the meaning of
columns (`ingest/`).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fraud_pipeline.database.query import Query
from fraud_pipeline.host.data_location import DataLocation
from fraud_pipeline.ingest.column_mapping import Header, SourceError
from fraud_pipeline.ingest.day_plan import SourceDay, days_between
from fraud_pipeline.ingest.declaration import Declaration
from fraud_pipeline.ingest.file_content import FileContent, day_of, transaction_versions
from fraud_pipeline.ingest.file_reports import report_versions, reports_of
from fraud_pipeline.ingest.inspection_sample import PIECE_ROWS, Sample, concatenated, thinned
from fraud_pipeline.ingest.readings import declared_readings, unnamed_columns, unnamed_note
from fraud_pipeline.ingest.sources import FileSource
from fraud_pipeline.ingest.table_content import table_content
from fraud_pipeline.schema.transactions import DAY, FRAUD_REPORTS, empty, microsecond
from fraud_pipeline.storage.content_version import NO_ROWS

DAYS_AT_ONCE: Final = 31
"""Days of rows in memory at once, when the versions of many days are computed."""


def data_source(
    location: DataLocation,
    *,
    url: str = "",
    columns: Mapping[str, str] | None = None,
    label_delay: timedelta,
    declaration: Declaration | None = None,
) -> "FileSource | QuerySource":
    """The source at a data path; with the `url` of a database the path is a file with a query. Raises SourceError."""
    if not url:
        return FileSource(location, columns=columns, label_delay=label_delay, declaration=declaration)
    if declaration is None or columns or not isinstance(location, Path):
        raise SourceError(f"{location}: a query is a file of this machine, and fraud.toml says what its columns are")
    return QuerySource(Query(location, url), declaration, label_delay)


def query_sample(location: DataLocation, *, url: str) -> Sample:
    """A sample of a query's rows: some from the start, the middle and the end of what the database gives."""
    if not isinstance(location, Path):
        raise SourceError(f"{location}: a query is a file of this machine: copy it, and give its path")
    query = Query(location, url)
    rows = query.count()
    if not rows:
        raise SourceError(f"{location}: the query gives no rows for any time: check it, and the database of --data-url")
    if rows <= 3 * PIECE_ROWS:
        table = query.piece(offset=0, limit=rows)
    else:
        offsets = (0, (rows - PIECE_ROWS) // 2, rows - PIECE_ROWS)
        table = concatenated([query.piece(offset=offset, limit=PIECE_ROWS) for offset in offsets])
    numbers = np.full(len(table), -1, dtype=np.int64)
    table = thinned(table, rows=numbers)
    return Sample(query.names, table, query.columns, headers=(Header(query.names),), whole=len(table) == rows)


@dataclass(frozen=True)
class QuerySource:
    """Transactions that a query gives between `:start` and `:end`. One day reads the rows of that day only.

    Without report times a fraud counts as reported `label_delay` after its transaction.
    """

    query: Query
    declaration: Declaration
    label_delay: timedelta = timedelta(days=7)
    _notes: dict[str, int] = field(default_factory=dict, init=False, compare=False)

    def transactions(self, *, start: pd.Timestamp, end: pd.Timestamp) -> pd.DataFrame:
        """Rows of [start, end) in order of time. Rows of unknown label are marked in `label_unknown`."""
        content = self._content(start, end)
        self._notes.clear()
        self._notes.update(content.notes)
        frame: pd.DataFrame = content.table.drop_columns(content.label_columns).to_pandas()
        return frame

    def reports(self, *, start: pd.Timestamp, end: pd.Timestamp) -> pd.DataFrame:
        """Frauds reported in [start, end), in order of report, without rows that validation rejects."""
        if self.has_report_times:
            return _reported(self._dated_reports, start, end)
        days = self._days(start - self.label_delay, end - self.label_delay)
        return _reported([self._reports_of(content) for content in days], start, end)

    def day_versions(self, *, start: pd.Timestamp, end: pd.Timestamp) -> dict[date, SourceDay]:
        """The version of each day from the first day of the query's rows to their last; they are read once."""
        days = list(days_between(max(start.date(), self.first_day), min(end.date() - timedelta(days=1), self.last_day)))
        if not days:
            return {}
        start, end = _midnight(days[0]), _midnight(days[-1] + timedelta(days=1))
        transactions: dict[date, str] = {}
        reports = self._dated_reports if self.has_report_times else []
        for content in self._days(start if self.has_report_times else start - self.label_delay, end):
            transactions |= transaction_versions(content, self.declaration.id)
            if not self.has_report_times:
                reports.append(self._reports_of(content))
        reported = report_versions(_reported(reports, start, end))
        return {day: SourceDay(transactions.get(day, NO_ROWS), reported.get(day, NO_ROWS)) for day in days}

    @property
    def first_day(self) -> date:
        """UTC day of the first transaction."""
        return day_of(np.int64(self._span[0]))

    @property
    def last_day(self) -> date:
        """UTC day of the last transaction that is not in the future."""
        return min(day_of(np.int64(self._span[1])), pd.Timestamp.now(tz="UTC").date())

    @property
    def has_report_times(self) -> bool:
        """Whether a column gives the times of reports."""
        return "reported_at" in self.declaration.fields

    @property
    def notes(self) -> Mapping[str, int]:
        """Counts of rows by what reading recognised or normalised in the rows read last, as `field: what`."""
        unnamed = unnamed_columns(self.declaration, Header(self.query.names))
        if self._notes or not unnamed:
            return self._notes
        return {unnamed_note(unnamed): self.query.count()}

    def _content(self, start: pd.Timestamp, end: pd.Timestamp) -> FileContent:
        """The rows of [start, end). Raises SourceError when the query gives others, too."""
        rows = self.query.rows(start=start.to_pydatetime(), end=end.to_pydatetime())
        self._check_times(rows, start, end)
        return self._read(rows)

    def _days(self, start: pd.Timestamp, end: pd.Timestamp) -> Iterator[FileContent]:
        """The rows of each UTC day that has some in [start, end); many days are read at once."""
        last = end.ceil("D")
        for first in pd.date_range(start.floor("D"), last, freq=f"{DAYS_AT_ONCE}D", inclusive="left"):
            until = min(first + timedelta(days=DAYS_AT_ONCE), last)
            rows = self.query.rows(start=first.to_pydatetime(), end=until.to_pydatetime())
            days = self._check_times(rows, first, until) // DAY
            for day in np.unique(days):
                yield self._read(rows.filter(pa.array(days == day)))

    def _check_times(self, rows: pa.Table, start: pd.Timestamp, end: pd.Timestamp) -> NDArray[np.int64]:
        """The times of rows in microseconds. Raises SourceError for one outside of [start, end)."""
        times = self._converted("event_time", rows).cast(pa.int64()).fill_null(-1).to_numpy()
        outside = int(((times < microsecond(start)) | (times >= microsecond(end))).sum())
        if outside:
            raise SourceError(
                f"{self.query.path}: {outside} of {len(rows)} rows from {start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} "
                "have another time, or none that can be read: compare the whole event_time, in UTC, as "
                "event_time >= :start AND event_time < :end"
            )
        return np.asarray(times)

    def _read(self, rows: pa.Table) -> FileContent:
        try:
            return table_content(rows, self.declaration, marks_legitimate=self._marks_legitimate)
        except SourceError as error:
            raise SourceError(f"{self.query.path}: {error}") from None

    def _reports_of(self, content: FileContent) -> pd.DataFrame:
        return reports_of(content, label_delay=self.label_delay, conversion=self.declaration.conversion)

    @cached_property
    def _dated_reports(self) -> list[pd.DataFrame]:
        """Every report with a time of its own: it may come long after its transaction."""
        column = self.declaration.fields["reported_at"]
        return [self._reports_of(self._read(self.query.columns(self.query.names, filled=column)))]

    @cached_property
    def _marks_legitimate(self) -> bool:
        """Whether the label marks legitimate rows on any day, so that an empty label is unknown on each."""
        if self.declaration.label is None:
            return False
        labels = self._converted("is_fraud", self.query.columns([self.declaration.label.column], distinct=True))
        return bool(pc.any(pc.invert(labels)).as_py())

    @cached_property
    def _span(self) -> tuple[int, int]:
        """First and last time in microseconds. Raises SourceError without rows."""
        how = self.declaration.event_time
        if how is None:
            raise SourceError(f"{self.query.path}: fraud.toml declares no event_time, and rows are in no order: add it")
        if len(how.all_columns) == 1 and not how.format:
            rows = pa.table([self.query.extremes(how.columns[0])], names=list(how.columns))
        else:
            rows = self.query.columns(how.all_columns)
        extremes = pc.min_max(self._converted("event_time", rows).cast(pa.int64())).as_py()
        if extremes["min"] is None:
            raise SourceError(f"{self.query.path}: the query gives no rows for any time: check it, and --data-url")
        return int(extremes["min"]), int(extremes["max"])

    def _converted(self, name: str, rows: pa.Table) -> pa.Array:
        """One field of rows that have its columns."""
        try:
            readings = declared_readings(self.declaration, Header(self.query.names))
            reading = next(reading for reading in readings if reading.field == name)
            pieces = tuple(reading.typed(rows.column(column).combine_chunks(), column) for column in reading.columns)
            return reading.converted(pieces, str).values
        except SourceError as error:
            raise SourceError(f"{self.query.path}: {error}") from None


def _reported(reports: Sequence[pd.DataFrame], start: pd.Timestamp, end: pd.Timestamp) -> pd.DataFrame:
    """Reports of [start, end) in an order that their content decides."""
    some = [each for each in reports if len(each)]
    frame = pd.concat(some, ignore_index=True) if some else empty(FRAUD_REPORTS)
    within = frame[frame["reported_at"].ge(start) & frame["reported_at"].lt(end)]
    return within.sort_values(["reported_at", "transaction_id"], ignore_index=True)


def _midnight(day: date) -> pd.Timestamp:
    return pd.Timestamp(day, tz="UTC")
