"""The loop: an alarm trains once, the gate judges by what was seen live, and a new fraud is learned by itself."""

from collections.abc import Iterator
from contextlib import closing
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Final

import dagster as dg
import pandas as pd
import pytest

from fraud_pipeline.database import Database
from fraud_pipeline.database.history import load_history
from fraud_pipeline.database.performance import ShadowRow, add_shadow_rows, shadow_rows
from fraud_pipeline.definitions import build_defs
from fraud_pipeline.gate import GateRules, live_rows
from fraud_pipeline.tables import TableStore
from fraud_pipeline.training import TrainedModel
from fraud_pipeline_tests.conftest import LABEL_MATURITY, Tables
from fraud_pipeline_tests.test_performance import LAST, Deployment, deployment_in, perfect

# MLflow and its dependencies warn about themselves; nothing here can mend that.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

TRAINING: Final = {"training_set", "fraud_model", "evaluation", "registered_model", "online_history", "champion"}
TOO_EARLY: Final = date(2026, 1, 5)


@pytest.fixture
def deployment(tmp_path: Path, tables: Tables, trained: TrainedModel) -> Deployment:
    # The world of these tests lies in the past.
    return deployment_in(tmp_path, tables, trained.model, history_retention=timedelta(days=10_000))


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as found:
        yield found


class Ticks:
    """The ticks of the daemon, one at a time."""

    def __init__(self, definitions: dg.Definitions, instance: dg.DagsterInstance) -> None:
        self._definitions, self._instance = definitions, instance
        self._cursor: Any = None

    def next(self) -> set[str]:
        """The assets that one tick asks for."""
        found = dg.evaluate_automation_conditions(self._definitions, instance=self._instance, cursor=self._cursor)
        self._cursor = found.cursor
        keys = self._definitions.resolve_asset_graph().get_all_asset_keys()
        return {key.to_user_string() for key in keys if found.get_num_requested(key)}


class TestAlarm:
    def test_it_trains_once_per_red_and_again_after_a_recovery(
        self, deployment: Deployment, instance: dg.DagsterInstance
    ) -> None:
        deployment.promote(perfect())
        definitions = build_defs(deployment.settings)
        ticks = Ticks(definitions, instance)
        assert ticks.next() == set()

        def night(day: date, *, passed: bool) -> None:
            _, check = deployment.report(day, instance=instance)
            assert check.passed is passed

        night(TOO_EARLY, passed=True)
        assert ticks.next() == set()
        night(LAST - timedelta(days=1), passed=False)
        assert ticks.next() == TRAINING
        assert ticks.next() == set()
        # While the next night's check is under way it is neither red nor green.
        job = definitions.resolve_job_def("drift_job")
        instance.create_run_for_job(job, tags={"dagster/partition": LAST.isoformat()})
        assert ticks.next() == set()
        night(LAST, passed=False)
        assert ticks.next() == set()
        night(TOO_EARLY, passed=True)
        assert ticks.next() == set()
        night(LAST, passed=False)
        assert ticks.next() == TRAINING

    def test_a_champion_that_keeps_its_promise_and_new_data_train_nothing(
        self, deployment: Deployment, instance: dg.DagsterInstance
    ) -> None:
        deployment.promote(None)
        ticks = Ticks(build_defs(deployment.settings), instance)
        assert ticks.next() == set()
        for day in (LAST - timedelta(days=1), LAST):
            deployment.report(day, instance=instance)
            assert ticks.next() == set()


def scored_in_shadow(tables: Tables, model: Any, *, since: str, challenger: str = "2") -> list[ShadowRow]:
    """What two equal models made of the transactions from a day on."""
    here = (tables.transactions["event_time"] >= pd.Timestamp(since, tz="UTC")).to_numpy()
    probability = model.predict(tables.features[here])
    return [
        ShadowRow(id_, 0, "1", challenger, "allow", "allow", champion_probability=p, challenger_probability=p)
        for id_, p in zip(tables.transactions["transaction_id"][here], probability.tolist(), strict=True)
    ]


class TestLiveShadow:
    def test_only_matured_rows_of_this_pair_count(
        self, tables: Tables, trained: TrainedModel, database: Database
    ) -> None:
        load_history(database, transactions=tables.transactions, reports=tables.reports)
        add_shadow_rows(database, scored_in_shadow(tables, trained.model, since="2026-01-15"))
        add_shadow_rows(database, scored_in_shadow(tables, trained.model, since="2026-01-15", challenger="3"))
        assert shadow_rows(database, champion="9", challenger="2").empty
        shadowed = shadow_rows(database, champion="1", challenger="2")
        assert len(shadowed) == (tables.transactions["event_time"] >= pd.Timestamp("2026-01-15", tz="UTC")).sum()

        def live(min_frauds: int) -> pd.DataFrame | None:
            rules = GateRules(min_frauds=min_frauds)
            return live_rows(shadowed, tables.reports, as_of=tables.as_of, label_maturity=LABEL_MATURITY, rules=rules)

        rows = live(1)
        assert rows is not None
        assert rows["event_time"].max() < tables.as_of - LABEL_MATURITY
        assert rows["event_time"].min() >= pd.Timestamp("2026-01-15", tz="UTC")
        assert set(rows["label"]) == {0.0, 1.0}
        frauds = int(rows["label"].sum())
        assert live(frauds) is not None
        assert live(frauds + 1) is None

    @pytest.mark.parametrize("live", [True, False])
    def test_the_gate_says_what_it_judged_on(
        self, deployment: Deployment, tables: Tables, instance: dg.DagsterInstance, *, live: bool
    ) -> None:
        deployment.promote(None)
        champion = deployment.registry.with_alias("champion")
        assert champion is not None
        deployment.registry.register(deployment.settings.home / "model", run_id=champion.run_id, tags={})
        TableStore(deployment.settings.tables_directory).write("training_set", tables.training_set())
        if live:
            with closing(Database(deployment.settings.database, statement_timeout=timedelta(minutes=1))) as database:
                database.upgrade()
                load_history(database, transactions=tables.transactions, reports=tables.reports)
                add_shadow_rows(database, scored_in_shadow(tables, deployment.model, since="2026-01-06"))
        job = build_defs(deployment.settings).resolve_implicit_global_asset_job_def()
        run = job.execute_in_process(instance=instance, asset_selection=[dg.AssetKey("champion")])
        (check,) = run.get_asset_check_evaluations()
        told = str(check.metadata["basis"].value)
        assert ("scored in shadow, with matured labels" in told) is live
        assert ("rows of the test part" in told) is not live
        assert deployment.registry.history()[-1].reasons[-1] == f"basis: {told}"
