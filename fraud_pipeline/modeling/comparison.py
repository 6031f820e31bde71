"""Two models on the same rows: average precision of each and their difference, resampled together by customers.

Belongs here: the paired comparison and its record. Must not be here: metric definitions (`metrics.py`), what follows
from a difference (`promotion/quality_checks.py`), training the plain model (`plain_model.py`).

The difference of two models on one sample is known far better than either of them.
"""

from dataclasses import asdict, dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from fraud_pipeline.modeling.evaluation import Interval
from fraud_pipeline.modeling.metrics import Floats, average_precision, customer_resamples, rank_frauds


@dataclass(frozen=True, slots=True)
class Comparison:
    """Average precision of the model, of the plain one, and their difference, on the same rows."""

    rows: int
    frauds: int
    customers: int
    model: Interval
    plain: Interval
    gain: Interval

    @property
    def base_rate(self) -> float:
        """The share of frauds, which is the average precision of chance."""
        return self.frauds / self.rows if self.rows else np.nan

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; undefined figures are None."""
        return asdict(self) | {name: getattr(self, name).to_dict() for name in ("model", "plain", "gain")}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The comparison that `to_dict` wrote."""
        model, plain, gain = (Interval.from_dict(values[name]) for name in ("model", "plain", "gain"))
        counts = {name: int(values[name]) for name in ("rows", "frauds", "customers")}
        return cls(**counts, model=model, plain=plain, gain=gain)


def compare(
    model: Floats,
    plain: Floats,
    labels: Floats,
    *,
    customers: NDArray[Any],
    replicates: int = 200,
    seed: int = 0,
) -> Comparison:
    """Compare scores of two models on the same rows; every array has shape (n,), and `labels` are 0 or 1."""
    names, codes = np.unique(customers, return_inverse=True)
    precision: tuple[list[Floats], list[Floats]] = ([], [])
    for drawn in customer_resamples(len(names), len(labels), replicates=replicates, seed=seed):
        weights = drawn[:, codes]
        for scores, blocks in zip((model, plain), precision, strict=True):
            blocks.append(average_precision(rank_frauds(scores, labels, weights)))
    of_model, of_plain = (np.concatenate(blocks) for blocks in precision)
    return Comparison(
        rows=len(labels),
        frauds=int(labels.sum()),
        customers=len(names),
        model=Interval.of(of_model),
        plain=Interval.of(of_plain),
        gain=Interval.of(of_model - of_plain),
    )
