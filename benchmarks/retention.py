"""Measures the size of the database after years of decisions, on a simulated clock.

    python benchmarks/retention.py [--years N] [--per-day N] [--database-url URL]

Each day stores its transactions, decisions, alerts, shadow decisions, fraud reports and reports on the champion. Each
night makes merchants' days and applies the default retentions. Without a URL the database is a temporary SQLite file. A
PostgreSQL database must be empty. Prints a line per simulated year and, as its last line, one JSON object: rows per
table and bytes of each year.
"""

import sys
from pathlib import Path

# Servers are started by helpers of the tests, which an installation leaves out.
sys.path.append(str(Path(__file__).resolve().parents[1]))

# isort: split
import argparse
import json
import tempfile
import time
from datetime import timedelta
from typing import get_args

from fraud_pipeline.database import Database
from fraud_pipeline.database.retention import Retention
from fraud_pipeline.settings import Settings
from fraud_pipeline_tests.support.simulated_years import bytes_of, live, rows_of_tables

YEAR = 365


def main() -> None:
    """Simulate the years and print the size after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--years", type=int, default=10)
    parser.add_argument("--per-day", type=int, default=300)
    parser.add_argument("--database-url", default="")
    arguments = parser.parse_args()
    started, years = time.monotonic(), []
    with tempfile.TemporaryDirectory() as home:
        settings = Settings(home=Path(home), database_url=arguments.database_url)
        retentions: dict[Retention, timedelta] = {name: getattr(settings, name) for name in get_args(Retention)}
        database = Database(settings.database, statement_timeout=timedelta(minutes=10))
        database.upgrade()
        nights = live(database, days=YEAR * arguments.years, per_day=arguments.per_day, retentions=retentions)
        for number, _ in enumerate(nights, start=1):
            if number % YEAR == 0:
                years.append({"rows": rows_of_tables(database), "bytes": bytes_of(database)})
                rows = sum(years[-1]["rows"].values())  # type: ignore[attr-defined]  # a mapping of counts
                print(f"year {number // YEAR}: {rows:>10,} rows  {years[-1]['bytes']:>14,} bytes")
        database.close()
    print(json.dumps({"per_day": arguments.per_day, "years": years, "seconds": round(time.monotonic() - started, 1)}))


if __name__ == "__main__":
    main()
