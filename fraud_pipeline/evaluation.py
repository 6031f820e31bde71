"""How good scores are: metrics of rare fraud, each with an interval, overall and per segment.

Belongs here: metric definitions, the bootstrap, the record of an evaluation. Must not be here: whether a model may be
promoted (`gate.py`), plots (`plots.py`), thresholds (`decisions.py`).

Every metric takes `weights` of shape (replicates, n) and answers one value per replicate: a bootstrap is a matrix of
weights. Customers are resampled, not rows, for frauds come in episodes and rows of one episode are no independent news.
A metric that is undefined, for want of fraud or of legitimate rows, is NaN.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fraud_pipeline.decisions import DECISIONS, CostModel, Policy, decide

Floats = NDArray[np.float64]
_BLOCK_CELLS: Final = 4_000_000
_CONFIDENCE: Final = (2.5, 97.5)
_ROUNDING: Final = 1e-9
_ALL: Final = ("", "all")


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

    def __str__(self) -> str:
        if np.isnan(self.value):
            return "undefined"
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Metrics of one set of rows, what they were counted on, and the same for each group of each segment."""

    metrics: Mapping[str, Interval]
    counts: Mapping[str, int]
    segments: Mapping[str, Mapping[str, "Evaluation"]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; NaN becomes None."""
        return {
            "metrics": {
                name: {bound: _plain(getattr(interval, bound)) for bound in ("value", "low", "high")}
                for name, interval in self.metrics.items()
            },
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
            metrics={
                name: Interval(**{bound: np.nan if number is None else number for bound, number in interval.items()})
                for name, interval in values["metrics"].items()
            },
            counts=dict(values["counts"]),
            segments={
                segment: {group: cls.from_dict(evaluation) for group, evaluation in groups.items()}
                for segment, groups in values["segments"].items()
            },
        )

    def to_markdown(self) -> str:
        """A table for people: one row for all and one for each group of each segment."""
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


@dataclass(frozen=True, slots=True, eq=False)
class FraudRanks:
    """Where the frauds stand in the ranking, which is all that ranking metrics need; all of shape (replicates, f).

    `before` and `through` are the weights of rows scored strictly above, and above or equal to, each fraud;
    `frauds_through` counts frauds only.
    """

    weight: Floats
    before: Floats
    through: Floats
    frauds_before: Floats
    frauds_through: Floats
    total: Floats


def rank_frauds(scores: Floats, labels: Floats, weights: Floats) -> FraudRanks:
    """Rank rows by descending score, equal scores together; scores and labels (n,), weights (replicates, n)."""
    order = np.argsort(-scores, kind="stable")
    starts, ends = _runs(scores[order])
    positions = np.flatnonzero(labels[order] == 1)
    cumulative = _cumulative(weights[:, order])
    weight = weights[:, order[positions]]
    fraud_cumulative = _cumulative(weight)
    return FraudRanks(
        weight=weight,
        before=cumulative[:, starts[positions]],
        through=cumulative[:, ends[positions]],
        frauds_before=fraud_cumulative[:, np.searchsorted(positions, starts[positions])],
        frauds_through=fraud_cumulative[:, np.searchsorted(positions, ends[positions])],
        total=cumulative[:, -1],
    )


def average_precision(ranks: FraudRanks) -> Floats:
    """Area under precision against recall without interpolation, as scikit-learn defines it; shape (replicates,)."""
    precision = _ratio(ranks.frauds_through, ranks.through)
    return _ratio((ranks.weight * np.where(ranks.weight > 0, precision, 0)).sum(axis=1), ranks.weight.sum(axis=1))


def roc_auc(ranks: FraudRanks) -> Floats:
    """Probability that a fraud is scored above a legitimate row, ties counting half; shape (replicates,)."""
    frauds = ranks.weight.sum(axis=1)
    legitimate = ranks.total - frauds
    above = ((ranks.before - ranks.frauds_before) + (ranks.through - ranks.frauds_through)) / 2
    below = (ranks.weight * (legitimate[:, None] - above)).sum(axis=1)
    return _ratio(below, frauds * legitimate)


def recall_at_precision(ranks: FraudRanks, *, precision: float = 0.85) -> Floats:
    """Largest recall of any threshold whose alerts reach `precision`, 0 if none does; shape (replicates,)."""
    good = (ranks.frauds_through >= precision * ranks.through - _ROUNDING) & (ranks.weight > 0)
    best = np.where(good, ranks.frauds_through, 0).max(axis=1, initial=0)
    return _ratio(best, ranks.weight.sum(axis=1))


def budget_shares(scores: Floats, labels: Floats, days: NDArray[np.int64], weights: Floats, *, budget: float) -> Floats:
    """How much of each fraud is among the `budget` highest scores of its day, shape (replicates, f).

    1 inside, 0 outside; equal scores at the cut share what is left of the budget, so that row order cannot matter.
    Frauds are in row order.
    """
    order = np.lexsort((-scores, days))
    day_starts, _ = _runs(days[order])
    starts, ends = _runs(days[order], scores[order])
    position = np.empty(len(order), dtype=np.intp)
    position[order] = np.arange(len(order))
    at = position[labels == 1]
    cumulative = _cumulative(weights[:, order])
    left = budget - (cumulative[:, starts[at]] - cumulative[:, day_starts[at]])
    return _share(left, cumulative[:, ends[at]] - cumulative[:, starts[at]])


def card_precision(
    scores: Floats,
    labels: Floats,
    customers: NDArray[np.intp],
    days: NDArray[np.int64],
    customer_weights: Floats,
    *,
    cards_per_day: int = 100,
) -> Floats:
    """Share of compromised cards among the `cards_per_day` highest of each day, mean over days; shape (replicates,).

    A card scores its highest transaction of the day; a card caught once is not counted again on later days.
    `customers` are positions in `customer_weights`, shape (replicates, customers).
    Source: Le Borgne et al., Reproducible Machine Learning for Credit Card Fraud Detection, section 4.3.
    """
    uncaught = np.ones_like(customer_weights)
    hits = np.zeros(len(customer_weights))
    cards = pd.DataFrame({"day": days, "card": customers, "score": scores, "label": labels})
    daily = cards.groupby(["day", "card"], as_index=False).max().sort_values(["day", "score"], ascending=[True, False])
    for _, today in daily.groupby("day"):
        card, label = today["card"].to_numpy(), today["label"].to_numpy()
        starts, ends = _runs(today["score"].to_numpy())
        weight = customer_weights[:, card] * uncaught[:, card]
        cumulative = _cumulative(weight)
        caught = _share(cards_per_day - cumulative[:, starts], cumulative[:, ends] - cumulative[:, starts]) * label
        hits += (weight * caught).sum(axis=1)
        uncaught[:, card] *= 1 - caught
    frauds = customer_weights[:, customers[labels == 1]].sum(axis=1)
    return np.where(frauds > 0, hits / (cards_per_day * max(daily["day"].nunique(), 1)), np.nan)


def calibration_error(probability: Floats, labels: Floats, weights: Floats, *, bins: int = 15) -> Floats:
    """Mean distance between predicted and observed fraud rate over bins of equal row count; shape (replicates,).

    Equal probabilities stay in one bin. Source: Nguyen and O'Connor, EMNLP 2015 (adaptive binning).
    """
    order = np.argsort(probability, kind="stable")
    starts, _ = _runs(probability[order])
    bin_starts, _ = _runs(starts * bins // max(len(order), 1))
    excess = _cumulative(weights[:, order] * (labels - probability)[order])
    edges = np.append(np.unique(bin_starts), len(order))
    return _ratio(np.abs(np.diff(excess[:, edges], axis=1)).sum(axis=1), weights.sum(axis=1))


def customer_resamples(customers: int, rows: int, *, replicates: int, seed: int) -> Iterator[Floats]:
    """Blocks of customer weights, shape (b, customers): how often each is drawn; the very first row is all ones.

    Blocks are small enough that weights of `rows` transactions fit in memory.
    """
    generator = np.random.default_rng(seed)
    size = max(1, _BLOCK_CELLS // max(rows, 1))
    yield np.ones((1, customers))
    for first in range(0, replicates if customers else 0, size):
        count = min(size, replicates - first)
        drawn = generator.integers(customers, size=(count, customers)) + customers * np.arange(count)[:, None]
        yield np.bincount(drawn.ravel(), minlength=count * customers).reshape(count, customers).astype(np.float64)


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
    replicates: int = 200,
    seed: int = 0,
) -> Evaluation:
    """All metrics with intervals, overall and for each group of each segment; every array has shape (n,).

    `segments` maps a name to one group label per row. The alert budget is the bank's: a segment's recall at budget
    counts its frauds among the alerts of all rows. Raises ValueError for missing scores and unknown labels.
    """
    if not (np.isfinite(probability).all() and np.isin(labels, (0, 1)).all()):
        raise ValueError("probability, labels: evaluate rows with a finite score and a known label only")
    # Of rows that are in order already, each of the many sorts to come is one linear pass.
    order = np.argsort(-probability, kind="stable")
    probability, labels, amounts_cents, days = probability[order], labels[order], amounts_cents[order], days[order]
    groups = {_ALL: np.ones(len(labels), dtype=bool)}
    groups |= {key: rows[order] for key, rows in segment_rows(segments or {}).items()}
    decided, fraud = decide(probability, policy), labels == 1
    cost = {choice: costs.cost(choice, labels=labels, amounts_cents=amounts_cents) for choice in DECISIONS}
    saved = cost["allow"] - np.select([decided == choice for choice in DECISIONS], list(cost.values()))
    names, codes = np.unique(customers[order], return_inverse=True)

    found: dict[tuple[str, str], list[dict[str, Floats]]] = {key: [] for key in groups}
    for drawn in customer_resamples(len(names), len(labels), replicates=replicates, seed=seed):
        weights = drawn[:, codes]
        shares = budget_shares(probability, labels, days, weights, budget=alert_budget_per_day)
        for key, rows in groups.items():
            part, within = weights[:, rows], fraud[rows]
            ranks = rank_frauds(probability[rows], labels[rows], part)
            alerted = (shares[:, rows[fraud]] * part[:, within]).sum(axis=1)
            block = {
                "average_precision": average_precision(ranks),
                "roc_auc": roc_auc(ranks),
                "recall_at_precision": recall_at_precision(ranks, precision=precision_floor),
                "recall_at_budget": _ratio(alerted, part[:, within].sum(axis=1)),
                "cost_saved": _ratio(part @ saved[rows], part @ cost["allow"][rows]),
                "calibration_error": calibration_error(probability[rows], labels[rows], part),
            }
            if key == _ALL:
                block["card_precision"] = card_precision(
                    probability, labels, codes, days, drawn, cards_per_day=cards_per_day
                )
            found[key].append(block)

    parts = {
        key: Evaluation(
            metrics={name: Interval.of(np.concatenate([block[name] for block in blocks])) for name in blocks[0]},
            counts={
                "rows": int(groups[key].sum()),
                "frauds": int(fraud[groups[key]].sum()),
                "customers": len(np.unique(codes[groups[key]])),
            },
        )
        for key, blocks in found.items()
    }
    of_segment = {
        segment: {group: part for (owner, group), part in parts.items() if owner == segment}
        for segment in (segments or {})
    }
    return replace(parts[_ALL], segments=of_segment)


def _runs(*keys: NDArray[Any]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """First position and one past the last of the run of equal keys that each position is in; keys are sorted."""
    changed = np.logical_or.reduce([np.diff(key) != 0 for key in keys])
    bounds = np.concatenate([[0], np.flatnonzero(changed) + 1, [len(keys[0])]])
    lengths = np.diff(bounds)
    return np.repeat(bounds[:-1], lengths), np.repeat(bounds[1:], lengths)


def _cumulative(weights: Floats) -> Floats:
    """Sums over the columns before each one, shape (replicates, n + 1)."""
    sums = np.zeros((weights.shape[0], weights.shape[1] + 1))
    np.cumsum(weights, axis=1, out=sums[:, 1:])
    return sums


def _share(left: Floats, wanted: Floats) -> Floats:
    return np.clip(np.divide(left, wanted, out=np.zeros_like(left), where=wanted > 0), 0, 1)


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    undefined = np.full_like(denominator, np.nan)
    return np.divide(numerator, denominator, out=undefined, where=denominator > 0)


def _plain(number: float) -> float | None:
    return None if np.isnan(number) else number
