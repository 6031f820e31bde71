"""The proof that blocks are right often enough: a lower bound of their precision over all thresholds looked at.

Belongs here: the bound and its record in words. Must not be here: which rows a policy would block (`choice.py`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

CONFIDENCE: Final = 0.95


@dataclass(frozen=True, slots=True)
class BlockEvidence:
    """Of the candidates that were `looked_at`, the one that blocks most and is proven, or else the best one.

    `owners` is the effective number of customers of its `rows`; `threshold` is None if nothing is proven.
    """

    threshold: float | None
    looked_at: int
    rows: int
    frauds: int
    owners: float
    lower_bound: float
    floor: float
    confidence: float = CONFIDENCE

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The record that `to_dict` wrote."""
        return cls(**values)

    def __str__(self) -> str:
        sure = f"with {self.confidence:.0%} confidence over the {self.looked_at} thresholds looked at"
        right = f"{self.frauds:,} of {self.rows:,} would-be blocks ({self.owners:.0f} independent customers) were right"
        if self.threshold is not None:
            return (
                f"blocks from probability {self.threshold:.3f}: {right}, that is at least {self.lower_bound:.2f} {sure}"
            )
        if self.looked_at == 0:
            needed = rows_needed(self.floor, looked_at=1)
            return (
                f"blocks nothing, because {self.rows:,} transactions would be worth a block, and no fewer than "
                f"{needed} can prove that {self.floor:.0%} of blocks are right"
            )
        return (
            f"blocks nothing, because no threshold is proven to be right {self.floor:.0%} of the time {sure}: at best "
            f"{right}, a lower bound of {self.lower_bound:.2f}"
        )


def rows_needed(floor: float, *, looked_at: int, confidence: float = CONFIDENCE) -> int:
    """The fewest blocks, all of them right and of different customers, that prove a precision of `floor`."""
    return int(np.ceil(np.log((1 - confidence) / looked_at) / np.log(floor)))


def lower_bound(frauds: float, rows: float, *, owners: float, alpha: float) -> float:
    """The one-sided lower bound of a precision, wrong with probability `alpha` at most.

    Rows of one customer resemble each other, so only `owners` of them count: the exact binomial bound of the effective
    sample size. Sources: Clopper and Pearson, Biometrika 1934; Korn and Graubard, Survey Methodology 1998; Kish's
    effective number, for customers whose rows are all alike.
    """
    if rows == 0 or frauds == 0:
        return 0.0
    right = owners * frauds / rows
    return float(betaincinv(right, owners - right + 1, alpha))


def prove_blocks(
    candidates: Sequence[tuple[float, NDArray[np.bool_]]],
    labels: NDArray[np.float64],
    customers: NDArray[Any],
    *,
    floor: float,
    confidence: float = CONFIDENCE,
) -> BlockEvidence:
    """The evidence of the lowest threshold whose blocks are proven to be right in at least `floor` of all cases.

    Each candidate is a threshold and the rows (n,) that it would block, chosen without looking at the labels. Each is
    tested at an equal part of 1 - `confidence`, so that all bounds hold together (Bonferroni).
    """
    alpha = (1 - confidence) / max(len(candidates), 1)
    proven, best = None, BlockEvidence(None, len(candidates), 0, 0, 0.0, 0.0, floor, confidence)
    for threshold, blocked in candidates:
        rows, frauds = int(blocked.sum()), int(labels[blocked].sum())
        counts = np.unique(customers[blocked], return_counts=True)[1]
        owners = float(rows**2 / (counts**2).sum()) if rows else 0.0
        bound = lower_bound(frauds, rows, owners=owners, alpha=alpha)
        evidence = BlockEvidence(None, len(candidates), rows, frauds, owners, bound, floor, confidence)
        if bound >= floor and (proven is None or threshold < proven[0]):
            proven = (threshold, evidence)
        best = max(best, evidence, key=lambda each: each.lower_bound)
    if proven is None:
        return best
    threshold, evidence = proven
    return BlockEvidence(**{**evidence.to_dict(), "threshold": float(threshold)})
