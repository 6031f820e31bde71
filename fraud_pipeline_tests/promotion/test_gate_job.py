"""The gate where champion and challenger differ in more than their trees: release, feature configuration, source."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pytest
from mlflow.tracking import MlflowClient

from fraud_pipeline.database import Database
from fraud_pipeline.database.performance import ShadowRow, add_shadow_rows, shadow_rows
from fraud_pipeline.definitions import build_defs
from fraud_pipeline.defs.model_features import features_for
from fraud_pipeline.features import record as feature_record
from fraud_pipeline.features.config import FeatureConfig
from fraud_pipeline.features.engineer import FEATURE_NAMES, History, merchant_days
from fraud_pipeline.modeling.metrics import average_precision, rank_frauds
from fraud_pipeline.modeling.model_directory import FraudModel, IncompatibleModelError
from fraud_pipeline.modeling.training import TrainedModel, part
from fraud_pipeline.promotion.promotion_history import Promotion
from fraud_pipeline.storage.tables import TableStore
from fraud_pipeline_tests.support.reports import Deployment, deployment_in
from fraud_pipeline_tests.support.small_world import Tables

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


@pytest.fixture
def deployment(tmp_path: Path, tables: Tables, trained: TrainedModel) -> Deployment:
    deployment_ = deployment_in(
        tmp_path, tables, trained.model, history_retention=timedelta(days=10_000), shadow_challenger=True
    )
    TableStore(deployment_.settings.tables_directory).write("training_set", tables.training_set())
    return deployment_


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance_:
        yield instance_


def challenge(deployment: Deployment, model: FraudModel, *, plain: FraudModel | None = None) -> int:
    """Register a model, with the plain model beside it; its version."""
    client = MlflowClient(tracking_uri=deployment.settings.tracking_uri)
    run = client.create_run(deployment.registry.ensure_experiment("training")).info.run_id
    model.save(deployment.settings.home / "challenger-model")
    directories = deployment.settings.home / "challenger-model", deployment.settings.home / "plain-model"
    if plain is not None:
        plain.save(directories[1])
    beside = None if plain is None else directories[1]
    return deployment.registry.register(directories[0], run_id=run, tags={}, plain=beside).version


def judge(deployment: Deployment, instance: dg.DagsterInstance, **config: Any) -> tuple[Promotion, dict[str, str]]:
    """Run the gate; its decision, and what each check says."""
    job = build_defs(deployment.settings).resolve_job_def("gate_job")
    job.execute_in_process(
        instance=instance, run_config={"ops": {"champion": {"config": config}}}, raise_on_error=False
    )
    decision = deployment.registry.history()[-1]
    return decision, dict(reason.split(": ", 1) for reason in decision.reasons)


def test_a_champion_of_another_release_is_not_judged_as_if_there_were_none(
    deployment: Deployment, instance: dg.DagsterInstance
) -> None:
    """Else a release that changes a feature would let any model in over the low bar of a first one."""
    with pytest.MonkeyPatch.context() as other_release:
        other_release.setattr(feature_record, "_code", lambda _config: "another release")
        other_release.setattr(feature_record, "value_hashes", lambda _engineer: dict.fromkeys(FEATURE_NAMES, "other"))
        deployment.promote(None)
    with pytest.raises(IncompatibleModelError):
        deployment.registry.load(deployment.registry.get(1))
    version = challenge(deployment, deployment.model)
    decision, reasons = judge(deployment, instance)
    assert (decision.action, decision.version, decision.champion) == ("shadow_only", version, 1)
    assert "Version 1 cannot be rebuilt" in reasons["champion"]
    assert "The champion stays" in reasons["champion"]
    assert "fraud-detect promote" in reasons["champion"]
    assert "floor" not in reasons
    assert "30 are needed" in reasons["frauds"] or "of 30 needed" in reasons["frauds"]


def test_a_champion_is_judged_on_features_that_are_made_as_it_sees_them(deployment: Deployment, tables: Tables) -> None:
    """The feature table is made for the next model; a champion with another label maturity never sees its values."""
    week = FeatureConfig(label_maturity=timedelta(days=7))
    store = TableStore(deployment.settings.tables_directory)
    rows = part(store.read_whole("training_set"), "test")
    model = replace(deployment.model, feature_config=week)
    made = features_for(model, store, rows, settings=deployment.settings)
    days = merchant_days(tables.transactions, tables.reports, label_maturity=week.label_maturity)
    history = History(transactions=tables.transactions, reports=tables.reports, merchant_days=days)
    expected = week.engineer().compute(history=history, new=tables.transactions).set_index("transaction_id")
    assert made["transaction_id"].tolist() == rows["transaction_id"].tolist()
    names = list(FEATURE_NAMES)
    np.testing.assert_array_equal(made[names].to_numpy(), expected.loc[rows["transaction_id"], names].to_numpy())
    assert (made["merchant_cleared_count_30d"] != rows["merchant_cleared_count_30d"]).any()
    assert features_for(deployment.model, store, rows, settings=deployment.settings) is rows


def test_a_model_of_another_source_waits_until_a_person_accepts_that(
    deployment: Deployment, instance: dg.DagsterInstance
) -> None:
    def learned_from(source_id: str, words: str) -> FraudModel:
        lineage = {**deployment.model.lineage, "source_id": source_id, "source": words}
        return replace(deployment.model, lineage=lineage)

    replace(deployment, model=learned_from("file-1", "file bank.csv")).promote(None)
    challenge(deployment, learned_from("synthetic-7", "synthetic world 7"))
    decision, reasons = judge(deployment, instance)
    assert decision.action == "shadow_only"
    assert "synthetic world 7 (synthetic-7)" in reasons["source"]
    assert "file bank.csv (file-1)" in reasons["source"]
    assert "accept_other_source" in reasons["source"]
    _, reasons = judge(deployment, instance, accept_other_source=True)
    assert "this run accepts that" in reasons["source"]


def test_a_model_below_its_plain_model_is_rejected_with_the_finding_in_the_check(
    deployment: Deployment, instance: dg.DagsterInstance, trained: TrainedModel, tables: Tables
) -> None:
    """A bug that no test of training sees, such as features in another order, is caught by the floor."""
    model = deployment.model
    own = len(model.feature_config.own_inputs.names)
    computed = len(model.features) - own
    shuffled = (*model.features[:computed][::-1], *model.features[computed:])
    number = challenge(deployment, replace(model, features=shuffled), plain=trained.plain)
    decision, reasons = judge(deployment, instance)
    assert (decision.action, decision.version, decision.champion) == ("reject", number, None)
    test = part(tables.training_set(), "test")
    of_plain = average_precision(
        rank_frauds(trained.plain.predict(test), test["label"].to_numpy(np.float64), np.ones((1, len(test))))
    )[0]
    assert f"plain XGBoost on the row's own columns has {of_plain:.3f} on the same rows" in reasons["plain"]
    record = instance.event_log_storage.get_latest_asset_check_execution_by_key(
        [dg.AssetCheckKey(dg.AssetKey("champion"), "gate")]
    )
    (check,) = (each.event.get_dagster_event().asset_check_evaluation_data for each in record.values())  # type: ignore[union-attr]  # judged just now
    assert f"plain: {reasons['plain']}" in str(check.metadata["finding"].value)


def test_a_version_of_an_earlier_release_has_no_plain_model(
    deployment: Deployment, instance: dg.DagsterInstance
) -> None:
    challenge(deployment, deployment.model)
    _, reasons = judge(deployment, instance)
    assert "plain" not in reasons
    assert "no plain model was trained beside this version" in reasons["basis"]


def test_what_a_settled_challenger_scored_is_removed_and_what_a_waiting_one_scored_stays(
    deployment: Deployment, instance: dg.DagsterInstance
) -> None:
    deployment.promote(None)
    challenge(deployment, deployment.model)
    with closing(Database(deployment.settings.database)) as database:
        database.upgrade()
        of_pairs = [("1", "2"), ("0", "2"), ("1", "0")]
        add_shadow_rows(
            database,
            [
                ShadowRow(f"t-{champion}-{challenger}", 0, champion, challenger, "allow", "allow", 0.1, 0.1)
                for champion, challenger in of_pairs
            ],
        )

        def left() -> int:
            with database.transaction(read_only=True) as connection:
                return int(connection.exec_driver_sql("SELECT count(*) FROM shadow_decisions").scalar_one())

        assert left() == 3
        judge(deployment, instance)
        waits = deployment.registry.waiting() is not None
        assert left() == (1 if waits else 0)
        assert deployment.settings.challenger_directory.exists() == waits
        deployment.registry.decide(2, action="reject", reasons=["worse"])
        job = build_defs(deployment.settings).resolve_job_def("online_history_job")
        assert job.execute_in_process(instance=instance).success
        assert left() == 0
        assert shadow_rows(database, champion="1", challenger="2").empty
