"""Labels as of an instant, and a time-ordered split into train, tune, calibrate and test.

Belongs here: label maturity, censored labels, the order of the parts, the gap between them. Must not be here: features,
models, reading.

Immature rows must not be trained on, even if they are reported frauds: among them only the quickly reported frauds are
known, so the base rate is wrong. `labels_as_of` gives every known label; `time_ordered_split` uses only matured rows
and counts the known frauds that it leaves out.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType
from typing import Final, Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fraud_pipeline.schema.joins import positions_of
from fraud_pipeline.schema.transactions import MICROSECOND, microsecond

PartName = Literal["train", "tune", "calibrate", "test"]
PART_NAMES: Final[tuple[PartName, ...]] = get_args(PartName)
DEFAULT_FRACTIONS: Final[Mapping[PartName, float]] = MappingProxyType(
    {"train": 0.55, "tune": 0.15, "calibrate": 0.1, "test": 0.2}
)
LONGEST: Final[Mapping[PartName, timedelta]] = MappingProxyType(
    {"tune": timedelta(days=28), "calibrate": timedelta(days=14), "test": timedelta(days=28)}
)
"""The longest duration of each part. A longer history goes into training, so that trees are not months out of date."""
ENOUGH_FRAUDS: Final = 50
"""With rare fraud, parts may be longer, until this number of frauds is expected in each."""
MAX_WARM_UP_SHARE: Final = 0.25


class SplitError(ValueError):
    """The data cannot be split into four usable parts; the message names the part and the remedy."""


@dataclass(frozen=True, slots=True)
class Period:
    """The instants `start <= t < end`."""

    start: pd.Timestamp
    end: pd.Timestamp


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Row positions and period of each part, and counts of the rows that were left out."""

    train: NDArray[np.int64]
    tune: NDArray[np.int64]
    calibrate: NDArray[np.int64]
    test: NDArray[np.int64]
    periods: Mapping[PartName, Period]
    immature_rows: int
    immature_known_frauds: int
    warm_up_rows: int
    gap_rows: int

    def rows(self, part: PartName) -> NDArray[np.int64]:
        """Positions of the rows of `part`, ascending."""
        parts = {"train": self.train, "tune": self.tune, "calibrate": self.calibrate, "test": self.test}
        return parts[part]


def labels_as_of(
    transactions: pd.DataFrame, reports: pd.DataFrame, *, as_of: pd.Timestamp, label_maturity: timedelta
) -> NDArray[np.float64]:
    """The label of each transaction as known at `as_of`: 1 fraud, 0 legitimate, NaN unknown; shape (n,).

    The latest report strictly before `as_of` decides; of reports at one instant, fraud wins. A row without a report is
    unknown until it is older than `label_maturity`, and then legitimate. Raises JoinError when a transaction is
    repeated.
    """
    known = reports.loc[reports["reported_at"] < as_of, ["transaction_id", "reported_at", "is_fraud"]]
    latest = known.sort_values(["reported_at", "is_fraud"]).drop_duplicates("transaction_id", keep="last")
    position = positions_of(latest, transactions["transaction_id"], table="fraud_reports")
    verdicts = latest["is_fraud"].to_numpy(np.float64)
    reported = np.full(len(transactions), np.nan)
    reported[position >= 0] = verdicts[position[position >= 0]]
    matured = (transactions["event_time"] < as_of - label_maturity).to_numpy()
    return np.where(np.isnan(reported) & matured, 0.0, reported)


def censored_labels(
    transactions: pd.DataFrame, reports: pd.DataFrame, blocked: Collection[str], *, as_of: pd.Timestamp
) -> NDArray[np.bool_]:
    """Whether each transaction was blocked and has no report before `as_of`; shape (n,). `blocked` are transaction ids.

    A blocked payment never happens, so its fraud is never reported. Its label is censored: a missing report does not
    make it legitimate. Only a fraud report or an analyst's verdict gives it a label.
    """
    reported = reports.loc[reports["reported_at"] < as_of, "transaction_id"]
    ids = transactions["transaction_id"]
    return (ids.isin(list(blocked)) & ~ids.isin(reported)).to_numpy()


def time_ordered_split(
    event_time: NDArray[np.int64],
    labels: NDArray[np.float64],
    *,
    as_of: pd.Timestamp,
    label_maturity: timedelta,
    gap: timedelta,
    warm_up: timedelta,
    fractions: Mapping[PartName, float] = DEFAULT_FRACTIONS,
    test_start: pd.Timestamp | None = None,
) -> Split:
    """Split matured rows into consecutive periods with a `gap` between them, so that no fraud episode straddles two.

    event_time: microseconds, shape (n,); labels: of `labels_as_of` at the same `as_of`, shape (n,). `fractions` are
    shares of the time left after gaps, up to `LONGEST`. The first `warm_up` (at most a quarter of the data) is left
    out, because its feature windows are not full yet. `test_start` fixes the test; the others share the time before it.
    A gap of at least `label_maturity` makes the test as hard as live scoring, where the newest labels are missing.
    Raises SplitError when a part would hold no fraud or no legitimate row, or when no time is left for it.
    """
    matured = event_time < microsecond(as_of) - _span(label_maturity)
    if not matured.any():
        raise SplitError(
            f"event_time: none of {len(event_time)} rows is {label_maturity} old at {as_of}; "
            "bring older data, move as_of later or shorten label_maturity"
        )
    if np.isnan(labels[matured]).any():
        raise ValueError("labels: unknown on matured rows; compute them by labels_as_of with the same as_of")
    first, end = int(event_time[matured].min()), int(event_time[matured].max()) + MICROSECOND
    start = first + min(_span(warm_up), int((end - first) * MAX_WARM_UP_SHARE))
    fixed = None if test_start is None else microsecond(test_start)
    frauds = max(1, int((labels[matured] == 1).sum()))
    longest = {name: max(_span(most), ENOUGH_FRAUDS * (end - first) // frauds) for name, most in LONGEST.items()}
    bounds = _bounds(start, end, gap=_span(gap), fractions=fractions, longest=longest, test_start=fixed)

    parts = {
        name: np.flatnonzero((event_time >= low) & (event_time < high)).astype(np.int64)
        for name, (low, high) in bounds.items()
    }
    periods = {name: Period(_timestamp(low), _timestamp(high)) for name, (low, high) in bounds.items()}
    for name, rows in parts.items():
        _check_part(name, labels[rows], periods[name])
    warm_up_rows = int((matured & (event_time < start)).sum())
    return Split(
        **parts,
        periods=MappingProxyType(periods),
        immature_rows=int((~matured).sum()),
        immature_known_frauds=int((labels[~matured] == 1).sum()),
        warm_up_rows=warm_up_rows,
        gap_rows=int(matured.sum()) - warm_up_rows - sum(map(len, parts.values())),
    )


def _bounds(
    start: int,
    end: int,
    *,
    gap: int,
    fractions: Mapping[PartName, float],
    longest: Mapping[PartName, int],
    test_start: int | None,
) -> dict[PartName, tuple[int, int]]:
    """The half-open period of each part in microseconds."""
    if set(fractions) != set(PART_NAMES) or min(fractions.values()) <= 0:
        raise SplitError(f"fractions: give each of {', '.join(PART_NAMES)} a share above 0")
    if test_start is None:
        return _share_out(start, end, gap=gap, names=PART_NAMES, fractions=fractions, longest=longest)
    if not start < test_start < end:
        raise SplitError(
            f"test_start: {_timestamp(test_start)} is outside the matured data "
            f"({_timestamp(start)} to {_timestamp(end)}); choose an instant inside"
        )
    names = PART_NAMES[:-1]
    before = _share_out(start, test_start - gap, gap=gap, names=names, fractions=fractions, longest=longest)
    return {**before, "test": (test_start, end)}


def _share_out(
    start: int,
    end: int,
    *,
    gap: int,
    names: tuple[PartName, ...],
    fractions: Mapping[PartName, float],
    longest: Mapping[PartName, int],
) -> dict[PartName, tuple[int, int]]:
    free = end - start - gap * (len(names) - 1)
    if free < len(names):
        raise SplitError(
            f"gap: {len(names) - 1} gaps of {timedelta(microseconds=gap)} do not fit in the usable "
            f"{timedelta(microseconds=max(end - start, 0))} of data; shorten gap, warm_up or label_maturity, or bring "
            "a longer period"
        )
    together = sum(fractions[name] for name in names)
    lengths = {name: min(int(free * fractions[name] / together), longest.get(name, free)) for name in names}
    lengths["train"] += free - sum(lengths.values())
    bounds: dict[PartName, tuple[int, int]] = {}
    for name in names:
        bounds[name] = (start, start + lengths[name])
        start += lengths[name] + gap
    return bounds


def _check_part(name: PartName, labels: NDArray[np.float64], period: Period) -> None:
    frauds = int(labels.sum())
    if 0 < frauds < len(labels):
        return
    missing = "no rows" if len(labels) == 0 else "no fraud" if frauds == 0 else "nothing but fraud"
    raise SplitError(
        f"{name}: {missing} among {len(labels)} matured rows from {period.start} to {period.end}; bring a longer "
        f"period, give {name} a larger fraction, shorten gap or label_maturity, or check that reports cover it"
    )


def _span(length: timedelta) -> int:
    return length // timedelta(microseconds=1)


def _timestamp(microseconds: int) -> pd.Timestamp:
    return pd.Timestamp(microseconds, unit="us", tz="UTC")
