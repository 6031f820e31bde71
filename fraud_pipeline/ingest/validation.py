"""Raw rows in, accepted rows and rejected rows with their reason out. Nothing is dropped silently.

Belongs here: the rules about one row and about a batch. Must not be here: reading files, storing tables.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from datetime import datetime
from decimal import Decimal
from types import MappingProxyType
from typing import Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from fraud_pipeline.schema.amounts import whole_cents
from fraud_pipeline.schema.identifiers import PROBLEMS, read_identifiers
from fraud_pipeline.schema.transactions import (
    CHANNELS,
    EARLIEST_EVENT_TIME,
    MAX_AMOUNT_CENTS,
    MAX_ID_LENGTH,
    REJECTED_TRANSACTIONS,
    TIME_DTYPE,
    TRANSACTION_COLUMNS,
)

CLOCK_TOLERANCE: Final = pd.Timedelta(minutes=5).as_unit("us")

_A_PATTERN: Final = 0.02
"""Share of rows from which on what is wrong with them is told as a pattern."""

REASONS: Final = MappingProxyType(
    {
        "missing": "the field is required and empty: fill it, or map the right column to it",
        "time_missing_or_unreadable": "write the time as 2026-01-31T13:45:00Z, or map the right column to event_time",
        "wrong_type": "text fields need text, amounts and positions need plain numbers such as 12.34",
        "too_early": f"the time lies before {EARLIEST_EVENT_TIME:%Y-%m-%d}: check its unit and format",
        "future_time": "the time lies in the future: check the sender's clock and timezone",
        "control_character": "remove NUL, control characters and broken Unicode from the text",
        **PROBLEMS,
        "too_long": f"shorten the text to at most {MAX_ID_LENGTH} characters",
        "not_finite": "replace infinite numbers",
        "out_of_range": f"amounts must be above 0 and at most {MAX_AMOUNT_CENTS // 100}, latitudes within -90..90, "
        "longitudes within -180..180",
        "finer_than_a_cent": "round amounts to two decimals, in currency units",
        "unknown_channel": f"the channel must be one of {', '.join(CHANNELS)}, or empty",
        "bad_country": "the country must be a two-letter ISO 3166 code such as DE, or empty",
        "incomplete_position": "give both latitude and longitude, or neither",
        "duplicate_id": "each transaction_id may occur once (the first row was kept): is the right column mapped?",
    }
)
"""Why a row was rejected -> what to do about it."""

Flags = NDArray[np.bool_]
Objects = NDArray[np.object_]


class TooManyRejectedRowsError(ValueError):
    """More rows were rejected than the run may tolerate: the input is wrong, not just dirty."""


@dataclass(frozen=True, slots=True)
class ValidationResult:
    """`accepted` follows the TRANSACTIONS schema, `rejected` REJECTED_TRANSACTIONS; together they hold every row.

    `normalised` counts, per field, the rows that each rule of `identifiers.NORMALISATIONS` changed. `patterns` say in
    words, with a remedy, what many rejected amounts have in common.
    """

    accepted: pd.DataFrame
    rejected: pd.DataFrame
    normalised: Mapping[str, Mapping[str, int]] = dataclass_field(default_factory=dict)
    patterns: tuple[str, ...] = ()

    @property
    def rejected_share(self) -> float:
        total = len(self.accepted) + len(self.rejected)
        return len(self.rejected) / total if total else 0.0

    def summary(self) -> dict[str, int]:
        """Rejected rows by reason, most frequent first."""
        return {str(reason): int(count) for reason, count in self.rejected["reason"].value_counts().items()}


class _Verdict:
    """The first failing field and reason of every row."""

    def __init__(self, n_rows: int) -> None:
        self.field: Objects = np.full(n_rows, None, dtype=object)
        self.reason: Objects = np.full(n_rows, None, dtype=object)
        self.good: Flags = np.ones(n_rows, dtype=bool)
        self.normalised: dict[str, Mapping[str, int]] = {}
        self.patterns: list[str] = []

    def reject(self, rows: Flags, *, field: str, reason: str) -> None:
        new = rows & self.good
        if not new.any():
            return
        self.field[new], self.reason[new] = field, reason
        self.good &= ~new


def validate(
    raw: pd.DataFrame,
    *,
    now: pd.Timestamp,
    known_ids: Collection[str] | None = None,
    fallback_time: pd.Timestamp | None = None,
) -> ValidationResult:
    """Split raw rows (any types, columns may be absent) into accepted ones and rejected ones with a reason.

    A row gets the first reason that applies, in the order of the fields; a repeated id is judged last, so the first
    good row of an id wins, and none does whose id is in `known_ids`. Times up to five minutes after `now` pass.
    Rejected rows without a usable time carry `fallback_time`, so that they have a day to be stored under.
    """
    raw = raw.reset_index(drop=True)
    verdict = _Verdict(len(raw))
    columns: dict[str, object] = {}
    columns["transaction_id"] = ids = _identifier(raw, "transaction_id", verdict)
    columns["event_time"] = times = _time(raw, verdict, now=now)
    columns["customer_id"] = _identifier(raw, "customer_id", verdict)
    columns["merchant_id"] = _identifier(raw, "merchant_id", verdict)
    columns["amount_cents"] = _cents(raw, verdict)
    columns["category"] = _identifier(raw, "category", verdict, required=False)
    columns["channel"] = channel = _word(raw, "channel", verdict)
    unknown = ~pd.isna(channel) & ~pd.Series(channel).isin(CHANNELS).to_numpy()
    verdict.reject(unknown, field="channel", reason="unknown_channel")
    columns["country"] = country = _word(raw, "country", verdict)
    wrong = ~pd.isna(country) & ~_matches(country, "^[A-Z]{2}$")
    verdict.reject(wrong, field="country", reason="bad_country")
    columns["latitude"] = latitude = _coordinate(raw, "latitude", verdict, limit=90)
    columns["longitude"] = longitude = _coordinate(raw, "longitude", verdict, limit=180)
    for field, here, other in (("latitude", latitude, longitude), ("longitude", longitude, latitude)):
        verdict.reject(np.isnan(here) & ~np.isnan(other), field=field, reason="incomplete_position")
    if known_ids is not None:
        verdict.reject(pd.Series(ids).isin(known_ids).to_numpy(), field="transaction_id", reason="duplicate_id")
    repeated = pd.Series(ids)[verdict.good].duplicated().reindex(raw.index, fill_value=False)
    verdict.reject(repeated.to_numpy(), field="transaction_id", reason="duplicate_id")

    good, bad = verdict.good, ~verdict.good
    accepted = pd.DataFrame({name: columns[name] for name in TRANSACTION_COLUMNS})[good].reset_index(drop=True)
    usable = times.ge(EARLIEST_EVENT_TIME) & times.le(now)
    fallback = pd.Series(fallback_time, index=times.index, dtype=TIME_DTYPE)
    stored_under = times.where(usable, fallback)
    rejected = pd.DataFrame(
        {
            "row": np.flatnonzero(bad).astype("int64"),
            "event_time": stored_under[bad].reset_index(drop=True),
            "transaction_id": ids[bad],
            "field": verdict.field[bad],
            "reason": verdict.reason[bad],
            "place": _places(raw[bad]),
        }
    )
    return ValidationResult(
        accepted=accepted,
        rejected=rejected[list(REJECTED_TRANSACTIONS.columns)],
        normalised=verdict.normalised,
        patterns=tuple(verdict.patterns),
    )


def check_rejected_share(result: ValidationResult, *, max_share: float) -> None:
    """TooManyRejectedRowsError with the most frequent reasons when more than `max_share` (0..1) of the rows are bad."""
    if result.rejected_share <= max_share:
        return
    groups = result.rejected.groupby(["field", "reason"])["place"].agg(["size", "first"])
    counts = groups.sort_values("size", ascending=False).head(5).reset_index()
    lines = [
        f"  {count} x {field}: {reason} - {REASONS[reason]}"
        + (f" (the first: {place})" if isinstance(place, str) else "")
        for field, reason, count, place in counts.to_numpy()
    ]
    lines += [f"  {pattern}" for pattern in result.patterns]
    total = len(result.accepted) + len(result.rejected)
    raise TooManyRejectedRowsError(
        f"{len(result.rejected)} of {total} rows were rejected ({result.rejected_share:.1%}, limit {max_share:.1%}). "
        "Most frequent reasons:\n" + "\n".join(lines) + "\n"
        "Mend the input or the column mapping; raise the setting max_rejected_share only if these rows may be lost."
    )


def _places(rows: pd.DataFrame) -> Objects:
    """Where rows of a file stand, in words; None where nobody numbered them."""
    if "file_row" not in rows:
        return np.full(len(rows), None, dtype=object)
    numbers = rows["file_row"].astype("Int64").tolist()
    parts = rows["file_part"].tolist() if "file_part" in rows else [None] * len(rows)
    places = [
        None if pd.isna(number) else f"row {number}" + (f" of {part}" if isinstance(part, str) else "")
        for number, part in zip(numbers, parts, strict=True)
    ]
    return np.array(places, dtype=object)


def _cells(raw: pd.DataFrame, name: str) -> pd.Series:
    return raw[name] if name in raw else pd.Series(np.full(len(raw), None, dtype=object), index=raw.index)


def _identifier(raw: pd.DataFrame, name: str, verdict: _Verdict, *, required: bool = True) -> Objects:
    """Ids and other short texts as str by the rules of `schema/identifiers.py`, everything unusable as None.

    A field that is not required may be a number with decimals.
    """
    text = _text(raw, name)
    column = read_identifiers(text.arrow, exact=required)
    if column.rules:
        verdict.normalised[name] = column.rules
    nothing = text.arrow.is_valid().to_numpy(zero_copy_only=False) & column.texts.is_null().to_numpy(
        zero_copy_only=False
    )
    if required:
        verdict.reject(~text.present | nothing, field=name, reason="missing")
    verdict.reject(text.present & ~text.is_text, field=name, reason="wrong_type")
    problems = {"control_character": text.broken} | column.problems
    if "control_character" in column.problems:
        problems["control_character"] = column.problems["control_character"] | text.broken
    unusable = nothing | text.broken
    for problem, rows in problems.items():
        verdict.reject(rows, field=name, reason=problem)
        unusable |= rows
    long = _too_long(column.texts)
    verdict.reject(long, field=name, reason="too_long")
    texts = column.texts.to_numpy(zero_copy_only=False) if column.rules else text.values
    return _only(texts, text.is_text & ~(unusable | long))


def _word(raw: pd.DataFrame, name: str, verdict: _Verdict) -> Objects:
    """Words of a closed set as str, everything unusable as None; blank text is missing."""
    text = _text(raw, name)
    control = text.broken | _flags(pc.match_substring_regex(text.arrow, r"[\x00-\x1f\x7f]"))
    blank = _flags(pc.equal(pc.utf8_trim_whitespace(text.arrow), "")) & ~control
    long = _too_long(text.arrow)
    verdict.reject(text.present & ~text.is_text, field=name, reason="wrong_type")
    verdict.reject(control, field=name, reason="control_character")
    verdict.reject(long, field=name, reason="too_long")
    return _only(text.values, text.is_text & ~(blank | control | long))


@dataclass(frozen=True, slots=True)
class _Text:
    """A column of cells: which hold something, which hold text, and which text is broken Unicode; `arrow` the rest."""

    values: Objects
    present: Flags
    is_text: Flags
    broken: Flags
    arrow: pa.Array


def _text(raw: pd.DataFrame, name: str) -> _Text:
    cells = _cells(raw, name)
    values, present = cells.to_numpy(dtype=object), cells.notna().to_numpy()
    if set(map(type, values[present])) <= {str}:  # the common case, without asking each row in Python
        is_text = present
    else:
        is_text = np.fromiter((isinstance(value, str) for value in values), dtype=bool, count=len(values))
    texts = _only(values, is_text)
    broken = np.zeros(len(values), dtype=bool)
    try:
        arrow = pa.array(texts, type=pa.string())
    except UnicodeEncodeError:
        broken = np.fromiter((_is_broken(text) for text in texts), dtype=bool, count=len(texts))
        arrow = pa.array(_only(texts, ~broken), type=pa.string())
    return _Text(texts, present, is_text, broken, arrow)


def _too_long(texts: pa.Array) -> Flags:
    return _flags(pc.greater(pc.utf8_length(texts), MAX_ID_LENGTH))


def _only(values: Objects, rows: Flags) -> Objects:
    kept = np.full(len(values), None, dtype=object)
    kept[rows] = values[rows]
    return kept


def _is_broken(text: str | None) -> bool:
    try:
        (text or "").encode()
    except UnicodeEncodeError:
        return True
    return False


def _flags(condition: pa.Array) -> Flags:
    flags: Flags = pc.fill_null(condition, False).to_numpy(zero_copy_only=False)
    return flags.copy()


def _matches(texts: Objects, pattern: str) -> Flags:
    return _flags(pc.match_substring_regex(pa.array(texts, type=pa.string()), pattern))


def _time(raw: pd.DataFrame, verdict: _Verdict, *, now: pd.Timestamp) -> pd.Series:
    """Times as `datetime64[us, UTC]`, NaT where unusable; a time without timezone is UTC."""
    cells = _cells(raw, "event_time")
    is_time = np.ones(len(cells), dtype=bool)
    if not pd.api.types.is_datetime64_any_dtype(cells.dtype):
        values = cells.to_numpy(dtype=object)
        is_time = np.fromiter((isinstance(value, datetime) for value in values), dtype=bool, count=len(values))
        verdict.reject(cells.notna().to_numpy() & ~is_time, field="event_time", reason="wrong_type")
        cells = pd.Series(_only(values, is_time))
    times = pd.to_datetime(cells, utc=True, errors="coerce").astype(TIME_DTYPE)
    verdict.reject(times.isna().to_numpy(), field="event_time", reason="time_missing_or_unreadable")
    verdict.reject(times.lt(EARLIEST_EVENT_TIME).to_numpy(), field="event_time", reason="too_early")
    verdict.reject(times.sub(CLOCK_TOLERANCE).gt(now).to_numpy(), field="event_time", reason="future_time")
    return times


def _numbers(raw: pd.DataFrame, name: str, verdict: _Verdict) -> NDArray[np.float64]:
    """Numbers and text that spells one as float64, NaN where missing or unusable."""
    cells = _cells(raw, name)
    if name not in raw or cells.dtype.kind in "iuf":
        numbers = cells.to_numpy(dtype="float64", na_value=np.nan)
        readable = np.ones(len(cells), dtype=bool)
    else:
        parsed = [_number(value) for value in cells.to_numpy(dtype=object)]
        numbers = np.array([np.nan if number is None else number for number in parsed], dtype="float64")
        readable = np.array([number is not None for number in parsed], dtype=bool) | cells.isna().to_numpy()
    verdict.reject(~readable, field=name, reason="wrong_type")
    verdict.reject(np.isinf(numbers), field=name, reason="not_finite")
    return np.where(np.isinf(numbers), np.nan, numbers)


def _number(value: object) -> float | None:
    """None where `value` is no number; empty text is NaN."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, str | int | float | Decimal | np.number):
        return None
    if isinstance(value, str):
        if "_" in value:  # a digit separator in Python, not in data
            return None
        value = value.strip() or "nan"
    try:
        return float(value)
    except (ValueError, TypeError):
        return None
    except OverflowError:
        return float("inf")


def _cents(raw: pd.DataFrame, verdict: _Verdict) -> NDArray[np.int64]:
    amount = _numbers(raw, "amount", verdict)
    verdict.reject(np.isnan(amount), field="amount", reason="missing")
    out_of_range = (amount <= 0) | (amount > MAX_AMOUNT_CENTS / 100)
    verdict.reject(out_of_range, field="amount", reason="out_of_range")
    # A column of 32-bit floats cannot spell large amounts to the cent; what it can spell is judged.
    cents = whole_cents(np.where(out_of_range, np.nan, amount), single=_cells(raw, "amount").dtype == np.float32)
    verdict.reject(cents == 0, field="amount", reason="finer_than_a_cent")
    _note_patterns(amount, cents, verdict)
    return np.where(verdict.good, cents, 0)


def _note_patterns(amount: NDArray[np.float64], cents: NDArray[np.int64], verdict: _Verdict) -> None:
    """What many amounts that are rejected have in common."""
    ordinary = np.where(np.abs(amount) <= MAX_AMOUNT_CENTS, amount, np.nan)
    for rows, pattern in (
        (amount == 0, "are 0.00, as account verifications are: leave these rows out"),
        (amount < 0, "are negative, as refunds are: leave these rows out, they are no payments to decide on"),
        ((cents == 0) & (whole_cents(ordinary * 10) > 0), "have three decimals, as dinars have: round them to two"),
    ):
        if rows.sum() > _A_PATTERN * len(rows):
            verdict.patterns.append(f"{rows.sum()} of {len(rows)} amounts {pattern}.")


def _coordinate(raw: pd.DataFrame, name: str, verdict: _Verdict, *, limit: float) -> NDArray[np.float64]:
    values = _numbers(raw, name, verdict)
    verdict.reject(np.abs(values) > limit, field=name, reason="out_of_range")
    return values
