"""The main job, for real: transactions to a promoted champion on a real Dagster instance and a real MLflow."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa
from mlflow.tracking import MlflowClient

from fraud_pipeline.database import Database
from fraud_pipeline.database.history import read_transactions
from fraud_pipeline.database.tables import DECISIONS
from fraud_pipeline.definitions import build_defs
from fraud_pipeline.defs.catalog import HIDDEN_ROWS, STORED_TABLES
from fraud_pipeline.defs.checks import SCHEMA
from fraud_pipeline.defs.instance import PipelineFailedError, run_pipeline
from fraud_pipeline.defs.model_features import features_for
from fraud_pipeline.defs.resources import build_resources
from fraud_pipeline.features.engineer import FEATURE_NAMES
from fraud_pipeline.features.own_inputs import FIXED_INPUTS
from fraud_pipeline.modeling.model_directory import FraudModel
from fraud_pipeline.scoring.scorer import Scorer
from fraud_pipeline.settings import Settings
from fraud_pipeline.storage.tables import TableStore
from fraud_pipeline_tests.support.transaction_rows import transaction_rows

# MLflow and its dependencies warn about themselves; nothing here can mend that.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

FIRST, LAST = date(2026, 1, 1), date(2026, 2, 19)
DAILY = (
    "raw_transactions",
    "transactions",
    "rejected_transactions",
    "fraud_reports",
    "merchant_days",
    "features",
)


def settings_for(home: Path, **changes: object) -> Settings:
    values = {
        "home": home,
        "synthetic": "data_path" not in changes,
        "label_maturity": timedelta(days=10),
        "warm_up": timedelta(days=5),
        "gap": timedelta(days=1),
        "n_trials": 2,
        # The world of these tests lies in the past.
        "history_retention": timedelta(days=10_000),
        **changes,
    }
    return Settings(**values)  # type: ignore[arg-type]  # pydantic checks them


@dataclass(frozen=True)
class Deployment:
    """A home directory after the main job, and what the job told."""

    settings: Settings
    run_id: str
    lines: tuple[str, ...]

    @property
    def store(self) -> TableStore:
        return TableStore(self.settings.tables_directory)


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    settings = settings_for(tmp_path_factory.mktemp("home"))
    lines: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAGSTER_HOME", str(settings.dagster_home))
        run_id = run_pipeline(settings, first=FIRST, last=LAST, on_progress=lines.append)
        yield Deployment(settings=settings, run_id=run_id, lines=tuple(lines))


@pytest.fixture
def instance(deployment: Deployment) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.from_config(str(deployment.settings.dagster_home)) as opened:
        yield opened


class TestMainJob:
    def test_a_person_sees_each_step_once(self, deployment: Deployment) -> None:
        steps = [line.split()[0] for line in deployment.lines if not line.startswith("    ")]
        assert sorted(steps) == sorted(
            [*DAILY, "training_set", "fraud_model", "evaluation", "registered_model", "online_history", "champion"]
        )
        assert sum(line.strip().startswith("trial ") for line in deployment.lines) == 2

    def test_every_day_has_every_daily_table(self, deployment: Deployment) -> None:
        days = [FIRST + timedelta(days=offset) for offset in range((LAST - FIRST).days + 1)]
        for table in DAILY:
            assert deployment.store.days(table) == days

    def test_no_row_is_lost_on_the_way(self, deployment: Deployment) -> None:
        raw, accepted, rejected, features = (
            deployment.store.read(name, FIRST, LAST)
            for name in ("raw_transactions", "transactions", "rejected_transactions", "features")
        )
        assert len(raw) == len(accepted) + len(rejected)
        assert features["transaction_id"].tolist() == accepted["transaction_id"].tolist()

    def test_the_exported_champion_predicts(self, deployment: Deployment) -> None:
        model = FraudModel.load(deployment.settings.champion_directory)
        rows = features_for(
            model, deployment.store, deployment.store.read("features", LAST, LAST), settings=deployment.settings
        )
        scores = model.predict(rows)
        assert ((scores > 0) & (scores < 1)).all()
        assert model.features == (*FEATURE_NAMES, *FIXED_INPUTS)

    def test_the_champion_is_the_registered_model_with_its_reasons(self, deployment: Deployment) -> None:
        registry = build_resources(deployment.settings)["registry"].registry()  # type: ignore[attr-defined]  # values are of many kinds
        champion = registry.with_alias("champion")
        assert (champion.version, champion.aliases) == (1, ("champion",))
        assert registry.with_alias("challenger") is None
        (decision,) = registry.history()
        assert (decision.action, decision.champion, decision.confirmed) == ("promote", 1, True)
        assert [reason.split(":")[0] for reason in decision.reasons] == [
            "compatibility",
            "frauds",
            "calibration",
            "blocks",
            "plain",
            "floor",
            "basis",
        ]

    def test_one_mlflow_run_holds_parameters_metrics_trials_and_plots(self, deployment: Deployment) -> None:
        client = MlflowClient(tracking_uri=deployment.settings.tracking_uri)
        experiment = client.get_experiment_by_name("fraud_model")
        assert experiment is not None
        (run,) = client.search_runs([experiment.experiment_id])
        assert run.info.status == "FINISHED"
        assert {"max_depth", "max_bin", "base_score", "rounds"} <= run.data.params.keys()
        assert {"average_precision", "roc_auc", "tuning_average_precision"} <= run.data.metrics.keys()
        assert run.info.run_name.startswith("synthetic world, 2026-01-06 to 2026-")
        assert run.data.tags["mlflow.note.content"].startswith("# Card fraud model")
        assert run.inputs is not None
        assert [dataset.dataset.name for dataset in run.inputs.dataset_inputs] == ["training_set"]
        best = client.get_metric_history(run.info.run_id, "best_average_precision")
        # The best of all trials, or the better of the fixed ones where the difference may be noise.
        assert run.data.metrics["tuning_average_precision"] in {metric.value for metric in best}
        assert len({metric.step for metric in best}) == len(best)
        assert run.data.tags["dagster_run_id"] == deployment.run_id
        files = {file.path for folder in ("", "plots") for file in client.list_artifacts(run.info.run_id, folder)}
        assert {"trials.csv", "model_card.md", "evaluation.json", "fraud_model"} <= files
        assert {f"plots/{name}.png" for name in ("precision_recall", "calibration", "cost_by_threshold")} <= files

    def test_mlflow_opens_as_model_training_with_the_model_card_on_the_version(self, deployment: Deployment) -> None:
        client = MlflowClient(tracking_uri=deployment.settings.tracking_uri)
        for name in ("fraud_model", "fraud_model_promotions"):
            experiment = client.get_experiment_by_name(name)
            assert experiment is not None
            assert experiment.tags["mlflow.experimentKind"] == "custom_model_development"
            assert experiment.tags["mlflow.note.content"]
        assert str(client.get_model_version("fraud_model", "1").description).startswith("# Card fraud model")

    def test_every_stored_table_followed_its_schema(self, deployment: Deployment, instance: dg.DagsterInstance) -> None:
        keys = [dg.AssetCheckKey(dg.AssetKey(table), SCHEMA) for table in STORED_TABLES]
        # Dagster's own name for what its UI shows; its types are wider than a check's.
        records: Any = instance.event_log_storage.get_latest_asset_check_execution_by_key(keys)
        assert {key.asset_key.to_user_string() for key in records} == set(STORED_TABLES)
        for key, record in records.items():
            evaluation = record.event.get_dagster_event().asset_check_evaluation_data
            assert evaluation.passed, evaluation.metadata["finding"]
            assert evaluation.metadata["rows"].value > 0 or key.asset_key.to_user_string() == "rejected_transactions"

    def test_a_table_that_is_stored_has_a_schema_or_holds_what_a_training_left_out(
        self, deployment: Deployment
    ) -> None:
        names = {path.stem for path in deployment.settings.tables_directory.glob("[!.]*")}
        assert names == {*STORED_TABLES, HIDDEN_ROWS}

    def test_the_run_and_its_metadata_are_in_the_ui_instance(
        self, deployment: Deployment, instance: dg.DagsterInstance
    ) -> None:
        run = instance.get_run_by_id(deployment.run_id)
        assert run is not None
        assert run.status is dg.DagsterRunStatus.SUCCESS
        assert run.remote_job_origin is not None
        assert run.remote_job_origin.location_name == "fraud_pipeline"  # else Dagster's first page leaves it out
        event = instance.get_latest_materialization_event(dg.AssetKey("evaluation"))
        assert event is not None
        assert event.asset_materialization is not None
        metadata = event.asset_materialization.metadata
        assert {"average_precision", "table", "model_card", "precision_recall"} <= metadata.keys()
        assert "data:image/png;base64," in str(metadata["precision_recall"].value)


def materialize_day(deployment: Deployment, instance: dg.DagsterInstance, day: date) -> bool:
    job = build_defs(deployment.settings).resolve_job_def("ingest_job")
    return job.execute_in_process(instance=instance, partition_key=day.isoformat()).success


class TestAgain:
    def test_running_a_day_again_changes_nothing(self, deployment: Deployment, instance: dg.DagsterInstance) -> None:
        day = date(2026, 2, 3)
        names = ("raw_transactions", "transactions", "fraud_reports", "merchant_days", "features")
        before = {name: deployment.store.read(name, day, day) for name in names}
        assert materialize_day(deployment, instance, day)
        for name in names:
            pd.testing.assert_frame_equal(deployment.store.read(name, day, day), before[name], check_exact=True)

    def test_a_day_computed_alone_equals_the_day_in_the_backfill_bit_for_bit(
        self, deployment: Deployment, instance: dg.DagsterInstance
    ) -> None:
        day = date(2026, 2, 12)
        before = deployment.store.read("features", day, day)[list(FEATURE_NAMES)].to_numpy().view(np.uint32)
        assert materialize_day(deployment, instance, day)
        after = deployment.store.read("features", day, day)[list(FEATURE_NAMES)].to_numpy().view(np.uint32)
        assert (before != after).sum() == 0

    def test_a_second_training_is_judged_against_the_champion(
        self, deployment: Deployment, instance: dg.DagsterInstance
    ) -> None:
        result = build_defs(deployment.settings).resolve_job_def("retraining_job").execute_in_process(instance=instance)
        assert result.success
        registry = build_resources(deployment.settings)["registry"].registry()  # type: ignore[attr-defined]  # values are of many kinds
        decision = registry.history()[-1]
        assert decision.version == 2
        assert any(reason.startswith("average_precision: ") for reason in decision.reasons)
        assert registry.champion_at(pd.Timestamp.now(tz="UTC")) == decision.champion


class TestServedFeatures:
    """What was served is computed again from the offline tables before anything is promoted."""

    def serve(self, deployment: Deployment, rows: pd.DataFrame) -> Database:
        database = Database(deployment.settings.database)
        Scorer(database=database, champion=lambda: None).score(transaction_rows(rows))
        return database

    def test_history_is_in_the_database_after_the_main_job(self, deployment: Deployment) -> None:
        database = Database(deployment.settings.database)
        stored = read_transactions(
            database, start=pd.Timestamp(FIRST, tz="UTC"), end=pd.Timestamp(LAST, tz="UTC") + pd.Timedelta(days=1)
        )
        assert len(stored) == len(deployment.store.read("transactions", FIRST, LAST))
        database.close()

    def test_rows_served_like_training_pass(self, deployment: Deployment, instance: dg.DagsterInstance) -> None:
        rows = deployment.store.read("transactions", LAST, LAST)
        self.serve(deployment, rows).close()
        job = build_defs(deployment.settings).resolve_job_def("online_history_job")
        result = job.execute_in_process(instance=instance)
        (check,) = result.get_asset_check_evaluations()
        assert check.passed
        assert check.metadata["compared"].value == len(rows)
        assert check.metadata["different"].value == 0

    def test_one_served_bit_that_differs_blocks_promotion(
        self, deployment: Deployment, instance: dg.DagsterInstance
    ) -> None:
        registry = build_resources(deployment.settings)["registry"].registry()  # type: ignore[attr-defined]  # values are of many kinds
        before = registry.with_alias("champion").version
        database = self.serve(deployment, deployment.store.read("transactions", LAST, LAST))
        with database.transaction() as connection:
            decision = connection.execute(sa.select(DECISIONS).limit(1)).one()
            features = bytearray(decision.features)
            features[0] ^= 1
            connection.execute(
                sa.update(DECISIONS)
                .where(DECISIONS.c.transaction_id == decision.transaction_id)
                .values(features=bytes(features))
            )
        job = build_defs(deployment.settings).resolve_job_def("retraining_job")
        result = job.execute_in_process(instance=instance, raise_on_error=False)
        assert not result.success
        assert registry.with_alias("champion").version == before
        with database.transaction() as connection:
            connection.execute(sa.delete(DECISIONS))
        database.close()


class TestStops:
    """What must stop a run does, before anything reaches a model."""

    def file(self, deployment: Deployment, path: Path) -> Path:
        rows = deployment.store.read("transactions", FIRST, LAST)
        rows = rows.assign(amount=rows.pop("amount_cents") / 100)
        reports = deployment.store.read("fraud_reports", FIRST, LAST)
        rows["is_fraud"] = rows["transaction_id"].isin(reports["transaction_id"]).astype(int)
        rows.to_parquet(path)
        return path

    def run(self, home: Path, data: Path, **changes: object) -> None:
        settings = settings_for(home, data_path=data, first_day=FIRST, last_day=LAST, **changes)
        run_pipeline(settings, first=FIRST, last=LAST, on_progress=lambda _: None)

    def test_a_source_that_fills_a_column_only_for_frauds(self, deployment: Deployment, tmp_path: Path) -> None:
        data = self.file(deployment, tmp_path / "leak.parquet")
        rows = pd.read_parquet(data)
        rows.loc[rows["is_fraud"] == 0, "country"] = None
        rows.to_parquet(data)
        with pytest.raises(
            PipelineFailedError,
            match="null_pattern_auc of training_set: Missing values alone reach an AUC of .*: an optional column",
        ):
            self.run(tmp_path / "home", data)
        assert not (tmp_path / "home" / "champion").exists()

    def test_ten_percent_of_bad_rows(self, deployment: Deployment, tmp_path: Path) -> None:
        data = self.file(deployment, tmp_path / "bad.parquet")
        rows = pd.read_parquet(data)
        rows.loc[rows.index % 10 == 0, "amount"] = 1e9
        rows.to_parquet(data)
        with pytest.raises(PipelineFailedError, match="out_of_range") as failure:
            self.run(tmp_path / "home", data)
        assert "10.0%" in str(failure.value) or "10.0 %" in str(failure.value)

    def test_data_too_short_to_learn_from(self, tmp_path: Path) -> None:
        settings = settings_for(tmp_path / "home")
        with pytest.raises(PipelineFailedError, match="bring"):
            run_pipeline(settings, first=FIRST, last=FIRST + timedelta(days=6), on_progress=lambda _: None)
