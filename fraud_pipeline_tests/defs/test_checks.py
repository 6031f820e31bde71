"""Each stored table is checked against its schema, and invalid rows stop the assets that read them."""

from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pytest

from fraud_pipeline.defs.catalog import HIDDEN_ROWS, STORED_TABLES, UNKNOWN
from fraud_pipeline.defs.checks import SCHEMA, schema_checks
from fraud_pipeline.defs.resources import TablesResource
from fraud_pipeline.features.definitions import features_schema
from fraud_pipeline.schema.transactions import TIME_DTYPE, TRANSACTIONS, UNKNOWN_LABELS, empty
from fraud_pipeline.storage.tables import TableStore

DAYS = [date(2026, 1, 1), date(2026, 1, 2)]


@pytest.fixture
def store(tmp_path: Path) -> TableStore:
    """Two days of every table, without rows; two transactions."""
    store = TableStore(tmp_path)
    for table, schema in STORED_TABLES.items():
        frame = empty(schema) if table != "raw_transactions" else empty(TRANSACTIONS)
        column = {"fraud_reports": "reported_at", "merchant_days": "final_on"}.get(table, "event_time")
        if table == "training_set":
            store.write(table, frame)
        else:
            store.write_days(table, frame, time_column=column, days=DAYS)
    store.write(HIDDEN_ROWS, empty(features_schema()))
    return store


def transactions(**changes: Any) -> pd.DataFrame:
    values = {
        "transaction_id": ["a", "b"],
        "event_time": pd.Series(pd.to_datetime(["2026-01-01 10:00", "2026-01-02 10:00"], utc=True)).astype(TIME_DTYPE),
        "customer_id": "c",
        "merchant_id": "m",
        "amount_cents": [1_00, 2_00],
        "category": None,
        "channel": None,
        "country": None,
        "latitude": [0.5, 0.5],
        "longitude": [0.5, 0.5],
    }
    return pd.DataFrame({**values, **changes})


def failed_checks(store: TableStore, *, day: date | None = None) -> dict[str, str]:
    """The finding of each table whose check fails, in a run of one day or of all days."""
    definitions = dg.Definitions(
        assets=[dg.AssetSpec(table) for table in STORED_TABLES],
        asset_checks=schema_checks(),
        jobs=[dg.define_asset_job("checks", selection=dg.AssetSelection.all_asset_checks())],
        resources={"tables": TablesResource(directory=str(store.root))},
    )
    with dg.DagsterInstance.ephemeral() as instance:
        result = definitions.resolve_job_def("checks").execute_in_process(
            instance=instance, tags={"dagster/partition": day.isoformat()} if day else {}, raise_on_error=False
        )
    evaluations = result.get_asset_check_evaluations()
    findings = {
        check.asset_key.to_user_string() if check.check_name == SCHEMA else check.check_name.removesuffix("_schema"): (
            "" if check.passed else str(check.metadata["finding"].value)
        )
        for check in evaluations
    }
    assert set(findings) == {*STORED_TABLES, HIDDEN_ROWS, UNKNOWN}
    return {table: finding for table, finding in findings.items() if finding}


def test_tables_that_follow_their_schema_pass(store: TableStore) -> None:
    store.write_days("transactions", transactions(), time_column="event_time", days=DAYS)
    assert failed_checks(store) == {}


def test_a_broken_value_is_found_with_column_and_rule_and_without_its_content(store: TableStore) -> None:
    broken = transactions(amount_cents=[777_000_000_000, 2_00])
    store.write_days("transactions", broken, time_column="event_time", days=DAYS)
    finding = failed_checks(store)["transactions"]
    assert "amount_cents" in finding
    assert "(1 rows)" in finding
    assert "777" not in finding


def test_a_run_of_a_day_judges_that_day(store: TableStore) -> None:
    broken = transactions(amount_cents=[777_000_000_000, 2_00])
    store.write_days("transactions", broken, time_column="event_time", days=DAYS)
    assert failed_checks(store, day=DAYS[1]) == {}
    assert set(failed_checks(store, day=DAYS[0])) == {"transactions"}


@pytest.mark.parametrize(
    "table", [table for table in STORED_TABLES if table not in ("raw_transactions", "training_set")]
)
def test_a_missing_column_is_found_in_every_table(store: TableStore, table: str) -> None:
    column = {"fraud_reports": "reported_at", "merchant_days": "final_on"}.get(table, "event_time")
    frame = empty(STORED_TABLES[table])
    dropped = next(name for name in frame.columns if name != column)
    store.write_days(table, frame.drop(columns=dropped), time_column=column, days=DAYS)
    assert dropped in failed_checks(store)[table]


def test_tables_that_an_asset_writes_beside_its_own_are_judged_too(store: TableStore) -> None:
    store.write(HIDDEN_ROWS, empty(features_schema()).drop(columns="event_time"))
    store.write_days(UNKNOWN, empty(UNKNOWN_LABELS).assign(extra=1), time_column="event_time", days=DAYS)
    findings = failed_checks(store)
    assert set(findings) == {HIDDEN_ROWS, UNKNOWN}
    assert "event_time" in findings[HIDDEN_ROWS]
    assert "extra" in findings[UNKNOWN]
