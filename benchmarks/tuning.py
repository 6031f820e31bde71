"""Measures hyper-parameter trials per minute: our search against plain loops over the same suggestions.

    python benchmarks/tuning.py [--n-trials N] [--transactions N]

The plain loop builds a matrix, fits all trees and scores, for each trial. A second one stops early, to show the effect
of the shared matrices and of pruning. All use the same rows, the same suggested parameters and all cores; each trial is
scored by average precision on the same rows. Prints a table, and as its last line one JSON object.
"""

import argparse
import json
import time
from dataclasses import dataclass
from typing import Any, Final

# This import decides how XGBoost's threads wait, so it comes before XGBoost, for all contenders.
from fraud_pipeline.modeling.model_directory import training_parameters

# isort: split
import numpy as np
import pandas as pd
import xgboost as xgb
from sklearn.metrics import average_precision_score
from synthetic_model import TRANSACTIONS_PER_DAY, training_rows

from fraud_pipeline.features.engineer import FEATURE_NAMES
from fraud_pipeline.generator import SyntheticWorld, WorldConfig
from fraud_pipeline.modeling.fitting import EARLY_STOPPING_ROUNDS, MAX_ROUNDS, LabelledRows
from fraud_pipeline.modeling.training import part
from fraud_pipeline.modeling.tuning import tune
from fraud_pipeline.settings import Settings

SEED: Final = 7


@dataclass(frozen=True, slots=True)
class Outcome:
    """Seconds for all trials and the best average precision among them."""

    seconds: float
    best: float


def labelled(rows: pd.DataFrame) -> LabelledRows:
    return LabelledRows(features=rows[list(FEATURE_NAMES)], labels=rows["label"].to_numpy(np.float64))


def plain_loop(
    suggestions: list[dict[str, Any]], train: LabelledRows, tune_on: LabelledRows, *, stop_early: bool
) -> Outcome:
    """Fit each suggestion from scratch."""
    began = time.perf_counter()
    scores = []
    for parameters in suggestions:
        fit_on = xgb.DMatrix(train.features, label=train.labels)
        watch = xgb.DMatrix(tune_on.features, label=tune_on.labels)
        booster = xgb.train(
            {**training_parameters(parameters, threads=0, seed=SEED), "eval_metric": "logloss"},
            fit_on,
            num_boost_round=MAX_ROUNDS,
            evals=[(watch, "tune")] if stop_early else (),
            callbacks=[xgb.callback.EarlyStopping(rounds=EARLY_STOPPING_ROUNDS, save_best=True)] if stop_early else (),
            verbose_eval=False,
        )
        scores.append(average_precision_score(tune_on.labels, booster.predict(watch)))
    return Outcome(seconds=time.perf_counter() - began, best=float(max(scores)))


def suggested(trials: pd.DataFrame) -> list[dict[str, Any]]:
    """The parameters of each trial of the search."""
    parameters = trials.filter(like="params_").rename(columns=lambda name: name.removeprefix("params_"))
    integers = {"max_depth", "max_delta_step", "max_bin"}  # a data frame stores them as floats
    return [
        {str(name): int(value) if name in integers else value for name, value in record.items()}
        for record in parameters.to_dict("records")
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="speed of the hyper-parameter search")
    parser.add_argument("--n-trials", type=int, default=12)
    parser.add_argument("--transactions", type=int, default=100_000)
    arguments = parser.parse_args()
    settings = Settings(seed=SEED)
    end = pd.Timestamp(settings.first_day, tz="UTC") + pd.Timedelta(days=arguments.transactions // TRANSACTIONS_PER_DAY)
    rows = training_rows(SyntheticWorld(WorldConfig(seed=SEED)), settings, end=end)
    train, tune_on = labelled(part(rows, "train")), labelled(part(rows, "tune"))
    print(
        f"{len(train.labels):,} rows to fit, {len(tune_on.labels):,} to score, {len(FEATURE_NAMES)} features, "
        f"{arguments.n_trials} trials of at most {MAX_ROUNDS} trees"
    )

    began = time.perf_counter()
    result = tune(train=train, tune_on=tune_on, n_trials=arguments.n_trials, seed=SEED)
    outcomes = {"tune": Outcome(seconds=time.perf_counter() - began, best=result.average_precision)}
    pruned = int((result.trials["state"] == "PRUNED").sum())
    suggestions = suggested(result.trials)
    outcomes["plain_loop_stopping_early"] = plain_loop(suggestions, train, tune_on, stop_early=True)
    outcomes["plain_loop"] = plain_loop(suggestions, train, tune_on, stop_early=False)

    rates = {name: 60 * arguments.n_trials / outcome.seconds for name, outcome in outcomes.items()}
    print(f"{'':28}{'seconds':>9}{'trials/min':>12}{'best AP':>9}")
    for name, outcome in outcomes.items():
        print(f"{name:28}{outcome.seconds:>9.1f}{rates[name]:>12.1f}{outcome.best:>9.3f}")
    print(f"{pruned} of our trials were pruned")
    print(
        json.dumps(
            {
                "trials_per_minute": {name: round(rate, 1) for name, rate in rates.items()},
                "ratio": round(rates["tune"] / rates["plain_loop"], 2),
                "ratio_stopping_early": round(rates["tune"] / rates["plain_loop_stopping_early"], 2),
                "best_average_precision": {name: round(outcome.best, 4) for name, outcome in outcomes.items()},
                "pruned": pruned,
            }
        )
    )


if __name__ == "__main__":
    main()
