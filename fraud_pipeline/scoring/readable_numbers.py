"""Numbers in readable form, by their unit.

Belongs here: rounding, units, the largest number shown. Must not be here: sentences (`reason_texts.py`).
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from fraud_pipeline.features.definitions import Unit

LARGEST_SHOWN: Final = 1e9
BEYOND: Final = 1e15
"""Replaces infinity; larger than the largest number shown in any unit."""
_WEEKDAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def _number(value: float) -> str:
    """A number with two significant digits, and never too long to read."""
    size = abs(value)
    if size > LARGEST_SHOWN:
        text = f"over {LARGEST_SHOWN:,.0f}"
    elif 0 < size < 0.01:
        text = "under 0.01"
    elif size < 0.1:
        text = f"{size:.2f}"
    else:
        text = f"{size:,.0f}" if size >= 10 else f"{size:.1f}"
    text = text.removesuffix(".0")
    return f"minus {text}" if value < 0 else text


def plain_number(value: float) -> str:
    """A number of an unknown unit, with up to six digits as they are."""
    return f"{value:g}" if 1e-3 <= abs(value) < 1e6 or value == 0 else _number(max(-BEYOND, min(value, BEYOND)))


def _counted(number: float, noun: str) -> str:
    shown = _number(number)
    return f"{shown} {noun}{'' if shown == '1' else 's'}"


def _money(cents: float) -> str:
    units = cents / 100
    return f"{units:,.2f}" if abs(units) <= LARGEST_SHOWN else _number(units)


def _duration(seconds: float) -> str:
    """A duration in the largest unit that gives at least 2."""
    for unit, size in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{_number(seconds // size)} {unit}"
    return _counted(seconds, "second")


def _time_of_day(hours: float) -> str:
    hour, minute = divmod(round(hours * 60) % 1_440, 60)
    return f"{hour:02d}:{minute:02d}"


SHOW: Final[Mapping[Unit, Callable[[float], str]]] = MappingProxyType(
    {
        "cents": _money,
        "count": _number,
        "seconds": _duration,
        "days": lambda days: _duration(days * 86_400),
        "ratio": lambda ratio: f"{_number(ratio)}x",
        "share": lambda share: f"{_number(share * 100)} %",
        "km": lambda km: f"{_number(km)} km",
        "km/h": lambda speed: f"{_number(speed)} km/h",
        "flag": _number,
        "hour": _time_of_day,
        "weekday": lambda day: _WEEKDAYS[round(day) % 7],
        "sigma": lambda sigma: f"{_counted(abs(sigma), 'standard deviation')} {'below' if sigma < 0 else 'above'}",
    }
)
"""The readable form of a value, by the unit of its feature."""
