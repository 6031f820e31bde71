"""Scores of the rows that trees are fitted on, by trees that did not see their customers.

Belongs here: the folds and their fits, and whether newer rows contradict them. Must not be here: what the scores are
for (`training.py`).

Calibration and policy need many frauds, and the calibrate part alone holds few. A booster knows the rows it was fitted
on by heart; out of fold each row is scored by a booster of other customers. Source: Stone, "Cross-Validatory Choice and
Assessment of Statistical Predictions", JRSS B 1974.
"""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fraud_pipeline.modeling.fitting import LabelledRows
from fraud_pipeline.modeling.metrics import Floats, customer_resamples, ratio
from fraud_pipeline.modeling.model_directory import fit_booster

FOLDS: Final = 3


def out_of_fold_margins(
    rows: LabelledRows, *, parameters: Mapping[str, Any], rounds: int, seed: int, folds: int = FOLDS
) -> NDArray[np.float32]:
    """Log-odds before calibration (n,); all rows of a customer lie in one fold."""
    owners = np.arange(len(rows.labels)) if rows.customers is None else rows.customers
    names, codes = np.unique(owners, return_inverse=True)
    fold = np.random.default_rng(seed).permutation(len(names))[codes] % folds
    margins = np.empty(len(rows.labels), np.float32)
    for number in range(folds):
        held_out = fold == number
        booster = fit_booster(
            rows.features[~held_out],
            rows.labels[~held_out],
            parameters=parameters,
            rounds=rounds,
            seed=seed,
            feature_types=rows.feature_types,
        )
        unseen = rows.features[held_out].to_numpy(np.float32)
        margins[held_out] = booster.inplace_predict(unseen, predict_type="margin")
    return margins


def contradicted(probability: Floats, labels: Floats, *, customers: NDArray[Any], seed: int) -> bool:
    """Whether rows (n,) have clearly more or fewer frauds than predicted: the 95 % interval of the ratio excludes 1."""
    names, codes = np.unique(customers, return_inverse=True)
    observed, expected = (np.bincount(codes, weights=of) for of in (labels, probability))
    ratios = [
        ratio(drawn @ observed, drawn @ expected)
        for drawn in customer_resamples(len(names), len(names), replicates=400, seed=seed)
    ]
    low, high = np.percentile(np.concatenate(ratios)[1:], (2.5, 97.5))
    return not low <= 1 <= high
