"""The loop from end to end: a new fraud, a red report, one training, the gate, and the service answers with the
result.

Nothing is replaced: the pipeline's own jobs on an instance of its own, MLflow, the daemon's evaluation of conditions,
and the HTTP service as a process that is never restarted.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Final

import dagster as dg
import numpy as np
import pandas as pd
import pytest
from mlflow.tracking import MlflowClient

from fraud_pipeline.definitions import build_defs
from fraud_pipeline.defs.instance import RANGE_END_TAG, RANGE_START_TAG, run_pipeline
from fraud_pipeline.features.own_inputs import with_own_inputs
from fraud_pipeline.generator import Drift, SyntheticWorld, WorldConfig
from fraud_pipeline.generator.story import NEW_SCENARIO
from fraud_pipeline.modeling.metrics import average_precision, rank_frauds
from fraud_pipeline.promotion.registry import Registry
from fraud_pipeline.settings import Settings, load_settings
from fraud_pipeline.storage.tables import TableStore
from fraud_pipeline_tests.support.reports import TRAINING_ASSETS, AutomationTicks
from fraud_pipeline_tests.support.services import Server, start, stop
from fraud_pipeline_tests.support.waiting import until

pytestmark = [
    pytest.mark.slow,
    # Warnings of MLflow and its dependencies about themselves.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

FIRST: Final = date(2026, 1, 1)
QUIET_DAYS: Final = 35
"""Days of the world before wallet theft appears."""
THEFT_DAYS: Final = 24
MATURITY_DAYS: Final = 7
PATIENCE_SECONDS: Final = 60


def day(number: int) -> date:
    return FIRST + timedelta(days=number)


@dataclass(slots=True)
class Life:
    """A home, its instance and its service, and the truth about fraud."""

    settings: Settings
    instance: dg.DagsterInstance
    server: Server
    truth: pd.DataFrame

    @property
    def definitions(self) -> dg.Definitions:
        return build_defs(self.settings)

    @property
    def registry(self) -> Registry:
        return Registry(
            tracking_uri=self.settings.tracking_uri,
            model_name=self.settings.model_name,
            artifact_directory=self.settings.artifact_directory,
        )

    def run(self, job: str, *, first: int, last: int) -> Any:
        """A job of ours over days."""
        tags = {RANGE_START_TAG: day(first).isoformat(), RANGE_END_TAG: day(last).isoformat()}
        return self.definitions.resolve_job_def(job).execute_in_process(instance=self.instance, tags=tags)

    def serving(self) -> str:
        """The version that the running service answers with."""
        with self.server.client() as client:
            return str(client.get("/model").raise_for_status().json()["version"])

    def skill(self, version: int, *, first: int, last: int) -> float:
        """Average precision of a version on the thefts of these days, by the truth."""
        store = TableStore(self.settings.tables_directory)
        features, rows = (store.read(name, day(first), day(last)) for name in ("features", "transactions"))
        truth = self.truth.loc[rows["transaction_id"]]
        stolen = truth["kind"].eq(NEW_SCENARIO).to_numpy()
        assert stolen.sum() > 50
        judged = stolen | ~truth["is_fraud"].to_numpy()
        model = self.registry.load(self.registry.get(version))
        probability = model.predict(with_own_inputs(features, rows, model.feature_config.own_inputs))
        labels = stolen[judged].astype(np.float64)
        ranks = rank_frauds(probability[judged], labels, np.ones((1, len(labels))))
        return float(average_precision(ranks)[0])


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Life]:
    """A champion of the quiet days, serving; the days of theft lie in the file and were not ingested yet."""
    home = tmp_path_factory.mktemp("home")
    truth = write_world(home / "world.parquet")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "FRAUD_HOME": str(home),
            "FRAUD_DATA_PATH": str(home / "world.parquet"),
            "FRAUD_FIRST_DAY": day(0).isoformat(),
            "FRAUD_LAST_DAY": day(QUIET_DAYS + THEFT_DAYS - 1).isoformat(),
            "FRAUD_LABEL_MATURITY": f"P{MATURITY_DAYS}D",
            "FRAUD_WARM_UP": "P5D",
            "FRAUD_GAP": "P1D",
            "FRAUD_N_TRIALS": "1",
            "FRAUD_HISTORY_RETENTION": "P10000D",  # this world lies in the past
            "DAGSTER_HOME": str(home / "dagster"),
        }.items():
            patch.setenv(name, value)
        settings = load_settings()
        run_pipeline(settings, first=day(0), last=day(QUIET_DAYS - 1), on_progress=print)
        server = start(home)
        with dg.DagsterInstance.get() as instance:
            yield Life(settings=settings, instance=instance, server=server, truth=truth)
        assert stop(server) == 0


def write_world(path: Path) -> pd.DataFrame:
    """A file of transactions with the time of their report; the truth about them."""
    thefts = Drift(name="new_scenario", first=QUIET_DAYS, strength=12.0)
    world = SyntheticWorld(WorldConfig(seed=7, customers=600, fraud_rate=0.01, first_day=FIRST, drifts=(thefts,)))
    begin = pd.Timestamp(FIRST, tz="UTC")
    end = begin + pd.Timedelta(days=QUIET_DAYS + THEFT_DAYS)
    reports = world.reports(start=begin, end=end).drop_duplicates("transaction_id")
    known = world.transactions(start=begin, end=end).merge(
        reports[["transaction_id", "reported_at", "is_fraud"]], how="left", on="transaction_id"
    )
    known.assign(is_fraud=known["is_fraud"].eq(True)).to_parquet(path, index=False)
    return world.oracle(start=begin, end=end).set_index("transaction_id")


def test_a_new_fraud_turns_the_report_red_trains_once_and_reaches_the_running_service(
    life: Life,
) -> None:
    ticks = AutomationTicks(life.definitions, life.instance)
    assert life.serving() == "1"
    assert ticks.next() == set()

    life.run("ingest_job", first=QUIET_DAYS, last=QUIET_DAYS + THEFT_DAYS - 1)
    assert ticks.next() == set()
    last = QUIET_DAYS + THEFT_DAYS - 1
    reported = life.run("drift_job", first=last, last=last)
    red = [check.asset_key.to_user_string() for check in reported.get_asset_check_evaluations() if not check.passed]
    assert "performance_report" in red

    assert ticks.next() == TRAINING_ASSETS
    job = life.definitions.resolve_implicit_global_asset_job_def()
    # For an alarm the daemon launches a run of these assets, and not one of our jobs.
    trained = job.execute_in_process(
        instance=life.instance,
        asset_selection=[dg.AssetKey(name) for name in TRAINING_ASSETS],
        tags={"fraud/cause": "alarm"},
    )
    assert trained.success
    assert ticks.next() == set()

    decision = life.registry.history()[-1]
    assert (decision.action, decision.version, decision.champion) == ("promote", 2, 2)
    until(lambda: life.serving() == "2", what="version 2 in service")

    before, after = (life.skill(version, first=last - MATURITY_DAYS, last=last) for version in (1, 2))
    assert after > before

    client = MlflowClient(tracking_uri=life.settings.tracking_uri)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    assert {run.info.status for run in client.search_runs(experiments)} == {"FINISHED"}
