"""Fitting boosters that stop early: rows with labels, fixed parameters, and matrices that many fits share.

Belongs here: what a trial of the search and the plain model have in common. Must not be here: the search (`tuning.py`),
which columns a model sees (`plain_model.py`), the shipped model (`model_directory.py`).
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final, Self

import numpy as np
import pandas as pd
import xgboost as xgb
from numpy.typing import NDArray

from fraud_pipeline.modeling.model_directory import training_parameters

MAX_ROUNDS: Final = 400
EARLY_STOPPING_ROUNDS: Final = 30
MAX_BINS: Final = (256, 1024, 4096)
BASE_SCORES: Final = (0.001, 0.5)
_SENSIBLE: Final[Mapping[str, Any]] = MappingProxyType(
    {
        "max_depth": 5,
        "learning_rate": 0.06,
        "min_child_weight": 1.0,
        "subsample": 0.8,
        "colsample_bytree": 0.8,
        "reg_lambda": 1.0,
        "reg_alpha": 0.001,
        "max_delta_step": 0,
        "gamma": 0.001,
        "max_bin": 1024,
    }
)


def sensible_parameters(labels: NDArray[np.float64]) -> dict[str, Any]:
    """The parameters of the fixed trials and of the plain model, for a train part with these labels (n,).

    Each lies in the search space. Only the base score depends on the labels: it is their mean.
    """
    return {**_SENSIBLE, "base_score": float(np.clip(labels.mean(), *BASE_SCORES))}


@dataclass(frozen=True, slots=True)
class LabelledRows:
    """Feature rows (n, k) and their labels (n,) of 0 or 1; `feature_types` are XGBoost's, None for numbers only.

    `customers` (n,) are the customers of the rows; by default each row has its own. Noise is judged by customers.
    """

    features: pd.DataFrame
    labels: NDArray[np.float64]
    feature_types: list[str] | None = None
    customers: NDArray[Any] | None = None

    def of(self, columns: Sequence[str]) -> Self:
        """The same rows with these columns only."""
        types = self.feature_types and [
            kind for name, kind in zip(self.features, self.feature_types, strict=True) if name in set(columns)
        ]
        return replace(self, features=self.features.loc[:, list(columns)], feature_types=types)

    @property
    def categorical(self) -> dict[str, Any]:
        """XGBoost's arguments about the types of the columns."""
        return {"feature_types": self.feature_types, "enable_categorical": self.feature_types is not None}


class Fitting:
    """Fits boosters on shared matrices; `rows` are the train and tune rows, with history and without."""

    def __init__(self, rows: Mapping[bool, tuple[LabelledRows, LabelledRows]], *, threads: int, seed: int) -> None:
        self._rows, self._threads, self._seed = rows, threads, seed
        # Quantising costs more than the trees of many trials, so each resolution is made once and shared by all.
        self._quantised = lru_cache(maxsize=2 * len(MAX_BINS))(self._quantise)
        # Predicting quantised rows takes longer than predicting plain ones, and every tree is evaluated.
        self._watch = {
            history: xgb.DMatrix(tune_on.features, label=tune_on.labels, **tune_on.categorical)
            for history, (_, tune_on) in rows.items()
        }

    @property
    def tune_rows(self) -> LabelledRows:
        """The rows that stop the trees."""
        return self._rows[True][1]

    def _quantise(self, *, history: bool, max_bin: int) -> xgb.QuantileDMatrix:
        train, _ = self._rows[history]
        return xgb.QuantileDMatrix(train.features, label=train.labels, max_bin=max_bin, **train.categorical)

    def stopped_early(
        self,
        parameters: Mapping[str, Any],
        *,
        history: bool,
        callbacks: Sequence[xgb.callback.TrainingCallback] = (),
    ) -> xgb.Booster:
        """A booster with the trees up to its best iteration on the tune rows."""
        return xgb.train(
            {
                **training_parameters(parameters, threads=self._threads, seed=self._seed),
                "eval_metric": ["aucpr", "logloss"],
            },
            self._quantised(history=history, max_bin=int(parameters["max_bin"])),
            num_boost_round=MAX_ROUNDS,
            evals=[(self._watch[history], "tune")],
            verbose_eval=False,
            callbacks=[
                # Average precision of few frauds jumps from tree to tree; log loss is smooth and decides when to stop.
                xgb.callback.EarlyStopping(rounds=EARLY_STOPPING_ROUNDS, metric_name="logloss", save_best=True),
                *callbacks,
            ],
        )

    def scores(self, booster: xgb.Booster, *, history: bool) -> NDArray[np.float64]:
        """Probabilities of the tune rows, shape (n,)."""
        return np.asarray(booster.predict(self._watch[history]), np.float64)


def stopped_early(train: LabelledRows, tune_on: LabelledRows, *, seed: int, threads: int = 0) -> int:
    """The number of trees of the fixed parameters, as `tune_on` stops them."""
    fitting = Fitting({True: (train, tune_on)}, threads=threads or os.cpu_count() or 1, seed=seed)
    return int(fitting.stopped_early(sensible_parameters(train.labels), history=True).num_boosted_rounds())
