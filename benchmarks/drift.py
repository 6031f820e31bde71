"""How often the drift report cries wolf, and how soon it sees what changed.

    python benchmarks/drift.py [--customers N] [--seeds N] [--quiet-days N]

Every seed is a synthetic world of its own, first without any change, then once with each change of the generator's
schedule, which starts on the same day of the world. A champion is trained on the days before; every day after is judged
as the pipeline judges it. A false alarm is a red day of a world in which nothing changes. Detection takes 0 days when
the first day of the change is red; null when no day of it, or of the four weeks after it began, is. Beside it stand
the usual rules on the same days: any PSI above .2, any KS below p = .05, both against the champion's reference.
Prints a table and, as its last line, one JSON object.
"""

import sys

# Beside this file one is called like a module of the standard library, which others must find first.
sys.path.append(sys.path.pop(0))

# isort: split
import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import numpy as np
import pandas as pd
from scipy import stats
from tqdm import tqdm

from fraud_pipeline.decisions import CostModel
from fraud_pipeline.defs.drift import WEEKS_BEFORE
from fraud_pipeline.drift import (
    LIMITS,
    SCORE,
    DriftReport,
    Sample,
    drift_report,
    judgeable,
    population_stability_index,
)
from fraud_pipeline.features import FEATURE_NAMES, FeatureEngineer, History, merchant_days
from fraud_pipeline.generator import SyntheticWorld, WorldConfig
from fraud_pipeline.generator.drift_schedule import DEFAULT_DRIFTS, Drift
from fraud_pipeline.model import FraudModel
from fraud_pipeline.training import PolicySettings, TuningSettings, build_training_set, train_model
from fraud_pipeline.validation import validate

MATURITY: Final = timedelta(days=21)
TRAINED: Final = 120
START: Final = TRAINED + 10
WATCHED_AFTER: Final = 28
_WATCHED: Final = [*FEATURE_NAMES, SCORE]


@dataclass(frozen=True)
class World:
    """Rows of a world with the champion's score, by day."""

    rows: pd.DataFrame
    champion: FraudModel

    def sample(self, days: list[int]) -> Sample:
        """What happened on these days."""
        there = self.rows[self.rows["day"].isin(days)]
        return Sample.of(there[_WATCHED], customers=there["customer_id"], merchants=there["merchant_id"])

    def report(self, day: int) -> tuple[DriftReport, dict[str, bool]]:
        """The report of a day, and what the usual rules say."""
        earlier = [day - 7 * weeks for weeks in range(WEEKS_BEFORE, 0, -1)]
        names, today = judgeable(history=timedelta(days=earlier[0])), self.sample([day])
        found = drift_report(
            (pd.Timestamp("2026-01-01") + pd.Timedelta(days=day)).date(),
            today,
            champion=self.champion.reference,
            champion_customers=self.champion.lineage["reference_customers"],
            weeks_before=self.sample(earlier),
            features=names,
        )
        return found, self._usual(today.values, names)

    def _usual(self, today: pd.DataFrame, names: list[str]) -> dict[str, bool]:
        psi, p = [], []
        for name in names:
            old, new = (frame[name].dropna().to_numpy(np.float64) for frame in (self.champion.reference, today))
            if min(len(old), len(new)):
                psi.append(population_stability_index(old, new)[0])
                p.append(stats.ks_2samp(old, new, method="asymp").pvalue)
        return {"any PSI above .2": max(psi) > LIMITS["psi"], "any KS below p = .05": min(p) < 0.05}


def build_world(*, seed: int, customers: int, drifts: tuple[Drift, ...], days: int) -> World:
    """A world and the champion of its first days; one trial, since the report is the question."""
    config = WorldConfig(seed=seed, customers=customers, drifts=drifts)
    source, start = SyntheticWorld(config), pd.Timestamp(config.first_day, tz="UTC")
    end, now = start + pd.Timedelta(days=days), start + pd.Timedelta(days=TRAINED)
    transactions = validate(source.transactions(start=start, end=end), now=end).accepted
    reports = source.reports(start=start, end=end)
    history = History(
        transactions=transactions.iloc[:0],
        reports=reports,
        merchant_days=merchant_days(transactions, reports, label_maturity=MATURITY),
    )
    features = FeatureEngineer(label_maturity=MATURITY).compute(history=history, new=transactions)
    rows, _ = build_training_set(
        features[features["event_time"] < now].reset_index(drop=True),
        transactions[transactions["event_time"] < now],
        reports[reports["reported_at"] < now],
        as_of=now,
        label_maturity=MATURITY,
        gap=timedelta(days=3),
        warm_up=timedelta(days=14),
    )
    policy = PolicySettings(costs=CostModel(), precision_floor=0.85, alert_budget_per_day=20)
    model = train_model(rows, tuning=TuningSettings(n_trials=1, seed=0), policy=policy, lineage={}).model
    whose = transactions.set_index("transaction_id").loc[features["transaction_id"], ["customer_id", "merchant_id"]]
    day = (features["event_time"] - start) // pd.Timedelta(days=1)
    scored = features.assign(**{SCORE: model.predict(features), "day": day.to_numpy()})
    return World(rows=pd.concat([scored, whose.reset_index(drop=True)], axis=1), champion=model)


def moved(drift: Drift) -> Drift:
    """The same change at the start of the watched days."""
    last = None if drift.last is None else START + drift.last - drift.first
    return Drift(name=drift.name, first=START, last=last, strength=drift.strength)


def detection_days(arguments: argparse.Namespace, drift: Drift) -> Iterator[int | None]:
    """For each seed, days from the start of a change to the first red day."""
    for seed in range(1, arguments.seeds + 1):
        days = START + WATCHED_AFTER
        world = build_world(seed=seed, customers=arguments.customers, drifts=(moved(drift),), days=days)
        found = (day - START for day in range(START, days) if world.report(day)[0].drifted)
        yield next(found, None)


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """All measurements."""
    red: dict[str, list[bool]] = {"this report": []}
    for seed in range(1, arguments.seeds + 1):
        days = START + arguments.quiet_days
        world = build_world(seed=seed, customers=arguments.customers, drifts=(), days=days)
        for day in tqdm(range(START, days), desc=f"world {seed} without drift", disable=None):
            report, usual = world.report(day)
            red["this report"].append(bool(report.drifted))
            for rule, alarm in usual.items():
                red.setdefault(rule, []).append(alarm)
    windows = len(red["this report"])
    print(f"\nred days of {windows} without drift")
    for rule, found in red.items():
        print(f"  {rule:<24}{np.mean(found):8.1%}", flush=True)
    print("\ndays until red, by seed")
    detected = {}
    for drift in DEFAULT_DRIFTS:
        found_days = list(tqdm(detection_days(arguments, drift), total=arguments.seeds, desc=drift.name, disable=None))
        print(f"  {drift.name:<24}{', '.join('never' if one is None else str(one) for one in found_days)}", flush=True)
        seen = [one for one in found_days if one is not None]
        # A change that most worlds never see is not detected.
        detected[drift.name] = float(np.median(seen)) if 2 * len(seen) > len(found_days) else None
    return {
        "false_alarm_rate": round(float(np.mean(red["this report"])), 4),
        "windows": windows,
        "detection_days": detected,
        **{f"false_alarm_rate, {rule}": round(float(np.mean(red[rule])), 4) for rule in red if rule != "this report"},
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--customers", type=int, default=2_000)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--quiet-days", type=int, default=40, help="days judged in each world without drift")
    print(json.dumps(run(parser.parse_args())))


if __name__ == "__main__":
    main()
