"""Drift: compares a day with the champion's training data and with the same weekday of earlier weeks.

Belongs here: PSI, KS, their significance, and when a day is red. Must not be here: tables, model files, plots,
orchestration.

A day has two baselines, because each alone gives false alarms: the champion's reference knows no weekdays and no slow
growth, and the weeks before soon contain a lasting change. A feature has drifted when it differs from both baselines by
a large and significant shift. Rows of one customer or merchant resemble each other, so the sample size is the effective
number of customers or merchants. Otherwise a million rows would make every difference significant.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final, Literal, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from fraud_pipeline.features.definitions import FEATURE_NAMES, FEATURES, WindowName
from fraud_pipeline.modeling.metrics import effective_number

Floats = NDArray[np.float64]
Kind = Literal["psi", "ks", "missing"]
Baseline = Literal["champion", "weeks_before"]
State = Literal["within", "beyond", "drift"]

SCORE: Final = "score"
ENTITY: Final[Mapping[str, str]] = {feature.name: feature.entity for feature in FEATURES}
LIMITS: Final[Mapping[Kind, float]] = {"psi": 0.2, "ks": 0.2, "missing": 0.1}
"""The smallest relevant shift: PSI by the usual rule of thumb, largest distance of the distributions, share of rows."""
FALSE_DISCOVERY_RATE: Final = 0.001
MIN_ROWS: Final = 200
WEEKS_BEFORE: Final = 4
_WEEKS: Final = "four weeks"
STATES: Final[Mapping[State, str]] = {
    "within": "within its limits",
    "beyond": "beyond a limit in one comparison only, or within chance",
    "drift": "drift: both comparisons agree",
}
"""A feature's state on a day, in words; only drift makes a day red."""
_DRIFT: Final = "drift"
_CALENDAR: Final = {"hour_of_day", "day_of_week", "is_weekend", "is_night"}
_REACH: Final = {window: pd.Timedelta(window or 0) for window in get_args(WindowName)}
# The tails have bins of their own, because a fault in a few amounts moves no decile.
_LEVELS: Final = (0.001, 0.01, 0.05, *np.arange(1, 10) / 10, 0.95, 0.99, 0.999)


@dataclass(frozen=True, slots=True)
class Sample:
    """Feature rows with the score, and their effective numbers of customers and merchants."""

    values: pd.DataFrame
    customers: float
    merchants: float

    @classmethod
    def of(cls, values: pd.DataFrame, *, customers: pd.Series, merchants: pd.Series) -> "Sample":
        """A sample of rows (n, k) with the customer and merchant of each, shape (n,)."""
        return cls(values, customers=effective_number(customers), merchants=effective_number(merchants))

    def evidence(self, feature: str) -> float:
        """The effective sample size for a feature."""
        return self.merchants if ENTITY.get(feature) == "merchant" else self.customers


@dataclass(frozen=True, slots=True)
class Shift:
    """One feature against one baseline by one measure; `q` is the false discovery rate at which it is significant."""

    feature: str
    baseline: Baseline
    kind: Kind
    size: float
    q: float

    @property
    def of_limit(self) -> float:
        """The size as a multiple of the limit."""
        return self.size / LIMITS[self.kind]

    @property
    def significant(self) -> bool:
        """Large, and beyond chance."""
        return self.of_limit >= 1 and self.q <= FALSE_DISCOVERY_RATE


@dataclass(frozen=True, slots=True)
class DriftReport:
    """The shifts of a day; a day that was not judged says why and has no shifts."""

    day: date
    rows: int
    shifts: tuple[Shift, ...] = ()
    not_judged: str = ""

    @property
    def findings(self) -> dict[tuple[str, Kind], str]:
        """The finding on each feature and measure, in words; empty where it is within its limit."""
        comparisons: dict[tuple[str, Kind], list[Shift]] = defaultdict(list)
        for shift in self.shifts:
            comparisons[shift.feature, shift.kind].append(shift)
        return {key: _finding(shifts) for key, shifts in comparisons.items()}

    @property
    def drifted(self) -> tuple[Shift, ...]:
        """The shifts that both baselines confirm, the largest first, each feature and measure once."""
        findings = self.findings
        both = [
            shift
            for shift in self.shifts
            if shift.baseline == "champion" and findings[shift.feature, shift.kind] == _DRIFT
        ]
        return tuple(sorted(both, key=lambda shift: -shift.of_limit))

    @property
    def beyond(self) -> tuple[str, ...]:
        """Features beyond a limit that have not drifted, the largest first."""
        drifted = {shift.feature for shift in self.drifted}
        large = sorted((shift for shift in self.shifts if shift.of_limit >= 1), key=lambda shift: -shift.of_limit)
        return tuple(dict.fromkeys(shift.feature for shift in large if shift.feature not in drifted))

    @property
    def summary(self) -> str:
        """One line that a person can act on."""
        if self.not_judged:
            return f"{self.day} was not judged: {self.not_judged}."
        if not self.drifted:
            beyond = f" {STATES['beyond'].capitalize()}: {_listed(self.beyond)}." if self.beyond else ""
            return f"{self.day}: no drift in {self.rows:,} rows.{beyond}"
        names = tuple(dict.fromkeys(shift.feature for shift in self.drifted))
        worst = self.drifted[0]
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        return (
            f"{self.day}: drift in {worst.feature} ({worst.kind} {worst.size:.2f}, limit {LIMITS[worst.kind]:g})"
            f"{more}. Check the source of these fields first and repair a fault there. "
            "If behaviour has changed, the retraining that this alarm starts will learn it."
        )

    def to_markdown(self, *, top: int = 15) -> str:
        """A table of the largest shifts against the champion's reference and against the weeks before."""
        by_key = {(shift.feature, shift.kind, shift.baseline): shift for shift in self.shifts}
        findings = self.findings
        lines = [
            "| feature | measure | champion | q | weeks before | q | finding |",
            "|---|---|---:|---:|---:|---:|---|",
        ]
        for shift in [shift for shift in self.ranked if shift.baseline == "champion"][:top]:
            finding = findings[shift.feature, shift.kind]
            finding = f"**{finding}**" if finding == _DRIFT else finding
            other = by_key.get((shift.feature, shift.kind, "weeks_before"))
            before = f"{other.size:.3f} | {other.q:.1g}" if other else "- | -"
            lines.append(
                f"| {shift.feature} | {shift.kind} | {shift.size:.3f} | {shift.q:.1g} | {before} | {finding} |"
            )
        return "\n".join(lines)

    @property
    def ranked(self) -> tuple[Shift, ...]:
        """All shifts: drift first, then the largest."""
        findings = self.findings
        return tuple(
            sorted(
                self.shifts,
                key=lambda shift: (findings[shift.feature, shift.kind] != _DRIFT, -shift.of_limit),
            )
        )


def judgeable(*, history: timedelta, features: Sequence[str] = FEATURE_NAMES) -> list[str]:
    """The model's features, and the score, that can be judged after this much history: their windows are full.

    A window that is still filling shifts every day. Merchants' windows begin only when labels have matured, so they
    count as the longest. Calendar features are left out.
    """
    young = {
        feature.name
        for feature in FEATURES
        if _REACH["60d" if feature.entity == "merchant" else feature.window] > history
    }
    return [*(name for name in features if name not in _CALENDAR | young), SCORE]


def population_stability_index(baseline: Floats, current: Floats) -> tuple[float, int]:
    """PSI of values (n,) against a baseline (m,), and its degrees of freedom; bins are the baseline's quantiles.

    Half a row is added to each bin, so that an empty bin gives no infinity. Leave missing values out.
    Source: Yurdakul and Naranjo, "Statistical properties of the population stability index", Journal of Risk Model
    Validation 2020.
    """
    edges = np.unique(np.quantile(baseline, _LEVELS, method="inverted_cdf"))
    p, q = (_shares(edges, values) for values in (baseline, current))
    return float(((q - p) * np.log(q / p)).sum()), len(p) - 1


def drift_report(
    day: date,
    current: Sample,
    *,
    champion: pd.DataFrame,
    champion_customers: float | None = None,
    weeks_before: Sample,
    features: Sequence[str],
) -> DriftReport:
    """Compare the features and the score of a day with both baselines.

    `champion` is the model's reference, with `champion_customers` as its effective number of customers; `weeks_before`
    is the same weekday of earlier weeks.
    """
    rows, before = len(current.values), len(weeks_before.values)
    reason = _too_few(day, rows, before=before, reference=len(champion))
    if reason:
        return DriftReport(day=day, rows=rows, not_judged=reason)
    # An older reference does not say which customers it has. It is drawn from more days and customers than the weeks
    # before, so their effective number is a lower bound.
    reference = Sample(
        champion, customers=champion_customers or weeks_before.customers, merchants=weeks_before.merchants
    )
    shifts = [
        *_against("champion", reference, current, names=features),
        *_against("weeks_before", weeks_before, current, names=features),
    ]
    return DriftReport(day=day, rows=rows, shifts=tuple(shifts))


def _too_few(day: date, rows: int, *, before: int, reference: int) -> str:
    """The side that has too few rows to be compared, in words; empty when all have enough."""
    needed, weekday = f"({MIN_ROWS} rows are needed)", f"{day:%A}"
    if rows < MIN_ROWS:
        return f"it has {rows:,} transactions {needed}. Check that all of them have arrived"
    if before == 0:
        return f"no {weekday} in the last {_WEEKS} has data {needed}"
    if before < MIN_ROWS:
        return f"the {weekday}s of the last {_WEEKS} have {before:,} transactions {needed}"
    if reference < MIN_ROWS:
        return f"the champion's reference has {reference:,} rows {needed}. Train a champion on more transactions"
    return ""


def _finding(comparisons: Sequence[Shift]) -> str:
    agreeing = sum(shift.significant for shift in comparisons)
    if agreeing == len(get_args(Baseline)):
        return _DRIFT
    if agreeing:
        return "one comparison only"
    return "within chance" if any(shift.of_limit >= 1 for shift in comparisons) else ""


def _listed(names: Sequence[str], *, top: int = 3) -> str:
    more = len(names) - top
    return ", ".join(names[:top]) + (f" and {more} more" if more > 0 else "")


def _against(name: Baseline, baseline: Sample, current: Sample, *, names: Sequence[str]) -> list[Shift]:
    measured: list[tuple[str, Kind, float, float]] = []
    for feature in names:
        old, new = (sample.values[feature].to_numpy(np.float64) for sample in (baseline, current))
        weights = (baseline.evidence(feature), current.evidence(feature))
        measured += [(feature, kind, size, p) for kind, size, p in _measures(old, new, evidence=weights)]
    rates = stats.false_discovery_control([p for *_, p in measured], method="by")
    return [
        Shift(feature=feature, baseline=name, kind=kind, size=size, q=float(q))
        for (feature, kind, size, _), q in zip(measured, rates, strict=True)
    ]


def _measures(old: Floats, new: Floats, *, evidence: tuple[float, float]) -> list[tuple[Kind, float, float]]:
    """Size and p-value of each measure; `evidence` holds the effective sample size of either side."""
    there_old, there_new = old[~np.isnan(old)], new[~np.isnan(new)]
    missing_old, missing_new = 1 - len(there_old) / len(old), 1 - len(there_new) / len(new)
    m, n = evidence
    pooled = (m * missing_old + n * missing_new) / (m + n)
    deviation = np.sqrt(max(pooled * (1 - pooled), 1e-12) * (1 / m + 1 / n))
    apart = abs(missing_new - missing_old)
    measures: list[tuple[Kind, float, float]] = [("missing", apart, float(2 * stats.norm.sf(apart / deviation)))]
    if min(len(there_old), len(there_new)) < MIN_ROWS:
        return measures
    m, n = m * len(there_old) / len(old), n * len(there_new) / len(new)
    weight = m * n / (m + n)
    psi, freedom = population_stability_index(there_old, there_new)
    if freedom:
        measures.append(("psi", psi, float(stats.chi2.sf(weight * psi, freedom))))
    distance = float(stats.ks_2samp(there_old, there_new, method="asymp").statistic)
    return [*measures, ("ks", distance, float(stats.kstwobign.sf(np.sqrt(weight) * distance)))]


def _shares(edges: Floats, values: Floats) -> Floats:
    counts = np.bincount(np.searchsorted(edges, values, side="left"), minlength=len(edges) + 1) + 0.5
    return np.asarray(counts / counts.sum())
