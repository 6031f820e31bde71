"""A file of a date, a label and columns of the bank's own goes through the real assets, up to the training set."""

from datetime import date, timedelta
from pathlib import Path

import dagster as dg
import numpy as np
import pandas as pd
import pytest

from fraud_pipeline.defs.build import build_defs
from fraud_pipeline.defs.catalog import UNKNOWN
from fraud_pipeline.defs.features import window_of
from fraud_pipeline.defs.instance import RANGE_END_TAG, RANGE_START_TAG
from fraud_pipeline.ingest.day_state import plan_of
from fraud_pipeline.ingest.declaration import read_declaration
from fraud_pipeline.ingest.sources import FileSource
from fraud_pipeline.settings import Settings
from fraud_pipeline.storage.tables import TableStore

# MLflow and its dependencies warn about themselves; nothing here can mend that.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

DECLARATION = """\
[fields]
event_time = {columns = ["day"], format = "%d/%m/%Y"}
is_fraud = {column = "EVENT_LABEL", fraud = ["fraud"], legitimate = ["legit"]}

[own_fields.risk]
type = "number"
column = "risk"

[own_fields.device]
type = "category"
column = "Device"

[own_fields.is_new]
type = "boolean"
column = "new"

[own_fields.born]
type = "time"
column = "born"
"""
DAYS, PER_DAY = 60, 12
FIRST, LAST = date(2025, 1, 1), date(2025, 1, 1) + timedelta(days=DAYS - 1)
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
UP_TO_THE_TRAINING_SET = (
    *("raw_transactions", "transactions", "rejected_transactions", "fraud_reports"),
    *("merchant_days", "features", "training_set"),
)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A home that learned from such a file."""
    return home_with_training_set(tmp_path_factory.mktemp("declared"))


def home_with_training_set(directory: Path, *, tables_url: str = "") -> Settings:
    """Make the assets of such a file up to the training set; every fifth label is empty, and one number is none."""
    n = DAYS * PER_DAY
    random = np.random.default_rng(7)
    labels = np.where(random.uniform(size=n) < 0.3, "fraud", "legit").astype(object)
    labels[::5] = ""
    rows = pd.DataFrame(
        {
            "day": pd.date_range(FIRST, periods=DAYS).repeat(PER_DAY).strftime("%d/%m/%Y"),
            "EVENT_LABEL": labels,
            "risk": np.round(random.normal(size=n), 3).astype(str),
            "Device": random.choice(["ios", "android", ""], n),
            "new": random.choice(["yes", "no", ""], n),
            "born": "1980-05-01",
            "rest": "is not declared",
        }
    )
    rows.loc[17, "risk"] = "many"
    path = directory / "bank.csv"
    rows.to_csv(path, index=False)
    settings = Settings(
        home=directory / "home",
        tables_url=tables_url,
        data_path=path,
        declaration=read_declaration(DECLARATION),
        first_day=FIRST,
        last_day=LAST,
        label_maturity=timedelta(days=7),
        gap=timedelta(days=1),
    )
    job = build_defs(settings).resolve_job_def("source_to_champion_job")
    with dg.DagsterInstance.ephemeral() as instance:
        result = job.execute_in_process(
            instance=instance,
            tags={RANGE_START_TAG: FIRST.isoformat(), RANGE_END_TAG: LAST.isoformat()},
            asset_selection=[dg.AssetKey(name) for name in UP_TO_THE_TRAINING_SET],
            run_config=QUIET,
        )
    assert result.success
    return settings


@pytest.fixture
def store(settings: Settings) -> TableStore:
    return TableStore(settings.tables_directory)


@pytest.mark.servers
def test_tables_in_an_object_store_are_the_same_to_the_byte(store: TableStore, bucket: str, tmp_path: Path) -> None:
    settings = home_with_training_set(tmp_path, tables_url=f"{bucket}/tables")
    remote = TableStore(settings.tables_location)
    for table in UP_TO_THE_TRAINING_SET[:-1]:
        assert remote.versions(table, FIRST, LAST) == store.versions(table, FIRST, LAST), table
    assert remote.fingerprint_whole("training_set") == store.fingerprint_whole("training_set")
    assert not settings.tables_directory.exists()


def test_every_row_and_own_column_is_stored(store: TableStore) -> None:
    rows = store.read("transactions", FIRST, LAST)
    assert len(rows) == DAYS * PER_DAY
    assert store.read("rejected_transactions", FIRST, LAST).empty
    assert [str(rows[name].dtype) for name in ("risk", "is_new", "born")] == [
        "float64",
        "boolean",
        "datetime64[us, UTC]",
    ]
    assert set(rows["device"].dropna()) == {"ios", "android"}
    assert np.flatnonzero(rows["risk"].isna()).tolist() == [17]
    assert (rows["amount_cents"] == 0).all()
    assert rows["customer_id"].is_unique


def test_an_unknown_label_is_in_no_part_of_the_training_set(store: TableStore) -> None:
    unknown = store.read(UNKNOWN, FIRST, LAST)["transaction_id"]
    assert len(unknown) == DAYS * PER_DAY / 5
    rows = store.read_whole("training_set")
    assert not rows["transaction_id"].isin(unknown).any()
    assert set(rows["label"]) == {0.0, 1.0}
    matured = store.read("transactions", FIRST + timedelta(days=14), FIRST + timedelta(days=20))["transaction_id"]
    assert set(matured) - set(unknown) <= set(rows["transaction_id"])


def test_features_of_a_merchant_are_missing_without_one(store: TableStore) -> None:
    features = store.read("features", FIRST, LAST)
    of_merchants = [name for name in features.columns if str(name).startswith(("merchant_", "customer_same_merchant_"))]
    assert len(of_merchants) > 10
    assert features[of_merchants].isna().all(axis=None)
    assert store.read("merchant_days", FIRST, LAST).empty
    others = features.drop(columns=of_merchants).select_dtypes("number")
    assert not np.isinf(others).any(axis=None)


def test_another_declaration_brings_every_day_again(settings: Settings, store: TableStore) -> None:
    def days_due(declaration: str) -> int:
        source = FileSource(settings.data_path, declaration=read_declaration(declaration))  # type: ignore[arg-type]
        steps = plan_of(store, source, window=window_of(settings), last=LAST)
        return sum((step.last - step.first).days + 1 for step in steps if step.kind == "ingest")

    assert days_due(DECLARATION) == 0
    assert days_due(DECLARATION.replace('"number"', '"category"')) == DAYS
