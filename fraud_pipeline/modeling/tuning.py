"""The search for XGBoost hyper-parameters: a seeded, resumable Optuna study over one quantised matrix.

Belongs here: the search space, the objective, pruning, the study. Must not be here: the model, its evaluation.
"""

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
import optuna
import pandas as pd
import xgboost as xgb
from numpy.typing import NDArray
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import Trial, TrialState
from sklearn.metrics import average_precision_score

from fraud_pipeline.modeling.model_directory import training_parameters

MAX_ROUNDS: Final = 400
EARLY_STOPPING_ROUNDS: Final = 30
REPORT_EVERY: Final = 10
MAX_BINS: Final = (256, 1024, 4096)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LabelledRows:
    """Feature rows (n, k) and their labels (n,) of 0 or 1; `feature_types` are XGBoost's, None for numbers only."""

    features: pd.DataFrame
    labels: NDArray[np.float64]
    feature_types: list[str] | None = None


@dataclass(frozen=True)
class TuningResult:
    """The best trial and all trials; `rounds` is the number of trees at its best iteration."""

    parameters: Mapping[str, Any]
    rounds: int
    average_precision: float
    trials: pd.DataFrame


def suggest_parameters(trial: Trial) -> dict[str, Any]:
    """The search space. `max_bin` and `base_score` are in it because their defaults blur heavy-tailed amounts."""
    return {
        "max_depth": trial.suggest_int("max_depth", 3, 8),
        "learning_rate": trial.suggest_float("learning_rate", 0.04, 0.3, log=True),
        "min_child_weight": trial.suggest_float("min_child_weight", 0.5, 64, log=True),
        "subsample": trial.suggest_float("subsample", 0.5, 1.0),
        "colsample_bytree": trial.suggest_float("colsample_bytree", 0.3, 1.0),
        "reg_lambda": trial.suggest_float("reg_lambda", 0.1, 100, log=True),
        "reg_alpha": trial.suggest_float("reg_alpha", 1e-3, 10, log=True),
        "max_delta_step": trial.suggest_int("max_delta_step", 0, 2),
        "gamma": trial.suggest_float("gamma", 1e-3, 5, log=True),
        "max_bin": trial.suggest_categorical("max_bin", MAX_BINS),
        "base_score": trial.suggest_float("base_score", 0.001, 0.5, log=True),
    }


def tune(
    *,
    train: LabelledRows,
    tune_on: LabelledRows,
    n_trials: int,
    seed: int,
    timeout: timedelta | None = None,
    workers: int = 1,
    threads: int = 0,
    journal: Path | None = None,
    study_name: str = "fraud_model",
    on_trial: Callable[[int, float], None] | None = None,
) -> TuningResult:
    """Search for the parameters with the best average precision on `tune_on`.

    A study with the same `journal` and `study_name` is resumed: only the missing trials run. Several workers share the
    study and `threads`; the order of their trials is not reproducible. Raises ValueError when a part has no fraud or
    nothing but fraud.
    """
    for name, rows in (("train", train), ("tune", tune_on)):
        if not 0 < rows.labels.sum() < len(rows.labels):
            raise ValueError(f"the {name} part needs both fraud and legitimate rows; give it more days")

    types: dict[str, Any] = {
        "feature_types": train.feature_types,
        "enable_categorical": train.feature_types is not None,
    }

    # Quantising costs more than the trees of many trials, so each resolution is made once and shared by all.
    @lru_cache(maxsize=len(MAX_BINS))
    def quantised(max_bin: int) -> xgb.QuantileDMatrix:
        return xgb.QuantileDMatrix(train.features, label=train.labels, max_bin=max_bin, **types)

    # Predicting quantised rows takes longer than predicting plain ones, and every tree is evaluated.
    watch = xgb.DMatrix(tune_on.features, label=tune_on.labels, **types)

    threads_each = max(1, (threads or os.cpu_count() or 1) // workers)

    def objective(trial: Trial) -> float:
        parameters = suggest_parameters(trial)
        booster = xgb.train(
            {**training_parameters(parameters, threads=threads_each, seed=seed), "eval_metric": ["aucpr", "logloss"]},
            quantised(parameters["max_bin"]),
            num_boost_round=MAX_ROUNDS,
            evals=[(watch, "tune")],
            verbose_eval=False,
            callbacks=[
                # Average precision of few frauds jumps from tree to tree; log loss is smooth and decides when to stop.
                xgb.callback.EarlyStopping(rounds=EARLY_STOPPING_ROUNDS, metric_name="logloss", save_best=True),
                _Pruning(trial),
            ],
        )
        trial.set_user_attr("rounds", booster.num_boosted_rounds())
        return float(average_precision_score(tune_on.labels, booster.predict(watch)))

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = _study(journal=journal, name=study_name, seed=seed)
    finished = [trial for trial in study.trials if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)]
    if finished:
        logger.info("resuming study %s after %d trials", study_name, len(finished))

    def report(study: optuna.Study, _trial: optuna.trial.FrozenTrial) -> None:
        if on_trial is not None:
            best = study.best_value if any(t.state is TrialState.COMPLETE for t in study.trials) else float("nan")
            on_trial(len(study.trials), best)

    if len(finished) < n_trials:
        study.optimize(
            objective,
            n_trials=n_trials - len(finished),
            timeout=timeout.total_seconds() if timeout else None,
            n_jobs=workers,
            callbacks=[report],
            gc_after_trial=False,
        )
    return TuningResult(
        parameters=dict(study.best_params),
        rounds=int(study.best_trial.user_attrs["rounds"]),
        average_precision=float(study.best_value),
        trials=study.trials_dataframe(attrs=("number", "value", "state", "duration", "params", "user_attrs")),
    )


def _study(*, journal: Path | None, name: str, seed: int) -> optuna.Study:
    storage: BaseStorage = InMemoryStorage()
    if journal is not None:
        journal.parent.mkdir(parents=True, exist_ok=True)
        storage = JournalStorage(JournalFileBackend(str(journal)))
    study = optuna.create_study(
        storage=storage,
        study_name=name,
        load_if_exists=True,
        direction="maximize",
        pruner=optuna.pruners.MedianPruner(n_startup_trials=5, n_warmup_steps=30),
    )
    # A resumed sampler must not propose its first points again.
    study.sampler = optuna.samplers.TPESampler(seed=seed + len(study.trials), n_startup_trials=6)
    return study


class _Pruning(xgb.callback.TrainingCallback):
    """Report a trial's progress to Optuna, and stop a hopeless trial."""

    def __init__(self, trial: Trial) -> None:
        super().__init__()
        self._trial = trial

    def after_iteration(self, model: xgb.Booster, epoch: int, evals_log: Mapping[str, Any]) -> bool:  # noqa: ARG002 - XGBoost's signature
        if epoch % REPORT_EVERY == 0:
            self._trial.report(evals_log["tune"]["aucpr"][-1], step=epoch)
            if self._trial.should_prune():
                raise optuna.TrialPruned
        return False
