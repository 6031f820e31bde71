"""Which column holds the currency of the amounts, and what follows from its values.

Belongs here: the guess and its sentences. Must not be here: rates, which only a person knows.
"""

import re
from collections.abc import Sequence
from typing import Final

from fraud_pipeline.ingest.column_names import spelled
from fraud_pipeline.ingest.column_profiles import Profile
from fraud_pipeline.ingest.money_reading import MoneyReading
from fraud_pipeline.schema.currencies import MINOR_DIGITS

_NAME: Final = re.compile(r"(?:^|_)(?:currency|ccy|curr)(?:_?code)?$")
_SHOWN: Final = 5


def currency_column(profiles: Sequence[Profile]) -> Profile | None:
    """The first column that is named like a currency and holds nothing but codes of ISO 4217."""
    for profile in profiles:
        if _NAME.search(spelled(profile.name)) and not profile.is_nested and profile.filled and _codes(profile):
            return profile
    return None


def one_currency(profile: Profile) -> MoneyReading | None:
    """The reading of a column that holds one currency in all rows; several need rates."""
    codes = _codes(profile)
    if len(codes) != 1 or profile.filled < len(profile.text):
        return None
    return MoneyReading(column=profile.name, reporting=next(iter(codes)))


def several_currencies(profile: Profile) -> str:
    """The warning about a column of several currencies, with what converts them; empty for one currency."""
    codes = _codes(profile)
    if len(codes) < 2:
        return ""
    total = sum(codes.values())
    shown = [f"{code} {count / total:.0%}" for code, count in list(codes.items())[:_SHOWN]]
    more = [f"{len(codes) - _SHOWN} more"] if len(codes) > _SHOWN else []
    rates = ", ".join(f"{code} = ..." for code in list(codes)[:2])
    return (
        f"'{profile.name}' names {len(codes)} currencies ({', '.join([*shown, *more])}), and amounts are taken as they "
        f'are. To convert them, write currency = "{profile.name}" in [fields] of fraud.toml in place of the own field, '
        f"and a table [rates] with one unit of each in your reporting currency ({rates})."
    )


def _codes(profile: Profile) -> dict[str, int]:
    """Rows by currency, the most frequent first; empty where some value is no currency."""
    codes: dict[str, int] = {}
    for value, count in profile.counts.items():
        codes[value.upper()] = codes.get(value.upper(), 0) + count
    return codes if codes.keys() <= MINOR_DIGITS.keys() else {}
