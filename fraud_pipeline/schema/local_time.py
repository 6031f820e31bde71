"""Local time: by how many minutes the clock of a transaction is ahead of UTC.

Belongs here: what an offset is, its text, and how it is stored. Must not be here: zones of files (`ingest/`), features
of local time (`features/engineer.py`).

The offset is stored as an own field where local time is declared. A time that ends in Z tells the instant and not the
local clock, as RFC 9557 (section 2.2) says; +00:00 is a clock that shows UTC. Where no offset is known, UTC counts.
"""

import re
from datetime import datetime, timedelta, timezone
from typing import Final

from fraud_pipeline.schema.own_fields import OwnField

UTC_OFFSET: Final = "utc_offset_minutes"
OFFSET_FIELD: Final = OwnField(
    name=UTC_OFFSET, type="number", description="minutes by which the local clock is ahead of UTC"
)
MINUTE: Final = 60_000_000
MINUTES_OF_A_DAY: Final = 1_440
_OFFSET: Final = re.compile(r"([+-])([01]\d|2[0-3])(?::?([0-5]\d))?")
_UNKNOWN: Final = re.compile(r"-00(?::?00)?")
_LENGTH: Final = len("+01:00")


def offset_of(text: str) -> int | None:
    """Minutes of an offset such as +01:00, +0100 or +01; None for -00:00 and for any other text."""
    match = _OFFSET.fullmatch(text)
    if match is None or _UNKNOWN.fullmatch(text):
        return None
    sign, hours, minutes = match.groups()
    return (-1 if sign == "-" else 1) * (int(hours) * 60 + int(minutes or 0))


def offset_of_time(text: str) -> int | None:
    """Minutes of the offset of a time of RFC 3339; None where it ends in Z."""
    return offset_of(text[-_LENGTH:])


def on_local_clock(moment: datetime, offset: object) -> datetime:
    """The same instant with the offset of the local clock, if one is known."""
    if not isinstance(offset, int | float) or not abs(offset) < MINUTES_OF_A_DAY:
        return moment
    return moment.astimezone(timezone(timedelta(minutes=int(offset))))
