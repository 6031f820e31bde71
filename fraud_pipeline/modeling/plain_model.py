"""The plain model: XGBoost with fixed parameters on the row's own columns, the floor for every trained model.

Belongs here: which columns a row has of its own, and fitting the plain model. Must not be here: the comparison
(`comparison.py`), what follows from it (`promotion/quality_checks.py`).

It is what a user could have in twenty lines: no history, no search. It learns from the same rows as our model and is
judged on the same rows.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from fraud_pipeline.features.config import FeatureConfig
from fraud_pipeline.features.definitions import FEATURES
from fraud_pipeline.modeling.fitting import LabelledRows, sensible_parameters, stopped_early
from fraud_pipeline.modeling.model_directory import Calibration, FraudModel, fit_booster
from fraud_pipeline.policy.decisions import Policy


def row_columns(config: FeatureConfig) -> tuple[str, ...]:
    """The features of a transaction that need no history, then the own inputs."""
    return (*(each.name for each in FEATURES if each.entity == "transaction"), *config.own_inputs.names)


def fit_plain_model(
    train: LabelledRows,
    tune_on: LabelledRows,
    *,
    config: FeatureConfig,
    lineage: Mapping[str, Any],
    seed: int,
    threads: int = 0,
) -> FraudModel:
    """Fit on `train` until `tune_on` stops it, then the same number of trees on both, as our model is fitted.

    Both hold at least `row_columns` of `config`. Its probabilities are not calibrated: it ranks, and decides nothing.
    """
    columns = row_columns(config)
    train, tune_on = train.of(columns), tune_on.of(columns)
    rounds = stopped_early(train, tune_on, seed=seed, threads=threads)
    booster = fit_booster(
        pd.concat([train.features, tune_on.features]),
        np.concatenate([train.labels, tune_on.labels]),
        parameters=sensible_parameters(train.labels),
        rounds=rounds,
        threads=threads,
        seed=seed,
        feature_types=train.feature_types,
    )
    return FraudModel(
        booster=booster,
        features=columns,
        feature_config=config,
        calibration=Calibration(),
        policy=Policy(review_threshold=np.inf, block_threshold=np.inf),
        lineage=lineage,
    )
