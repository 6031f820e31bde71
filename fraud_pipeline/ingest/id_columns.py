"""Columns of ids: numbers as their original text, and damage that only a whole column reveals.

Belongs here: checks of ids by type and by the whole column. Must not be here: checks of one id
(`schema/identifiers.py`).
"""

from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from fraud_pipeline.ingest.column_mapping import SourceError
from fraud_pipeline.ingest.number_spellings import WIDESPREAD
from fraud_pipeline.schema.identifiers import PROBLEMS, IdentifierColumn

_LOST: Final = "1E+99"
"""Replaces a number that is too large to be exact in its type, so that validation rejects its row as `lost_digits`."""
_SPREADSHEET_DIGITS: Final = 15
_ENOUGH_IDS: Final = 20
_SAMPLE: Final = 1_000


def id_text(column: pa.Array, *, name: str, field: str) -> pa.Array:
    """Convert a column of whole numbers to decimal text. Raises SourceError for other types."""
    kind = column.type
    try:
        if pa.types.is_floating(kind):  # whole numbers with gaps, as pandas writes them
            return _text_of_floats(column, name=name, field=field)
        if pa.types.is_decimal(kind):
            return _text_of_decimals(column)
        if pa.types.is_integer(kind) or pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
            return column.cast(pa.string())
    except pa.ArrowInvalid:
        pass  # its message quotes a cell
    raise _no_ids(column, name=name, field=field)


def check_ids(ids: IdentifierColumn, *, name: str, field: str) -> dict[str, int]:
    """Notes on a column of ids. Raises SourceError when too many ids lost digits or zeros."""
    n_rows = max(1, len(ids.texts) - ids.texts.null_count)
    for problem in PROBLEMS:
        count = int(ids.problems[problem].sum()) if problem in ids.problems else 0
        if count > WIDESPREAD * n_rows:
            raise SourceError(f"column '{name}' ({field}): {count} of {n_rows} values: {PROBLEMS[problem]}")
    if n_rounded := _rounded_by_a_spreadsheet(ids.texts):
        raise SourceError(
            f"column '{name}' ({field}): all {n_rounded} ids of more than {_SPREADSHEET_DIGITS} digits end in zeros, "
            "as a spreadsheet rounds them, so that many ids became one: format the column as text where it comes from, "
            "and export it again"
        )
    return _compare_leading_zeros(ids.texts, name=name, field=field)


def _text_of_floats(column: pa.Array, *, name: str, field: str) -> pa.Array:
    largest = {16: 2**11, 32: 2**24, 64: 2**53}[column.type.bit_width]
    numbers = column.cast(pa.float64())
    numbers = pc.if_else(pc.is_nan(numbers), None, numbers)
    exact = pc.less(pc.abs(numbers), largest)
    whole = pc.equal(numbers, pc.trunc(numbers))
    if (pc.sum(pc.invert(whole)).as_py() or 0) > WIDESPREAD * len(column):
        raise _no_ids(column, name=name, field=field)
    good = pc.and_(exact, whole)
    text = pc.if_else(good, numbers, None).cast(pa.int64()).cast(pa.string())
    return pc.if_else(good, text, pc.if_else(exact, numbers.cast(pa.string()), _LOST))


def _text_of_decimals(column: pa.Array) -> pa.Array:
    try:
        return column.cast(pa.decimal256(76, 0)).cast(pa.string())
    except pa.ArrowInvalid:
        return column.cast(pa.string())


def _rounded_by_a_spreadsheet(texts: pa.Array) -> int:
    """The number of ids with more digits than a spreadsheet keeps, if all of them end in zeros; otherwise 0."""
    kept = rf"^[0-9]{{{_SPREADSHEET_DIGITS}}}"
    for some in (texts.slice(0, _SAMPLE), texts):
        if pc.any(pc.match_substring_regex(some, rf"{kept}[0-9]*[1-9][0-9]*$")).as_py():
            return 0
        long = pc.filter(some, pc.match_substring_regex(some, rf"{kept}0+$"))
        if not len(long) and len(some) == _SAMPLE:
            return 0
    return len(long) if pc.count_distinct(long).as_py() >= _ENOUGH_IDS else 0


def _compare_leading_zeros(texts: pa.Array, *, name: str, field: str) -> dict[str, int]:
    """Count ids that also occur without their leading zeros. Raises SourceError when there are many."""
    first_is_zero = pc.starts_with(texts, "0")
    if not pc.any(first_is_zero).as_py():
        return {}
    padded = pc.filter(texts, first_is_zero)
    padded = pc.filter(padded, pc.match_substring_regex(padded, "^0+[1-9][0-9]*$")).unique()
    if not len(padded):
        return {}
    bare = pc.utf8_ltrim(padded, characters="0")
    twins = len(pc.filter(texts, pc.is_in(texts, bare)).unique())
    if twins > WIDESPREAD * len(padded):
        raise SourceError(
            f"column '{name}' ({field}): {twins} of {len(padded)} ids that begin with zeros also occur without them, "
            "as 0123 and 123, so that one may have become two: format the column as text where it comes from, and "
            "export it again"
        )
    return {"ids that also occur without their leading zeros, kept apart": twins} if twins else {}


def _no_ids(column: pa.Array, *, name: str, field: str) -> SourceError:
    return SourceError(
        f"column '{name}' ({field}) holds {column.type}, which is no text and no whole number: map another column"
    )
