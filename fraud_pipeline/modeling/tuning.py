"""The search for XGBoost hyper-parameters: a seeded, resumable Optuna study over shared quantised matrices.

Belongs here: the search space, the objective, pruning, the study, the choice among its trials. Must not be here: the
model, its evaluation.

The first trials have fixed, sensible parameters: on all columns, then on those that need no history. Another trial is
chosen only if it is better by more than its noise. With few frauds the best of many trials is often the luckiest.
"""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np
import optuna
import pandas as pd
import xgboost as xgb
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import BaseTrial, FrozenTrial, Trial, TrialState
from sklearn.metrics import average_precision_score

from fraud_pipeline.modeling.comparison import compare
from fraud_pipeline.modeling.evaluation import Interval
from fraud_pipeline.modeling.fitting import MAX_BINS, Fitting, LabelledRows, sensible_parameters

REPORT_EVERY: Final = 10
_FIXED: Final = "fixed"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TuningResult:
    """The chosen trial and all trials; `rounds` is the number of trees at its best iteration.

    `columns` are those that it learned from, and `history` whether features from history are among them.
    """

    parameters: Mapping[str, Any]
    columns: tuple[str, ...]
    history: bool
    rounds: int
    average_precision: float
    trials: pd.DataFrame


def suggest_parameters(trial: BaseTrial) -> dict[str, Any]:
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
    plain: Sequence[str] = (),
    timeout: timedelta | None = None,
    workers: int = 1,
    threads: int = 0,
    journal: Path | None = None,
    study_name: str = "fraud_model",
    on_trial: Callable[[int, float], None] | None = None,
) -> TuningResult:
    """Search for parameters with a high average precision on `tune_on`; fixed ones, unless others are clearly better.

    `plain` are the columns that need no history; with them the search may leave history out. A study with the same
    `journal` and `study_name` is resumed: only the missing trials run. Several workers share the study and `threads`;
    the order of their trials is not reproducible. Raises ValueError when a part has no fraud or nothing but fraud.
    """
    for name, rows in (("train", train), ("tune", tune_on)):
        if not 0 < rows.labels.sum() < len(rows.labels):
            raise ValueError(f"the {name} part needs both fraud and legitimate rows; give it more days")
    histories = (True, False) if plain and len(plain) < train.features.shape[1] else (True,)
    columns = {True: tuple(train.features.columns), False: tuple(plain)}
    fitting = Fitting(
        {history: (train.of(columns[history]), tune_on.of(columns[history])) for history in histories},
        threads=max(1, (threads or os.cpu_count() or 1) // workers),
        seed=seed,
    )

    def objective(trial: Trial) -> float:
        parameters = suggest_parameters(trial)
        history = len(histories) == 1 or bool(trial.suggest_categorical("history", histories))
        booster = fitting.stopped_early(parameters, history=history, callbacks=[_Pruning(trial)])
        trial.set_user_attr("rounds", booster.num_boosted_rounds())
        return float(average_precision_score(tune_on.labels, fitting.scores(booster, history=history)))

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = _study(journal=journal, name=study_name, seed=seed)
    finished = _finished(study)
    if finished:
        logger.info("resuming study %s after %d trials", study_name, len(finished))
    fixed = [
        {**sensible_parameters(train.labels), **({"history": history} if len(histories) > 1 else {})}
        for history in histories
    ]
    _enqueue_fixed(study, fixed[:n_trials])

    def report(study: optuna.Study, _trial: FrozenTrial) -> None:
        if on_trial is not None:
            best = study.best_value if study.get_trials(states=[TrialState.COMPLETE]) else float("nan")
            on_trial(len(_finished(study)), best)

    if len(finished) < n_trials:
        study.optimize(
            objective,
            n_trials=n_trials - len(finished),
            timeout=timeout.total_seconds() if timeout else None,
            n_jobs=workers,
            callbacks=[report],
            gc_after_trial=False,
        )
    chosen = _choose(study, fitting)
    trials = study.trials_dataframe(attrs=("number", "value", "state", "duration", "params", "user_attrs"))
    return TuningResult(
        parameters=_parameters(chosen),
        columns=columns[_history(chosen)],
        history=_history(chosen),
        rounds=int(chosen.user_attrs["rounds"]),
        average_precision=float(chosen.value or 0.0),
        trials=trials[trials["state"] != "WAITING"].reset_index(drop=True),
    )


def _choose(study: optuna.Study, fitting: Fitting) -> FrozenTrial:
    """The better of the fixed trials, or the best of all where that is better by more than its noise."""
    complete = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
    best = max(complete, key=_value)
    fixed = max((trial for trial in complete if _FIXED in trial.user_attrs), key=_value, default=best)
    return best if best.number == fixed.number or _gain(fitting, best, over=fixed).low > 0 else fixed


def _gain(fitting: Fitting, trial: FrozenTrial, *, over: FrozenTrial) -> Interval:
    """The average precision of a trial on the tune rows minus that of another, paired by customers."""
    of_trial, of_other = (
        fitting.scores(fitting.stopped_early(_parameters(each), history=_history(each)), history=_history(each))
        for each in (trial, over)
    )
    rows = fitting.tune_rows
    customers = np.arange(len(rows.labels)) if rows.customers is None else rows.customers
    return compare(of_trial, of_other, rows.labels, customers=customers).gain


def _value(trial: FrozenTrial) -> float:
    return float(trial.value or 0.0)


def _parameters(trial: FrozenTrial) -> dict[str, Any]:
    """XGBoost's parameters of a trial."""
    return {name: value for name, value in trial.params.items() if name != "history"}


def _history(trial: FrozenTrial) -> bool:
    return bool(trial.params.get("history", True))


def _finished(study: optuna.Study) -> list[FrozenTrial]:
    return study.get_trials(deepcopy=False, states=[TrialState.COMPLETE, TrialState.PRUNED])


def _enqueue_fixed(study: optuna.Study, fixed: Sequence[Mapping[str, Any]]) -> None:
    """Make the fixed trials the next ones; after a crash, those that did not end are among them again."""
    states = [TrialState.COMPLETE, TrialState.PRUNED, TrialState.WAITING]
    present = {trial.user_attrs.get(_FIXED) for trial in study.get_trials(deepcopy=False, states=states)}
    for number, parameters in enumerate(fixed):
        if number not in present:
            study.enqueue_trial(dict(parameters), user_attrs={_FIXED: number})


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
