"""The type of a column that is no fixed field, or the reason why it is not used.

Belongs here: one column and its type. Must not be here: fixed fields, columns that give the label away
(`label_leaks.py`).
"""

import re
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fraud_pipeline.ingest.column_names import is_row_index, spelled
from fraud_pipeline.ingest.column_profiles import Profile, plain_count
from fraud_pipeline.ingest.column_times import time_spelling
from fraud_pipeline.schema.own_fields import OwnType

_CODE: Final = re.compile(
    r"(?:^|_)(?:zip|postal|postcode|plz|mcc|code|cd|bin|iin|area|region|state|branch|prefix|category|type|kind|class|"
    r"segment|group|cluster|sector|status|currency|domain|addr|address)(?:_|$|code)"
)
_ID: Final = re.compile(
    r"(?:^|_)(?:id|ids|uuid|guid|hash|token|phone|telephone|mobile|fax|iban|pan|device|account|card|number|num|ssn|"
    r"cookie|session|fingerprint|imei|serial)(?:_|$)"
)
_ENDS_AS_ID: Final = re.compile(
    r"(?:^|_)(?:id|uuid|guid|hash|token|phone|telephone|mobile|iban|pan|device|account|card|ssn|terminal|no|nr)$"
)
_PERSON: Final = re.compile(
    r"(?:^|_)(?:(?:first|last|middle|full|sur|given|family|holder|customer|user|person|client|billing|shipping|"
    r"account|contact|employee|owner)_?name|first|last|surname|street|address|addr|strasse|rue|calle|user_agent|agent|"
    r"comment|note|notes|description|desc|memo|message|subject|remark)(?:_|$|_[0-9])"
)
_MONEY: Final = re.compile(
    r"(?:^|_)(?:amount|amt|price|balance|income|salary|limit|cost|fee|fees|charge|premium|deductable|deductible|"
    r"credit|debit|payment|spend|spent|revenue|turnover|gain|gains|loss|capital|cash|fare|tip|total)(?:_|$)"
)
_COUNT: Final = re.compile(
    r"(?:^|_)(?:count|num|number|n|nr|age|months?|days?|hours?|years?|weeks?|minutes?|seconds?)(?:_|$)"
)
_COUNTRY: Final = re.compile(r"(?:^|_)(?:country|nationality|citizenship|land|nation|cntry)(?:_|$)")
_MOST_CATEGORIES: Final = 1_000
_MOST_CODES: Final = 256
"""Categories of a model's input; a code of more values that hardly repeat is an identifier."""
_FEW_CODES: Final = 12
_LONG_TEXT: Final = 40
_LONG_NUMBER: Final = 1e8


@dataclass(frozen=True, slots=True)
class TypeGuess:
    """A column's type and why; without a type the column is not used, for the reason that `evidence` says."""

    type: OwnType | None
    evidence: str


def guess_type(profile: Profile) -> TypeGuess:
    """The type of a column that is no fixed field."""
    unused = _unused(profile)
    if unused:
        return TypeGuess(None, unused)
    words = spelled(profile.name)
    if profile.yes:
        return TypeGuess("boolean", f"only {' and '.join(profile.yes)}" if profile.distinct > 1 else "yes, no or empty")
    if profile.is_number:
        return _number(profile, words)
    return _time(profile) or _spelled(profile, words) or _text(profile, words)


def _time(profile: Profile) -> TypeGuess | None:
    spelling = time_spelling(profile)
    if spelling is None:
        return None
    if spelling.format:
        return TypeGuess(None, f"dates of the form {spelling.format}; write them as 2026-01-31 to use them")
    return TypeGuess("time", "dates" if spelling.all_midnight else "times")


def _spelled(profile: Profile, words: str) -> TypeGuess | None:
    """A type that each of its values shows."""
    if profile.is_email:
        return TypeGuess("email", "every value is one")
    if profile.is_ip:
        return TypeGuess("ip", "every value is one")
    if profile.is_country and _COUNTRY.search(words):
        return TypeGuess("country", "two-letter codes")
    return None


def _unused(profile: Profile) -> str:
    if profile.is_nested:
        return "it holds lists, structures or bytes: flatten it to use it"
    if not profile.filled:
        return "it is empty"
    if profile.distinct == 1 and profile.filled == len(profile.text):
        return "it has one value in all rows"
    if profile.counts_rows or (is_row_index(profile.name) and profile.is_whole and profile.is_unique):
        return "it counts the rows"
    return ""


def _number(profile: Profile, words: str) -> TypeGuess:
    numbers, values = profile.present_numbers, plain_count(profile.distinct, "value")
    if profile.is_whole:
        counts = _COUNT.search(words) or _MONEY.search(words)
        many = profile.distinct > _MOST_CODES and profile.distinct_share > 0.5
        if numbers.min() >= _LONG_NUMBER and profile.distinct_share > 0.05:
            return TypeGuess("identifier", f"long numbers, {values}")
        if _ENDS_AS_ID.search(words) and not counts:
            return TypeGuess(
                "identifier" if profile.distinct > _MOST_CODES else "category", f"names something, {values}"
            )
        if profile.has_leading_zeros or (_CODE.search(words) and not counts):
            return TypeGuess("identifier" if many else "category", f"a code, {values}")
        spread = float(numbers.max() - numbers.min()) + 1
        if profile.distinct <= _FEW_CODES and spread > 3 * profile.distinct and not counts:
            return TypeGuess("category", f"few whole numbers with gaps between them, {values}")
    is_money = _MONEY.search(words) and (profile.distinct > _FEW_CODES or not profile.is_whole)
    if profile.has_groups or (is_money and not profile.may_have_groups):
        return TypeGuess("money", _range(profile))
    return TypeGuess("number", _range(profile))


def _range(profile: Profile) -> str:
    missing = len(profile.text) - len(profile.present_numbers)
    share = f", {missing / len(profile.text):.0%} missing" if missing > 0.005 * len(profile.text) else ""
    return ("whole numbers" if profile.is_whole else "decimal numbers") + share


def _text(profile: Profile, words: str) -> TypeGuess:
    values = plain_count(profile.distinct, "value")
    longest = float(np.nan_to_num(pc.mean(pc.utf8_length(profile.text)).as_py() or 0))
    if _PERSON.search(words) or longest > _LONG_TEXT:
        return TypeGuess("text", f"names, addresses or sentences, {values}")
    if _ID.search(words) and profile.distinct > min(_MOST_CATEGORIES, 50) and not re.search(r"_type(_|$)", words):
        return TypeGuess("identifier", f"names something, {values}")
    if profile.distinct <= max(20, 0.5 * profile.filled) and (
        profile.distinct <= _MOST_CATEGORIES or profile.distinct_share <= 0.1
    ):
        return TypeGuess("category", values)
    if pa.types.is_boolean(profile.cells.type):
        return TypeGuess("boolean", "yes or no")
    return TypeGuess("text" if profile.has_spaces else "identifier", f"hardly any value repeats, {values}")
