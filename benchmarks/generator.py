"""Measures the speed of the generator: transactions and reports per second on one core, day by day.

    python benchmarks/generator.py [--repeats N]

Prints a table, and as its last line one JSON object. `rows_per_s` is the large world's median.
"""

import argparse
import json
import resource
import statistics
import time

import pandas as pd

from fraud_pipeline.generator import SyntheticWorld, WorldConfig

WORLDS = {
    "large": (WorldConfig(customers=20_000, merchants=4_000), 10),
    "default": (WorldConfig(), 120),
}


def make_days(config: WorldConfig, *, days: int) -> tuple[int, int, float]:
    """Number of rows, most rows of one day, and seconds, for a new world that is read day by day."""
    began = time.perf_counter()
    world = SyntheticWorld(config)
    first = pd.Timestamp(config.first_day, tz="UTC")
    total, largest = 0, 0
    for number in range(days):
        span = {"start": first + pd.Timedelta(days=number), "end": first + pd.Timedelta(days=number + 1)}
        rows = len(world.transactions(**span)) + len(world.reports(**span))
        total, largest = total + rows, max(largest, rows)
    return total, largest, time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description="speed of the synthetic world")
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    figures: dict[str, float] = {}
    print(f"{'world':10}{'customers':>11}{'days':>6}{'rows':>10}{'seconds':>9}{'rows/s':>11}  (median of {repeats})")
    for name, (config, days) in WORLDS.items():
        runs = [make_days(config, days=days) for _ in range(repeats)]
        seconds = statistics.median(run[2] for run in runs)
        rows, largest, _ = runs[0]
        print(f"{name:10}{config.customers:>11,}{days:>6}{rows:>10,}{seconds:>9.2f}{rows / seconds:>11,.0f}")
        prefix = "" if name == "large" else f"{name}_"
        figures |= {
            f"{prefix}rows_per_s": round(rows / seconds),
            f"{prefix}rows": rows,
            f"{prefix}seconds": round(seconds, 3),
            f"{prefix}largest_day_rows": largest,
        }
    figures["peak_memory_mb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    print(f"peak memory of the process: {figures['peak_memory_mb']:.0f} MB")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
