"""How a file would be split for training, and the label delay that its span allows.

Belongs here: spans and options of one file. Must not be here: the split itself (`modeling/dataset.py`), reading.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import numpy as np
import pandas as pd

from fraud_pipeline.ingest.inspection import Inspection
from fraud_pipeline.ingest.time_spellings import MISSING
from fraud_pipeline.modeling.dataset import PART_NAMES, PartName, Period, SplitError, time_ordered_split

_DELAY_SHARE: Final = 10
_GAP_SHARE: Final = 20
_ROUND: Final = tuple(timedelta(hours=hours) for hours in (1, 2, 3, 4, 6, 8, 12, 24, 36, 48, 72, 96, 120, 144, 168))
_SHORTEST: Final = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Waits:
    """The time from event to report, and the gap between parts of a split; `notes` say what a short span changed."""

    label_delay: timedelta
    gap: timedelta
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PlannedPart:
    """One part of the split."""

    name: PartName
    period: Period
    rows: int
    frauds: int


def waits_for(
    span: timedelta, *, label_delay: timedelta, gap: timedelta, given: bool = False, gap_given: bool = False
) -> Waits:
    """Delay and gap that leave most of a short span for training; what a person gave stays as it is."""
    delay = label_delay if given else min(label_delay, _rounded(span / _DELAY_SHARE))
    shorter_gap = gap if gap_given else min(gap, _rounded(span / _GAP_SHARE))
    notes = []
    if delay < label_delay:
        notes.append(
            f"The file spans {in_words(span)}, so a fraud counts as known {in_words(delay)} after it happened, not "
            f"{in_words(label_delay)}. Give the true time by --label-delay."
        )
    if shorter_gap < gap:
        notes.append(f"The gap between training and test is {in_words(shorter_gap)}, not {in_words(gap)}.")
    return Waits(delay, shorter_gap, tuple(notes))


def planned_split(
    inspection: Inspection, *, waits: Waits, label_maturity: timedelta, warm_up: timedelta
) -> list[PlannedPart]:
    """The parts of the split that a training would make. Raises SplitError for a file that is too short.

    Features of other days, censored labels and rejected rows are not known here; they change the figures little.
    """
    known = (inspection.times != MISSING) & np.isfinite(inspection.labels)
    times, labels = inspection.times[known], inspection.labels[known]
    if not len(times):
        raise SplitError("no row has both a time and a label")
    end = pd.Timestamp(int(times.max()), unit="us", tz="UTC").normalize() + pd.Timedelta(days=1)
    split = time_ordered_split(times, labels, as_of=end, label_maturity=label_maturity, gap=waits.gap, warm_up=warm_up)
    return [
        PlannedPart(name, split.periods[name], len(split.rows(name)), int(labels[split.rows(name)].sum()))
        for name in PART_NAMES
    ]


def in_words(span: timedelta) -> str:
    """A time span in days, hours or minutes."""
    units = {
        "day": timedelta(days=1),
        "hour": timedelta(hours=1),
        "minute": timedelta(minutes=1),
    }
    for unit, length in units.items():
        if span >= 2 * length or (span >= length and not span % length):
            count = span / length
            text = f"{count:,.0f}" if count >= 10 or count == int(count) else f"{count:.1f}"
            return f"{text} {unit}{'' if text == '1' else 's'}"
    return f"{span.total_seconds():.0f} seconds"


def _rounded(span: timedelta) -> timedelta:
    """The next round span below, at least one minute."""
    return max([each for each in _ROUND if each <= span], default=_SHORTEST)
