"""How soon the report on missed fraud sees a new kind of fraud, by the size of the bank, and how often it cries wolf.

    python benchmarks/missed_fraud.py [--customers N ...] [--seeds N] [--first-seed N] [--quiet-days N]

Every seed and size is a synthetic world of its own, lived once without any change and once with wallet theft from a
day on, as the generator's schedule has it. A champion is trained on the days before; every day after is judged as the
pipeline judges it. Worlds before the first one were looked at while the method was chosen. A false alarm is a red day
of a world in which nothing changes. Detection takes 0 days when the first day of wallet theft is red; null when none of
four weeks is. Prints a table and, as its last line, one JSON object.
"""

import sys

# Beside this file one is called like a module of the standard library, which others must find first.
sys.path.append(sys.path.pop(0))

# isort: split
import argparse
import json

import numpy as np
from lived_worlds import START, UNTRIED, WATCHED_AFTER, first_red, in_words, live, median_days
from tqdm import tqdm

from fraud_pipeline.generator.drift_schedule import Drift


def detection(seed: int, customers: int) -> int | None:
    """Days from the start of wallet theft to the first red day."""
    theft = Drift(name="new_scenario", first=START)
    lived = live(seed=seed, customers=customers, watched=WATCHED_AFTER, drifts=(theft,))
    return first_red(lived.missed_fraud(START + day).red for day in range(WATCHED_AFTER))


def quiet(seed: int, customers: int, days: int) -> list[bool]:
    """Whether each day without any change is red."""
    lived = live(seed=seed, customers=customers, watched=days)
    return [lived.missed_fraud(START + day).red for day in range(days)]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--customers", type=int, nargs="+", default=[2_000, 20_000, 60_000])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--first-seed", type=int, default=UNTRIED)
    parser.add_argument("--quiet-days", type=int, default=40, help="days judged in each world without any change")
    arguments = parser.parse_args()
    seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
    red, detected = list[bool](), {}
    for size in arguments.customers:
        wolf = tqdm(seeds, desc=f"{size:,} customers, no change", disable=None)
        here = [one for seed in wolf for one in quiet(seed, size, arguments.quiet_days)]
        found = [detection(seed, size) for seed in tqdm(seeds, desc=f"{size:,} customers, wallet theft", disable=None)]
        wolves = f"red on {sum(here)} of {len(here)} quiet days"
        print(f"{size:>9,} customers: {wolves}; days until red: {in_words(found)}", flush=True)
        red += here
        detected[str(size)] = median_days(found)
    print(
        json.dumps({"false_alarm_rate": round(float(np.mean(red)), 4), "windows": len(red), "detection_days": detected})
    )


if __name__ == "__main__":
    main()
