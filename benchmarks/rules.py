"""What analysts' rules cost: added latency, stream throughput, backtests, and the time until a change counts.

    python benchmarks/rules.py [--rules 200] [--lists 10] [--values 1000000] [--transactions 20000]

The scorer runs in this process over a SQLite file and without a model, so that rules are a larger share of the time
than in a service. `p99_added_ms` compares single transactions, `stream_ratio` micro-batches of 128, each with and
without rules in turns. The lists are random hashes in memory; the change that is taken over is a real one. Prints a
table, and as its last line one JSON object.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Final

import numpy as np

from fraud_pipeline.database import Database
from fraud_pipeline.database.analyst_rules import save_rule, set_state
from fraud_pipeline.features.engineer import FEATURE_NAMES
from fraud_pipeline.policy.analyst_rules import AnalystRule, RuleSet
from fraud_pipeline.policy.value_lists import NO_END, ValueList
from fraud_pipeline.schema.transactions import DAY, TransactionRow
from fraud_pipeline.scoring.rule_backtest import backtest_rule
from fraud_pipeline.scoring.scorer import Scorer
from serving.runtime.rule_watch import RuleWatch

START: Final = 20_000 * DAY
MICRO_BATCH: Final = 128
TURNS: Final = 30


def rules_and_lists(n_rules: int, n_lists: int, n_values: int) -> RuleSet:
    """Rules of three comparisons each, and one rule for each list."""
    random = np.random.default_rng(0)
    lists = {
        f"list_{number}": ValueList().changed(
            random.integers(-(2**62), 2**62, n_values), np.full(n_values, NO_END), widths={""}
        )
        for number in range(n_lists)
    }
    names = FEATURE_NAMES[8:]
    rules = [
        AnalystRule(
            f"rule_{number}",
            1,
            "tag",
            f"{names[number % len(names)]} > {1_000 + number} AND {names[number * 7 % len(names)]} < {number} "
            f"AND country = 'N{number % 9}'",
        )
        for number in range(n_rules - n_lists)
    ]
    of_lists = [AnalystRule(name, 1, "tag", f"customer_id IN list('{name}')") for name in lists]
    return RuleSet([*rules, *of_lists], lists=lists)


def transactions(count: int, *, prefix: str) -> list[TransactionRow]:
    """Transactions of a thousand customers over 90 days, in order of time."""
    step = 90 * DAY // count
    return [
        TransactionRow(f"{prefix}-{number}", START + number * step, f"c-{number % 1_000}", f"m-{number % 50}", 1_234)
        for number in range(count)
    ]


def seconds_of(scorer: Scorer, rows: Sequence[TransactionRow]) -> float:
    """The time of one call."""
    started = time.perf_counter()
    scorer.score(rows)
    return time.perf_counter() - started


def in_turns(scorers: Sequence[Scorer], size: int, *, turns: int, prefix: str) -> list[list[float]]:
    """The times of each scorer, whose calls alternate so that both see the same load of the machine."""
    times: list[list[float]] = [[] for _ in scorers]
    for turn in range(turns):
        for place, scorer in enumerate(scorers):
            rows = transactions(size, prefix=f"{prefix}-{turn}-{place}")
            times[place].append(seconds_of(scorer, rows))
    return times


def takeover(database: Database) -> float:
    """Seconds from the command that activates a rule until a watch of the default interval holds it."""
    watch = RuleWatch(database)
    watch.check_now()
    watch.start()
    save_rule(database, AnalystRule("new", 0, "block", "amount > 1"), who="benchmark", reason="")
    started = time.perf_counter()
    set_state(database, "new", "active", who="benchmark", reason="")
    while watch.current() is None:
        time.sleep(0.005)
    watch.close()
    return time.perf_counter() - started


def main() -> None:
    """Print the table and the JSON line."""
    parser = argparse.ArgumentParser(description="Measure what analysts' rules cost.")
    parser.add_argument("--rules", type=int, default=200)
    parser.add_argument("--lists", type=int, default=10)
    parser.add_argument("--values", type=int, default=1_000_000)
    parser.add_argument("--transactions", type=int, default=20_000)
    options = parser.parse_args()
    rules = rules_and_lists(options.rules, options.lists, options.values)
    with tempfile.TemporaryDirectory() as directory:
        database = Database(f"sqlite:///{Path(directory) / 'fraud.db'}", statement_timeout=timedelta(seconds=60))
        database.upgrade()
        without = Scorer(database=database, champion=lambda: None)
        with_rules = Scorer(database=database, champion=lambda: None, rules=lambda: rules)
        in_turns([without, with_rules], MICRO_BATCH, turns=2, prefix="warm")
        plain, ruled = in_turns([without, with_rules], 1, turns=10 * TURNS, prefix="one")
        plain_batches, ruled_batches = in_turns([without, with_rules], MICRO_BATCH, turns=TURNS, prefix="batch")
        for at in range(0, options.transactions, 1_000):
            without.score(transactions(options.transactions, prefix="stored")[at : at + 1_000])
        started = time.perf_counter()
        result = backtest_rule(
            database,
            AnalystRule(
                "tested", 1, "review", "amount > 12 AND customer_transaction_count_24h >= 0 AND country IS NULL"
            ),
            lists={},
            days=90,
            label_maturity=timedelta(days=21),
            end=START + 90 * DAY,
        )
        backtest_seconds = time.perf_counter() - started
        figures = {
            "p99_added_ms": 1e3 * float(np.quantile(ruled, 0.99) - np.quantile(plain, 0.99)),
            "median_added_ms": 1e3 * float(np.median(ruled) - np.median(plain)),
            "stream_ratio": float(np.median(plain_batches) / np.median(ruled_batches)),
            "backtest_rows_per_s": result.rows / backtest_seconds,
            "takeover_s": takeover(database),
        }
        database.close()
    for name, value in figures.items():
        print(f"{name:<22}{value:>12,.3f}")
    print(json.dumps({name: round(value, 3) for name, value in figures.items()}))


if __name__ == "__main__":
    main()
