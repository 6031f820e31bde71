"""Conversion of a file's columns to our types: ids, texts, numbers, times, labels, as Arrow columns.

Belongs here: conversion of one column. Must not be here: validation of single values: an unreadable value stays as it
is or becomes missing, and validation rejects its row. Only a column that is wrong as a whole is an error.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from fraud_pipeline.ingest.column_mapping import SourceError
from fraud_pipeline.ingest.id_columns import check_ids, id_text
from fraud_pipeline.ingest.number_spellings import AmbiguousNumbersError, read_numbers
from fraud_pipeline.ingest.time_spellings import TimesError, read_times
from fraud_pipeline.schema.fields import FIELDS, Kind
from fraud_pipeline.schema.identifiers import NORMALISATIONS, NOTHING_PATTERN, read_identifiers

_TIME: Final = pa.timestamp("us", tz="UTC")
_TYPE_WITHOUT_VALUES: Final[Mapping[Kind, pa.DataType]] = {
    "time": _TIME,
    "amount": pa.float64(),
    "coordinate": pa.float64(),
}
_VALUE_OF: Final[Mapping[str, Mapping[str, str]]] = {
    field.name: {spelling: value for value, spellings in field.allowed.items() for spelling in (value, *spellings)}
    for field in FIELDS.values()
    if field.kind == "choice"
}
"""Every spelling of the values of each closed field -> the value."""

_FRAUD, _LEGITIMATE = ((value, *others) for value, others in FIELDS["is_fraud"].allowed.items())


@dataclass(frozen=True, slots=True)
class Column:
    """A converted column; `notes` count rows by what was recognised or normalised."""

    values: pa.Array
    notes: dict[str, int]


def typed(column: pa.Array, *, name: str, field: str, kind: Kind) -> pa.Array:
    """Cast a column of one part to a type that `converted` accepts: text, 64-bit numbers, UTC times, booleans."""
    column = column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
    if is_text(column.type):
        return column.cast(pa.string())
    if pa.types.is_null(column.type):
        return column.cast(_TYPE_WITHOUT_VALUES.get(kind, pa.string()))
    match kind:
        case "time":
            return _typed_times(column, name=name, field=field)
        case "amount" | "coordinate":
            return _typed_numbers(column, name=name, field=field)
        case "flag":
            return column if pa.types.is_boolean(column.type) else column.cast(pa.string())
        case _:
            return id_text(column, name=name, field=field)


def _typed_times(column: pa.Array, *, name: str, field: str) -> pa.Array:
    kind = column.type
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return column.cast(pa.timestamp("us", tz=getattr(kind, "tz", None)), safe=False).cast(_TIME)
    raise wrong_column(
        name, field, f"holds {kind}, not times; write epoch numbers as timestamps or as 2026-01-31T13:45:00Z"
    )


def _typed_numbers(column: pa.Array, *, name: str, field: str) -> pa.Array:
    kind = column.type
    if pa.types.is_float32(kind):
        return column
    if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
        raise wrong_column(name, field, f"holds {kind}, not numbers")
    return column.cast(pa.float64(), safe=False)


def converted(column: pa.Array, *, name: str, field: str, place: Callable[[int], str]) -> Column:
    """Convert a whole column; `place` describes the location of a row. Raises SourceError."""
    match FIELDS[field].kind:
        case "time":
            return Column(_times(column, name=name, field=field), {})
        case "amount" | "coordinate":
            return _numbers(column, name=name, field=field)
        case "flag":
            return Column(_labels(column, name=name, place=place), {})
        case "code":
            return Column(pc.utf8_upper(pc.utf8_trim_whitespace(column)), {})
        case "choice":
            return Column(_choices(column, _VALUE_OF[field]), {})
        case kind:
            ids = read_identifiers(column, exact=kind == "identifier")
            notes = {NORMALISATIONS[rule]: rows for rule, rows in ids.rules.items()}
            return Column(ids.texts, notes | (check_ids(ids, name=name, field=field) if kind == "identifier" else {}))


def _choices(text: pa.Array, value_of: Mapping[str, str]) -> pa.Array:
    encoded = text.dictionary_encode()
    words = pc.replace_substring_regex(pc.utf8_lower(pc.utf8_trim_whitespace(encoded.dictionary)), r"[\s\-/]+", "_")
    pairs = zip(words.to_pylist(), encoded.dictionary.to_pylist(), strict=True)
    values = [value_of.get(word, given) for word, given in pairs]
    return pc.take(pa.array(values, type=pa.string()), encoded.indices)


def _numbers(column: pa.Array, *, name: str, field: str) -> Column:
    """64-bit numbers (32-bit ones stay); text when some cell is not a number."""
    if not is_text(column.type):
        return Column(column, {})
    try:
        numbers = read_numbers(pc.utf8_trim_whitespace(column), grouped=field == "amount")
    except AmbiguousNumbersError as error:
        raise SourceError(f"column '{name}' ({field}) {error}") from None
    if numbers is None:
        raise wrong_column(name, field, "holds no plain numbers such as 12.34")
    return Column(numbers.values, numbers.notes)


def _times(column: pa.Array, *, name: str, field: str) -> pa.Array:
    """Microseconds UTC; times without a time zone are UTC, and unreadable ones are missing."""
    if not is_text(column.type):
        return column
    try:
        return read_times(pc.utf8_trim_whitespace(column))
    except TimesError as error:
        raise wrong_column(name, field, str(error)) from None


def _labels(column: pa.Array, *, name: str, place: Callable[[int], str]) -> pa.Array:
    """True for fraud, False for legitimate, missing for an empty cell. Raises SourceError for other values."""
    if pa.types.is_boolean(column.type):
        return column
    fraud, legitimate, filled = label_words(column)
    unreadable = pc.and_(filled, pc.invert(pc.or_(fraud, legitimate)))
    if count := pc.sum(unreadable).as_py() or 0:
        raise wrong_column(
            name,
            "is_fraud",
            f"has {count} labels that are neither yes (1, true, yes, fraud) nor no (0, false, no, legitimate), the "
            f"first in {place(pc.index(unreadable, True).as_py())}; leave the cell empty when the label is unknown",
        )
    return pc.if_else(filled, fraud, None)


def label_words(
    column: pa.Array, *, fraud: Sequence[str] = (), legitimate: Sequence[str] = ()
) -> tuple[pa.Array, pa.Array, pa.Array]:
    """Which cells of booleans or text mean fraud, which legitimate, and which are filled.

    The spellings are in small letters; a side without spellings has those of the table of fields. 1.0 is 1.
    """
    encoded = column.cast(pa.string()).dictionary_encode()
    words = _plain_words(encoded.dictionary)
    words = pc.if_else(pc.match_substring_regex(words, f"^{NOTHING_PATTERN}$"), None, words)
    means_fraud, means_legitimate = (
        pc.is_in(words, _plain_words(pa.array(side, type=pa.string())))
        for side in (fraud or _FRAUD, legitimate or _LEGITIMATE)
    )
    flags = [each.take(encoded.indices).fill_null(False) for each in (means_fraud, means_legitimate, words.is_valid())]
    return flags[0], flags[1], flags[2]


def _plain_words(words: pa.Array) -> pa.Array:
    return pc.replace_substring_regex(pc.utf8_lower(pc.utf8_trim_whitespace(words)), r"^(\d+)\.0+$", r"\1")


def is_text(kind: pa.DataType) -> bool:
    """Whether Arrow holds a column as text."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def wrong_column(name: str, field: str, cause: str) -> SourceError:
    """A column that is wrong as a whole; `cause` says how."""
    return SourceError(f"column '{name}' ({field}) {cause}. Correct it, or map another column: {field}=YOUR_COLUMN")
