"""Sources of transactions: the interface, and the source that reads CSV or Parquet files.

Belongs here: reading and conversion. Must not be here: validation of rows (`validation.py`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property
from typing import Protocol

import pandas as pd
import pyarrow as pa

from fraud_pipeline.host.data_location import DataLocation, DataUrl, data_location
from fraud_pipeline.ingest.column_mapping import SourceError, parse_columns
from fraud_pipeline.ingest.day_plan import SourceDay, days_between
from fraud_pipeline.ingest.declaration import Declaration
from fraud_pipeline.ingest.file_content import FileContent, day_of, read_content, transaction_versions
from fraud_pipeline.ingest.file_parts import parts_of
from fraud_pipeline.ingest.file_reports import report_versions, reports_of
from fraud_pipeline.ingest.source_part import Part
from fraud_pipeline.storage.content_version import NO_ROWS

__all__ = ["FileSource", "SourceError", "TransactionSource", "parse_columns"]


class TransactionSource(Protocol):
    """The interface of every source of transactions."""

    def transactions(self, *, start: pd.Timestamp, end: pd.Timestamp) -> pd.DataFrame:
        """Unchecked rows with `event_time` in [start, end): ids, time, amount in currency units, optional columns."""
        ...

    def reports(self, *, start: pd.Timestamp, end: pd.Timestamp) -> pd.DataFrame:
        """FRAUD_REPORTS rows with `reported_at` in [start, end)."""
        ...

    def day_versions(self, *, start: pd.Timestamp, end: pd.Timestamp) -> Mapping[date, SourceDay]:
        """The version of each UTC day of [start, end) that the source has; other days are left out.

        A version changes when the rows of the day change. It must be cheap, because the nightly plan reads those of all
        days.
        """
        ...


@dataclass(frozen=True)
class FileSource:
    """Transactions of a CSV or Parquet file, a directory of such parts, a pattern such as `day-*.csv`, or a Delta
    table, on this machine or in an object store.

    A `declaration` says which column is which field; without one `columns` maps fields to the file's columns, and
    obvious names need no mapping. A file with labels but without report times gets `reported_at = event_time +
    label_delay`. A process reads each version of a file once.
    """

    path: DataLocation
    columns: Mapping[str, str] | None = None
    label_delay: timedelta = timedelta(days=7)
    declaration: Declaration | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", data_location(self.path))
        if self.columns and self.declaration is not None:
            raise SourceError("--columns and fraud.toml both say which column is which field: keep one of them")

    def transactions(self, *, start: pd.Timestamp, end: pd.Timestamp) -> pd.DataFrame:
        """Rows of [start, end) in order of time, with `file_row` and, for several files, `file_part`.

        Rows without a usable time (missing, unreadable, before 1990, in the future) are returned with the file's first
        day, so that they are rejected there and not lost. Rows of unknown label are marked in `label_unknown`, if the
        file has any.
        """
        content, table = self._content, self._content.table
        low, high = content.first_of(start), content.first_of(end)
        rows = table.slice(content.n_misplaced + low, high - low)
        if start <= pd.Timestamp(self.first_day, tz="UTC") < end:
            rows = pa.concat_tables([table.slice(0, content.n_misplaced), rows])
        frame: pd.DataFrame = rows.drop_columns(content.label_columns).to_pandas()
        return frame

    def reports(self, *, start: pd.Timestamp, end: pd.Timestamp) -> pd.DataFrame:
        """Frauds reported in [start, end), in order of report, without rows that validation rejects."""
        reports = self._reports
        within = reports["reported_at"].ge(start) & reports["reported_at"].lt(end)
        return reports[within].reset_index(drop=True)

    def day_versions(self, *, start: pd.Timestamp, end: pd.Timestamp) -> dict[date, SourceDay]:
        """The version of each day from the file's first to its last: of its transactions, and of its reports."""
        first, last = max(start.date(), self.first_day), min(end.date() - timedelta(days=1), self.last_day)
        transactions = transaction_versions(self._content, self.declaration.id if self.declaration else "")
        return {
            day: SourceDay(transactions.get(day, NO_ROWS), self._report_versions.get(day, NO_ROWS))
            for day in days_between(first, last)
        }

    @property
    def first_day(self) -> date:
        """UTC day of the first transaction with a usable time."""
        return day_of(self._content.times[0])

    @property
    def last_day(self) -> date:
        """UTC day of the last transaction with a usable time."""
        return day_of(self._content.times[-1])

    @property
    def has_report_times(self) -> bool:
        """Whether the file has report times."""
        return "reported_at" in self._content.label_columns

    @property
    def notes(self) -> Mapping[str, int]:
        """Counts of rows by what reading recognised or normalised, as `field: what`, for the whole source."""
        return self._content.notes

    @cached_property
    def _reports(self) -> pd.DataFrame:
        conversion = self.declaration.conversion if self.declaration else None
        return reports_of(self._content, label_delay=self.label_delay, conversion=conversion)

    @cached_property
    def _report_versions(self) -> Mapping[date, str]:
        """The version of each day on which something was reported."""
        return report_versions(self._reports)

    @cached_property
    def _parts(self) -> tuple[Part, ...]:
        return parts_of(self.path)

    @property
    def _content(self) -> FileContent:
        mapping = tuple(sorted(self.columns.items())) if self.columns else ()
        # A store is listed once by each source, a directory of this machine each time.
        parts = self._parts if isinstance(self.path, DataUrl) else parts_of(self.path)
        try:
            return read_content(parts, mapping, self.declaration)
        except SourceError as error:
            raise SourceError(f"{self.path.name}: {error}") from None
