"""How the champion does by now, from labels that came late, and whether that is less than it promised.

Belongs here: which days may be judged, with which labels and decisions, and the comparison with the figures at
promotion. Must not be here: metric definitions (`modeling/metrics.py`, `modeling/evaluation.py`), SQL, the registry,
orchestration.

A day is judged when its labels have matured; younger days are shown apart, for their frauds are only partly reported.
Days that the champion was trained on say nothing about it, and those it was promoted by are the promise itself: all of
them are left out. A row counts with the decision that the champion served; a row that it did not serve, with what it
decides on the row's features. Would-be blocks that were held out count for the blocked rows, whose labels are hidden
(`policy/holdout.py`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Final, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fraud_pipeline.modeling.dataset import labels_as_of
from fraud_pipeline.modeling.evaluation import Evaluation, Interval, evaluate
from fraud_pipeline.modeling.model_directory import FraudModel
from fraud_pipeline.modeling.training import PolicySettings, days, segments
from fraud_pipeline.policy.decisions import decide
from fraud_pipeline.policy.holdout import HeldOut, Holdout
from fraud_pipeline.schema.joins import positions_of, rows_of

Kind = Literal["matured", "provisional"]

WINDOW: Final = timedelta(days=28)
MIN_FRAUDS: Final = 20
TOLERANCE: Final = 0.05
MAX_MISCALIBRATION: Final = 1.5
SHOWN: Final = (
    "precision",
    "recall",
    "average_precision",
    "cost_saved",
    "calibration_error",
    "brier",
    "observed_over_expected",
)
COMPARED: Final = ("precision", "recall", "average_precision", "cost_saved")
NO_BLOCKS: Final = pd.DataFrame({"transaction_id": [], "held_out": [], "by_model": [], "share": []})
_ALL: Final = ("", "all")
# A 95 % interval so much wider is one of 99.5 %: four figures together are then wrong once in a hundred windows.
_WIDER: Final = 2.81 / 1.96


@dataclass(frozen=True, slots=True)
class EvaluationPeriod:
    """The days `first` to `last`, both included."""

    kind: Kind
    first: date
    last: date

    @property
    def days(self) -> int:
        """How many days it has."""
        return (self.last - self.first).days + 1

    def __str__(self) -> str:
        return f"{self.kind}, {self.first} to {self.last}"


@dataclass(frozen=True, slots=True)
class Assessment:
    """How the champion did in a window; `served` rows count with the decision that was served.

    The evaluation leaves out blocked rows where enough were held out to count for them.
    """

    window: EvaluationPeriod
    evaluation: Evaluation
    served: int
    held_out: HeldOut

    @property
    def basis(self) -> str:
        """Whose decisions were judged, and for whom some of them count, in words."""
        offline = self.evaluation.counts["rows"] - self.served
        told = f"{self.served:,} decisions as served, {offline:,} as the champion decides on offline features"
        return f"{told}{self.held_out}"

    def groups(self) -> dict[tuple[str, str], Evaluation]:
        """The evaluation of all rows and of each (segment, group)."""
        parts = {
            (segment, group): part for segment, of in self.evaluation.segments.items() for group, part in of.items()
        }
        return {_ALL: self.evaluation, **parts}


@dataclass(frozen=True, slots=True)
class PerformanceFinding:
    """One figure then and now; `degraded` when it is clearly worse."""

    metric: str
    then: Interval | None
    now: Interval
    degraded: bool
    detail: str


@dataclass(frozen=True, slots=True)
class PerformanceReport:
    """The champion as it is known at the end of `day`."""

    day: date
    champion: str
    assessments: tuple[Assessment, ...]
    findings: tuple[PerformanceFinding, ...]

    def of_kind(self, kind: Kind) -> Assessment | None:
        """The assessment of matured or of provisional days, where there are any."""
        return next((found for found in self.assessments if found.window.kind == kind), None)

    @property
    def degraded(self) -> bool:
        """Whether any figure is clearly worse than at promotion."""
        return any(finding.degraded for finding in self.findings)

    @property
    def not_judged(self) -> str:
        """Why nothing was compared with the figures at promotion; empty where it was."""
        if self.findings:
            return ""
        matured = self.of_kind("matured")
        if matured is None:
            return "not judged yet: no day after those that it was evaluated on at its training has matured labels"
        frauds = matured.evaluation.counts["frauds"]
        return f"not judged yet: {frauds} frauds in {_days(matured.window)} with matured labels, of {MIN_FRAUDS} needed"

    @property
    def summary(self) -> str:
        """One line for a person."""
        matured = self.of_kind("matured")
        if matured is None:
            return f"Champion {self.champion} is {self.not_judged}."
        shown = ", ".join(f"{_words(name)} {matured.evaluation.metrics[name]}" for name in COMPARED)
        worse = " ".join(finding.detail for finding in self.findings if finding.degraded)
        told = worse or ("No clear loss since promotion." if self.findings else f"It is {self.not_judged}.")
        return f"Champion {self.champion}, {_days(matured.window)} {matured.window}: {shown}. {told}"

    def to_markdown(self) -> str:
        """A table per window, and what was compared with the figures at promotion."""
        parts = [part for found in self.assessments for part in (_heading(found), _table(found))]
        compared = "\n".join(f"- {finding.detail}" for finding in self.findings) or f"- It is {self.not_judged}."
        return "\n\n".join([*parts, f"**Since promotion**\n\n{compared}"])


def seen_to(model: FraudModel) -> pd.Timestamp:
    """The last instant of what the model was trained on or evaluated on before its promotion."""
    # A model of an earlier release only says what it was trained on.
    return pd.Timestamp(model.lineage.get("evaluated_to", model.lineage["trained_to"]))


def windows(
    day: date, *, label_maturity: timedelta, seen: pd.Timestamp, length: timedelta = WINDOW
) -> tuple[EvaluationPeriod, ...]:
    """The days to judge at the end of `day`: matured ones, at most `length` of them, and the ones after.

    Days up to `seen`, which `seen_to` tells of a model, are left out.
    """
    as_of = pd.Timestamp(day, tz="UTC") + pd.Timedelta(days=1)
    unseen = seen.date() + timedelta(days=1)
    matured_end = (as_of - label_maturity).floor("D").date()
    found = (
        EvaluationPeriod("matured", max(unseen, matured_end - length), matured_end - timedelta(days=1)),
        EvaluationPeriod("provisional", max(unseen, matured_end), day),
    )
    return tuple(window for window in found if window.first <= window.last)


def assess(
    model: FraudModel,
    features: pd.DataFrame,
    transactions: pd.DataFrame,
    reports: pd.DataFrame,
    served: pd.DataFrame,
    *,
    window: EvaluationPeriod,
    label_maturity: timedelta,
    as_of: pd.Timestamp,
    policy: PolicySettings,
    would_be_blocks: pd.DataFrame | None = None,
    replicates: int = 200,
) -> Assessment:
    """The champion on the feature rows of `window`, by what was reported before `as_of`.

    `transactions` hold the same rows; `served` are decisions of this model: transaction_id, decision, probability;
    `would_be_blocks` are those of whatever decided: transaction_id, held_out, by_model, share. Where enough of them
    were held out, blocked rows and days without a holdout are left out, and those held out count for the blocked, as
    blocks. A provisional row that nobody reported counts as legitimate so far.
    """
    on_day = days(features)
    stopped = NO_BLOCKS if would_be_blocks is None else would_be_blocks
    holdout = Holdout.of(features["transaction_id"], stopped, days=on_day)
    seen = holdout.weights > 0
    features, held_out = features[seen], holdout.held_out[seen]
    context = rows_of(transactions, features["transaction_id"], table="transactions")
    labels = labels_as_of(context, reports, as_of=as_of, label_maturity=label_maturity)
    probability = model.predict(features)
    decided = decide(probability, model.policy)
    position = positions_of(context, served["transaction_id"], table="transactions")
    there = position >= 0
    rows = position[there]
    decided[rows] = np.where(held_out[rows], "block", served["decision"].to_numpy()[there])
    probability[rows] = served["probability"].to_numpy(np.float64)[there]
    known, amounts = np.nan_to_num(labels, nan=0.0), context["amount_cents"].to_numpy(np.int64)
    evaluation = evaluate(
        probability,
        known,
        amounts_cents=amounts,
        customers=context["customer_id"].to_numpy(),
        days=days(context),
        policy=model.policy,
        costs=policy.costs,
        alert_budget_per_day=policy.alert_budget_per_day,
        precision_floor=policy.precision_floor,
        segments=reported_segments(context),
        decided=decided,
        row_weights=holdout.weights[seen],
        replicates=replicates,
    )
    review, block = (
        policy.costs.cost(choice, labels=known, amounts_cents=amounts)[held_out].sum() for choice in ("review", "block")
    )
    left_out = len(np.unique(on_day[holdout.off])) if holdout.enough else 0
    told = HeldOut(
        rows=int(held_out.sum()),
        weight=holdout.weight,
        cents_per_day=float(review - block) / max(window.days - left_out, 1),
        days_off=left_out,
    )
    return Assessment(window=window, evaluation=evaluation, served=len(rows), held_out=told)


def reported_segments(context: pd.DataFrame) -> Mapping[str, NDArray[Any]]:
    """The groups of transactions (n,) that reports tell apart: those of the evaluation, and the category."""
    found = segments(context)
    if context["category"].notna().any():
        found["category"] = context["category"].to_numpy()
    return found


def compare(now: Evaluation, then: Evaluation | None) -> tuple[PerformanceFinding, ...]:
    """The figures of matured days against those at promotion.

    A figure is worse when it fell by more than the tolerance and a 99.5 % interval of the difference excludes no
    change; probabilities are, when frauds are beyond doubt more or fewer than they say. With few frauds nothing is
    judged.
    """
    if now.counts["frauds"] < MIN_FRAUDS:
        return ()
    ratio = now.metrics["observed_over_expected"]
    off = ratio.low > MAX_MISCALIBRATION or ratio.high < 1 / MAX_MISCALIBRATION
    told = f"observed over expected frauds is {ratio}; a factor of {MAX_MISCALIBRATION:g} is allowed."
    found = [] if then is None else [_compare(name, now, then) for name in COMPARED if name in then.metrics]
    return (*found, PerformanceFinding("observed_over_expected", then=None, now=ratio, degraded=off, detail=told))


def difference(now: Interval, then: Interval) -> Interval:
    """Now minus then with its interval, of two figures from independent rows.

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
    detail = f"{_words(name)} was {before}, is {after}: {change.value:+.3f} ({change.low:+.3f} to {change.high:+.3f})"
    return PerformanceFinding(
        name, then=before, now=after, degraded=degraded, detail=f"{detail}{', clearly worse' * degraded}."
    )


def _heading(found: Assessment) -> str:
    told = "" if found.window.kind == "matured" else " (provisional: more frauds will be reported)"
    return f"**{str(found.window).capitalize()}**, {_days(found.window)}{told}: {found.basis}."


def _table(found: Assessment) -> str:
    head = ["", "rows", "frauds", *(_words(name) for name in SHOWN)]
    lines = [head, ["---"] + ["---:"] * (len(head) - 1)]
    for (segment, group), part in found.groups().items():
        name = f"{segment}: {group}".replace("|", "/") if segment else group
        counts = [f"{part.counts['rows']:,}", f"{part.counts['frauds']:,}"]
        small = part.counts["frauds"] < MIN_FRAUDS
        cells = (
            ["too few frauds", *[""] * (len(SHOWN) - 1)] if small else [str(part.metrics[metric]) for metric in SHOWN]
        )
        lines.append([name, *counts, *cells])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _days(window: EvaluationPeriod) -> str:
    return f"{window.days} day{'s' * (window.days != 1)}"


def _words(name: str) -> str:
    return name.replace("_", " ")
