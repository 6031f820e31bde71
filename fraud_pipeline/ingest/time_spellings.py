"""Times in the formats of exports, converted to microseconds UTC, each one by itself.

Belongs here: offsets, zones, fractions, separators. Must not be here: valid ranges, day-first dates.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fraud_pipeline.ingest.number_spellings import WIDESPREAD
from fraud_pipeline.schema.local_time import MINUTE, offset_of

_UTC: Final = pa.timestamp("us", tz="UTC")
MISSING: Final = np.iinfo(np.int64).min
MICROSECONDS: Final = {
    "ns": 1e-3,
    "us": 1,
    "ms": 1e3,
    "s": 1e6,
    "minutes": 60e6,
    "hours": 3_600e6,
    "days": 86_400e6,
}
_MIDNIGHT: Final = r"[T ]00:00(?::00(?:\.0+)?)?$"
_LONGEST: Final = 4e18
_SPELLINGS: Final = (
    (r"^(\d{4})[/.](\d{2})[/.](\d{2})", r"\1-\2-\3"),
    (r"^(\d{4}-\d{2}-\d{2})[tT_ ]\s*(\d)", r"\1T\2"),
    (r"(:\d{2}),(\d)", r"\1.\2"),
    # 2026-01-31T13:45:00+01:00[Europe/Berlin] of Java, ... +0100 CET of Go: the offset is enough.
    (r"([+-]\d{2}:?\d{2}|[zZ]) ?(?:\[[A-Za-z_/+-]+\]|[A-Z]{3,5})$", r"\1"),
    (r"(\d) ?(?i:utc|gmt)([+-]\d{2}(?::?\d{2})?)$", r"\1\2"),
    (r"(\d) ?(?i:z|utc|gmt|ut|etc/utc|zulu)$", r"\1Z"),
    (r"(\d) ([+-]\d{2}(?::?\d{2})?)$", r"\1\2"),
)
"""Pattern of another format -> replacement in ours."""
_PARTS: Final = (
    r"^(?P<stamp>\d{4}-\d{2}-\d{2}(?:T\d{2}:\d{2}(?::\d{2}(?:\.\d{1,9})?)?)?)"
    r"(?P<zone>Z|[+-]\d{2}(?::?\d{2})?| ?\[?[A-Za-z]+(?:[/_+-][A-Za-z0-9_+-]+)*\]?)?$"
)
_ABBREVIATIONS: Final = re.compile(
    "A[CEKW]?[DS]?T|BRT|BST|C[AES]?[DES]?T|CEST|E[AES]?[DES]?T|EEST|GST|HKT|HST|IST|JST|KST|M[DS]T|MSK|NZ[DS]T|P[DHKS]T|"
    "SAST|SGT|WA?E?S?T|WIB"
)


@dataclass(frozen=True, slots=True)
class TimesError(ValueError):
    """The column's times cannot be read as a whole; `cause` gives problem and remedy."""

    cause: str

    def __str__(self) -> str:
        return self.cause


def read_times(text: pa.Array, *, zone: str = "UTC") -> pa.Array:
    """Parse trimmed text into `timestamp[us, UTC]`; a time without offset is one of `zone`, an unreadable is missing.

    Raises TimesError for a column without a readable time, for abbreviations of zones, and for a mix of times with and
    without an offset. If only few rows have such a problem, they become unreadable instead.
    """
    for kind in (pa.timestamp("us"), _UTC):  # no cell has an offset, or each has one: the fast ways
        try:
            return local_times(text.cast(kind), zone=zone)
        except pa.ArrowInvalid:
            continue
    stamps, codes, names = _stamps_and_zones(text)
    readable = stamps != MISSING
    _refuse_abbreviations(names, np.bincount(codes[readable], minlength=len(names)))
    naive = np.isin(codes, [code for code, name in enumerate(names) if not name]) & readable
    times = stamps.copy()
    for code, name in enumerate(names):
        if name:
            rows = (codes == code) & readable
            times[rows] = _in_zone(stamps[rows], name)
    n_naive, n_zoned = int(naive.sum()), int(((times != MISSING) & ~naive).sum())
    if not n_naive + n_zoned:
        raise TimesError("holds no readable times; write them as 2026-01-31T13:45:00Z")
    if n_naive and n_zoned:
        if min(n_naive, n_zoned) > WIDESPREAD * (n_naive + n_zoned):
            raise TimesError(
                f"mixes {n_zoned} times with a UTC offset and {n_naive} without one: write all of them with an offset "
                "such as Z or +02:00, or none (then they are UTC)"
            )
        times[naive if n_naive < n_zoned else ~naive] = MISSING
    local = naive & (times != MISSING)
    moments = local_times(pa.array(times[local]).cast(pa.timestamp("us")), zone=zone)
    times[local] = moments.cast(pa.int64()).to_numpy(zero_copy_only=False)
    return pa.array(times, mask=times == MISSING, type=pa.int64()).cast(pa.timestamp("us")).cast(_UTC)


def own_offsets(text: pa.Array) -> pa.Array:
    """Minutes (float64) by which the clock of each trimmed time is ahead of UTC, by its own offset or zone.

    Missing for Z, UTC, -00:00, no offset, and for a time that cannot be read.
    """
    stamps, codes, names = _stamps_and_zones(text)
    minutes = np.full(len(stamps), np.nan)
    for code, name in enumerate(names):
        is_named = name not in ("", "Z") and name[0] not in "+-"
        rows = (codes == code) & (stamps != MISSING)
        if is_named:
            moments = _in_zone(stamps[rows], name)
            minutes[rows] = np.where(moments == MISSING, np.nan, (stamps[rows] - moments) / MINUTE)
        elif (offset := offset_of(name)) is not None:
            minutes[rows] = offset
    return pa.array(minutes, mask=np.isnan(minutes), type=pa.float64())


def zone_offsets(times: pa.Array, zone: str) -> pa.Array:
    """Minutes (float64) by which the clock of a known zone is ahead of UTC at each of `times` (timestamp[us, UTC]).

    Raises TimesError for an unknown zone.
    """
    if not _is_zone(zone):
        raise TimesError(_unknown_zone(zone))
    clock = pc.local_timestamp(times.cast(pa.timestamp("us", tz=zone))).cast(pa.int64())
    return pc.divide(pc.subtract(clock, times.cast(pa.int64())).cast(pa.float64()), float(MINUTE))


def zone_names(cells: pa.Array, *, column: str) -> pa.Array:
    """The zone that each cell names, as Arrow knows it: Europe/Berlin, +01:00 for +0100; missing for Z and nothing.

    Raises TimesError for a cell that is neither a zone nor an offset.
    """
    encoded = pc.utf8_trim_whitespace(cells).dictionary_encode()
    names: list[str | None] = []
    for text in encoded.dictionary.to_pylist():
        offset = offset_of(text)
        if offset is not None:
            hours, minutes = divmod(abs(offset), 60)
            names.append(f"{'-' if offset < 0 else '+'}{hours:02}:{minutes:02}")
        elif text in ("", "Z", "z") or _is_zone(text):
            names.append(text if len(text) > 1 else None)
        else:
            raise TimesError(
                f"has a zone of '{text}' in '{column}', which is no known zone: write one such as Europe/Berlin, or an "
                "offset such as +01:00"
            )
    return pa.array(names, pa.string()).take(encoded.indices)


def has_no_offsets(text: pa.Array) -> bool:
    """Whether most of these trimmed times have neither offset nor zone, so that they show a local clock."""
    stamps, codes, names = _stamps_and_zones(text)
    bare = np.isin(codes, [code for code, name in enumerate(names) if not name])[stamps != MISSING]
    return bool(bare.mean() > 0.5) if len(bare) else False


def joined_times(texts: Sequence[pa.Array]) -> pa.Array:
    """One text of the parts of a time, with blanks between them; the midnight of a date gives way to the other part."""
    if len(texts) == 1:
        return texts[0]
    return pc.binary_join_element_wise(pc.replace_substring_regex(texts[0], _MIDNIGHT, ""), *texts[1:], " ")


def local_times(stamps: pa.Array, *, zone: str) -> pa.Array:
    """Timestamps as `timestamp[us, UTC]`; those without a zone are local times of `zone`.

    An hour that the clock shows twice is the first one, and an hour that it leaves out is the one after it. Raises
    TimesError for an unknown zone.
    """
    if stamps.type.tz is None and zone != "UTC":
        try:
            stamps = pc.assume_timezone(stamps, zone, ambiguous="earliest", nonexistent="latest")
        except pa.ArrowInvalid:
            raise TimesError(_unknown_zone(zone)) from None
    return stamps.cast(pa.timestamp("us", tz=stamps.type.tz), safe=False).cast(_UTC)


def formatted_times(text: pa.Array, *, format: str, zone: str) -> pa.Array:  # noqa: A002 - strptime's word
    """Parse trimmed text by a format of `datetime.strptime`; unreadable cells are missing. Raises TimesError."""
    try:
        parsed = pd.to_datetime(
            pd.Series(text.to_pandas(), dtype=object), format=format, errors="coerce", utc="%z" in format
        )
    except (ValueError, re.error):
        raise TimesError(f"cannot be read by the format '{format}': write one of datetime.strptime") from None
    if text.null_count < len(text) and parsed.isna().all():
        raise TimesError(f"holds no times of the format '{format}': correct it, such as %d/%m/%Y %H:%M:%S")
    stamps = pa.array(parsed.dt.tz_localize(None) if "%z" in format else parsed, type=pa.timestamp("us"))
    return local_times(stamps, zone="UTC" if "%z" in format else zone)


def counted_times(numbers: pa.Array, *, unit: str, origin: int) -> pa.Array:
    """Times from numbers of a unit that count from `origin`, in microseconds UTC; impossible ones are missing."""
    per_unit = MICROSECONDS[unit]
    values = pc.fill_null(numbers, 0).to_numpy(zero_copy_only=False)
    spans = values.astype(np.float64) * per_unit
    possible = np.isfinite(spans) & (np.abs(spans) < _LONGEST) & numbers.is_valid().to_numpy(zero_copy_only=False)
    if values.dtype.kind == "i":  # exact, also beyond the digits of a float
        whole = np.where(possible, values, 0)
        exact = whole // 1_000 if unit == "ns" else whole * int(per_unit)
    else:
        exact = np.rint(np.where(possible, spans, 0)).astype(np.int64)
    return pa.array(exact + origin, mask=~possible, type=pa.int64()).cast(pa.timestamp("us")).cast(_UTC)


def _stamps_and_zones(text: pa.Array) -> tuple[NDArray[np.int64], NDArray[np.int64], list[str]]:
    """What the clock of each time shows, in microseconds; the code of its offset or zone; the names of the codes."""
    for pattern, directives in _SPELLINGS:
        text = pc.replace_substring_regex(text, pattern, directives)
    parts = pc.extract_regex(text, _PARTS)
    zones = pc.fill_null(pc.struct_field(parts, "zone"), "").dictionary_encode()
    names = [name.strip(" []") for name in zones.dictionary.to_pylist()]
    return _stamps(pc.struct_field(parts, "stamp")), zones.indices.to_numpy(zero_copy_only=False), names


def in_each_zone(values: pa.Array, zones: pa.Array, convert: Callable[[pa.Array, str], pa.Array]) -> pa.Array:
    """The values (n,), those of each zone converted together; `zones` (n,) holds no missing name."""
    encoded = zones.dictionary_encode()
    codes = encoded.indices.to_numpy(zero_copy_only=False)
    places = [np.flatnonzero(codes == code) for code in range(len(encoded.dictionary))]
    if not places:
        return convert(values, "UTC")
    names = encoded.dictionary.to_pylist()
    parts = [convert(values.take(pa.array(rows)), name) for rows, name in zip(places, names, strict=True)]
    return pa.concat_arrays(parts).take(pa.array(np.argsort(np.concatenate(places))))


def _unknown_zone(zone: str) -> str:
    return f"has no times of '{zone}', which is no known zone: write one such as Europe/Berlin"


def _is_zone(name: str) -> bool:
    try:
        pc.assume_timezone(pa.array([0]).cast(pa.timestamp("us")), name)
    except pa.ArrowInvalid:
        return False
    return True


def _stamps(stamps: pa.Array) -> NDArray[np.int64]:
    """Microseconds of local times, without finer fractions; MISSING for an invalid time."""
    shortened = pc.replace_substring_regex(stamps, r"(\.\d{6})\d+$", r"\1")
    parsed = pd.to_datetime(pd.Series(shortened.to_pandas()), format="ISO8601", errors="coerce")
    return np.asarray(parsed.astype("datetime64[us]").astype("int64"), dtype=np.int64)


def _in_zone(stamps: NDArray[np.int64], name: str) -> NDArray[np.int64]:
    """Microseconds UTC of local times; MISSING when the zone is unknown, or the local time is ambiguous or does not
    exist.
    """
    if name == "Z":
        return stamps
    if name[0] in "+-":
        digits = name[1:].replace(":", "").ljust(4, "0")
        hours, minutes = int(digits[:2]), int(digits[2:])
        if hours > 23 or minutes > 59:
            return np.full_like(stamps, MISSING)
        return stamps - (1 if name[0] == "+" else -1) * (hours * 60 + minutes) * 60_000_000
    local = pd.Series(stamps.astype("datetime64[us]"))
    try:
        moments = local.dt.tz_localize(name, ambiguous="NaT", nonexistent="NaT")
    except Exception:  # noqa: BLE001 - the errors of an unknown zone differ between versions of Python's zoneinfo
        return np.full_like(stamps, MISSING)
    return np.asarray(moments.dt.tz_convert("UTC").dt.tz_localize(None).astype("int64"), dtype=np.int64)


def _refuse_abbreviations(names: list[str], rows: NDArray[np.int64]) -> None:
    counts = {name: int(count) for name, count in zip(names, rows, strict=True) if _ABBREVIATIONS.fullmatch(name)}
    if sum(counts.values()) > WIDESPREAD * rows.sum():
        listed = ", ".join(f"{name} ({count} rows)" for name, count in sorted(counts.items()))
        raise TimesError(
            f"ends in abbreviations of time zones, which mean another zone in each country: {listed}. Write times in "
            "UTC with Z, with an offset such as -06:00, or with a name such as America/Chicago"
        )
