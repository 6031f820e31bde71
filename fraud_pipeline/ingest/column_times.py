"""The spelling of times in a column (or several together), recognised from its values, with the evidence in words.

Belongs here: recognising spellings of times. Must not be here: which column is the event time (`field_guesses.py`),
reading a whole source by a declaration.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fraud_pipeline.ingest.column_profiles import NEARLY_ALL, Profile
from fraud_pipeline.ingest.declaration import TimeUnit
from fraud_pipeline.ingest.time_spellings import MICROSECONDS, MISSING, TimesError, joined_times, read_times

Times = NDArray[np.int64]

_SECOND: Final = 1_000_000
_EPOCHS: Final[tuple[tuple[TimeUnit, float], ...]] = (("s", 1), ("ms", 1e3), ("us", 1e6), ("ns", 1e9))
_FIRST_SECOND: Final = 631_152_000  # 1990-01-01
_LAST_SECOND: Final = 4_102_444_800  # 2100-01-01
_PACKED: Final = ((8, "%Y%m%d"), (12, "%Y%m%d%H%M"), (14, "%Y%m%d%H%M%S"))
_EXCEL_START: Final = datetime(1899, 12, 30, tzinfo=UTC)
_EXCEL_DAYS: Final = (32_874, 73_050)  # 1990 to 2100
_ORIGINS: Final = tuple(datetime(year, 1, 1, tzinfo=UTC) for year in (2024, 2020, 2010, 2000, 1990))

_DATES: Final = (
    (r"\d{1,2}/\d{1,2}/\d{4}", ("%d/%m/%Y", "%m/%d/%Y")),
    (r"\d{1,2}\.\d{1,2}\.\d{4}", ("%d.%m.%Y", "%m.%d.%Y")),
    (r"\d{1,2}-\d{1,2}-\d{4}", ("%d-%m-%Y", "%m-%d-%Y")),
    (r"\d{1,2}/\d{1,2}/\d{2}", ("%d/%m/%y", "%m/%d/%y")),
    (r"\d{1,2}\.\d{1,2}\.\d{2}", ("%d.%m.%y",)),
    (r"\d{1,2}-\d{1,2}-\d{2}", ("%d-%m-%y", "%m-%d-%y")),
    (r"\d{1,2}-[A-Za-z]{3}-\d{4}", ("%d-%b-%Y",)),
    (r"\d{1,2}-[A-Za-z]{3}-\d{2}", ("%d-%b-%y",)),
    (r"\d{1,2} [A-Za-z]{3} \d{4}", ("%d %b %Y",)),
    (r"\d{1,2} [A-Za-z]{4,} \d{4}", ("%d %B %Y",)),
    (r"[A-Za-z]{3} \d{1,2},? \d{4}", ("%b %d, %Y", "%b %d %Y")),
    (r"[A-Za-z]{4,} \d{1,2},? \d{4}", ("%B %d, %Y", "%B %d %Y")),
    (r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}", ("%Y-%m-%d", "%Y/%m/%d", "%Y.%m.%d")),
    (r"\d{8}", ("%Y%m%d",)),
)
_CLOCKS: Final = (
    (r"", ""),
    (r"\d{1,2}:\d{2}:\d{2}\.\d+", "%H:%M:%S.%f"),
    (r"\d{1,2}:\d{2}:\d{2}", "%H:%M:%S"),
    (r"\d{1,2}:\d{2}", "%H:%M"),
    (r"\d{1,2}:\d{2}:\d{2} ?[AaPp][Mm]", "%I:%M:%S %p"),
    (r"\d{1,2}:\d{2} ?[AaPp][Mm]", "%I:%M %p"),
)
_LOOKS_LIKE_A_DATE: Final = r"^(?:[0-9]{1,4}[-/. ][0-9A-Za-z]|[A-Za-z]{3,9} [0-9]|[0-9]{8}\b)"
_HEAD: Final = 200
_CLOCK: Final = r"^\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?: ?[AaPp][Mm])?$"
_OFFSET: Final = r":\d{2}(?:[.,]\d+)? ?[+-](?:(?:0[1-9]|1\d|2[0-3])(?::?\d{2})?|00:?(?:0[1-9]|[1-5]\d))(?: ?\[.+\])?$"
"""A time of day and an offset that is not zero."""
_EVIDENT: Final = re.compile(r"(\d{1,2})[-/.](\d{1,2})[-/.]\d{2,4}")


@dataclass(frozen=True, slots=True)
class TimeSpelling:
    """A way to read a column: its unit or format, `times` of the sample in microseconds UTC (MISSING: unreadable).

    `certain` is off where another way would read the values as well; `offsets` is on where times carry the offset of a
    local clock.
    """

    times: Times
    evidence: str
    unit: TimeUnit = ""
    format: str = ""
    origin: datetime | None = None
    certain: bool = True
    warnings: tuple[str, ...] = ()
    offsets: bool = False

    @property
    def present(self) -> Times:
        """The readable times."""
        return np.asarray(self.times[self.times != MISSING], dtype=np.int64)

    @property
    def all_midnight(self) -> bool:
        """Whether every time is a midnight, so that the column holds dates."""
        return len(self.present) > 0 and bool((self.present % (86_400 * _SECOND) == 0).all())


def time_spelling(profile: Profile) -> TimeSpelling | None:
    """The spelling of a column's dates or times; None without any. Seconds from an unknown start do not count."""
    kind = profile.cells.type
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        zone = getattr(kind, "tz", None)
        moments = profile.cells.cast(pa.timestamp("us", tz=zone), safe=False).cast(pa.timestamp("us", tz="UTC"))
        times = np.asarray(moments.cast(pa.int64()).fill_null(MISSING).to_numpy(zero_copy_only=False), dtype=np.int64)
        return TimeSpelling(times, f"times of the file's own type ({kind})")
    if profile.is_number:
        return _packed(profile) or _epoch(profile)
    if not profile.filled or pa.types.is_boolean(kind):
        return None
    return _iso(profile) or _formatted(profile)


def is_clock(profile: Profile) -> bool:
    """Whether a column holds times of day, such as 13:45 or 13:45:00."""
    return pa.types.is_time(profile.cells.type) or profile.fits(_CLOCK)


def joined(profiles: Sequence[Profile]) -> Profile:
    """One column of the cells of several, with a blank between them."""
    cells = joined_times([profile.text for profile in profiles])
    return Profile(" + ".join(profile.name for profile in profiles), cells, profiles[0].rows)


def elapsed(profile: Profile, *, unit: TimeUnit, origin: datetime | None) -> TimeSpelling:
    """Numbers that count from a start. Without an origin a round one is taken that lies far enough in the past."""
    numbers = profile.numbers if profile.numbers is not None else np.empty(0)
    span = MICROSECONDS[unit] * float(np.nanmax(numbers)) / _SECOND
    now = datetime.now(UTC).timestamp()
    start = origin or next((start for start in _ORIGINS if start.timestamp() + span < now), _ORIGINS[-1])
    micros = numbers * MICROSECONDS[unit] + start.timestamp() * _SECOND
    names = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
    words = f"{names.get(unit, unit)} from a start, {np.nanmin(numbers):,.0f} to {np.nanmax(numbers):,.0f}"
    warning = (
        f"'{profile.name}' counts {names.get(unit, unit)} from an unknown start: {start:%Y-%m-%d} is taken. Hour and "
        "weekday may be shifted; give the real start by --time-origin 2024-01-01T00:00Z"
    )
    return TimeSpelling(
        _as_times(micros), f"{words}; start {start:%Y-%m-%d}", unit, "", start, warnings=() if origin else (warning,)
    )


def by_format(profile: Profile, text_format: str) -> TimeSpelling | None:
    """The spelling of a format that a person gave; None if it does not read the column."""
    times = _strptime(profile.text, text_format)
    return None if times is None else TimeSpelling(times, f"format {text_format}", "", text_format)


def times_as(profile: Profile, spelling: TimeSpelling) -> Times:
    """The times of a whole column by the spelling that its sample has; MISSING where a cell has another one."""
    if spelling.unit:
        numbers = profile.numbers if profile.numbers is not None else np.full(len(profile.text), np.nan)
        start = spelling.origin.timestamp() * _SECOND if spelling.origin else 0.0
        return _as_times(numbers * MICROSECONDS[spelling.unit] + start)
    if spelling.format:
        return _parsed(profile.text, spelling.format)
    whole = time_spelling(profile)
    return np.full(len(profile.text), MISSING) if whole is None else whole.times


def _iso(profile: Profile) -> TimeSpelling | None:
    if not profile.fits(r"^\d{4}[-/.]\d{2}[-/.]\d{2}"):
        return None
    try:
        read = read_times(profile.text)
    except TimesError:
        return None
    times = np.asarray(read.cast(pa.int64()).fill_null(MISSING).to_numpy(zero_copy_only=False))
    if (times != MISSING).sum() < NEARLY_ALL * profile.filled:
        return None
    zoned = profile.fits(r"(?:[Zz]|[+-]\d{2}:?\d{2}|UTC|GMT|[A-Za-z]+/[A-Za-z_]+\]?)$")
    offsets = bool(pc.any(pc.match_substring_regex(profile.text, _OFFSET)).as_py())
    clock = "; hours are those of its offset" if offsets else "" if zoned else "; without a time zone, read as UTC"
    return TimeSpelling(times, f"year first: {_example(profile)}{clock}", offsets=offsets)


def _epoch(profile: Profile) -> TimeSpelling | None:
    numbers = profile.present_numbers
    low, high = float(numbers.min()), float(numbers.max())
    for unit, factor in _EPOCHS:
        if _FIRST_SECOND * factor <= low and high <= _LAST_SECOND * factor and profile.numbers is not None:
            times = _as_times(profile.numbers * MICROSECONDS[unit])
            return TimeSpelling(times, f"numbers since 1970 in {unit}: {_day(times)}", unit)
    return None


def _packed(profile: Profile) -> TimeSpelling | None:
    """Dates as numbers (20230131, 20230131134500), and the day numbers of spreadsheets."""
    numbers = profile.present_numbers
    if profile.is_whole:
        for digits, text_format in _PACKED:
            if numbers.min() >= 1990 * 10 ** (digits - 4) and numbers.max() < 2100 * 10 ** (digits - 4):
                times = _strptime(pc.replace_substring_regex(profile.text, r"\.0$", ""), text_format)
                if times is not None:
                    return TimeSpelling(times, f"a date as one number: {_example(profile)}", "", text_format)
    low, high = _EXCEL_DAYS
    named = re.search(r"date|datum|fecha|(^|_)dt($|_)|time", profile.name.lower())
    if named and low <= numbers.min() and numbers.max() <= high and profile.numbers is not None:
        times = _as_times(profile.numbers * MICROSECONDS["days"] + _EXCEL_START.timestamp() * _SECOND)
        return TimeSpelling(times, f"day numbers of a spreadsheet: {_day(times)}", "days", "", _EXCEL_START)
    return None


def _formatted(profile: Profile) -> TimeSpelling | None:
    """Dates and times of another order than year, month, day; which order is decided by the values."""
    head = Profile(profile.name, profile.text.drop_null().slice(0, _HEAD))
    if not head.fits(_LOOKS_LIKE_A_DATE):
        return None
    for text_formats in _candidates(head):
        readable = {text_format: _strptime(profile.text, text_format) for text_format in text_formats}
        times = {text_format: read for text_format, read in readable.items() if read is not None}
        if not times:
            continue
        if len(times) == 1:
            text_format = next(iter(times))
            return TimeSpelling(times[text_format], _order_evidence(profile, text_format), "", text_format)
        return _more_plausible(times, profile)
    return None


def _candidates(profile: Profile) -> Iterator[tuple[str, ...]]:
    """Formats that the shape of the cells allows; those of one tuple differ in the order of day and month."""
    for date_pattern, date_formats in _DATES:
        for clock_pattern, clock in _CLOCKS:
            for between in (" ", "T", ", ") if clock else ("",):
                if profile.fits(rf"^{date_pattern}{between}{clock_pattern}$"):
                    joint = clock.replace(" %p", "%p") if clock and not profile.fits(r" [AaPp][Mm]$") else clock
                    yield tuple(f"{date}{between}{joint}" for date in date_formats)


def _more_plausible(times: dict[str, Times], profile: Profile) -> TimeSpelling:
    """The order of day and month in which the rows are sorted, or else the one with the shorter span."""

    def disorder(read: Times) -> tuple[float, int]:
        present = read[read != MISSING]
        backwards = float((np.diff(present) < 0).mean()) if len(present) > 1 else 0.0
        return round(min(backwards, 1 - backwards), 2), int(present.max() - present.min())

    ranked = sorted(times, key=lambda text_format: disorder(times[text_format]))
    best, other = ranked[0], ranked[1]
    order = "day-first" if best.startswith("%d") else "month-first"
    decided = disorder(times[best]) != disorder(times[other])
    why = "the rows are in order that way" if decided else "nothing decides it"
    warning = (
        f"'{profile.name}': every date could be day-first or month-first; {order} is taken, because {why}. If that is "
        f'wrong: --time-format "{other}"'
    )
    return TimeSpelling(times[best], f"{order}, as {why}: {_example(profile)}", "", best, None, False, (warning,))


def _order_evidence(profile: Profile, text_format: str) -> str:
    """The first cell that proves the order of day and month."""
    order = {"%d": "day-first", "%m": "month-first"}.get(text_format[:2])
    if order is None or "%b" in text_format:
        return f"as {_example(profile)}"
    place = 0 if order == "day-first" else 1
    for row, cell in enumerate(profile.text.to_pylist()):
        match = _EVIDENT.match(cell or "")
        if match and int(match[place + 1]) > 12:
            return f"{order}: {cell}{_place(profile, row)}"
    return f"{order}: {_example(profile)}"


def _example(profile: Profile) -> str:
    row = pc.index(profile.text.is_valid(), True).as_py()
    return f"{profile.text[row].as_py()}{_place(profile, row)}" if row >= 0 else ""


def _place(profile: Profile, row: int) -> str:
    return f" in row {profile.rows[row]}" if row < len(profile.rows) and profile.rows[row] > 0 else ""


def _strptime(text: pa.Array, text_format: str) -> Times | None:
    times = _parsed(text, text_format)
    readable = int((times != MISSING).sum())
    return times if readable >= NEARLY_ALL * max(1, len(text) - text.null_count) else None


def _parsed(text: pa.Array, text_format: str) -> Times:
    parsed = pd.to_datetime(pd.Series(text.to_pandas()), format=text_format, errors="coerce", utc="%z" in text_format)
    times = np.asarray(parsed.dt.as_unit("us").astype("int64"), dtype=np.int64)
    return np.where(parsed.isna().to_numpy(), MISSING, times)


def _as_times(micros: NDArray[np.float64]) -> Times:
    known = np.isfinite(micros)
    return np.where(known, np.where(known, micros, 0).astype(np.int64), MISSING)


def _day(times: Times) -> str:
    first = int(times[times != MISSING][0])
    return f"{datetime.fromtimestamp(first / _SECOND, tz=UTC):%Y-%m-%d %H:%M:%S} first"
