"""One column of raw cells in, accepted values out; the verdict learns which cells are rejected and why.

Belongs here: one check per kind of field, with the limits of the table of fields. Must not be here: rules about several
rows (`validation.py`), the spellings of files (`file_columns.py`).
"""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fraud_pipeline.ingest.verdict import Flags, Objects, Verdict
from fraud_pipeline.schema.amounts import whole_cents
from fraud_pipeline.schema.fields import Field
from fraud_pipeline.schema.identifiers import read_identifiers
from fraud_pipeline.schema.transactions import TIME_DTYPE

_A_PATTERN: Final = 0.02
"""Share of rows from which on rejected cells are described as a pattern."""


def check_column(
    raw: pd.DataFrame, field: Field, verdict: Verdict, *, now: pd.Timestamp
) -> Objects | NDArray[np.float64] | NDArray[np.int64] | pd.Series:
    """The values of a field as they are stored; those of rejected rows mean nothing, except ids and times."""
    match field.kind:
        case "identifier" | "text":
            return _texts(raw, field, verdict)
        case "choice" | "code":
            return _words(raw, field, verdict)
        case "time":
            return _times(raw, field, verdict, now=now)
        case "amount":
            return _cents(raw, field, verdict)
        case "coordinate":
            return _coordinates(raw, field, verdict)
        case "flag" | "currency":
            raise ValueError(f"{field.name}: no column of a stored transaction is a {field.kind}")


def _cells(raw: pd.DataFrame, name: str) -> pd.Series:
    """A column, or missing cells where the rows have none of that name."""
    return raw[name] if name in raw else pd.Series(np.full(len(raw), None, dtype=object), index=raw.index)


def _texts(raw: pd.DataFrame, field: Field, verdict: Verdict) -> Objects:
    """Ids and other short texts as str by the rules of `schema/identifiers.py`, everything unusable as None."""
    text, name = text_of(_cells(raw, field.name)), field.name
    column = read_identifiers(text.arrow, exact=field.kind == "identifier")
    if column.rules:
        verdict.normalised[name] = column.rules
    nothing = text.arrow.is_valid().to_numpy(zero_copy_only=False) & column.texts.is_null().to_numpy(
        zero_copy_only=False
    )
    if field.required and not field.when_missing:
        verdict.reject(~text.present | nothing, field=name, reason="missing")
    verdict.reject(text.present & ~text.is_text, field=name, reason="wrong_type")
    problems = {"control_character": text.broken} | column.problems
    if "control_character" in column.problems:
        problems["control_character"] = column.problems["control_character"] | text.broken
    unusable = nothing | text.broken
    for problem, rows in problems.items():
        verdict.reject(rows, field=name, reason=problem)
        unusable |= rows
    long = flags_of(pc.greater(pc.utf8_length(column.texts), field.max_length))
    verdict.reject(long, field=name, reason="too_long")
    texts = column.texts.to_numpy(zero_copy_only=False) if column.rules else text.values
    usable = only(texts, text.is_text & ~(unusable | long))
    if field.when_missing:
        usable[~text.present | nothing] = field.when_missing
    return usable


def _words(raw: pd.DataFrame, field: Field, verdict: Verdict) -> Objects:
    """Words of a closed set as str, everything else as None; unknown words of an optional field are counted."""
    text = text_of(_cells(raw, field.name))
    blank = flags_of(pc.equal(pc.utf8_trim_whitespace(text.arrow), ""))
    if field.kind == "choice":
        known = flags_of(pc.is_in(text.arrow, value_set=pa.array(field.allowed, type=pa.string())))
    else:
        known = flags_of(pc.match_substring_regex(text.arrow, rf"\A(?:{field.pattern})\z"))
    if field.required:
        verdict.reject(~text.present | blank, field=field.name, reason="missing")
        verdict.reject(text.present & ~text.is_text, field=field.name, reason="wrong_type")
        verdict.reject(text.is_text & ~(known | blank), field=field.name, reason=field.reason)
    else:
        verdict.empty(text.present & ~(known | blank), field=field.name)
    return only(text.values, known)


@dataclass(frozen=True, slots=True)
class CellTexts:
    """A column of cells: which hold something, which hold text, and which text is broken Unicode; `arrow` the rest."""

    values: Objects
    present: Flags
    is_text: Flags
    broken: Flags
    arrow: pa.Array


def text_of(cells: pd.Series) -> CellTexts:
    """The texts among some cells."""
    values, present = cells.to_numpy(dtype=object), cells.notna().to_numpy()
    if set(map(type, values[present])) <= {str}:  # the common case, without asking each row in Python
        is_text = present
    else:
        is_text = np.fromiter((isinstance(value, str) for value in values), dtype=bool, count=len(values))
    texts = only(values, is_text)
    broken = np.zeros(len(values), dtype=bool)
    try:
        arrow = pa.array(texts, type=pa.string())
    except UnicodeEncodeError:
        broken = np.fromiter((_is_broken(text) for text in texts), dtype=bool, count=len(texts))
        arrow = pa.array(only(texts, ~broken), type=pa.string())
    return CellTexts(texts, present, is_text, broken, arrow)


def only(values: Objects, rows: Flags) -> Objects:
    """The values of these rows; None in the others."""
    kept = np.full(len(values), None, dtype=object)
    kept[rows] = values[rows]
    return kept


def _is_broken(text: str | None) -> bool:
    try:
        (text or "").encode()
    except UnicodeEncodeError:
        return True
    return False


def flags_of(condition: pa.Array) -> Flags:
    """Arrow's flags, where a missing one is False."""
    flags: Flags = pc.fill_null(condition, False).to_numpy(zero_copy_only=False)
    return flags.copy()


def _times(raw: pd.DataFrame, field: Field, verdict: Verdict, *, now: pd.Timestamp) -> pd.Series:
    """Times as `datetime64[us, UTC]`, NaT where unusable; a time without timezone is UTC."""
    cells, name = _cells(raw, field.name), field.name
    is_time = np.ones(len(cells), dtype=bool)
    if not pd.api.types.is_datetime64_any_dtype(cells.dtype):
        values = cells.to_numpy(dtype=object)
        is_time = np.fromiter((isinstance(value, datetime) for value in values), dtype=bool, count=len(values))
        verdict.reject(cells.notna().to_numpy() & ~is_time, field=name, reason="wrong_type")
        cells = pd.Series(only(values, is_time))
    times = pd.to_datetime(cells, utc=True, errors="coerce").astype(TIME_DTYPE)
    if field.required:
        verdict.reject(times.isna().to_numpy(), field=name, reason=field.reason)
    verdict.reject(times.lt(pd.Timestamp(field.earliest)).to_numpy(), field=name, reason="too_early")
    ahead = pd.Timedelta(field.max_ahead).as_unit("us")
    verdict.reject(times.sub(ahead).gt(now).to_numpy(), field=name, reason="future_time")
    return times


def _numbers(raw: pd.DataFrame, field: Field, verdict: Verdict) -> NDArray[np.float64]:
    """Numbers and text that spells one as float64, NaN where missing or unusable."""
    name = field.name
    numbers, readable = numbers_of(_cells(raw, name))
    verdict.reject(~readable, field=name, reason="wrong_type")
    verdict.reject(np.isinf(numbers), field=name, reason="not_finite")
    numbers = np.where(np.isinf(numbers), np.nan, numbers)
    if field.required:
        verdict.reject(np.isnan(numbers), field=name, reason="missing")
    return numbers


def numbers_of(cells: pd.Series) -> tuple[NDArray[np.float64], Flags]:
    """Cells as float64, NaN where missing, and which of them are numbers or missing."""
    if cells.dtype.kind in "iuf":
        return cells.to_numpy(dtype="float64", na_value=np.nan), np.ones(len(cells), dtype=bool)
    parsed = [_number(value) for value in cells.to_numpy(dtype=object)]
    numbers = np.array([np.nan if number is None else number for number in parsed], dtype="float64")
    return numbers, np.array([number is not None for number in parsed], dtype=bool) | cells.isna().to_numpy()


def _number(value: object) -> float | None:
    """None where `value` is no number; empty text is NaN."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, str | int | float | Decimal | np.number):
        return None
    if isinstance(value, str):
        if "_" in value:  # a digit separator in Python, not in data
            return None
        value = value.strip() or "nan"
    try:
        return float(value)
    except (ValueError, TypeError):
        return None
    except OverflowError:
        return float("inf")


def amounts_of(raw: pd.DataFrame, field: Field, verdict: Verdict) -> tuple[NDArray[np.float64], bool]:
    """Amounts in currency units, NaN where unusable, and whether they came as 32-bit floats."""
    return _numbers(raw, field, verdict), _cells(raw, field.name).dtype == np.float32


def _cents(raw: pd.DataFrame, field: Field, verdict: Verdict) -> NDArray[np.int64]:
    (amount, single), name = amounts_of(raw, field, verdict), field.name
    out_of_range = (amount < field.minimum) | (amount > field.maximum)
    verdict.reject(out_of_range, field=name, reason="out_of_range")
    # A column of 32-bit floats cannot spell large amounts to the cent; what it can spell is judged.
    cents, exact = whole_cents(np.where(out_of_range, np.nan, amount), single=single)
    verdict.reject(~exact, field=name, reason="finer_than_a_cent")
    ordinary = np.where(np.abs(amount) <= field.maximum * 100, amount, np.nan)
    thousandths = ~exact & whole_cents(ordinary * 10)[1]
    if thousandths.sum() > _A_PATTERN * len(amount):
        pattern = "have three decimals, as dinars have: round them to two"
        verdict.patterns.append(f"{thousandths.sum()} of {len(amount)} amounts {pattern}.")
    return np.where(verdict.good, cents, 0)


def _coordinates(raw: pd.DataFrame, field: Field, verdict: Verdict) -> NDArray[np.float64]:
    values = _numbers(raw, field, verdict)
    verdict.reject((values < field.minimum) | (values > field.maximum), field=field.name, reason="out_of_range")
    return values
