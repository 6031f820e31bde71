"""The rules of ids: equal spellings, empty ones, and ids that lost digits or characters on their way.

Belongs here: the one table of rules that files, HTTP and the stream follow. Must not be here: files, requests.

An id is opaque text: letter case and leading zeros belong to it. A spelling is corrected only where nothing can be
lost; a damaged id is refused. `read_identifier` reads one text. `read_identifiers` calls it for those texts of a column
that a pattern selects, and keeps plain texts as they are.
"""

import re
import unicodedata
from collections import Counter
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

NORMALISATIONS: Final = MappingProxyType(
    {
        "padding": "white space and invisible characters around it were removed",
        "wrapping": 'the quotes, the apostrophe or the ="..." of a spreadsheet around it were removed',
        "whole_number": "123.0 became 123, as exports write whole numbers of a column with gaps",
        "mojibake": "UTF-8 that was read in another encoding was put right",
        "unicode": "composed characters, digits and spaces got one spelling; invisible characters inside were removed",
    }
)
"""What is put right in an id or text -> what that means."""

PROBLEMS: Final = MappingProxyType(
    {
        "lost_digits": "the id was written as a rounded number such as 4.51E+15, so that many ids became one: format "
        "the column as text where it comes from, and export it again",
        "lost_characters": "the text holds replacement characters of a failed conversion: export it again as UTF-8",
        "decimal_id": "an id is text or a whole number, and this is a number with decimals: map the right column, or "
        "export the ids as text",
    }
)
"""What is wrong with an id -> what to do about it, beside the problems that any text can have."""

_WHITE: Final = " \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
"""White space, spelled out, because \\s means another set in each dialect of patterns."""
_INVISIBLE: Final = "\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff"
_JOINERS: Final = "\u200c\u200d"  # mean something between letters, and nothing around a text
EDGES: Final = _WHITE + _INVISIBLE + _JOINERS
"""What padding is made of, beside tabs; for the brackets of a pattern."""
_EDGE: Final = "".join(chr(code) for code in range(0x1_0000) if re.fullmatch(rf"[\t{EDGES}]", chr(code)))
_NOTHING: Final = (
    r"[(<\[{]?(?:null|nil|none|nan|nat|na|n/a|undefined)[)>\]}]?|n\.a\.?|\\{1,2}n|dbnull|-nan|"
    r"#(?:n/a|null!|ref!|value!|div/0!|name\?|num!|error!)|"
    "[-\uff0d]+|[?\uff1f]+|[.\uff0e]+|[*\uff0a]+|[_\uff3f]+"
)
# With a point or a sign as programs print it; of neither, only what they print for one digit, because 12e45678 is hex.
_SCIENTIFIC: Final = (
    r"[+-]?(?:[0-9]+[.,][0-9]*|[.,][0-9]+) ?[eEdD][+-]?[0-9]{1,4}|[+-]?[0-9]+ ?[eEdD][+-][0-9]{1,4}|"
    r"[0-9][eE][1-9][0-9]|"
    "[+-]?[0-9.,]+ ?[xX*\u00d7\u00b7] ?10 ?\\^ ?[+-]?[0-9]+"
)
_DECIMAL: Final = r"[+-]?[0-9]*[.,][0-9]+|[+-]?[0-9]{1,3}(?:,[0-9]{3}){2,}"
# As spreadsheets and CSV writers put them around a text, and their wide forms.
_QUOTES: Final = "\"'`\uff02\uff07\uff40\u1fef"
_OPENING: Final = f"{_QUOTES}=\uff1d"
NOTHING_PATTERN: Final = rf"(?:{_NOTHING})?"
REFUSED_PATTERN: Final = rf"(?:{_SCIENTIFIC}|{_DECIMAL}|[+-]?[0-9]{{16,}}\.)"
WHOLE_PATTERN: Final = r"[+-]?0*(?:[0-9]{1,15}|[1-8][0-9]{15})(?:\.|[.,]0{1,2}|[.,]0{4,})"
"""Whole numbers as exports write them, which are put right although they look like REFUSED_PATTERN."""
BEFORE_PATTERN: Final = rf"[\t{_OPENING}{EDGES}]*"
AFTER_PATTERN: Final = rf"[\t{_QUOTES}{EDGES}]*"
"""What may stand around a text that holds nothing or is refused, and does not make it an id."""

# What may need more than trimming: RE2 and Python read it alike, and everything else is an id as it stands.
_ATTENTION: Final = (
    rf"(?i)[^\x20-\x7e]|^[ =\"'`]|[ \"'`]$|^(?:{_NOTHING})?$|^[+-]?[0-9]*[.,][0-9.,]*$|"
    r"^[+-]?[0-9.,]+ ?(?:[ed]|[x*] ?10 ?\^) ?[+-]?[0-9]+$"
)
_NEEDS_ATTENTION: Final = re.compile(_ATTENTION)
_IS_NOTHING: Final = re.compile(NOTHING_PATTERN, re.IGNORECASE | re.ASCII)
_IS_SCIENTIFIC: Final = re.compile(_SCIENTIFIC)
_IS_DECIMAL: Final = re.compile(_DECIMAL)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
_WRAPPED: Final = (
    re.compile(r"=?(\"+|\u201c|\u201e)(?P<id>[^\"\u201c\u201d\u201e]*)(\"+|\u201d|\u201c)"),
    re.compile(r"(['`]|\u2018)(?P<id>[^'`\u2018\u2019]*)(['`]|\u2019)"),
    re.compile(r"['`\u2019](?P<id>[^'`\s]*[0-9][^'`\s]*)"),
    re.compile(r"=(?P<id>[0-9]+)"),
)
# Three zeros after a point may be thousands.
_WHOLE: Final = re.compile(r"(?P<id>[+-]?[0-9]+)(?:\.|[.,]0{1,2}|[.,]0{4,})")
_LARGEST_EXACT: Final = 2**53 - 1
_INSIDE: Final = re.compile(f"[{_INVISIBLE}]")
_SPACES: Final = re.compile(f"[{_WHITE}]")
_MOJIBAKE: Final = re.compile(
    "[\u00c2-\u00f4][\u0080-\u00bf\u20ac\u201a\u0192\u201e\u2026\u2020\u2021\u02c6\u2030\u0160\u2039\u0152\u017d"
    "\u2018\u2019\u201c\u201d\u2022\u2013\u2014\u02dc\u2122\u0161\u203a\u0153\u017e\u0178]"
)
_MAX_ROUNDS: Final = 8
_LONGEST_WORD: Final = 11
_SAMPLE: Final = 4_096
_PIECE: Final = 1 << 17
_LETTERS_AND_DIGITS: Final = np.array([chr(code).isalnum() and code < 128 for code in range(256)])

Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Reading:
    """The id in a text and its normalisations, or the problem. Without either the text holds nothing."""

    text: str | None
    rules: tuple[str, ...] = ()
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class IdentifierColumn:
    """A column of ids: `texts` are clean where they hold something, and as they came where there is a problem.

    `problems` has a flag for each row, shape (n,), per problem that occurs; `rules` counts rows per normalisation.
    """

    texts: pa.Array
    problems: dict[str, Flags]
    rules: dict[str, int]


def read_identifier(text: str, *, exact: bool = True) -> Reading:
    """One text as an id; with `exact` off as any other short text, which may be a number with decimals.

    Problems are keys of PROBLEMS, or `control_character`. A text of any length is read; its length is not judged.
    """
    if not _NEEDS_ATTENTION.search(text):
        return Reading(text)
    cleaned, rules = _normalised(text)
    # A text of padding alone holds nothing, also where tabs are among it.
    problem = _problem(cleaned or text, exact=exact) if cleaned or _CONTROL.search(text.strip(_EDGE)) else None
    if problem is not None:
        return Reading(text, problem=problem)
    return Reading(None) if _IS_NOTHING.fullmatch(_bare(cleaned)) else Reading(cleaned, rules)


def _bare(text: str) -> str:
    """The text without quotes that have no partner, which make no id of a word for nothing or of a rounded number."""
    return text.lstrip(_OPENING + _EDGE).rstrip(_QUOTES + _EDGE)


def _problem(text: str, *, exact: bool) -> str | None:
    if _CONTROL.search(text):
        return "control_character"
    if "\ufffd" in text:
        return "lost_characters"
    number = _bare(text)
    if exact and (_IS_SCIENTIFIC.fullmatch(number) or _is_inexact(number)):
        return "lost_digits"
    return "decimal_id" if exact and _IS_DECIMAL.fullmatch(number) else None


def read_identifiers(column: pa.Array, *, exact: bool = True) -> IdentifierColumn:
    """A column of text (nulls allowed, valid Unicode) as `read_identifier` reads each of its texts."""
    if not _repeats(column):
        return _read_each(column, np.ones(len(column), dtype=np.int64), exact=exact)
    encoded = column.dictionary_encode()
    codes = encoded.indices
    rows_of = np.bincount(codes.drop_null().to_numpy(), minlength=len(encoded.dictionary))
    each = _read_each(encoded.dictionary, rows_of, exact=exact)
    if each.texts is encoded.dictionary:
        return IdentifierColumn(column, {}, {})
    rows = codes.fill_null(0).to_numpy()
    present = codes.is_valid().to_numpy(zero_copy_only=False)
    problems = {problem: flags[rows] & present for problem, flags in each.problems.items()}
    return IdentifierColumn(each.texts.take(codes), problems, each.rules)


def _repeats(column: pa.Array) -> bool:
    """Whether texts come again so often that it is quicker to read each once."""
    some = column.slice(0, _SAMPLE)
    return len(some) == _SAMPLE and len(some.unique()) < _SAMPLE // 2


def _read_each(column: pa.Array, rows_of: NDArray[np.int64], *, exact: bool) -> IdentifierColumn:
    """Each text of a column, which stands for that many rows; the same column where all are ids as they stand."""
    trimmed = pc.utf8_trim(column, characters=_EDGE)
    padded = _flags(pc.not_equal(pc.binary_length(trimmed), pc.binary_length(column)))
    needs = _attention(trimmed)
    if not needs.any() and not padded.any():
        return IdentifierColumn(column, {}, {})
    rules: Counter[str] = Counter()
    rules["padding"] = int(rows_of[padded & ~needs].sum())
    unusual = pc.filter(column, pa.array(needs)).to_pylist()
    readings = [read_identifier(text, exact=exact) for text in unusual]
    positions = np.flatnonzero(needs)
    for reading, rows in zip(readings, rows_of[positions].tolist(), strict=True):
        rules.update(dict.fromkeys(reading.rules, rows))
    problems: dict[str, Flags] = {}
    for problem in sorted({reading.problem for reading in readings if reading.problem}):
        problems[problem] = np.zeros(len(column), dtype=bool)
        problems[problem][positions[[reading.problem == problem for reading in readings]]] = True
    texts = pa.array([reading.text for reading in readings], type=pa.string())
    return IdentifierColumn(
        pc.replace_with_mask(trimmed, pa.array(needs), texts),
        problems,
        {rule: rows for rule, rows in rules.items() if rows},
    )


def _normalised(text: str) -> tuple[str, tuple[str, ...]]:
    """The text after all normalisations, and which of them changed it."""
    rules: list[str] = []
    for _ in range(_MAX_ROUNDS):
        before = text
        for rule, normalise in _NORMALISE.items():
            changed = normalise(text)
            if changed != text:
                rules.append(rule)
            text = changed
        if text == before:
            break
    return text, tuple(dict.fromkeys(rules))


def _stripped(text: str) -> str:
    return text.strip(_EDGE)


def _unwrapped(text: str) -> str:
    for wrapped in _WRAPPED:
        if match := wrapped.fullmatch(text):
            return match["id"]
    return text


def _whole(text: str) -> str:
    match = _WHOLE.fullmatch(text)
    return match["id"] if match and abs(int(match["id"])) <= _LARGEST_EXACT else text


def _read_as_utf8(text: str) -> str:
    if not _MOJIBAKE.search(text):
        return text
    for encoding in ("cp1252", "latin-1"):
        try:
            return text.encode(encoding).decode()
        except UnicodeError:
            continue
    return text


def _composed(text: str) -> str:
    if text.isascii():
        return text
    composed = unicodedata.normalize("NFC", _SPACES.sub(" ", _INSIDE.sub("", text)))
    return "".join(map(_plain_character, composed))


def _plain_character(character: str) -> str:
    """Decimal digits of any script, and the wide forms of ASCII, in ASCII."""
    if "\uff01" <= character <= "\uff5e":
        return chr(ord(character) - 0xFEE0)
    digit = unicodedata.decimal(character, None)
    return character if digit is None else str(digit)


_NORMALISE: Final = MappingProxyType(
    {
        "padding": _stripped,
        "wrapping": _unwrapped,
        "mojibake": _read_as_utf8,
        "unicode": _composed,
        "whole_number": _whole,
    }
)


def _is_inexact(text: str) -> bool:
    """Whether a whole number is spelled as a float that is too large to be exact."""
    match = _WHOLE.fullmatch(text)
    return match is not None and abs(int(match["id"])) > _LARGEST_EXACT


def _attention(trimmed: pa.Array) -> Flags:
    """Which texts must be looked at one by one."""
    data = trimmed.buffers()[2]
    content = np.frombuffer(data, dtype=np.uint8) if data is not None else np.empty(0, dtype=np.uint8)
    shortest = pc.min(pc.binary_length(trimmed)).as_py() or 0
    # Columns of nothing but digits, or of long words of letters and digits, need no search.
    if shortest and ord("0") <= content.min() and content.max() <= ord("9"):
        return np.zeros(len(trimmed), dtype=bool)
    if shortest > _LONGEST_WORD and _all_letters_and_digits(content):
        return np.zeros(len(trimmed), dtype=bool)
    return _flags(pc.match_substring_regex(trimmed, _ATTENTION))


def _all_letters_and_digits(content: NDArray[np.uint8]) -> bool:
    """Whether all bytes are ASCII letters and digits; looked up in pieces that stay in the processor's cache."""
    pieces = (content[start : start + _PIECE] for start in range(0, len(content), _PIECE))
    return all(_LETTERS_AND_DIGITS[piece].all() for piece in pieces)


def _flags(condition: pa.Array) -> Flags:
    flags: Flags = pc.fill_null(condition, False).to_numpy(zero_copy_only=False)
    return flags
