"""Measures what decisions by expected cost save, compared with thresholds on the probability.

    python benchmarks/policy.py [--transactions N] [--n-trials N] [--worlds N] [--alert-budgets N N]

Trains one model per world like the pipeline, chooses both policies for each alert budget on the same rows before the
test, and decides on the test part. "Same alerts" alerts on as many rows as the policy by expected cost does, those of
highest probability. Cost saved is the share of the cost of doing nothing, by reported labels. Observed over expected
frauds says whether the calibration held. Prints a line per world, a table, and as its last line one JSON object.
"""

import argparse
import json
import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd
from synthetic_model import TRANSACTIONS_PER_DAY, evaluated, policy_of, training_rows

from fraud_pipeline.features.config import FeatureConfig
from fraud_pipeline.generator import SyntheticWorld, WorldConfig
from fraud_pipeline.modeling.training import TrainedModel, TuningSettings, days, part, train_model
from fraud_pipeline.policy.choice import choose_policy
from fraud_pipeline.policy.decisions import Policy, PolicyKind, decide
from fraud_pipeline.settings import Settings


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one policy did on the test part."""

    cost_saved: float
    alerts_per_day: float
    incident_recall: float
    blocks: int
    right_blocks: int


@dataclass(frozen=True, slots=True)
class World:
    """The outcome of each policy by alert budget, and the observed over the expected frauds of the test part."""

    outcomes: dict[float, dict[str, Outcome]]
    observed_over_expected: float


def world_of(*, seed: int, transactions: int, n_trials: int, budgets: Sequence[float]) -> World:
    began = time.perf_counter()
    settings = Settings(seed=seed)
    world = SyntheticWorld(WorldConfig(seed=seed, difficulty=settings.difficulty, first_day=settings.first_day))
    length = timedelta(days=math.ceil(transactions / TRANSACTIONS_PER_DAY))
    rows = training_rows(world, settings, end=pd.Timestamp(settings.first_day, tz="UTC") + length)
    trained = train_model(
        rows,
        tuning=TuningSettings(n_trials=n_trials, seed=seed),
        policy=policy_of(settings),
        feature_config=FeatureConfig(label_maturity=settings.label_maturity),
        lineage={},
    )
    test = part(rows, "test")
    outcomes = {budget: outcomes_of(trained, test, settings=settings, budget=budget) for budget in budgets}
    labels, seconds = test["label"].to_numpy(np.float64), time.perf_counter() - began
    print(
        f"seed {seed}: {len(test):,} rows of {len(np.unique(days(test)))} days, {labels.sum():.0f} frauds; "
        f"{trained.policy_report.blocks}; {seconds:.0f} s",
        flush=True,
    )
    return World(outcomes, observed_over_expected=float(labels.sum() / trained.model.predict(test).sum()))


def outcomes_of(trained: TrainedModel, test: pd.DataFrame, *, settings: Settings, budget: float) -> dict[str, Outcome]:
    wanted = policy_of(settings)
    labels, scores = test["label"].to_numpy(np.float64), trained.model.predict(test)
    amounts = test["amount_cents"].to_numpy(np.int64)

    def chosen(decides_by: PolicyKind) -> Policy:
        return choose_policy(
            trained.policy_rows,
            costs=wanted.costs,
            alert_budget_per_day=budget,
            precision_floor=wanted.precision_floor,
            decides_by=decides_by,
        )[0]

    by_cost, by_thresholds = chosen("expected_cost"), chosen("thresholds")
    alerts = int((decide(scores, by_cost, amounts_cents=amounts) != "allow").sum())
    as_many = float(np.sort(scores)[::-1][alerts - 1]) if alerts else np.inf
    block_from = by_thresholds.block_threshold
    policies = {
        "expected_cost": by_cost,
        "thresholds": by_thresholds,
        "same_alerts": Policy(min(as_many, block_from), block_from),
    }
    outcomes = {}
    for name, policy in policies.items():
        blocked = decide(scores, policy, amounts_cents=amounts) == "block"
        metrics = evaluated(scores, labels, test, wanted, decides=policy, replicates=0).metrics
        outcomes[name] = Outcome(
            **{metric: metrics[metric].value for metric in ("cost_saved", "alerts_per_day", "incident_recall")},
            blocks=int(blocked.sum()),
            right_blocks=int(labels[blocked].sum()),
        )
    return outcomes


def over_worlds(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Means over worlds with the spread of cost saved; blocks are counted over all."""
    values = [asdict(outcome) for outcome in outcomes]
    means = {name: statistics.mean(of[name] for of in values) for name in values[0] if not name.endswith("blocks")}
    blocks, right = (sum(of[name] for of in values) for name in ("blocks", "right_blocks"))
    saved = [outcome.cost_saved for outcome in outcomes]
    return {
        **{name: round(mean, 4) for name, mean in means.items()},
        "cost_saved_sd": round(statistics.stdev(saved), 4) if len(saved) > 1 else None,
        "blocks": blocks,
        "block_precision": round(right / blocks, 4) if blocks else None,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="what decisions by expected cost save")
    parser.add_argument("--transactions", type=int, default=100_000)
    parser.add_argument("--n-trials", type=int, default=2, help="the first two trials have fixed parameters")
    parser.add_argument("--worlds", type=int, default=2)
    parser.add_argument("--alert-budgets", type=float, nargs="+", default=[5.0, 20.0], help="alerts a day")
    arguments = parser.parse_args()
    first = Settings().seed
    worlds = [
        world_of(
            seed=seed,
            transactions=arguments.transactions,
            n_trials=arguments.n_trials,
            budgets=arguments.alert_budgets,
        )
        for seed in range(first, first + arguments.worlds)
    ]
    print(f"\n{'alert budget':14}{'policy':16}{'cost saved':>12}{'alerts a day':>14}{'incidents':>11}{'blocks':>8}")
    by_budget = {}
    for budget in arguments.alert_budgets:
        outcomes = [world.outcomes[budget] for world in worlds]
        figures = {name: over_worlds([of[name] for of in outcomes]) for name in outcomes[0]}
        for name, of in figures.items():
            shown = f"{of['cost_saved']:>12.3f}{of['alerts_per_day']:>14.1f}{of['incident_recall']:>11.3f}"
            print(f"{budget:<14g}{name:16}{shown}{of['blocks']:>8}")
        better = sum(of["expected_cost"].cost_saved > of["same_alerts"].cost_saved for of in outcomes)
        by_budget[f"{budget:g}"] = {**figures, "worlds_better_at_same_alerts": better}
    result = {
        "worlds": arguments.worlds,
        "transactions": arguments.transactions,
        "by_alert_budget": by_budget,
        "observed_over_expected": [round(world.observed_over_expected, 3) for world in worlds],
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
