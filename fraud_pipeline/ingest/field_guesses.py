"""Which column is which of our fields, except time and label: by its name, if its values fit.

Belongs here: whether values fit a field. Must not be here: names (`field_names.py`), times, own fields.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fraud_pipeline.ingest.column_names import spelled
from fraud_pipeline.ingest.column_profiles import NEARLY_ALL, Profile
from fraud_pipeline.ingest.column_times import TimeSpelling, time_spelling
from fraud_pipeline.ingest.field_names import NO_AMOUNT, field_rank
from fraud_pipeline.ingest.time_guesses import TimeGuess
from fraud_pipeline.ingest.time_spellings import MISSING
from fraud_pipeline.schema.fields import FIELDS

_SCIENTIFIC: Final = r"^[0-9][.,]?[0-9]*[eE][+-]?[0-9]+$"
_MAX_LENGTH: Final = 64
_MOST_CATEGORIES: Final = 2_000
_FEWEST_IDS: Final = 20
_CHANNELS: Final = tuple(
    spelling for value, others in FIELDS["channel"].allowed.items() for spelling in (value, *others)
)
GUESSED: Final = (
    *("transaction_id", "amount", "customer_id", "merchant_id", "category", "channel", "country"),
    *("latitude", "longitude"),
)
"""Plain fields in the order in which they choose a column."""


@dataclass(frozen=True, slots=True)
class FieldGuess:
    """A column that is a field, and why."""

    field: str
    name: str
    evidence: str


def guess_fields(
    profiles: Sequence[Profile], *, given: Mapping[str, str], refused: Collection[str], used: Collection[str]
) -> dict[str, FieldGuess]:
    """{field: guess} of the plain fields. `given` fields are those that a person named; `refused` ones get no column.

    Columns in `used` are taken already.
    """
    free = [profile for profile in profiles if profile.name not in {*used, *given.values()}]
    guesses: dict[str, FieldGuess] = {}
    for field in GUESSED:
        if field in given:
            guesses[field] = FieldGuess(field, given[field], "given by you")
            continue
        if field in refused:
            continue
        ranked = [
            (rank, place, profile)
            for place, profile in enumerate(free)
            if (rank := field_rank(field, profile.name)) is not None and not profile.is_nested and profile.filled
        ]
        for rank, _, profile in sorted(ranked, key=lambda entry: entry[:2]):
            evidence = _FITS[field](profile, rank)
            if evidence:
                guesses[field] = FieldGuess(field, profile.name, evidence)
                free = [other for other in free if other is not profile]
                break
    for field, partner in (("latitude", "longitude"), ("longitude", "latitude")):
        if field in guesses and partner not in guesses:
            del guesses[field]
    return guesses


def guess_report_time(
    profiles: Sequence[Profile], *, event: TimeGuess | None
) -> tuple[FieldGuess | None, dict[str, str]]:
    """The column of report times, and the columns that are named like one with the reason why they are none."""
    refused: dict[str, str] = {}
    for profile in profiles:
        if field_rank("reported_at", profile.name) is None:
            continue
        spelling = time_spelling(profile)
        if spelling is None or event is None:
            continue
        if not _is_dated_alike(spelling, event):
            refused[profile.name] = (
                "a report time, but neither written as 2026-01-31T13:45:00Z nor as the event time is"
            )
            continue
        happened = event.spelling.times
        both = (spelling.times != MISSING) & (happened != MISSING)
        delays = spelling.times[both] - happened[both]
        if len(delays) and (delays > 0).mean() > 0.5:
            days = float(np.median(delays)) / 86_400e6
            return FieldGuess(
                "reported_at", profile.name, f"a time after the event, {days:,.1f} days in the middle"
            ), refused
        refused[profile.name] = "named as the time of the label, but not later than the event: it tells no report time"
    return None, refused


def _is_dated_alike(spelling: TimeSpelling, event: TimeGuess) -> bool:
    """Whether the source can read a report time: it is year first, or written as the event time is."""
    plain = not spelling.unit and not spelling.format
    return plain or (
        len(event.columns) == 1 and (spelling.unit, spelling.format) == (event.spelling.unit, event.spelling.format)
    )


def _is_id(profile: Profile) -> bool:
    if pa.types.is_boolean(profile.cells.type) or pa.types.is_temporal(profile.cells.type):
        return False
    if profile.is_number and not profile.is_whole:
        return False
    if profile.filled < NEARLY_ALL * len(profile.text) or profile.fits(_SCIENTIFIC):
        return False
    longest = pc.max(pc.utf8_length(profile.text)).as_py() or 0
    return bool(longest <= _MAX_LENGTH)


def _transaction_id(profile: Profile, _rank: int) -> str:
    return "each value occurs once" if _is_id(profile) and profile.is_unique else ""


def _entity_id(profile: Profile, rank: int) -> str:
    """Whether a column identifies customers or merchants."""
    if not _is_id(profile) or profile.yes or (rank > 1 and not _has_many(profile)):
        return ""
    return f"{_many(profile)} in {len(profile.text):,} sampled rows"


def _has_many(profile: Profile) -> bool:
    """Whether values are as many as customers or merchants are, and not the few of a kind of card or of a channel."""
    return profile.distinct >= min(_FEWEST_IDS, 0.1 * len(profile.text))


def _amount(profile: Profile, rank: int) -> str:
    numbers = profile.present_numbers
    if rank > 1 and NO_AMOUNT.search(spelled(profile.name)):
        return ""
    if not len(numbers) or len(numbers) < 0.9 * len(profile.text) or profile.counts_rows or profile.yes:
        return ""
    positive = float((numbers > 0).mean())
    if (
        (rank > 1 and positive < 0.5)
        or np.abs(numbers).max() > FIELDS["amount"].maximum
        or (rank and profile.distinct < 3)
    ):
        return ""
    zero, negative = float((numbers == 0).mean()), float((numbers < 0).mean())
    kinds = [word for share, word in ((zero, "zero"), (negative, "negative")) if share]
    return "numbers" + (f"; {' and '.join(kinds)} ones are kept" if kinds else "")


def _category(profile: Profile, _rank: int) -> str:
    if (profile.is_number and not profile.is_whole) or profile.yes or profile.distinct < 2:
        return ""
    repeats = profile.distinct <= max(20, 0.2 * profile.filled) and profile.distinct <= _MOST_CATEGORIES
    return f"{_many(profile)} that repeat" if repeats else ""


def _channel(profile: Profile, _rank: int) -> str:
    words = {value.lower().replace(" ", "_").replace("-", "_"): count for value, count in profile.counts.items()}
    known = sum(count for word, count in words.items() if word in _CHANNELS)
    return "names of channels that are known" if profile.distinct > 1 and known >= 0.9 * profile.filled else ""


def _country(profile: Profile, _rank: int) -> str:
    return "two-letter codes" if profile.is_country and profile.distinct > 1 else ""


def _degrees(limit: float) -> Callable[[Profile, int], str]:
    def fits(profile: Profile, _rank: int) -> str:
        numbers = profile.present_numbers
        return "degrees" if len(numbers) and np.abs(numbers).max() <= limit and profile.distinct > 1 else ""

    return fits


def _many(profile: Profile) -> str:
    return f"{profile.distinct:,} value{'s' if profile.distinct != 1 else ''}"


_FITS: Final[Mapping[str, Callable[[Profile, int], str]]] = {
    "transaction_id": _transaction_id,
    "customer_id": _entity_id,
    "merchant_id": _entity_id,
    "amount": _amount,
    "category": _category,
    "channel": _channel,
    "country": _country,
    "latitude": _degrees(90),
    "longitude": _degrees(180),
}
