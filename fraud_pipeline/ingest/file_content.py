"""The rows of a file in order of time, and the version of each of their days.

Belongs here: defaults of fields without a column, unknown labels, versions of days. Must not be here: the
conversion of columns (`readings.py`), reports (`sources.py`).
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from itertools import pairwise
from typing import Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fraud_pipeline.ingest.column_mapping import Header, SourceError, resolve_columns
from fraud_pipeline.ingest.declaration import Declaration
from fraud_pipeline.ingest.file_tables import read_parts
from fraud_pipeline.ingest.readings import Reading, declared_readings, mapped_readings, unnamed_columns, unnamed_note
from fraud_pipeline.ingest.source_part import Part
from fraud_pipeline.schema.currencies import MINOR_DIGITS
from fraud_pipeline.schema.fields import NO_MERCHANT
from fraud_pipeline.schema.raw_transactions import LABEL_UNKNOWN
from fraud_pipeline.schema.transactions import DAY, EARLIEST_EVENT_TIME, microsecond

LABELS: Final = ("is_fraud", "reported_at")
_UTC: Final = pa.timestamp("us", tz="UTC")
_ROUNDED: Final = "more than two decimals, rounded to cents"
_PLACES: Final = ("file_row", "file_part")
_ORDER_START: Final = microsecond(pd.Timestamp("2020-01-01", tz="UTC"))
_ORDER_SPAN: Final = 120 * DAY
"""Rows without a time are spread over as many days: enough for each part of a training and the gaps between them."""


@dataclass(frozen=True, slots=True, eq=False)
class FileContent:
    """A file's rows: `n_misplaced` without a usable time, then the others in order of `times` (int64 microseconds)."""

    table: pa.Table
    times: NDArray[np.int64]
    n_misplaced: int
    label_columns: list[str]
    notes: Mapping[str, int]

    def first_of(self, moment: pd.Timestamp) -> int:
        """The position in `times` of the first row at or after a moment."""
        return int(np.searchsorted(self.times, microsecond(moment)))


@lru_cache(maxsize=2)
def read_content(
    parts: tuple[Part, ...], mapping: tuple[tuple[str, str], ...], declaration: Declaration | None
) -> FileContent:
    """The rows of one version of a source. Raises SourceError."""
    unnamed: list[str] = []

    def choose(header: Header) -> list[Reading]:
        if declaration is None:
            return mapped_readings(resolve_columns(header, columns=dict(mapping)))
        unnamed[:] = unnamed_columns(declaration, header)
        return declared_readings(declaration, header)

    source = read_parts(parts, choose=choose)
    fields, notes = source.fields, source.notes
    if not all(part.ordered for part in parts):
        fields = _in_order_of_content(fields)
    n_rows = len(fields["file_row"])
    if unnamed:
        notes[unnamed_note(unnamed)] = n_rows
    if declaration is not None:
        complete_fields(fields, notes, declaration, n_rows=n_rows)
    mark_unknown_labels(fields, notes)
    times = _usable_times(fields["event_time"])
    if (times < 0).all():
        raise SourceError(
            f"no row has a usable time in '{source.names.get('event_time', '')}' (event_time): all are before "
            f"{EARLIEST_EVENT_TIME:%Y-%m-%d}, in the future, or missing. Map the right column to event_time"
        )
    table = pa.table(fields)
    if (np.diff(times) < 0).any():
        order = np.argsort(times, kind="stable")
        table, times = table.take(pa.array(order)), times[order]
    n_misplaced = int(np.searchsorted(times, 0))
    labels: list[str] = [field for field in LABELS if field in fields]
    return FileContent(
        table=table, times=times[n_misplaced:], n_misplaced=n_misplaced, label_columns=labels, notes=notes
    )


def complete_fields(
    fields: dict[str, pa.Array], notes: dict[str, int], declaration: Declaration, *, n_rows: int
) -> None:
    """Round amounts, and add the fields that no column gives; with notes on both."""
    if declaration.money and declaration.money.constant:
        fields["currency"] = pa.array([declaration.money.constant] * n_rows, pa.string())
    _round_amounts(fields, notes)
    notes |= _fill_in(fields, n_rows=n_rows)


def _in_order_of_content(fields: dict[str, pa.Array]) -> dict[str, pa.Array]:
    """Rows of a table in an order that its content alone decides. Raises SourceError without times."""
    if "event_time" not in fields:
        raise SourceError("the rows of a table are in no order, so a column must give their time: event_time=COLUMN")
    table = pa.table(fields)
    contents = row_hashes(table.drop_columns([name for name in _PLACES if name in fields]))
    order = pa.array(np.lexsort((contents, _usable_times(fields["event_time"]))))
    return {name: column.take(order) for name, column in fields.items()}


def _fill_in(fields: dict[str, pa.Array], *, n_rows: int) -> dict[str, int]:
    """Add the required fields that no column gives; the notes on them."""
    notes: dict[str, int] = {}

    def add(field: str, values: pa.Array, what: str) -> None:
        if field not in fields:
            fields[field] = values
            notes[f"{field}: no column, so {what}"] = n_rows

    numbered = pc.binary_join_element_wise("row", pa.array(np.arange(1, n_rows + 1)).cast(pa.string()), "-")
    add("transaction_id", numbered, "rows are numbered, which serves training only")
    add("customer_id", fields["transaction_id"], "each transaction is its own customer's")
    add("amount", pa.array(np.zeros(n_rows)), "it is 0")
    add("merchant_id", pa.array([NO_MERCHANT] * n_rows), "features of merchants are missing")
    moments = pa.array(order_times(n_rows)).cast(pa.timestamp("us")).cast(_UTC)
    add("event_time", moments, "the order of the rows is their time")
    if missing := fields["merchant_id"].null_count:
        notes["merchant_id: empty, so without a merchant"] = missing
    return notes


def _round_amounts(fields: dict[str, pa.Array], notes: dict[str, int]) -> None:
    """Round amounts of more decimals than their currency has, or than two without one, to its minor units."""
    amounts = fields.get("amount")
    if amounts is None or not pa.types.is_float64(amounts.type):
        return
    rounded = pc.round(amounts, 2, round_mode="half_to_even")
    for digits in sorted(set(MINOR_DIGITS.values()) - {2}) if "currency" in fields else ():
        codes = pa.array([code for code, of_code in MINOR_DIGITS.items() if of_code == digits])
        whole = pc.round(amounts, digits, round_mode="half_to_even")
        rounded = pc.if_else(pc.is_in(fields["currency"], value_set=codes), whole, rounded)
    changed = pc.greater(pc.abs(pc.subtract(amounts, rounded)), pc.add(pc.multiply(pc.abs(amounts), 1e-12), 1e-9))
    if count := pc.sum(changed).as_py() or 0:
        fields["amount"] = pc.if_else(changed, rounded, amounts)
        more = "more decimals than the currency has, rounded" if "currency" in fields else _ROUNDED
        notes[f"amount: {more}"] = count


def order_times(n_rows: int) -> NDArray[np.int64]:
    """Times in microseconds UTC, in the order of the rows, of a file that gives none; shape (n_rows,)."""
    return _ORDER_START + np.arange(n_rows, dtype=np.int64) * (_ORDER_SPAN // max(1, n_rows))


def mark_unknown_labels(
    fields: dict[str, pa.Array], notes: dict[str, int], *, marks_legitimate: bool | None = None
) -> None:
    """Mark rows whose label is empty; a column that marks frauds only leaves the others legitimate.

    `marks_legitimate` says which of these it is; by default the rows show it, because they are all rows.
    """
    labels = fields.get("is_fraud")
    if labels is not None and (labels.null_count or marks_legitimate):
        if pc.any(pc.invert(labels)).as_py() if marks_legitimate is None else marks_legitimate:
            fields[LABEL_UNKNOWN] = labels.is_null()
            what = "is_fraud: unknown, so in no training and no test"
        else:
            what = "is_fraud: empty beside frauds only, so legitimate"
        notes |= {what: labels.null_count} if labels.null_count else {}
    if "reported_at" in fields:
        reported = fields["reported_at"].is_valid()
        fields["is_fraud"] = pc.and_kleene(reported if labels is None else labels, reported)


def _usable_times(column: pa.Array) -> NDArray[np.int64]:
    """Microseconds, -1 where a time is missing, before 1990 or in the future."""
    moments = column.cast(pa.int64())
    low, high = microsecond(EARLIEST_EVENT_TIME), microsecond(pd.Timestamp.now(tz="UTC"))
    usable = pc.and_(pc.greater_equal(moments, low), pc.less_equal(moments, high))
    return np.where(usable.fill_null(False), moments.fill_null(0), -1)


def day_of(moment: np.int64) -> date:
    """The UTC day of a time in microseconds."""
    return pd.Timestamp(int(moment), unit="us", tz="UTC").date()


@lru_cache(maxsize=2)
def transaction_versions(content: FileContent, declared: str) -> Mapping[date, str]:
    """The version of the transactions of each day that has some; `declared` identifies the declaration.

    Row numbers are no part of it, so that rows inserted at the top of a file change only their own day. Rows without a
    usable time belong to the first day.
    """
    table = content.table.drop_columns(
        [name for name in (*_PLACES, *content.label_columns) if name in content.table.schema.names]
    )
    rows = row_hashes(table)
    days = content.times // DAY
    starts = np.flatnonzero(np.diff(days, prepend=days[0] - 1))
    bounds = [*starts.tolist(), len(days)]
    schema = f"{declared}\0{table.schema.to_string(show_field_metadata=False, show_schema_metadata=False)}".encode()
    versions: dict[date, str] = {}
    for low, high in pairwise(bounds):
        first = 0 if low == 0 else content.n_misplaced + low
        of_day = rows[first : content.n_misplaced + high]
        versions[day_of(content.times[low])] = (
            f"{len(of_day)}-{hashlib.sha256(schema + of_day.tobytes()).hexdigest()[:32]}"
        )
    return versions


def row_hashes(table: pa.Table) -> NDArray[np.uint64]:
    """A number for the values of each row, shape (n,)."""
    hashes = np.zeros(len(table), dtype=np.uint64)
    for column in table.columns:
        encoded = column.combine_chunks().dictionary_encode(null_encoding="encode")
        of_values = pd.util.hash_array(_hashable(encoded.dictionary), categorize=False)
        hashes = hashes * np.uint64(0x9E3779B97F4A7C15) + of_values[encoded.indices.to_numpy()]
    return hashes


def _hashable(values: pa.Array) -> NDArray[np.object_] | NDArray[np.int64]:
    """Values as whole numbers, or as text; a missing one unlike any other."""
    kind = values.type
    if pa.types.is_floating(kind):
        numbers = np.asarray(values.cast(pa.float64()).fill_null(np.nan).to_numpy(zero_copy_only=False))
        return numbers.view(np.int64)
    if pa.types.is_integer(kind) or pa.types.is_timestamp(kind):
        whole = values.cast(pa.int64()).fill_null(np.iinfo(np.int64).min).to_numpy(zero_copy_only=False)
        return np.asarray(whole, dtype=np.int64)
    return np.array(["" if value is None else f"={value}" for value in values.to_pylist()], dtype=object)
