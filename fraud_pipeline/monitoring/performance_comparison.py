"""The champion's figures on matured days against those at promotion.

Belongs here: the differences, their intervals, and when a figure is clearly worse. Must not be here: which days and
decisions count (`performance.py`), metric definitions.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from fraud_pipeline.modeling.evaluation import Evaluation, Interval

MIN_FRAUDS: Final = 20
TOLERANCE: Final = 0.05
MAX_MISCALIBRATION: Final = 1.5
COMPARED: Final = ("precision", "recall", "average_precision", "cost_saved")
# This factor turns a 95 % interval into one of 99.5 %: four figures together are then wrong once in a hundred periods.
_WIDER: Final = 2.81 / 1.96


@dataclass(frozen=True, slots=True)
class PerformanceFinding:
    """One figure at promotion and now; `degraded` when it is clearly worse."""

    metric: str
    then: Interval | None
    now: Interval
    degraded: bool
    detail: str


def compare(now: Evaluation, then: Evaluation | None) -> tuple[PerformanceFinding, ...]:
    """Compare the figures of matured days with those at promotion.

    A figure is worse when it fell by more than the tolerance and the 99.5 % interval of the difference excludes zero.
    Calibration is worse when observed over expected frauds is outside its limit with its whole interval. With fewer
    than `MIN_FRAUDS` frauds nothing is judged.
    """
    if now.counts["frauds"] < MIN_FRAUDS:
        return ()
    ratio = now.metrics["observed_over_expected"]
    off = ratio.low > MAX_MISCALIBRATION or ratio.high < 1 / MAX_MISCALIBRATION
    detail = f"observed over expected frauds is {ratio}; a factor of {MAX_MISCALIBRATION:g} is allowed."
    findings = [] if then is None else [_compare(name, now, then) for name in COMPARED if name in then.metrics]
    return (*findings, PerformanceFinding("observed_over_expected", then=None, now=ratio, degraded=off, detail=detail))


def difference(now: Interval, then: Interval) -> Interval:
    """The difference of two figures from independent rows, with its interval.

    Source: Zou and Donner, "Construction of confidence limits about effect measures", Statistics in Medicine 2008.
    """
    value = now.value - then.value
    return Interval(
        value=value,
        low=value - float(np.hypot(now.value - now.low, then.high - then.value)),
        high=value + float(np.hypot(now.high - now.value, then.value - then.low)),
    )


def _compare(name: str, now: Evaluation, then: Evaluation) -> PerformanceFinding:
    before, after = then.metrics[name], now.metrics[name]
    change = difference(after, before)
    degraded = change.value < -TOLERANCE and change.value + _WIDER * (change.high - change.value) < 0
    detail = f"{words(name)} was {before}, is {after}: {change.value:+.3f} ({change.low:+.3f} to {change.high:+.3f})"
    return PerformanceFinding(
        name, then=before, now=after, degraded=degraded, detail=f"{detail}{', clearly worse' * degraded}."
    )


def words(name: str) -> str:
    """A metric's name as words."""
    return name.replace("_", " ")
