"""Which column, or which columns together, are the time of the transaction.

Belongs here: the choice among columns. Must not be here: the spelling of one column (`column_times.py`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import numpy as np

from fraud_pipeline.ingest.column_mapping import SourceError
from fraud_pipeline.ingest.column_names import spelled
from fraud_pipeline.ingest.column_profiles import Profile
from fraud_pipeline.ingest.column_times import TimeSpelling, by_format, elapsed, is_clock, joined, time_spelling
from fraud_pipeline.ingest.declaration import OWN_OFFSETS, TimeReading, TimeUnit
from fraud_pipeline.ingest.field_names import NO_EVENT_TIME, field_rank

_STEPS: Final = ("step", "time_step", "transaction_dt", "timestep", "elapsed", "seconds", "t", "tick", "period")
_CALENDAR: Final = ("year", "month", "day")
_SORTED: Final = 0.95
_LONGEST_IN_DAYS: Final = 400
_DAILY: Final = 0.3


@dataclass(frozen=True, slots=True)
class TimeOptions:
    """Options about the event time; empty where none was given."""

    origin: datetime | None = None
    unit: TimeUnit = ""
    format: str = ""
    zone: str = ""


@dataclass(frozen=True, slots=True)
class TimeGuess:
    """The columns of the event time, and their spelling."""

    columns: tuple[str, ...]
    spelling: TimeSpelling
    zone: str = ""

    @property
    def reading(self) -> TimeReading:
        """The declaration. Raises SourceError for offsets that such times cannot carry."""
        spelling = self.spelling
        origin = spelling.origin if spelling.unit else None
        if self.zone == OWN_OFFSETS and (spelling.unit or spelling.format):
            raise SourceError(
                f"event_time={'+'.join(self.columns)}: only times as 2026-01-31T13:45:00+01:00 carry an offset; give a "
                "zone, such as --time-zone Europe/Berlin"
            )
        zone = self.zone or (OWN_OFFSETS if spelling.offsets else "")
        return TimeReading(columns=self.columns, unit=spelling.unit, format=spelling.format, origin=origin, zone=zone)


def guess_time(profiles: Sequence[Profile], *, options: TimeOptions) -> TimeGuess | None:
    """The most plausible event time, or None if no column holds times."""
    spellings = _spellings(profiles)
    named = [
        (rank, place, profile, spelling)
        for place, profile in enumerate(profiles)
        if (rank := _rank(profile)) is not None and (spelling := spellings.get(profile.name)) is not None
    ]
    # A date without hours comes after a time of a slightly less plain name.
    for _, _, profile, spelling in sorted(named, key=lambda entry: (entry[0] + 1.5 * entry[3].all_midnight, entry[1])):
        return _with_clock(profile, spelling, profiles, options=options)
    if calendar := _calendar(profiles):
        return TimeGuess(tuple(part.name for part in calendar[0]), calendar[1], options.zone)
    counting = [profile for profile in profiles if _counts_time(profile)]
    if counting:
        best = min(counting, key=lambda profile: (spelled(profile.name) not in _STEPS, _rank(profile) or 0))
        return _elapsed(best, options=options)
    # No name matches, so the only column of times is taken.
    unnamed = [
        (profile, spelling)
        for profile in profiles
        if (spelling := spellings.get(profile.name)) and not profile.is_number and not _is_other_time(profile)
    ]
    return _with_clock(*unnamed[0], profiles, options=options) if len(unnamed) == 1 else None


def named_time(names: Sequence[str], profiles: Sequence[Profile], *, options: TimeOptions) -> TimeGuess:
    """The event time of columns that a person named. Raises SourceError if they hold no times."""
    by_name = {profile.name: profile for profile in profiles}
    parts = [by_name[name] for name in names]
    profile = parts[0] if len(parts) == 1 else joined(parts)
    if len(parts) == 1 and (options.unit or options.origin is not None) and profile.is_number:
        return _elapsed(profile, options=options)
    spelling = by_format(profile, options.format) if options.format else time_spelling(profile)
    if spelling is None and len(parts) == 1 and profile.is_number and not options.format:
        return _elapsed(profile, options=options)
    if spelling is None:
        raise SourceError(
            f"event_time={'+'.join(names)}: its values are no times that are recognised. Give their format, such as "
            '--time-format "%d/%m/%Y %H:%M", or another column'
        )
    return TimeGuess(tuple(names), spelling, options.zone)


def _spellings(profiles: Sequence[Profile]) -> Mapping[str, TimeSpelling | None]:
    """How each column spells times. Numbers are examined only where the name means a time."""
    return {
        profile.name: time_spelling(profile)
        for profile in profiles
        if not profile.is_nested and (not profile.is_number or field_rank("event_time", profile.name) is not None)
    }


def _rank(profile: Profile) -> int | None:
    return None if _is_other_time(profile) else field_rank("event_time", profile.name)


def _is_other_time(profile: Profile) -> bool:
    return NO_EVENT_TIME.search(spelled(profile.name)) is not None


def _with_clock(
    profile: Profile, spelling: TimeSpelling, profiles: Sequence[Profile], *, options: TimeOptions
) -> TimeGuess:
    """A date together with the time of day in another column, if there is one."""
    if options.format and (given := by_format(profile, options.format)):
        return TimeGuess((profile.name,), given, options.zone)
    if spelling.all_midnight and not spelling.unit:
        for other in profiles:
            if other is not profile and is_clock(other) and not _is_other_time(other):
                both = time_spelling(joined([profile, other]))
                if both is not None:
                    return TimeGuess((profile.name, other.name), both, options.zone)
    return TimeGuess((profile.name,), spelling, options.zone)


def _calendar(profiles: Sequence[Profile]) -> tuple[list[Profile], TimeSpelling] | None:
    """Year, month and day in columns of their own, with or without a time of day."""
    by_word = {spelled(profile.name): profile for profile in profiles}
    parts = [by_word[word] for word in _CALENDAR if word in by_word]
    if len(parts) < len(_CALENDAR):
        return None
    clocks = [profile for profile in profiles if is_clock(profile)]
    hour = by_word.get("hour")
    if clocks:
        seconds = ":%S" if clocks[0].fits(r"^\d{1,2}:\d{2}:\d{2}$") else ""
        parts, text_format = [*parts, clocks[0]], f"%Y %m %d %H:%M{seconds}"
    elif hour is not None and hour.is_whole and hour.present_numbers.max() < 24:
        parts, text_format = [*parts, hour], "%Y %m %d %H"
    else:
        text_format = "%Y %m %d"
    spelling = by_format(joined(parts), text_format)
    return None if spelling is None else (parts, spelling)


def _counts_time(profile: Profile) -> bool:
    """Whether a column counts seconds, hours or days from a start, by its name and because it grows with the rows."""
    numbers = profile.present_numbers
    words = spelled(profile.name)
    named = words in _STEPS or _rank(profile) is not None
    if not named or len(numbers) < len(profile.text) or numbers.min() < 0 or profile.distinct < 3:
        return False
    grows = bool((np.diff(numbers) >= 0).mean() >= _SORTED) if len(numbers) > 1 else False
    return words in _STEPS or (grows and numbers.max() >= 24)


def _elapsed(profile: Profile, *, options: TimeOptions) -> TimeGuess:
    unit = options.unit or _unit(profile)
    return TimeGuess((profile.name,), elapsed(profile, unit=unit, origin=options.origin), options.zone)


def _unit(profile: Profile) -> TimeUnit:
    """The unit of numbers that count from a start: by the name, or by how high and how regularly they count."""
    words = spelled(profile.name).split("_")
    named: tuple[tuple[TimeUnit, tuple[str, ...]], ...] = (
        ("days", ("day", "days")),
        ("hours", ("hour", "hours")),
        ("minutes", ("minute", "minutes", "min")),
        ("ms", ("ms", "millis", "milliseconds")),
        ("s", ("sec", "secs", "second", "seconds", "s")),
    )
    for unit, spellings in named:
        if set(words) & set(spellings):
            return unit
    highest = float(profile.present_numbers.max())
    if not {"step", "tick", "period"} & set(words):
        return "s"
    if highest <= _LONGEST_IN_DAYS and not _has_daily_cycle(profile):
        return "days"
    return "hours" if highest < 100_000 else "s"


def _has_daily_cycle(profile: Profile) -> bool:
    """Whether the rows per step repeat after 24 steps, as rows per hour do."""
    steps = profile.present_numbers.astype(np.int64)
    counts = np.bincount(steps - steps.min()).astype(np.float64)
    counts = counts[: len(counts) // 24 * 24]
    if len(counts) < 72 or counts.std() == 0:
        return False
    return float(np.corrcoef(counts[24:], counts[:-24])[0, 1]) > _DAILY
