"""Measures the quality of the model of the synthetic world, compared with the oracle.

    python benchmarks/synthetic_model.py [--transactions N] [--n-trials N] [--worlds N]

Trains like the pipeline, without Dagster and MLflow, with the default settings. It evaluates the test part twice: on
reported labels, as a bank can, and on the generator's truth. The oracle knows the generator's parameters, but not which
rows are fraud. Figures are followed by the 95 % interval from resampled customers for one world, and by the lowest and
highest value for several. Blocks are counted over all worlds. Prints a table, and as its last line one JSON object.
"""

import argparse
import json
import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fraud_pipeline.features.config import FeatureConfig
from fraud_pipeline.features.engineer import FeatureEngineer, History, merchant_days
from fraud_pipeline.generator import SyntheticWorld, WorldConfig
from fraud_pipeline.ingest.validation import validate
from fraud_pipeline.modeling.evaluation import Evaluation, Interval, evaluate
from fraud_pipeline.modeling.model_directory import FraudModel
from fraud_pipeline.modeling.training import PolicySettings, TuningSettings, build_training_set, days, part, train_model
from fraud_pipeline.policy.decisions import CostModel, Policy, decide
from fraud_pipeline.settings import Settings

TRANSACTIONS_PER_DAY: Final = 833  # of the default world
METRICS: Final = {"ap": "average_precision", "auc": "roc_auc", "recall_at_p85": "recall_at_precision"}
NEVER: Final = Policy(review_threshold=np.inf, block_threshold=np.inf)
Figures = dict[str, Interval]


@dataclass(frozen=True, slots=True)
class Decided:
    """What the policy did on the test part, by reported labels."""

    cost_saved: float
    blocks: int
    right_blocks: int


@dataclass(frozen=True, slots=True)
class World:
    """Figures by (scorer, labels), and what the policy did."""

    figures: dict[tuple[str, str], Figures]
    decided: Decided


def policy_of(settings: Settings) -> PolicySettings:
    costs = CostModel(
        review_cost_cents=settings.review_cost_cents, false_block_cost_cents=settings.false_block_cost_cents
    )
    return PolicySettings(costs=costs, precision_floor=0.85, alert_budget_per_day=settings.alert_budget_per_day)


def training_rows(world: SyntheticWorld, settings: Settings, *, end: pd.Timestamp) -> pd.DataFrame:
    """The content of the pipeline's tables on the day after the last day."""
    start = pd.Timestamp(settings.first_day, tz="UTC")
    transactions = validate(world.transactions(start=start, end=end), now=end).accepted
    reports = world.reports(start=start, end=end)
    maturity = settings.label_maturity
    history = History(
        transactions=transactions.iloc[:0],
        reports=reports,
        merchant_days=merchant_days(transactions, reports, label_maturity=maturity),
    )
    features = FeatureEngineer(label_maturity=maturity).compute(history=history, new=transactions)
    rows, _ = build_training_set(
        features,
        transactions,
        reports,
        as_of=end,
        label_maturity=maturity,
        gap=settings.gap,
        warm_up=settings.warm_up,
    )
    return rows


def evaluated(
    scores: NDArray[np.float64],
    labels: NDArray[np.float64],
    rows: pd.DataFrame,
    policy: PolicySettings,
    *,
    decides: Policy = NEVER,
    replicates: int = 200,
) -> Evaluation:
    return evaluate(
        scores,
        labels,
        amounts_cents=rows["amount_cents"].to_numpy(np.int64),
        customers=rows["customer_id"].to_numpy(),
        days=days(rows),
        policy=decides,
        costs=policy.costs,
        alert_budget_per_day=policy.alert_budget_per_day,
        precision_floor=policy.precision_floor,
        replicates=replicates,
    )


def decided_by(model: FraudModel, rows: pd.DataFrame, policy: PolicySettings) -> Decided:
    scores, labels = model.predict(rows), rows["label"].to_numpy(np.float64)
    blocked = decide(scores, model.policy, amounts_cents=rows["amount_cents"].to_numpy(np.int64)) == "block"
    saved = evaluated(scores, labels, rows, policy, decides=model.policy, replicates=0).metrics["cost_saved"].value
    return Decided(cost_saved=saved, blocks=int(blocked.sum()), right_blocks=int(labels[blocked].sum()))


def one_world(*, seed: int, transactions: int, n_trials: int) -> World:
    began = time.perf_counter()
    settings = Settings(seed=seed)
    policy = policy_of(settings)
    world = SyntheticWorld(WorldConfig(seed=seed, difficulty=settings.difficulty, first_day=settings.first_day))
    length = timedelta(days=math.ceil(transactions / TRANSACTIONS_PER_DAY))
    rows = training_rows(world, settings, end=pd.Timestamp(settings.first_day, tz="UTC") + length)
    trained = train_model(
        rows,
        tuning=TuningSettings(n_trials=n_trials, seed=seed),
        policy=policy,
        feature_config=FeatureConfig(label_maturity=settings.label_maturity),
        lineage={},
    )
    test = part(rows, "test")
    last = test["event_time"].max() + pd.Timedelta(microseconds=1)
    oracle = world.oracle(start=test["event_time"].min(), end=last).set_index("transaction_id")
    oracle = oracle.loc[test["transaction_id"]]
    labels = {"reported": test["label"].to_numpy(np.float64), "truth": oracle["is_fraud"].to_numpy(np.float64)}
    scores = {"model": trained.model.predict(test), "oracle": oracle["oracle_score"].to_numpy(np.float64)}
    counts = ", ".join(f"{int(label.sum())} frauds by {name}" for name, label in labels.items())
    seconds = time.perf_counter() - began
    print(
        f"seed {seed}: tested on {len(test):,} rows, {counts}; {trained.tuning.rounds} trees; "
        f"{trained.policy_report.blocks}; {seconds:.0f} s",
        flush=True,
    )
    figures = {
        (who, judged_by): evaluated(score, label, test, policy).metrics
        for judged_by, label in labels.items()
        for who, score in scores.items()
    }
    return World(
        figures={key: {short: metrics[name] for short, name in METRICS.items()} for key, metrics in figures.items()},
        decided=decided_by(trained.model, test, policy),
    )


def over_worlds(intervals: Sequence[Interval]) -> Interval:
    """The mean with the lowest and highest value; the interval itself for a single world."""
    if len(intervals) == 1:
        return intervals[0]
    values = [interval.value for interval in intervals]
    return Interval(value=statistics.mean(values), low=min(values), high=max(values))


def summary_of(worlds: Sequence[World]) -> dict[str, float | int | None]:
    """The spread of average precision, its ratio to the oracle's, and what the policies did, over all worlds."""
    ap = [world.figures["model", "reported"]["ap"].value for world in worlds]
    ratios = [
        world.figures["model", "truth"]["ap"].value / world.figures["oracle", "truth"]["ap"].value for world in worlds
    ]
    blocks, right = (sum(getattr(world.decided, name) for world in worlds) for name in ("blocks", "right_blocks"))
    return {
        "ap_sd": round(statistics.stdev(ap), 4) if len(ap) > 1 else None,
        "oracle_ratio_truth": round(statistics.mean(ratios), 4),
        "cost_saved": round(statistics.mean(world.decided.cost_saved for world in worlds), 4),
        "block_precision": round(right / blocks, 4) if blocks else None,
        "blocks": blocks,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="quality of the synthetic world's model")
    parser.add_argument("--transactions", type=int, default=100_000)
    parser.add_argument("--n-trials", type=int, default=Settings.model_fields["n_trials"].default)
    parser.add_argument("--worlds", "--seeds", type=int, default=1, help="how many worlds to average over")
    arguments = parser.parse_args()
    first = Settings().seed
    worlds = [
        one_world(seed=seed, transactions=arguments.transactions, n_trials=arguments.n_trials)
        for seed in range(first, first + arguments.worlds)
    ]
    figures: dict[str, object] = {
        "worlds": arguments.worlds,
        "transactions": arguments.transactions,
        "n_trials": arguments.n_trials,
    }
    print(f"\n{'':20}{'average precision':26}{'ROC-AUC':26}recall at precision .85")
    for who, judged_by in worlds[0].figures:
        means = {short: over_worlds([world.figures[who, judged_by][short] for world in worlds]) for short in METRICS}
        print("".join([f"{f'{who}, {judged_by}':20}", *(f"{interval!s:26}" for interval in means.values())]).rstrip())
        prefix = ("" if judged_by == "reported" else "truth_") + ("" if who == "model" else "oracle_")
        for short, interval in means.items():
            figures[f"{prefix}{short}"] = round(interval.value, 4)
            figures[f"{prefix}{short}_interval"] = [round(interval.low, 4), round(interval.high, 4)]
    print(json.dumps(figures | summary_of(worlds)))


if __name__ == "__main__":
    main()
