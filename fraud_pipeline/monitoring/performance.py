"""Performance of the champion on matured labels, and whether it is worse than at promotion.

Belongs here: which days are judged, with which labels and decisions, and the report.
Must not be here: metric definitions (`modeling/metrics.py`, `modeling/evaluation.py`), the comparison with the
figures at promotion (`performance_comparison.py`), SQL, the registry, orchestration.

A day is judged when its labels have matured; younger days are shown apart, because only some of their frauds are
reported. Days on which the champion was trained or evaluated are left out. A row counts with the decision that the
champion served; a row that it did not serve counts with its decision on the row's features. Held out would-be blocks
stand for the blocked rows, whose labels are censored (`policy/holdout.py`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Final, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fraud_pipeline.features.own_inputs import with_own_inputs
from fraud_pipeline.modeling.dataset import labels_as_of
from fraud_pipeline.modeling.evaluation import Evaluation, evaluate
from fraud_pipeline.modeling.model_directory import FraudModel
from fraud_pipeline.modeling.training import PolicySettings, days, segments
from fraud_pipeline.monitoring.performance_comparison import COMPARED, MIN_FRAUDS, PerformanceFinding, words
from fraud_pipeline.policy.decisions import decide
from fraud_pipeline.policy.holdout import HeldOut, Holdout
from fraud_pipeline.schema.joins import positions_of, rows_of
from fraud_pipeline.schema.transactions import microseconds

Kind = Literal["matured", "provisional"]

WINDOW: Final = timedelta(days=28)
SHOWN: Final = (
    "precision",
    "block_precision",
    "recall",
    "average_precision",
    "cost_saved",
    "calibration_error",
    "brier",
    "observed_over_expected",
)
NO_BLOCKS: Final = pd.DataFrame({"transaction_id": [], "held_out": [], "by_model": [], "share": []})
_ALL: Final = ("", "all")


@dataclass(frozen=True, slots=True)
class EvaluationPeriod:
    """The days `first` to `last`, both included."""

    kind: Kind
    first: date
    last: date

    @property
    def days(self) -> int:
        """The number of days."""
        return (self.last - self.first).days + 1

    def __str__(self) -> str:
        return f"{self.kind}, {self.first} to {self.last}"


@dataclass(frozen=True, slots=True)
class Assessment:
    """The champion's evaluation in a period; `served` rows count with the decision that was served.

    The evaluation leaves blocked rows out when enough held out rows stand for them.
    """

    window: EvaluationPeriod
    evaluation: Evaluation
    served: int
    held_out: HeldOut

    @property
    def basis(self) -> str:
        """Which decisions were judged, and for which rows the held out ones count, in words."""
        offline = self.evaluation.counts["rows"] - self.served
        counts = f"{self.served:,} decisions as served, {offline:,} as the champion decides on offline features"
        return f"{counts}{self.held_out}"

    def groups(self) -> dict[tuple[str, str], Evaluation]:
        """The evaluation of all rows and of each (segment, group)."""
        parts = {
            (segment, group): part for segment, of in self.evaluation.segments.items() for group, part in of.items()
        }
        return {_ALL: self.evaluation, **parts}


@dataclass(frozen=True, slots=True)
class PerformanceReport:
    """The champion's performance as known at the end of `day`."""

    day: date
    champion: str
    assessments: tuple[Assessment, ...]
    findings: tuple[PerformanceFinding, ...]

    def of_kind(self, kind: Kind) -> Assessment | None:
        """The assessment of matured or of provisional days; None when there are no such days."""
        return next((assessment for assessment in self.assessments if assessment.window.kind == kind), None)

    @property
    def degraded(self) -> bool:
        """Whether any figure is clearly worse than at promotion."""
        return any(finding.degraded for finding in self.findings)

    @property
    def not_judged(self) -> str:
        """Why nothing was compared with the figures at promotion; empty when it was."""
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
        shown = ", ".join(f"{words(name)} {matured.evaluation.metrics[name]}" for name in COMPARED)
        worse = " ".join(finding.detail for finding in self.findings if finding.degraded)
        conclusion = worse or ("No clear loss since promotion." if self.findings else f"It is {self.not_judged}.")
        return f"Champion {self.champion}, {_days(matured.window)} {matured.window}: {shown}. {conclusion}"

    def to_markdown(self) -> str:
        """A table per period, and the comparison with the figures at promotion."""
        parts = [part for assessment in self.assessments for part in (_heading(assessment), _table(assessment))]
        compared = "\n".join(f"- {finding.detail}" for finding in self.findings) or f"- It is {self.not_judged}."
        return "\n\n".join([*parts, f"**Since promotion**\n\n{compared}"])


def seen_to(model: FraudModel) -> pd.Timestamp:
    """The last instant of what the model was trained on or evaluated on before its promotion."""
    # A model of an earlier release records only what it was trained on.
    return pd.Timestamp(model.lineage.get("evaluated_to", model.lineage["trained_to"]))


def windows(
    day: date, *, label_maturity: timedelta, seen: pd.Timestamp, length: timedelta = WINDOW
) -> tuple[EvaluationPeriod, ...]:
    """The days to judge at the end of `day`: matured days, at most `length` of them, and the provisional days after
    them.

    Days up to `seen` are left out; `seen_to` gives it for a model.
    """
    as_of = pd.Timestamp(day, tz="UTC") + pd.Timedelta(days=1)
    unseen = seen.date() + timedelta(days=1)
    matured_end = (as_of - label_maturity).floor("D").date()
    periods = (
        EvaluationPeriod("matured", max(unseen, matured_end - length), matured_end - timedelta(days=1)),
        EvaluationPeriod("provisional", max(unseen, matured_end), day),
    )
    return tuple(window for window in periods if window.first <= window.last)


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
    """Evaluate the champion on the feature rows of `window`, with the reports before `as_of`.

    `transactions` hold the same rows; `served` are decisions of this model: transaction_id, decision, probability;
    `would_be_blocks` are those of all models and rules: transaction_id, held_out, by_model, share. When enough of them
    were held out, blocked rows and days without a holdout are left out, and held out rows count as blocks in their
    place. A provisional row without a report counts as legitimate.
    """
    on_day = days(features)
    stopped = NO_BLOCKS if would_be_blocks is None else would_be_blocks
    holdout = Holdout.of(features["transaction_id"], stopped, days=on_day)
    seen = holdout.weights > 0
    features, held_out = features[seen], holdout.held_out[seen]
    context = rows_of(transactions, features["transaction_id"], table="transactions")
    labels = labels_as_of(context, reports, as_of=as_of, label_maturity=label_maturity)
    probability = model.predict(with_own_inputs(features, context, model.feature_config.own_inputs))
    amounts = context["amount_cents"].to_numpy(np.int64)
    decided = decide(probability, model.policy, amounts_cents=amounts)
    position = positions_of(context, served["transaction_id"], table="transactions")
    known_rows = position >= 0
    rows = position[known_rows]
    decided[rows] = np.where(held_out[rows], "block", served["decision"].to_numpy()[known_rows])
    probability[rows] = served["probability"].to_numpy(np.float64)[known_rows]
    outcomes = np.nan_to_num(labels, nan=0.0)
    evaluation = evaluate(
        probability,
        outcomes,
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
        times=microseconds(context["event_time"]),
        replicates=replicates,
    )
    review, block = (
        policy.costs.cost(choice, labels=outcomes, amounts_cents=amounts)[held_out].sum()
        for choice in ("review", "block")
    )
    left_out = len(np.unique(on_day[holdout.off])) if holdout.enough else 0
    held_out_summary = HeldOut(
        rows=int(held_out.sum()),
        weight=holdout.weight,
        cents_per_day=float(review - block) / max(window.days - left_out, 1),
        days_off=left_out,
    )
    return Assessment(window=window, evaluation=evaluation, served=len(rows), held_out=held_out_summary)


def reported_segments(context: pd.DataFrame) -> Mapping[str, NDArray[Any]]:
    """The segments of transactions (n,) that reports show: those of the evaluation, and the category."""
    groups = segments(context)
    if context["category"].notna().any():
        groups["category"] = context["category"].to_numpy()
    return groups


def _heading(assessment: Assessment) -> str:
    caveat = "" if assessment.window.kind == "matured" else " (provisional: more frauds will be reported)"
    return f"**{str(assessment.window).capitalize()}**, {_days(assessment.window)}{caveat}: {assessment.basis}."


def _table(assessment: Assessment) -> str:
    head = ["", "rows", "frauds", *(words(name) for name in SHOWN)]
    lines = [head, ["---"] + ["---:"] * (len(head) - 1)]
    for (segment, group), part in assessment.groups().items():
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
