"""Metrics of rare fraud, each a function of weights, so that a bootstrap is a matrix of weights.

Belongs here: metric definitions and the resampling of customers. Must not be here: records, intervals, segments
(`evaluation.py`).

Every metric takes `weights` of shape (replicates, n) and returns one value per replicate; NaN where it is undefined
without fraud or without legitimate rows. Customers are resampled instead of rows, because the frauds of one episode are
not independent.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_BLOCK_CELLS: Final = 4_000_000
_ROUNDING: Final = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class FraudRanks:
    """The positions of the frauds in the ranking, which is all that ranking metrics need; each of shape (replicates,
    f).

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


def average_precision(ranks: FraudRanks, *, prevalence: float | None = None) -> Floats:
    """Area under precision against recall without interpolation, as scikit-learn defines it; shape (replicates,).

    With a `prevalence`, legitimate rows weigh as much as they would where this share of rows is fraud.
    """
    through = ranks.through
    if prevalence is not None:
        frauds = ranks.weight.sum(axis=1)
        rarer = ratio(frauds * (1 - prevalence), prevalence * (ranks.total - frauds))
        through = ranks.frauds_through + rarer[:, None] * (through - ranks.frauds_through)
    precision = ratio(ranks.frauds_through, through)
    return ratio((ranks.weight * np.where(ranks.weight > 0, precision, 0)).sum(axis=1), ranks.weight.sum(axis=1))


def roc_auc(ranks: FraudRanks) -> Floats:
    """Probability that a fraud is scored above a legitimate row, ties counting half; shape (replicates,)."""
    frauds = ranks.weight.sum(axis=1)
    legitimate = ranks.total - frauds
    above = ((ranks.before - ranks.frauds_before) + (ranks.through - ranks.frauds_through)) / 2
    below = (ranks.weight * (legitimate[:, None] - above)).sum(axis=1)
    return ratio(below, frauds * legitimate)


def recall_at_precision(ranks: FraudRanks, *, precision: float = 0.85) -> Floats:
    """Largest recall of any threshold whose alerts reach `precision`, 0 if none does; shape (replicates,)."""
    good = (ranks.frauds_through >= precision * ranks.through - _ROUNDING) & (ranks.weight > 0)
    best = np.where(good, ranks.frauds_through, 0).max(axis=1, initial=0)
    return ratio(best, ranks.weight.sum(axis=1))


def budget_shares(scores: Floats, labels: Floats, days: NDArray[np.int64], weights: Floats, *, budget: float) -> Floats:
    """The share of each fraud that is among the `budget` highest scores of its day, shape (replicates, f).

    It is 1 inside and 0 outside. Equal scores at the cut share the rest of the budget, so that row order does not
    matter. Frauds are in row order.
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
    return ratio(np.abs(np.diff(excess[:, edges], axis=1)).sum(axis=1), weights.sum(axis=1))


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


def _runs(*keys: NDArray[Any]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Start and end (exclusive) of the run of equal keys that contains each position; keys are sorted."""
    changed = np.logical_or.reduce([np.diff(key) != 0 for key in keys])
    bounds = np.concatenate([[0], np.flatnonzero(changed) + 1, [len(keys[0])]])
    lengths = np.diff(bounds)
    return np.repeat(bounds[:-1], lengths), np.repeat(bounds[1:], lengths)


def _cumulative(weights: Floats) -> Floats:
    """Sums over the columns before each one, shape (replicates, n + 1)."""
    sums = np.zeros((weights.shape[0], weights.shape[1] + 1))
    np.cumsum(weights, axis=1, out=sums[:, 1:])
    return sums


def _share(left: Floats, needed: Floats) -> Floats:
    return np.clip(np.divide(left, needed, out=np.zeros_like(left), where=needed > 0), 0, 1)


def ratio(numerator: Floats, denominator: Floats) -> Floats:
    undefined = np.full_like(denominator, np.nan)
    return np.divide(numerator, denominator, out=undefined, where=denominator > 0)


def effective_number(owners: pd.Series) -> float:
    """The effective number of owners of rows (n,). Source: Kish, "Survey Sampling", 1965."""
    counts = owners.value_counts().to_numpy(np.float64)
    return float(counts.sum() ** 2 / (counts**2).sum()) if len(counts) else 0.0
