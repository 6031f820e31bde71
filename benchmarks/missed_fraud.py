"""Measures how soon the report on missed fraud detects a new kind of fraud, by size of the bank, and its false alarms.

    python benchmarks/missed_fraud.py [--customers N ...] [--seeds N] [--first-seed N] [--quiet-days N]
                                      [--data FILE]

Every seed and size is a synthetic world, simulated once without any change and once with wallet theft from a day on, as
in the generator's schedule. A champion is trained on the days before; every day after is judged as in the pipeline.
Worlds with earlier seeds were used to choose the method. A false alarm is a red day of a world without a change.
Detection takes 0 days when the first day of wallet theft is red; null when no day of four weeks is. With a labelled
file, the champion is trained on the first three fifths of the days, each later day is judged, and there are no worlds.
Prints a table and, as its last line, one JSON object.
"""

import sys

# A file in this directory has the name of a module of the standard library, which other packages must find first.
sys.path.append(sys.path.pop(0))

# isort: split
import argparse
import json
from pathlib import Path

import numpy as np
from simulated_histories import (
    HELD_OUT_SEED,
    START,
    WATCHED_AFTER,
    first_red,
    in_words,
    median_days,
    simulate,
    simulate_days,
)
from tqdm import tqdm

from fraud_pipeline.generator.drift_schedule import Drift
from fraud_pipeline.ingest.sources import FileSource


def measured(seed: int, customers: int, *, quiet_days: int) -> tuple[list[bool], int | None]:
    """Whether each day without a change is red, and the days from the start of wallet theft to the first red day."""
    quiet = simulate(seed=seed, customers=customers, watched=quiet_days)
    red = [quiet.missed_fraud(START + day).red for day in range(quiet_days)]
    theft = Drift(name="new_scenario", first=START)
    changed = simulate(seed=seed, customers=customers, watched=WATCHED_AFTER, drifts=(theft,), champion=quiet.champion)
    return red, first_red(changed.missed_fraud(START + day).red for day in range(WATCHED_AFTER))


def on_file(path: Path) -> list[bool]:
    """Whether each judged day of a file is red."""
    source = FileSource(path)
    days = (source.last_day - source.first_day).days + 1
    trained = days * 3 // 5
    lived = simulate_days(
        source, first_day=source.first_day, trained=trained, days=days, label_maturity=source.label_delay
    )
    reports = [lived.missed_fraud(day) for day in range(trained, days)]
    return [report.red for report in reports if not report.not_judged]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--customers", type=int, nargs="+", default=[2_000, 20_000, 60_000])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=HELD_OUT_SEED)
    parser.add_argument("--quiet-days", type=int, default=40, help="days judged in each world without any change")
    parser.add_argument("--data", type=Path, metavar="FILE", help="your own transactions instead of synthetic worlds")
    arguments = parser.parse_args()
    if arguments.data:
        red = on_file(arguments.data)
        print(f"{arguments.data.name}: red on {sum(red)} of {len(red)} days")
        print(json.dumps({"red_rate": round(float(np.mean(red)), 4), "windows": len(red)}))
        return
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    red, detected = [], {}
    for size in arguments.customers:
        worlds = tqdm(seeds, desc=f"{size:,} customers", disable=None)
        lived = [measured(seed, size, quiet_days=arguments.quiet_days) for seed in worlds]
        quiet_days = [is_red for red_days, _ in lived for is_red in red_days]
        days_until_red = [days for _, days in lived]
        false_alarms = f"red on {sum(quiet_days)} of {len(quiet_days)} quiet days"
        print(f"{size:>9,} customers: {false_alarms}; days until red: {in_words(days_until_red)}", flush=True)
        red += quiet_days
        detected[str(size)] = median_days(days_until_red)
    print(
        json.dumps({"false_alarm_rate": round(float(np.mean(red)), 4), "windows": len(red), "detection_days": detected})
    )


if __name__ == "__main__":
    main()
