"""Measures the cost of monthly partitions: the same inserts into a plain table and into partitions, on PostgreSQL.

    python benchmarks/months.py --plain-url URL --months-url URL [--decisions N]

Both databases must be empty. The plain one gets the tables of the release before partitions. Rounds of both alternate;
one round is a transaction that stores a number of decisions. Then the plain database is upgraded, and the time printed.
Prints a line per size and, as its last line, one JSON object: microseconds per decision, medians of all rounds.
"""

import argparse
import json
import statistics
import time
from dataclasses import asdict
from datetime import timedelta

import pandas as pd

from fraud_pipeline.database import Database, StoredDecision
from fraud_pipeline.database.months import open_months
from fraud_pipeline.database.statements import insert_new
from fraud_pipeline.database.tables import DECISIONS, SPENT_IDS
from fraud_pipeline.schema.transactions import microsecond

SIZES = (1, 8, 128)
PLAIN_REVISION = "0014"


def main() -> None:
    """Insert alternately, then upgrade the plain database."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plain-url", required=True)
    parser.add_argument("--months-url", required=True)
    parser.add_argument("--decisions", type=int, default=20_000, help="per size and kind of table")
    arguments = parser.parse_args()
    plain, months = (
        Database(url, statement_timeout=timedelta(hours=1)) for url in (arguments.plain_url, arguments.months_url)
    )
    plain.upgrade(PLAIN_REVISION)
    months.upgrade()
    now = pd.Timestamp("2030-05-10", tz="UTC")
    open_months(months, now=now)
    costs, number = {}, 0
    for size in SIZES:
        spent: dict[str, list[float]] = {"plain": [], "months": []}
        for _ in range(arguments.decisions // size):
            number += size
            columns = _columns(range(number, number + size), at=microsecond(now))
            for name, database, unless in (("plain", plain, None), ("months", months, SPENT_IDS)):
                started = time.perf_counter()
                with database.transaction() as connection:
                    insert_new(connection, DECISIONS, columns, unless=unless)
                spent[name].append(1e6 * (time.perf_counter() - started) / size)
        costs[size] = {name: round(statistics.median(times), 1) for name, times in spent.items()}
        each = ", ".join(f"{cost:>8} µs {name}" for name, cost in costs[size].items())
        print(f"{size:>4} decisions a transaction: {each}")
    started = time.perf_counter()
    plain.upgrade()
    upgrade = round(time.perf_counter() - started, 2)
    print(json.dumps({"microseconds_per_decision": costs, "upgraded_rows": number, "upgrade_seconds": upgrade}))


def _columns(numbers: range, *, at: int) -> dict[str, list[object]]:
    made = [
        asdict(
            StoredDecision(
                f"t-{number}", at, "allow", 0.1, "model", "full", "", "[]", "1", "0" * 64, bytes(272), 1, 1, 1
            )
        )
        for number in numbers
    ]
    return {name: [row[name] for row in made] for name in StoredDecision.__slots__}


if __name__ == "__main__":
    main()
