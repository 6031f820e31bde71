"""A file's spelling of a value in, ours out: text, numbers, times, labels, as Arrow columns.

Belongs here: conversions of one column. Must not be here: judging single values; what cannot be read stays as it is or
becomes missing, and validation rejects the row. Only a column that is wrong as a whole is an error.
"""

from types import MappingProxyType
from typing import Final

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from fraud_pipeline.column_mapping import SourceError

_TIME: Final = pa.timestamp("us", tz="UTC")
_STARTS_LIKE_A_TIME: Final = r"^\d{4}-\d{2}-\d{2}"
_OFFSET: Final = r"\d{2}:\d{2}.*?(?P<offset>[zZ]|[+-]\d{2}(?::?\d{2})?)$"
_DAYLIGHT_SAVING_HOURS: Final = 1
_HAS_OFFSET: Final = r"\d{2}:\d{2}.*([zZ]|[+-]\d{2}(:?\d{2})?)$"

CHANNEL_SYNONYMS: Final = MappingProxyType(
    {
        "chip": ("chip", "pos", "swipe", "card_present", "chip_and_pin", "magstripe"),
        "contactless": ("contactless", "nfc", "tap"),
        "online": ("online", "web", "ecom", "ecommerce", "e_commerce", "internet", "card_not_present", "cnp"),
        "atm": ("atm", "cash", "cash_withdrawal"),
        "transfer": ("transfer", "wire", "bank_transfer"),
    }
)
_CHANNEL_OF: Final = {spelling: channel for channel, spellings in CHANNEL_SYNONYMS.items() for spelling in spellings}

_FRAUD: Final = ("1", "1.0", "true", "t", "yes", "y", "fraud", "fraudulent")
_LEGITIMATE: Final = (
    *("0", "0.0", "false", "f", "no", "n", "legit", "legitimate", "genuine", "ok"),
    *("not fraud", "non-fraud", "not_fraud", "no fraud"),
)


def text_from(column: pa.Array, *, name: str, field: str) -> pa.Array:
    """Text; whole numbers as decimal text, channels in our words, countries in capitals."""
    column = _decoded(column)
    try:
        if pa.types.is_floating(column.type):  # whole numbers with gaps, as pandas writes them
            column = column.cast(pa.int64())
        text = column.cast(pa.string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise SourceError(
            f"column '{name}' ({field}) holds {column.type}, which is no text and no whole number: map another column"
        ) from error
    if field == "country":
        return pc.utf8_upper(pc.utf8_trim_whitespace(text))
    if field == "channel":
        return _channels(text)
    return text


def _channels(text: pa.Array) -> pa.Array:
    encoded = text.dictionary_encode()
    words = pc.replace_substring_regex(pc.utf8_lower(pc.utf8_trim_whitespace(encoded.dictionary)), r"[\s\-/]+", "_")
    pairs = zip(words.to_pylist(), encoded.dictionary.to_pylist(), strict=True)
    ours = [_CHANNEL_OF.get(word, given) for word, given in pairs]
    return pc.take(pa.array(ours, type=pa.string()), encoded.indices)


def numbers_from(column: pa.Array, *, name: str, field: str) -> pa.Array:
    """64-bit numbers (32-bit ones stay); text where some cell is no number."""
    column = _decoded(column)
    if pa.types.is_float32(column.type):
        return column
    if _is_text(column.type):
        text = pc.utf8_trim_whitespace(column)
        try:
            return text.cast(pa.float64())
        except pa.ArrowInvalid:
            if not _any(pc.match_substring_regex(text, r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$")):
                raise _wrong_column(name, field, "holds no plain numbers such as 12.34") from None
            return text
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_decimal(column.type)):
        raise _wrong_column(name, field, f"holds {column.type}, not numbers")
    return column.cast(pa.float64(), safe=False)


def times_from(column: pa.Array, *, name: str, field: str) -> pa.Array:
    """Microseconds UTC; times without timezone are UTC, unreadable ones are missing.

    SourceError for numbers (their unit is anyone's guess), for a mix of times with and without offset, and for text
    without a single readable time.
    """
    column = _decoded(column)
    if pa.types.is_timestamp(column.type) or pa.types.is_date(column.type):
        return column.cast(pa.timestamp("us", tz=getattr(column.type, "tz", None)), safe=False).cast(_TIME)
    if pa.types.is_null(column.type):
        return column.cast(_TIME)
    if not _is_text(column.type):
        raise _wrong_column(
            name, field, f"holds {column.type}, not times; write epoch numbers as timestamps or as 2026-01-31T13:45:00Z"
        )
    text = pc.utf8_trim_whitespace(column)
    for kind in (pa.timestamp("us"), _TIME):  # no cell has an offset, or each has one: the fast ways
        try:
            return text.cast(kind).cast(_TIME)
        except pa.ArrowInvalid:
            continue
    return _times_from_text(text, name=name, field=field)


def _times_from_text(text: pa.Array, *, name: str, field: str) -> pa.Array:
    candidates = pc.if_else(pc.match_substring_regex(text, _STARTS_LIKE_A_TIME), text, None)
    parsed = pd.to_datetime(pd.Series(candidates.to_pandas()), format="ISO8601", utc=True, errors="coerce")
    times = pa.array(parsed.astype("datetime64[us, UTC]"), type=_TIME, from_pandas=True)
    if times.null_count == len(times):
        raise _wrong_column(name, field, "holds no readable times; write them as 2026-01-31T13:45:00Z")
    offset = pc.filter(pc.match_substring_regex(text, _HAS_OFFSET), times.is_valid())
    with_offset = pc.sum(offset).as_py()
    if 0 < with_offset < len(offset):
        raise SourceError(
            f"column '{name}' ({field}) mixes {with_offset} times with a UTC offset and {len(offset) - with_offset} "
            "without one: write all of them with an offset such as Z or +02:00, or none (then they are UTC)"
        )
    offsets = pc.unique(pc.struct_field(pc.extract_regex(candidates, _OFFSET), "offset")).drop_null().to_pylist()
    hours = [_offset_hours(offset) for offset in offsets]
    if hours and max(hours) - min(hours) > _DAYLIGHT_SAVING_HOURS:
        raise SourceError(
            f"column '{name}' ({field}) mixes timezones: its UTC offsets lie {max(hours) - min(hours):g} hours apart, "
            "more than summer time explains. Convert all times to UTC and write them with Z"
        )
    return times


def _offset_hours(offset: str) -> float:
    if offset in ("z", "Z"):
        return 0
    digits = offset[1:].replace(":", "").ljust(4, "0")
    return (int(digits[:2]) + int(digits[2:]) / 60) * (-1 if offset[0] == "-" else 1)


def labels_from(column: pa.Array, *, name: str) -> pa.Array:
    """True where fraud, False where not, missing where nobody said; SourceError when a cell is neither."""
    column = _decoded(column)
    if pa.types.is_boolean(column.type):
        return column
    text = pc.utf8_lower(pc.utf8_trim_whitespace(column.cast(pa.string())))
    text = pc.if_else(pc.equal(text, ""), None, text)
    fraud, legitimate = (pc.is_in(text, pa.array(words)) for words in (_FRAUD, _LEGITIMATE))
    unreadable = pc.sum(pc.and_(text.is_valid(), pc.invert(pc.or_(fraud, legitimate)))).as_py() or 0
    if unreadable:
        raise _wrong_column(
            name,
            "is_fraud",
            f"has {unreadable} labels that are neither yes (1, true, yes, fraud) nor no (0, false, no, legitimate); "
            "leave the cell empty where nobody knows",
        )
    return pc.if_else(text.is_valid(), fraud, None)


def _decoded(column: pa.Array) -> pa.Array:
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _any(condition: pa.Array) -> bool:
    return bool(pc.any(condition).as_py())


def _wrong_column(name: str, field: str, cause: str) -> SourceError:
    return SourceError(f"column '{name}' ({field}) {cause}. Mend it, or map another column: {field}=YOUR_COLUMN")
