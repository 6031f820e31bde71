"""The evaluation of a model: every metric with its interval, overall and per segment, as one record.

Belongs here: the record of an evaluation and its computation. Must not be here: metric definitions (`metrics.py`),
whether a model may be promoted (`promotion/gate.py`), charts (`reporting/`), thresholds (`policy/decisions.py`).
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from types import MappingProxyType
from typing import Any, Final, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fraud_pipeline.modeling.incidents import Incidents
from fraud_pipeline.modeling.metrics import (
    Floats,
    average_precision,
    budget_shares,
    calibration_error,
    card_precision,
    customer_resamples,
    rank_frauds,
    ratio,
    recall_at_precision,
    roc_auc,
)
from fraud_pipeline.policy.decisions import DECISIONS, CostModel, Policy, decide
from fraud_pipeline.schema.transactions import DAY

_CONFIDENCE: Final = (2.5, 97.5)
_LARGE: Final = 1_000  # from here on three decimals say nothing
_ALL: Final = ("", "all")
RARE: Final[Mapping[str, float]] = MappingProxyType(
    {"average_precision_1_in_1000": 1 / 1_000, "average_precision_15_in_100000": 15 / 100_000}
)
"""Average precision where fraud is as rare as at most banks."""


@dataclass(frozen=True, slots=True)
class Interval:
    """A metric and its 95 % bootstrap interval; NaN where undefined."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, replicates: Floats) -> Self:
        """The first replicate is the sample itself, the rest are resamples; undefined resamples are left out."""
        value, resamples = float(replicates[0]), replicates[1:][np.isfinite(replicates[1:])]
        if np.isnan(value) or len(resamples) == 0:
            return cls(value=value, low=np.nan, high=np.nan)
        low, high = np.percentile(resamples, _CONFIDENCE)
        return cls(value=value, low=float(low), high=float(high))

    def to_dict(self) -> dict[str, float | None]:
        """Plain values for JSON; NaN becomes None."""
        return {bound: None if np.isnan(x) else x for bound, x in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, float | None]) -> Self:
        """The interval that `to_dict` wrote."""
        return cls(**{bound: np.nan if x is None else x for bound, x in values.items()})

    def __str__(self) -> str:
        if np.isnan(self.value):
            return "undefined"
        number = ".3f" if max(abs(self.value), abs(self.high)) < _LARGE else ",.0f"
        return f"{self.value:{number}} ({self.low:{number}} to {self.high:{number}})"


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Metrics and counts of one set of rows, and the same for each group of each segment."""

    metrics: Mapping[str, Interval]
    counts: Mapping[str, int]
    segments: Mapping[str, Mapping[str, "Evaluation"]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; NaN becomes None."""
        return {
            "metrics": {name: interval.to_dict() for name, interval in self.metrics.items()},
            "counts": dict(self.counts),
            "segments": {
                segment: {group: evaluation.to_dict() for group, evaluation in groups.items()}
                for segment, groups in self.segments.items()
            },
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The evaluation that `to_dict` wrote."""
        return cls(
            metrics={name: Interval.from_dict(interval) for name, interval in values["metrics"].items()},
            counts=dict(values["counts"]),
            segments={
                segment: {group: cls.from_dict(evaluation) for group, evaluation in groups.items()}
                for segment, groups in values["segments"].items()
            },
        )

    def to_markdown(self) -> str:
        """A Markdown table: one line for all rows and one for each group of each segment."""
        names = list(self.metrics)
        parts = {f"{segment}: {group}": part for segment, of in self.segments.items() for group, part in of.items()}
        rows = [
            [name.replace("|", "/"), *(f"{part.counts[count]:,}" for count in self.counts)]
            + [str(part.metrics.get(metric, "")) for metric in names]
            for name, part in {"all": self, **parts}.items()
        ]
        head = ["", *(name.replace("_", " ") for name in [*self.counts, *names])]
        table = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
        return "\n".join(f"| {' | '.join(cells)} |" for cells in table)


def segment_rows(segments: Mapping[str, NDArray[Any]]) -> dict[tuple[str, str], NDArray[np.bool_]]:
    """Which rows, shape (n,), belong to each (segment, group); a missing group label is the group "missing"."""
    masks: dict[tuple[str, str], NDArray[np.bool_]] = {}
    for segment, labels in segments.items():
        codes, groups = pd.factorize(pd.Series(labels), use_na_sentinel=True, sort=True)
        names = {code: str(group) for code, group in enumerate(groups)}
        masks |= {
            (segment, names.get(code, "missing")): codes == code for code in [*names, -1] if (codes == code).any()
        }
    return masks


def evaluate(
    probability: Floats,
    labels: Floats,
    *,
    amounts_cents: NDArray[np.int64],
    customers: NDArray[Any],
    days: NDArray[np.int64],
    policy: Policy,
    costs: CostModel,
    alert_budget_per_day: float,
    precision_floor: float = 0.85,
    cards_per_day: int = 100,
    segments: Mapping[str, NDArray[Any]] | None = None,
    decided: NDArray[np.object_] | None = None,
    row_weights: Floats | None = None,
    times: NDArray[np.int64] | None = None,
    replicates: int = 200,
    seed: int = 0,
) -> Evaluation:
    """All metrics with intervals, overall and for each group of each segment; every array has shape (n,).

    `segments` maps a name to one group label per row. `decided` are the decisions that were taken, by default those of
    `policy`. `row_weights` is the number of rows that each row stands for, by default 1; cards and incidents always
    count once. `times` (microseconds) order the frauds of an incident, by default `days` do. The alert budget is the
    bank's: a segment's recall at budget counts its frauds among the alerts of all rows. Money is in units,
    not cents. Raises ValueError for missing scores and unknown labels.
    """
    if not (np.isfinite(probability).all() and np.isin(labels, (0, 1)).all()):
        raise ValueError("probability, labels: evaluate rows with a finite score and a known label only")
    decided = decide(probability, policy, amounts_cents=amounts_cents) if decided is None else decided
    # Sorting once makes each of the many later sorts one linear pass.
    order = np.argsort(-probability, kind="stable")
    probability, labels, amounts_cents, days = probability[order], labels[order], amounts_cents[order], days[order]
    groups = {_ALL: np.ones(len(labels), dtype=bool)}
    groups |= {key: rows[order] for key, rows in segment_rows(segments or {}).items()}
    decided, fraud = decided[order], labels == 1
    alerts, blocks, squared_error = decided != "allow", decided == "block", (probability - labels) ** 2
    cost = {choice: costs.cost(choice, labels=labels, amounts_cents=amounts_cents) for choice in DECISIONS}
    at_stake, number_of_days = cost["allow"], len(np.unique(days))
    saved = cost["allow"] - np.select([decided == choice for choice in DECISIONS], list(cost.values()))
    names, codes = np.unique(customers[order], return_inverse=True)
    incidents = Incidents.of(fraud, alerts, codes, days * DAY if times is None else times[order])
    stands_for = np.ones(len(labels)) if row_weights is None else row_weights[order]

    blocks_of: dict[tuple[str, str], list[dict[str, Floats]]] = {key: [] for key in groups}
    for drawn in customer_resamples(len(names), len(labels), replicates=replicates, seed=seed):
        weights = drawn[:, codes] * stands_for
        shares = budget_shares(probability, labels, days, weights, budget=alert_budget_per_day)
        for key, rows in groups.items():
            part, within = weights[:, rows], fraud[rows]
            ranks = rank_frauds(probability[rows], labels[rows], part)
            alerted = (shares[:, rows[fraud]] * part[:, within]).sum(axis=1)
            block = {
                "average_precision": average_precision(ranks),
                **{name: average_precision(ranks, prevalence=share) for name, share in RARE.items()},
                "roc_auc": roc_auc(ranks),
                "precision": ratio(part @ (alerts & fraud)[rows], part @ alerts[rows]),
                "block_precision": ratio(part @ (blocks & fraud)[rows], part @ blocks[rows]),
                "recall": ratio(part @ (alerts & fraud)[rows], part @ fraud[rows]),
                "money_recall": ratio(part @ (at_stake * alerts)[rows], part @ at_stake[rows]),
                "recall_at_precision": recall_at_precision(ranks, precision=precision_floor),
                "recall_at_budget": ratio(alerted, part[:, within].sum(axis=1)),
                "cost_saved": ratio(part @ saved[rows], part @ at_stake[rows]),
                "saved_per_day": _per_day(part @ saved[rows] / 100, number_of_days),
                "alerts_per_day": _per_day(part @ alerts[rows], number_of_days),
                "blocks_per_day": _per_day(part @ blocks[rows], number_of_days),
                "calibration_error": calibration_error(probability[rows], labels[rows], part),
                "brier": ratio(part @ squared_error[rows], part.sum(axis=1)),
                "observed_over_expected": ratio(part @ labels[rows], part @ probability[rows]),
            }
            if key == _ALL:
                block |= incidents.metrics(drawn)
                block["card_precision"] = card_precision(
                    probability, labels, codes, days, drawn, cards_per_day=cards_per_day
                )
            blocks_of[key].append(block)

    parts = {
        key: Evaluation(
            metrics={name: Interval.of(np.concatenate([block[name] for block in blocks])) for name in blocks[0]},
            counts={
                "rows": int(groups[key].sum()),
                "frauds": int(fraud[groups[key]].sum()),
                "customers": len(np.unique(codes[groups[key]])),
            },
        )
        for key, blocks in blocks_of.items()
    }
    of_segment = {
        segment: {group: part for (owner, group), part in parts.items() if owner == segment}
        for segment in (segments or {})
    }
    return replace(parts[_ALL], segments=of_segment)


def _per_day(total: Floats, days: int) -> Floats:
    return ratio(total, np.full(len(total), float(days)))
