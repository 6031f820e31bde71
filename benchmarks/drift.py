"""Measures false alarms of the daily reports on drift and missed fraud, and how soon they detect a change.

    python benchmarks/drift.py [--customers N] [--seeds N] [--first-seed N] [--quiet-days N]

Every seed is a synthetic world, first without any change, then once with each change of the generator's schedule, which
starts on the same day of the world. A champion is trained on the days before; every day after is judged as in the
pipeline. Worlds with earlier seeds were used to choose the method. A false alarm is a red day of a world without a
change. Detection takes 0 days when the first day of the change is red; null when no day of four weeks is. The usual
rules are printed for the same days: any PSI above .2, any KS below p = .05, both against the champion's reference.
Prints a table and, as its last line, one JSON object.
"""

import sys

# A file in this directory has the name of a module of the standard library, which other packages must find first.
sys.path.append(sys.path.pop(0))

# isort: split
import argparse
import json
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats
from simulated_histories import (
    HELD_OUT_SEED,
    START,
    WATCHED_AFTER,
    World,
    first_red,
    in_words,
    median_days,
    moved,
    simulate,
)
from tqdm import tqdm

from fraud_pipeline.generator.drift_schedule import DEFAULT_DRIFTS, Drift
from fraud_pipeline.modeling.model_directory import FraudModel
from fraud_pipeline.monitoring.drift import (
    LIMITS,
    SCORE,
    WEEKS_BEFORE,
    DriftReport,
    Sample,
    drift_report,
    judgeable,
    population_stability_index,
)


@dataclass(frozen=True)
class Watched:
    """A world, judged day by day."""

    world: World

    def sample(self, days: list[int]) -> Sample:
        """The rows of these days."""
        of_days = self.world.rows[self.world.rows["day"].isin(days)]
        watched = [*self.world.champion.features, SCORE]
        return Sample.of(of_days[watched], customers=of_days["customer_id"], merchants=of_days["merchant_id"])

    def report(self, day: int) -> tuple[DriftReport, dict[str, bool]]:
        """The report of a day, and the verdicts of the usual rules."""
        earlier = [day - 7 * weeks for weeks in range(WEEKS_BEFORE, 0, -1)]
        champion, today = self.world.champion, self.sample([day])
        names = judgeable(history=timedelta(days=earlier[0]), features=champion.features)
        report = drift_report(
            self.world.first_day + timedelta(days=day),
            today,
            champion=champion.reference,
            champion_customers=champion.lineage["reference_customers"],
            weeks_before=self.sample(earlier),
            features=names,
        )
        return report, self._usual(today.values, names)

    def _usual(self, today: pd.DataFrame, names: list[str]) -> dict[str, bool]:
        psi, p = [], []
        for name in names:
            old, new = (frame[name].dropna().to_numpy(np.float64) for frame in (self.world.champion.reference, today))
            if min(len(old), len(new)):
                psi.append(population_stability_index(old, new)[0])
                p.append(stats.ks_2samp(old, new, method="asymp").pvalue)
        return {"any PSI above .2": max(psi) > LIMITS["psi"], "any KS below p = .05": min(p) < 0.05}


def watched(
    arguments: argparse.Namespace,
    seed: int,
    *,
    days: int,
    drifts: tuple[Drift, ...] = (),
    champion: FraudModel | None = None,
) -> Watched:
    """The world of a seed."""
    kept = START - 7 * WEEKS_BEFORE
    return Watched(
        simulate(
            seed=seed, customers=arguments.customers, watched=days, drifts=drifts, champion=champion, rows_from=kept
        )
    )


def red_after(lived: Watched) -> dict[str, int | None]:
    """Days from the start of a change to the first red day of each report, and of either."""
    days = range(START, START + WATCHED_AFTER)
    drift = first_red(bool(lived.report(day)[0].drifted) for day in days)
    missed_fraud = first_red(lived.world.missed_fraud(day).red for day in days)
    either = min((day for day in (drift, missed_fraud) if day is not None), default=None)
    return {"drift": drift, "missed_fraud": missed_fraud, "either": either}


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """All measurements."""
    red: dict[str, list[bool]] = {"drift": [], "missed_fraud": []}
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    champions = {}
    for seed in seeds:
        lived = watched(arguments, seed, days=arguments.quiet_days)
        champions[seed] = lived.world.champion
        days = range(START, START + arguments.quiet_days)
        for day in tqdm(days, desc=f"world {seed} without drift", disable=None):
            report, usual = lived.report(day)
            alarms = {"drift": bool(report.drifted), "missed_fraud": lived.world.missed_fraud(day).red}
            for rule, alarm in {**alarms, **usual}.items():
                red.setdefault(rule, []).append(alarm)
    windows = len(red["drift"])
    print(f"\nred days of {windows} without drift")
    for rule, is_red in red.items():
        print(f"  {rule:<24}{np.mean(is_red):8.1%}", flush=True)
    print("\ndays until red, by seed")
    detected: dict[str, dict[str, float | None]] = {"drift": {}, "missed_fraud": {}, "either": {}}
    for drift in DEFAULT_DRIFTS:
        changed = (moved(drift),)
        lives = [
            red_after(watched(arguments, seed, days=WATCHED_AFTER, drifts=changed, champion=champions[seed]))
            for seed in tqdm(seeds, desc=drift.name, disable=None)
        ]
        for name, of_report in detected.items():
            days_until = [life[name] for life in lives]
            of_report[drift.name] = median_days(days_until)
            print(f"  {drift.name:<24}{name:<16}{in_words(days_until)}", flush=True)
    return {
        "false_alarm_rate": round(float(np.mean(np.logical_or(red["drift"], red["missed_fraud"]))), 4),
        "windows": windows,
        "detection_days": detected["either"],
        "detection_days_by_report": {name: detected[name] for name in ("drift", "missed_fraud")},
        **{f"false_alarm_rate, {rule}": round(float(np.mean(is_red)), 4) for rule, is_red in red.items()},
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--customers", type=int, default=2_000)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first-seed", type=int, default=HELD_OUT_SEED)
    parser.add_argument("--quiet-days", type=int, default=40, help="days judged in each world without drift")
    print(json.dumps(run(parser.parse_args())))


if __name__ == "__main__":
    main()
