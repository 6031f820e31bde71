"""Tables that grow daily stop growing after the longest retention."""

from datetime import timedelta
from pathlib import Path
from typing import Final

import pytest

from fraud_pipeline.database import Database
from fraud_pipeline.database.retention import Retention
from fraud_pipeline_tests.support.simulated_years import live, rows_of_tables

# Weeks instead of years; a month stays as long as it is.
RETENTIONS: Final[dict[Retention, timedelta]] = {
    "history_retention": timedelta(days=30),
    "decision_retention": timedelta(days=32),
    "shadow_retention": timedelta(days=30),
    "alert_retention": timedelta(days=25),
    "report_retention": timedelta(days=28),
    "report_page_retention": timedelta(days=5),
}
MONTH: Final = 31
FULL: Final = 32 + MONTH


@pytest.mark.slow
def test_tables_stop_growing_once_their_retention_is_full(tmp_path: Path) -> None:
    """On SQLite, which has no monthly partitions; `test_months.py` covers PostgreSQL."""
    database = Database(f"sqlite:///{tmp_path / 'fraud.db'}")
    database.upgrade()
    most_then: dict[str, int] = {}
    most_later: dict[str, int] = {}
    for number, _ in enumerate(live(database, days=2 * FULL, per_day=3, retentions=RETENTIONS)):
        if number % 5 == 4:
            most = most_then if number < FULL else most_later
            for name, rows in rows_of_tables(database).items():
                most[name] = max(most.get(name, 0), rows)
    assert {name: (most_then[name], rows) for name, rows in most_later.items() if rows > most_then[name]} == {}
    grows = {"transactions", "decisions", "shadow_decisions", "alerts", "alert_events", "merchant_days", "drift"}
    assert all(most_later[name] >= 25 for name in grows), "the tables were filled"
    database.close()
