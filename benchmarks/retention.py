"""What years of decisions leave in the database, on a simulated clock.

    python benchmarks/retention.py [--years N] [--per-day N] [--database-url URL]

Each day stores its transactions, decisions, alerts, shadow scores, reports on fraud and reports on the champion; each
night makes merchants' days and applies the retentions, which are the defaults. Without a URL the database is a SQLite
file, made for the run. A database of PostgreSQL must be empty. Prints a line per simulated year and, as its last line,
one JSON object: for each year, rows per table and bytes.
"""

import argparse
import json
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import get_args

from fraud_pipeline.database import Database
from fraud_pipeline.database.retention import Retention
from fraud_pipeline.settings import Settings
from fraud_pipeline_tests.support.simulated_years import bytes_of, live, rows_of_tables

YEAR = 365


def main() -> None:
    """Live through the years and print what each left."""
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
