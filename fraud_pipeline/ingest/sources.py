"""Sources of transactions: the interface, and the source that reads CSV or Parquet files.

Belongs here: reading and conversion. Must not be here: validation of rows (`validation.py`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from fraud_pipeline.host.local_paths import local_path
from fraud_pipeline.ingest.column_mapping import SourceError, parse_columns
from fraud_pipeline.ingest.day_plan import SourceDay, days_between
from fraud_pipeline.ingest.file_parts import Part, parts_of
from fraud_pipeline.ingest.file_tables import read_parts
from fraud_pipeline.ingest.validation import validate
from fraud_pipeline.schema.transactions import (
    EARLIEST_EVENT_TIME,
    FRAUD_REPORTS,
    REPORT_COLUMNS,
    TIME_DTYPE,
    empty,
    microsecond,
)
from fraud_pipeline.storage.content_version import frame_version

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
    """Transactions of one CSV or Parquet file, of a directory of such parts, or of a pattern such as `day-*.csv`.

    `columns` maps fields to the file's columns; obvious names need no mapping. A file with labels but without report
    times gets `reported_at = event_time + label_delay`. A process reads each version of a file once.
    """

    path: Path
    columns: Mapping[str, str] | None = None
    label_delay: timedelta = timedelta(days=7)

    def __post_init__(self) -> None:
        local_path(self.path)

    def transactions(self, *, start: pd.Timestamp, end: pd.Timestamp) -> pd.DataFrame:
        """Rows of [start, end) in order of time, with `file_row` and, for several files, `file_part`.

        Rows without a usable time (missing, unreadable, before 1990, in the future) are returned with the file's first
        day, so that they are rejected there and not lost.
        """
        content, table = self._content, self._content.table
        low, high = np.searchsorted(content.times, [microsecond(start), microsecond(end)])
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
        """The version of each day from the file's first to its last: of its transactions, and of its reports.

        Row numbers are not part of a version, so that rows inserted at the top of a file change only their own day.
        """
        first, last = max(start.date(), self.first_day), min(end.date() - timedelta(days=1), self.last_day)
        spans = {
            day: (pd.Timestamp(day, tz="UTC"), pd.Timestamp(day + timedelta(days=1), tz="UTC"))
            for day in days_between(first, last)
        }
        return {
            day: SourceDay(
                transactions=frame_version(
                    self.transactions(start=low, end=high).drop(columns=["file_row", "file_part"], errors="ignore")
                ),
                reports=frame_version(self.reports(start=low, end=high)),
            )
            for day, (low, high) in spans.items()
        }

    @property
    def first_day(self) -> date:
        """UTC day of the first transaction with a usable time."""
        return _day(self._content.times[0])

    @property
    def last_day(self) -> date:
        """UTC day of the last transaction with a usable time."""
        return _day(self._content.times[-1])

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
        content = self._content
        if not content.label_columns:
            return empty(FRAUD_REPORTS)
        dated = content.table.slice(content.n_misplaced)
        # Validation keeps the first valid row of an id, and only the label of that row counts.
        fraud_ids = dated.filter(pc.field("is_fraud")).column("transaction_id").combine_chunks()
        frauds = dated.filter(pc.is_in(dated.column("transaction_id"), value_set=fraud_ids)).to_pandas()
        times = frauds["event_time"] + self.label_delay
        if self.has_report_times:
            # A report before its transaction is an error in the file; using its time would let features see the future.
            times = frauds["reported_at"].where(frauds["reported_at"].ge(frauds["event_time"]), times)
        frauds["reported_at"] = times.astype(TIME_DTYPE)
        result = validate(frauds, now=pd.Timestamp.now(tz="UTC"))
        kept = frauds.drop(result.rejected["row"]).reset_index(drop=True)
        reports = result.accepted.assign(reported_at=kept["reported_at"], is_fraud=True)[list(REPORT_COLUMNS)]
        reports = reports[kept["is_fraud"].eq(True)]
        ordered: pd.DataFrame = reports.sort_values("reported_at", kind="stable").reset_index(drop=True)
        return ordered

    @property
    def _content(self) -> "_Content":
        mapping = tuple(sorted(self.columns.items())) if self.columns else ()
        parts = parts_of(self.path)
        try:
            return _load(parts, mapping)
        except SourceError as error:
            raise SourceError(f"{self.path.name}: {error}") from None


@dataclass(frozen=True, slots=True)
class _Content:
    """A file's rows: `n_misplaced` without a usable time, then the others in order of `times` (int64 microseconds)."""

    table: pa.Table
    times: np.ndarray[tuple[int], np.dtype[np.int64]]
    n_misplaced: int
    label_columns: list[str]
    notes: Mapping[str, int]


@lru_cache(maxsize=2)
def _load(parts: tuple[Part, ...], mapping: tuple[tuple[str, str], ...]) -> _Content:
    """The rows of one version of a source."""
    source = read_parts(parts, columns=dict(mapping))
    fields = source.fields
    if "reported_at" in fields:
        reported = fields["reported_at"].is_valid()
        fields["is_fraud"] = pc.and_kleene(fields.get("is_fraud", reported), reported)

    moments = fields["event_time"].cast(pa.int64())
    low, high = microsecond(EARLIEST_EVENT_TIME), microsecond(pd.Timestamp.now(tz="UTC"))
    usable = pc.and_(pc.greater_equal(moments, low), pc.less_equal(moments, high))
    times = np.where(usable.fill_null(False), moments.fill_null(0), -1)
    if (times < 0).all():
        raise SourceError(
            f"no row has a usable time in '{source.names['event_time']}' (event_time): all are before "
            f"{EARLIEST_EVENT_TIME:%Y-%m-%d}, in the future, or missing. Map the right column to event_time"
        )
    table = pa.table(fields)
    if (np.diff(times) < 0).any():
        order = np.argsort(times, kind="stable")
        table, times = table.take(pa.array(order)), times[order]
    n_misplaced = int(np.searchsorted(times, 0))
    labels: list[str] = [field for field in ("is_fraud", "reported_at") if field in fields]
    return _Content(
        table=table, times=times[n_misplaced:], n_misplaced=n_misplaced, label_columns=labels, notes=source.notes
    )


def _day(microsecond: np.int64) -> date:
    return pd.Timestamp(int(microsecond), unit="us", tz="UTC").date()
