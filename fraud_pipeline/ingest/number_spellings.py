"""Numbers in the formats that people and programs write, recognised for a column as a whole.

Belongs here: decimal and thousands marks, currencies, signs. Must not be here: valid ranges.

An ambiguous mark, such as the point of 1.740, is read as the rest of the column proves, or refused. A cell that
contradicts its column becomes UNREADABLE, and validation rejects its row.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

UNREADABLE: Final = "?"
"""Replaces a cell that is ambiguous, or that contradicts its column."""
WIDESPREAD: Final = 0.05
"""Share of rows from which on a problem concerns the column, and not single rows."""

_SPACES: Final = " \u00a0\u2009\u202f"
_BETWEEN: Final = f"{_SPACES}'\u2019"
_CURRENCY: Final = r"(?:[A-Za-z]{0,3}\p{Sc}|[A-Z]{3}|kr\.?|z\x{142}|K\x{10d}|Ft|Rs\.?|Fr\.?|lei)"
_GROUPED_BY_SPACE: Final = rf"^[0-9]{{1,3}}(?:[{_BETWEEN}][0-9]{{3}})+(?:[.,][0-9]*)?$"
_AMOUNT: Final = (
    rf"^(?P<sign>[-+\x{{2212}}(]?)[{_SPACES}]*(?P<before>{_CURRENCY})?[{_SPACES}]*(?P<minus>[-+\x{{2212}}]?)[{_SPACES}]*"
    rf"(?P<number>[0-9](?:[0-9.,{_BETWEEN}]*[0-9.,])?|[.,][0-9]+)"
    rf"[{_SPACES}]*(?P<after>{_CURRENCY})?[{_SPACES}]*(?P<end>[-)\x{{2212}}]?)$"
)
_MARKED: Final = r"[.,]"
_EVIDENT_POINT: Final = r"(?:^0?|[0-9])\.(?:[0-9]|[0-9]{2}|[0-9]{4,})$|^0\.[0-9]+$"


@dataclass(frozen=True, slots=True)
class Numbers:
    """`values` as float64, or as text when some cell is not a number; `notes` count rows by what was recognised."""

    values: pa.Array
    notes: dict[str, int]


class AmbiguousNumbersError(ValueError):
    """The column's numbers are ambiguous; the message gives the readings, counts and a remedy."""


def read_numbers(text: pa.Array, *, grouped: bool) -> Numbers | None:
    """Parse a column of trimmed text; None when no cell is a number. `grouped` allows marks between thousands.

    Raises AmbiguousNumbersError.
    """
    try:
        values = text.cast(pa.float64())
    except pa.ArrowInvalid:
        values = None
    if values is not None and (not grouped or _has_evident_points(text)):
        return Numbers(values, {})
    parts = pc.extract_regex(text, _AMOUNT)
    if not pc.any(parts.is_valid()).as_py():
        return None if values is None else Numbers(values, {})
    notes: dict[str, int] = {}
    number, plain = _ungrouped(pc.struct_field(parts, "number"), notes=notes)
    currency = _one_currency(parts, notes=notes)
    decimal, agrees = _decimal_mark(number, grouped=grouped, notes=notes)
    number = _with_point(number, decimal=decimal)
    known = pc.and_(pc.and_(plain, currency), agrees)
    spelled = pc.binary_join_element_wise(_minus(parts), number, "")
    recognised = pc.if_else(pc.fill_null(known, False), spelled, UNREADABLE)
    # Cells that the pattern does not match stay as they are: 1.5E3 is a number, and n/a is not.
    result = pc.if_else(parts.is_valid(), recognised, text)
    try:
        return Numbers(result.cast(pa.float64()), notes)
    except pa.ArrowInvalid:
        return Numbers(result, notes)


def _has_evident_points(text: pa.Array) -> bool:
    """Whether a point among the first cells must be a decimal point, or there is no point at all."""
    if pc.any(pc.match_substring_regex(text.slice(0, 10_000), _EVIDENT_POINT)).as_py():
        return True
    data = text.buffers()[2]
    return data is None or not (np.frombuffer(data, dtype=np.uint8) == ord(".")).any()


def _ungrouped(number: pa.Array, *, notes: dict[str, int]) -> tuple[pa.Array, pa.Array]:
    """Numbers without spaces and apostrophes between thousands, and whether these marks were in valid places."""
    marked = pc.match_substring_regex(number, rf"[{_BETWEEN}]")
    as_thousands = pc.match_substring_regex(number, _GROUPED_BY_SPACE)
    if n_marked := _count(as_thousands):
        notes["thousands marked by a space or an apostrophe"] = n_marked
    bare = pc.replace_substring_regex(number, rf"[{_BETWEEN}]", "")
    return bare, pc.or_(pc.invert(marked), as_thousands)


def _one_currency(parts: pa.Array, *, notes: dict[str, int]) -> pa.Array:
    """Whether each amount has no currency, or the currency of the column."""
    before, after = (pc.fill_null(pc.struct_field(parts, side), "") for side in ("before", "after"))
    currency = pc.binary_join_element_wise(before, after, "")
    counts = [
        (entry["values"].as_py(), entry["counts"].as_py())
        for entry in pc.value_counts(currency)
        if entry["values"].as_py()
    ]
    if not counts:
        return pc.equal(currency, currency)
    counts.sort(key=lambda pair: -pair[1])
    minority_rows = sum(rows for _, rows in counts[1:])
    if minority_rows > WIDESPREAD * len(parts):
        raise AmbiguousNumbersError(
            f"carries {len(counts)} different currencies, the second most frequent in {counts[1][1]} rows: export one "
            "currency at a time, as plain numbers"
        )
    notes["a currency beside the number"] = counts[0][1]
    return pc.is_in(currency, pa.array(["", counts[0][0]]))


def _decimal_mark(number: pa.Array, *, grouped: bool, notes: dict[str, int]) -> tuple[str, pa.Array]:
    """The decimal mark of the column, and whether each amount agrees with it."""
    as_point, as_comma = (pc.match_substring_regex(number, _pattern(mark, grouped=grouped)) for mark in ".,")
    only_point, only_comma = pc.and_not(as_point, as_comma), pc.and_not(as_comma, as_point)
    n_point, n_comma = _count(only_point), _count(only_comma)
    either = pc.and_(pc.and_(as_point, as_comma), pc.match_substring_regex(number, _MARKED))
    n_either = _count(either)
    if min(n_point, n_comma) > WIDESPREAD * (n_point + n_comma):
        raise AmbiguousNumbersError(
            f"has {n_point} numbers with a decimal point, as in 1,234.56, and {n_comma} with a decimal comma, as in "
            "1.234,56: export all of them alike, best as 1234.56"
        )
    if n_either and not n_point and not n_comma:
        if n_either > WIDESPREAD * len(number):
            raise AmbiguousNumbersError(
                f"has {n_either} numbers such as 1.234 or 1,234 and none with one or two decimals, so that these may "
                "be thousands or three decimals: export all of them without marks between thousands and with two "
                "decimals, as 1234.00"
            )
        return ".", pc.and_not(as_point, either)
    decimal = "." if n_point >= n_comma else ","
    agrees = as_point if decimal == "." else as_comma
    if decimal == ",":
        notes["a decimal comma"] = n_comma
    group = "," if decimal == "." else "."
    if n_grouped := _count(pc.and_(agrees, pc.match_substring(number, group))):
        notes["thousands marked by a comma" if group == "," else "thousands marked by a point"] = n_grouped
    return decimal, agrees


def _pattern(decimal: str, *, grouped: bool) -> str:
    point, comma = (r"\.", ",") if decimal == "." else (",", r"\.")
    groups = rf"|[1-9][0-9]{{0,2}}(?:{comma}[0-9]{{3}})+|[1-9][0-9]?(?:{comma}[0-9]{{2}})+{comma}[0-9]{{3}}"
    return rf"^(?:[0-9]+{groups if grouped else ''})(?:{point}[0-9]*)?$|^{point}[0-9]+$"


def _with_point(number: pa.Array, *, decimal: str) -> pa.Array:
    group = "," if decimal == "." else "."
    return pc.replace_substring(pc.replace_substring(number, group, ""), decimal, ".")


def _minus(parts: pa.Array) -> pa.Array:
    """A minus where the amount has one before, behind, or as parentheses."""
    signs = [pc.fill_null(pc.struct_field(parts, name), "") for name in ("sign", "minus", "end")]
    minuses = pa.array(["-", "\u2212", "(", ")"])
    negative = pc.or_(pc.or_(*(pc.is_in(sign, minuses) for sign in signs[:2])), pc.is_in(signs[2], minuses))
    return pc.if_else(negative, "-", "")


def _count(condition: pa.Array) -> int:
    return int(pc.sum(condition).as_py() or 0)
