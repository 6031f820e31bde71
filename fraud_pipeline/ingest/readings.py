"""The reading of each field from the columns of a file: by a mapping of names, or by a declaration.

Belongs here: one reading per field. Must not be here: files, the conversion of plain fields (`file_columns.py`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from fraud_pipeline.ingest.column_mapping import Header, SourceError
from fraud_pipeline.ingest.declaration import (
    OWN_OFFSETS,
    Declaration,
    LabelReading,
    OwnColumn,
    TimeReading,
    spelling,
)
from fraud_pipeline.ingest.file_columns import Column, converted, is_text, label_words, typed, wrong_column
from fraud_pipeline.ingest.number_spellings import AmbiguousNumbersError, read_numbers
from fraud_pipeline.ingest.time_spellings import (
    TimesError,
    counted_times,
    formatted_times,
    has_no_offsets,
    in_each_zone,
    joined_times,
    local_times,
    own_offsets,
    read_times,
    zone_names,
    zone_offsets,
)
from fraud_pipeline.schema.fields import FIELDS, Kind
from fraud_pipeline.schema.identifiers import NORMALISATIONS, read_identifiers
from fraud_pipeline.schema.local_time import UTC_OFFSET
from fraud_pipeline.schema.money import RATE
from fraud_pipeline.schema.own_fields import OwnType

Place = Callable[[int], str]
_UTC: Final = pa.timestamp("us", tz="UTC")
_OWN_KINDS: Final[Mapping[OwnType, Kind]] = {
    "number": "coordinate",
    "money": "amount",
    "boolean": "flag",
    "time": "time",
    "identifier": "identifier",
}
"""How the cells of an own field are read; those of the other types are text."""


@dataclass(frozen=True, slots=True)
class Reading:
    """One field: `typed` casts the pieces of its columns, `converted` makes one column of the joined pieces."""

    field: str
    columns: tuple[str, ...]
    typed: Callable[[pa.Array, str], pa.Array]
    converted: Callable[[tuple[pa.Array, ...], Place], Column]


def mapped_readings(names: Mapping[str, str]) -> list[Reading]:
    """The readings of fields that one column each gives."""
    return [
        Reading(field, (name,), partial(_typed_field, field), partial(_converted_field, field, name))
        for field, name in names.items()
    ]


def _typed_field(field: str, piece: pa.Array, column: str) -> pa.Array:
    return typed(piece, name=column, field=field, kind=FIELDS[field].kind)


def _converted_field(field: str, column: str, columns: tuple[pa.Array, ...], place: Place) -> Column:
    return converted(columns[0], name=column, field=field, place=place)


def declared_readings(declaration: Declaration, header: Header, *, all_rows: bool = True) -> list[Reading]:
    """The readings of a declaration. Raises SourceError when the file lacks one of its columns.

    Where they read not `all_rows`, as of one day, no label may be known.
    """
    listing = header.listing()
    if absent := [column for column in declaration.columns if column not in header.names]:
        raise SourceError(f"fraud.toml: no such column: {', '.join(absent)}. Correct it there. {listing}")
    if repeated := [column for column in declaration.columns if header.names.count(column) > 1]:
        raise SourceError(f"the file has more than one column named {', '.join(repeated)}: rename one. {listing}")
    readings = mapped_readings({field: name for field, name in declaration.fields.items() if field != "reported_at"})
    time = declaration.event_time
    if time:
        readings.append(_time_reading("event_time", time))
        readings += [_offset_reading(time)] if time.has_local_time else []
    if column := declaration.fields.get("reported_at"):
        # A report is dated as its transaction is, unless that one has a column for the hour as well.
        alike = time and len(time.columns) == 1
        plain = TimeReading(columns=(column,))
        how = time.model_copy(update={"columns": (column,)}) if time and alike else plain
        readings.append(_time_reading("reported_at", how, otherwise=plain))
    if declaration.money:
        readings += [_money_reading(key, column) for key, column in declaration.money.columns.items()]
    if declaration.label:
        readings.append(_label_reading(declaration.label, all_rows=all_rows))
    return readings + [_own_reading(own) for own in declaration.own]


def unnamed_columns(declaration: Declaration, header: Header) -> list[str]:
    """The columns of a file that its declaration does not name."""
    named = {*declaration.columns, *declaration.not_used}
    return [name for name in header.names if name not in named]


def unnamed_note(columns: Sequence[str]) -> str:
    """The note on these columns of a file."""
    return f"columns that fraud.toml does not name, so not used: {', '.join(columns)}"


def _time_reading(field: str, reading: TimeReading, *, otherwise: TimeReading | None = None) -> Reading:
    """The reading of a time; text that `reading` does not fit is read by `otherwise`."""
    name = "+".join(reading.columns)
    by_row = reading.zone_column or reading.zone == OWN_OFFSETS

    def cast(piece: pa.Array, column: str) -> pa.Array:
        piece = piece.dictionary_decode() if pa.types.is_dictionary(piece.type) else piece
        kind = piece.type
        if is_text(kind) or pa.types.is_null(kind) or column == reading.zone_column:
            return piece.cast(pa.string())
        if reading.unit:
            if pa.types.is_integer(kind):
                return piece.cast(pa.int64(), safe=False)
            return typed(piece, name=column, field=field, kind="coordinate").cast(pa.float64())
        whole = len(reading.columns) == 1 and not reading.format
        if whole and (pa.types.is_timestamp(kind) or pa.types.is_date(kind)):
            stamps = piece.cast(pa.timestamp("us", tz=getattr(kind, "tz", None)), safe=False)
            return stamps if by_row else local_times(stamps, zone=reading.zone_name)
        return piece.cast(pa.string())

    def combine(columns: tuple[pa.Array, ...], place: Place) -> Column:
        try:
            return Column(_times(columns, reading), {})
        except TimesError as error:
            if otherwise is not None and otherwise != reading:
                return _time_reading(field, otherwise).converted(columns[: len(otherwise.columns)], place)
            raise wrong_column(name, field, str(error)) from None

    return Reading(field, reading.all_columns, cast, combine)


def _offset_reading(reading: TimeReading) -> Reading:
    """The reading of the minutes by which the local clock of a time is ahead of UTC."""
    time = _time_reading("event_time", reading)

    def combine(columns: tuple[pa.Array, ...], _: Place) -> Column:
        try:
            return Column(_offsets(columns, reading), {})
        except TimesError as error:
            raise wrong_column("+".join(reading.columns), "event_time", str(error)) from None

    return replace(time, field=UTC_OFFSET, converted=combine)


def _offsets(columns: tuple[pa.Array, ...], reading: TimeReading) -> pa.Array:
    first = columns[0]
    if reading.zone == OWN_OFFSETS:
        if not pa.types.is_timestamp(first.type):
            return own_offsets(_text(columns))
        is_local = first.type.tz not in (None, "UTC")
        return zone_offsets(first.cast(_UTC), first.type.tz) if is_local else pa.nulls(len(first), pa.float64())
    times = _times(columns, reading)
    if not reading.zone_column:
        return zone_offsets(times, reading.zone)
    zones = zone_names(columns[-1], column=reading.zone_column).fill_null(reading.zone)
    return in_each_zone(times, zones, lambda rows, zone: zone_offsets(rows, zone) if zone else _no_offsets(rows))


def _no_offsets(rows: pa.Array) -> pa.Array:
    return pa.nulls(len(rows), pa.float64())


def _times(columns: tuple[pa.Array, ...], reading: TimeReading) -> pa.Array:
    parts = columns[: len(reading.columns)]
    stamps = _times_in(parts, reading, zone=reading.zone_name)
    if not reading.zone_column or reading.zone or not _show_local_clock(parts, reading):
        return stamps
    zones = zone_names(columns[-1], column=reading.zone_column).fill_null("UTC")
    return in_each_zone(
        stamps, zones, lambda rows, zone: local_times(rows.cast(pa.int64()).cast(pa.timestamp("us")), zone=zone)
    )


def _show_local_clock(columns: tuple[pa.Array, ...], reading: TimeReading) -> bool:
    """Whether times are those of a local clock, and not instants that only need to be shown by one."""
    if reading.unit:
        return False
    if pa.types.is_timestamp(columns[0].type):
        return columns[0].type.tz is None
    return "%z" not in reading.format if reading.format else has_no_offsets(_text(columns))


def _text(columns: tuple[pa.Array, ...]) -> pa.Array:
    return joined_times([pc.utf8_trim_whitespace(column) for column in columns])


def _times_in(columns: tuple[pa.Array, ...], reading: TimeReading, *, zone: str) -> pa.Array:
    first = columns[0]
    if reading.unit:
        numbers = _whole_numbers(first)
        if is_text(numbers.type):
            raise TimesError(f"holds text, not numbers of {reading.unit}")
        origin = int(reading.origin.timestamp()) * 1_000_000 + reading.origin.microsecond if reading.origin else 0
        return counted_times(numbers, unit=reading.unit, origin=origin)
    if pa.types.is_timestamp(first.type):
        return local_times(first, zone=zone)
    if reading.format:
        return formatted_times(_text(columns), format=reading.format, zone=zone)
    return read_times(_text(columns), zone=zone)


def _whole_numbers(column: pa.Array) -> pa.Array:
    """Whole numbers where all cells are, so that nanoseconds keep their digits; else as `_numbers` gives them."""
    if not is_text(column.type):
        return column
    trimmed = pc.utf8_trim_whitespace(column)
    try:
        return trimmed.cast(pa.int64())
    except pa.ArrowInvalid:
        numbers = read_numbers(trimmed, grouped=False)
        return column if numbers is None or is_text(numbers.values.type) else numbers.values


def _money_reading(key: str, column: str) -> Reading:
    """The currency of each amount as a code in capitals, or its rate as a number."""
    rate = OwnColumn(name=RATE, type="number", column=column)
    code = OwnColumn(name="currency_code", type="country", column=column)  # read as two-letter codes are
    return replace(_own_reading(rate if key == RATE else code), field=key)


def _label_reading(label: LabelReading, *, all_rows: bool) -> Reading:
    def cast(piece: pa.Array, column: str) -> pa.Array:
        return typed(piece, name=column, field="is_fraud", kind="flag")

    def convert(columns: tuple[pa.Array, ...], _: Place) -> Column:
        fraud, legitimate, known = label_words(
            columns[0],
            fraud=[spelling(word) for word in label.fraud],
            legitimate=[spelling(word) for word in label.legitimate],
        )
        unread = pc.sum(pc.and_(known, pc.invert(pc.or_(fraud, legitimate)))).as_py() or 0
        if all_rows and not pc.any(pc.or_(fraud, legitimate)).as_py():
            raise wrong_column(
                label.column, "is_fraud", "holds no label that is known: list the spellings in fraud.toml"
            )
        notes = {"neither fraud nor legitimate, so unknown": unread} if unread else {}
        return Column(pc.if_else(pc.or_(fraud, legitimate), fraud, None), notes)

    return Reading("is_fraud", (label.column,), cast, convert)


def _own_reading(own: OwnColumn) -> Reading:
    kind = _OWN_KINDS.get(own.type, "text")

    def cast(piece: pa.Array, column: str) -> pa.Array:
        if kind == "text" and not (is_text(piece.type) or pa.types.is_integer(piece.type)):
            return pc.replace_substring_regex(piece.cast(pa.string()), r"^(-?\d+)\.0$", r"\1")  # 1.5 is a code, too
        return typed(piece, name=column, field=own.name, kind=kind)

    return Reading(own.name, (own.column,), cast, partial(_own_column, own))


def _own_column(own: OwnColumn, columns: tuple[pa.Array, ...], _: Place) -> Column:
    column, kind = columns[0], _OWN_KINDS.get(own.type, "text")
    match kind:
        case "coordinate" | "amount":
            return _own_numbers(own, column, grouped=kind == "amount")
        case "flag":
            return Column(_own_flags(column), {})
        case "time":
            return _own_times(own, column)
        case _:
            ids = read_identifiers(column, exact=kind == "identifier")
            texts = pc.utf8_upper(ids.texts) if own.type == "country" else ids.texts
            return Column(texts, {NORMALISATIONS[rule]: rows for rule, rows in ids.rules.items()})


def _own_flags(column: pa.Array) -> pa.Array:
    """Booleans; text when some cell is neither yes nor no."""
    if pa.types.is_boolean(column.type):
        return column
    yes, no, filled = label_words(column)
    if pc.all(pc.or_(pc.or_(yes, no), pc.invert(filled))).as_py():
        return pc.if_else(filled, yes, None)
    return pc.if_else(yes, "true", pc.if_else(no, "false", column))


def _own_times(own: OwnColumn, column: pa.Array) -> Column:
    if not is_text(column.type):
        return Column(column, {})
    if column.null_count == len(column):
        return Column(pa.nulls(len(column), _UTC), {})
    try:
        times = read_times(pc.utf8_trim_whitespace(column))
    except TimesError as error:
        raise wrong_column(own.column, own.name, str(error)) from None
    unread = times.null_count - column.null_count
    return Column(times, {"unreadable times, so missing": unread} if unread else {})


def _own_numbers(own: OwnColumn, column: pa.Array, *, grouped: bool) -> Column:
    if not is_text(column.type):
        return Column(column.cast(pa.float64()), {})
    if column.null_count == len(column):
        return Column(pa.nulls(len(column), pa.float64()), {})
    try:
        numbers = read_numbers(pc.utf8_trim_whitespace(column), grouped=grouped)
    except AmbiguousNumbersError as error:
        raise SourceError(f"column '{own.column}' ({own.name}) {error}") from None
    if numbers is None:
        raise wrong_column(own.column, own.name, "holds no numbers: declare it as a category or as text")
    return Column(numbers.values, numbers.notes)
