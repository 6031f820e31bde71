"""The retraining loop: an alarm trains once, the gate uses live shadow rows, and a new fraud is learned."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import dagster as dg
import numpy as np
import pandas as pd
import pytest

from fraud_pipeline.database import Database, StoredDecision, scoring_batch
from fraud_pipeline.database.history import load_history
from fraud_pipeline.database.performance import ShadowRow, add_shadow_rows, shadow_rows
from fraud_pipeline.definitions import build_defs
from fraud_pipeline.defs.catalog import HIDDEN_ROWS
from fraud_pipeline.defs.resources import build_resources
from fraud_pipeline.features.engineer import FEATURE_NAMES
from fraud_pipeline.modeling.training import TrainedModel
from fraud_pipeline.promotion.live_rows import live_rows
from fraud_pipeline.promotion.verdict import GateRules
from fraud_pipeline.schema.transactions import microseconds
from fraud_pipeline.storage.tables import TableStore
from fraud_pipeline_tests.support.reports import (
    LAST_DAY,
    TRAINING_ASSETS,
    AutomationTicks,
    Deployment,
    deployment_in,
    near_perfect_evaluation,
)
from fraud_pipeline_tests.support.small_world import LABEL_MATURITY, Tables

# MLflow and its dependencies warn about themselves; nothing here can mend that.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

TOO_EARLY: Final = date(2026, 1, 5)


@pytest.fixture
def deployment(tmp_path: Path, tables: Tables, trained: TrainedModel) -> Deployment:
    # The world of these tests lies in the past.
    return deployment_in(
        tmp_path, tables, trained.model, history_retention=timedelta(days=10_000), shadow_challenger=True
    )


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as dagster_instance:
        yield dagster_instance


class TestAlarm:
    def test_it_trains_once_per_red_and_again_after_a_recovery(
        self, deployment: Deployment, instance: dg.DagsterInstance
    ) -> None:
        deployment.promote(near_perfect_evaluation())
        definitions = build_defs(deployment.settings)
        ticks = AutomationTicks(definitions, instance)
        assert ticks.next() == set()

        def night(day: date, *, passed: bool) -> None:
            _, check = deployment.report(day, instance=instance)
            assert check.passed is passed

        night(TOO_EARLY, passed=True)
        assert ticks.next() == set()
        night(LAST_DAY - timedelta(days=1), passed=False)
        assert ticks.next() == TRAINING_ASSETS
        assert ticks.next() == set()
        # While the next night's check is under way it is neither red nor green.
        job = definitions.resolve_job_def("drift_job")
        instance.create_run_for_job(job, tags={"dagster/partition": LAST_DAY.isoformat()})
        assert ticks.next() == set()
        night(LAST_DAY, passed=False)
        assert ticks.next() == set()
        deployment.promote(None)
        night(LAST_DAY, passed=True)
        assert ticks.next() == set()
        deployment.promote(near_perfect_evaluation())
        night(LAST_DAY, passed=False)
        assert ticks.next() == TRAINING_ASSETS

    def test_a_day_that_is_not_judged_is_no_recovery(
        self, deployment: Deployment, instance: dg.DagsterInstance, trained: TrainedModel
    ) -> None:
        deployment.promote(near_perfect_evaluation())
        ticks = AutomationTicks(build_defs(deployment.settings), instance)
        assert ticks.next() == set()
        deployment.report(LAST_DAY - timedelta(days=1), instance=instance)
        assert ticks.next() == TRAINING_ASSETS
        # Its successor has no day yet by which it could be judged.
        replace(deployment, model=trained.model).promote(near_perfect_evaluation())
        metadata, check = deployment.report(LAST_DAY, instance=instance)
        assert "not judged yet" in metadata["summary"]
        assert not check.passed
        assert "The alarm stays red" in str(check.metadata["finding"].value)
        assert ticks.next() == set()
        deployment.promote(near_perfect_evaluation())
        _, check = deployment.report(LAST_DAY, instance=instance)
        assert not check.passed
        assert ticks.next() == set()

    def test_remade_old_days_neither_start_nor_reset_the_alarm(
        self, deployment: Deployment, instance: dg.DagsterInstance
    ) -> None:
        ticks = AutomationTicks(build_defs(deployment.settings), instance)
        assert ticks.next() == set()
        deployment.promote(None)
        deployment.report(LAST_DAY, instance=instance)
        deployment.promote(near_perfect_evaluation())
        metadata, check = deployment.report(LAST_DAY - timedelta(days=1), instance=instance)
        assert "clearly worse" in metadata["summary"]
        assert check.passed
        assert ticks.next() == set()
        deployment.report(LAST_DAY, instance=instance)
        assert ticks.next() == TRAINING_ASSETS
        deployment.promote(None)
        metadata, check = deployment.report(LAST_DAY - timedelta(days=1), instance=instance)
        assert "clearly worse" not in metadata["summary"]
        assert not check.passed
        assert ticks.next() == set()
        deployment.promote(near_perfect_evaluation())
        deployment.report(LAST_DAY, instance=instance)
        assert ticks.next() == set()

    def test_a_missing_day_is_a_warning_and_trains_nothing(
        self, deployment: Deployment, instance: dg.DagsterInstance
    ) -> None:
        deployment.promote(None)
        ticks = AutomationTicks(build_defs(deployment.settings), instance)
        assert ticks.next() == set()
        _, checks = deployment.checked(LAST_DAY + timedelta(days=1), asset="drift_report", instance=instance)
        assert (checks["no_drift"].passed, checks["enough_rows"].passed) == (True, False)
        assert ticks.next() == set()

    def test_a_good_champion_and_new_data_start_no_training(
        self, deployment: Deployment, instance: dg.DagsterInstance
    ) -> None:
        deployment.promote(None)
        ticks = AutomationTicks(build_defs(deployment.settings), instance)
        assert ticks.next() == set()
        for day in (LAST_DAY - timedelta(days=1), LAST_DAY):
            deployment.report(day, instance=instance)
            assert ticks.next() == set()


def scored_in_shadow(tables: Tables, model: Any, *, since: str, challenger: str = "2") -> list[ShadowRow]:
    """Shadow decisions of two equal models from a day on."""
    since_then = (tables.transactions["event_time"] >= pd.Timestamp(since, tz="UTC")).to_numpy()
    probability = model.predict(tables.model_rows[since_then])
    return [
        ShadowRow(id_, 0, "1", challenger, "allow", "allow", champion_probability=p, challenger_probability=p)
        for id_, p in zip(tables.transactions["transaction_id"][since_then], probability.tolist(), strict=True)
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
            live = live_rows(shadowed, tables.reports, as_of=tables.as_of, label_maturity=LABEL_MATURITY, rules=rules)
            return None if live is None else live.rows

        rows = live(1)
        assert rows is not None
        assert rows["event_time"].max() < tables.as_of - LABEL_MATURITY
        assert rows["event_time"].min() >= pd.Timestamp("2026-01-15", tz="UTC")
        assert set(rows["label"]) == {0.0, 1.0}
        frauds = int(rows["label"].sum())
        assert live(frauds) is not None
        assert live(frauds + 1) is None

    @pytest.mark.parametrize("live", [True, False])
    def test_the_gate_names_its_basis(
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
        basis = str(check.metadata["basis"].value)
        assert ("scored in shadow, with matured labels" in basis) is live
        assert ("rows of the test part" in basis) is not live
        assert deployment.registry.history()[-1].reasons[-1] == f"basis: {basis}"


class TestWaiting:
    """A challenger in shadow is judged again, by ticks like the daemon's."""

    def tick(self, deployment: Deployment, name: str, at: datetime) -> Any:
        definitions = build_defs(deployment.settings)
        resources: Any = build_resources(deployment.settings)
        context = dg.build_schedule_context(
            scheduled_execution_time=at,
            resources={name: resources[name] for name in ("registry", "database")},
            repository_def=definitions.get_repository_def(),
        )
        return definitions.resolve_schedule_def(name).evaluate_tick(context)

    @pytest.fixture
    def waiting(self, deployment: Deployment, tables: Tables) -> Deployment:
        """Version 2 waits in shadow of version 1."""
        deployment.promote(None)
        champion = deployment.registry.with_alias("champion")
        assert champion is not None
        deployment.registry.register(deployment.settings.home / "model", run_id=champion.run_id, tags={})
        TableStore(deployment.settings.tables_directory).write("training_set", tables.training_set())
        deployment.registry.decide(2, action="shadow_only", reasons=["inconclusive"])
        return deployment

    def test_a_waiting_challenger_is_judged_after_enough_shadow_rows(
        self, waiting: Deployment, tables: Tables, instance: dg.DagsterInstance
    ) -> None:
        at = datetime.now(UTC)
        assert "0 of 30 frauds that it scored have matured" in self.tick(waiting, "daily_gate", at).skip_message
        with closing(Database(waiting.settings.database, statement_timeout=timedelta(minutes=1))) as database:
            database.upgrade()
            load_history(database, transactions=tables.transactions, reports=tables.reports)
            add_shadow_rows(database, scored_in_shadow(tables, waiting.model, since="2026-01-06"))
        (request,) = self.tick(waiting, "daily_gate", at).run_requests
        assert request.run_key == f"gate-2-{at:%Y-%m-%d}"
        job = build_defs(waiting.settings).resolve_job_def("gate_job")
        run = job.execute_in_process(instance=instance, run_config=request.run_config, tags=request.tags)
        made = {event.asset_key.to_user_string() for event in run.get_asset_materialization_events() if event.asset_key}
        assert made == {"champion", "online_history"}
        decision = waiting.registry.history()[-1]
        assert (decision.action, decision.version, decision.champion) == ("promote", 2, 2)
        assert "scored in shadow, with matured labels" in decision.reasons[-1]
        assert self.tick(waiting, "daily_gate", at).skip_message == "no challenger waits in shadow"

    def test_a_rejected_or_promoted_challenger_does_not_wait(self, waiting: Deployment) -> None:
        assert waiting.registry.waiting() is not None
        waiting.registry.decide(2, action="reject", reasons=["worse"])
        assert waiting.registry.waiting() is None

    def test_the_weekly_training_lets_a_challenger_wait_for_a_limited_time(self, waiting: Deployment) -> None:
        now = datetime.now(UTC)
        early, late = now + timedelta(days=27), now + timedelta(days=29)
        assert "version 2 waits in shadow, until" in self.tick(waiting, "weekly_retraining", early).skip_message
        assert len(self.tick(waiting, "weekly_retraining", late).run_requests) == 1

    def test_without_shadow_scoring_no_challenger_waits(self, waiting: Deployment) -> None:
        off = replace(waiting, settings=waiting.settings.model_copy(update={"shadow_challenger": False}))
        now = datetime.now(UTC)
        assert len(self.tick(off, "weekly_retraining", now).run_requests) == 1
        assert "FRAUD_SHADOW_CHALLENGER is off" in self.tick(off, "daily_gate", now).skip_message

    def test_an_alarm_trains_while_a_challenger_waits(self, waiting: Deployment, instance: dg.DagsterInstance) -> None:
        waiting.promote(near_perfect_evaluation())
        waiting.registry.decide(3, action="shadow_only", reasons=["inconclusive"])
        ticks = AutomationTicks(build_defs(waiting.settings), instance)
        assert ticks.next() == set()
        waiting.report(LAST_DAY, instance=instance)
        assert ticks.next() == TRAINING_ASSETS


class TestDays:
    def test_a_run_trains_on_its_own_days(
        self, tmp_path: Path, tables: Tables, trained: TrainedModel, instance: dg.DagsterInstance
    ) -> None:
        """`fraud-detect train --transactions 30000` gives the same model after an earlier, larger run."""
        deployment = deployment_in(
            tmp_path, tables, trained.model, gap=timedelta(days=1), warm_up=timedelta(days=5), synthetic=True
        )
        job = build_defs(deployment.settings).resolve_implicit_global_asset_job_def()

        def learned(**days: str) -> pd.DataFrame:
            job.execute_in_process(
                instance=instance,
                asset_selection=[dg.AssetKey("training_set")],
                run_config={"ops": {"training_set": {"config": days}}},
            )
            return TableStore(deployment.settings.tables_directory).read_whole("training_set")

        assert len(learned()) == len(tables.training_set())
        fewer = learned(first_day="2026-01-01", last_day="2026-02-05")
        as_of = pd.Timestamp("2026-02-06", tz="UTC")
        alone = replace(
            tables,
            transactions=tables.transactions[tables.transactions["event_time"] < as_of],
            features=tables.features[tables.features["event_time"] < as_of],
            reports=tables.reports[tables.reports["reported_at"] < as_of],
            as_of=as_of,
        ).training_set()
        pd.testing.assert_frame_equal(fewer, alone)


class TestHiddenLabels:
    def test_blocked_rows_without_a_report_are_not_trained_on(
        self, tmp_path: Path, tables: Tables, trained: TrainedModel, instance: dg.DagsterInstance
    ) -> None:
        deployment = deployment_in(
            tmp_path,
            tables,
            trained.model,
            history_retention=timedelta(days=10_000),
            learn_from_served=True,
            gap=timedelta(days=1),
            warm_up=timedelta(days=5),
        )
        first, end = (pd.Timestamp(day, tz="UTC") for day in ("2026-01-10", "2026-01-25"))
        rows = tables.transactions[tables.transactions["event_time"].between(first, end)]
        reported = rows["transaction_id"].isin(tables.reports["transaction_id"]).to_numpy()
        blocked = np.flatnonzero(reported)[:40].tolist() + np.flatnonzero(~reported)[:300].tolist()
        with closing(Database(deployment.settings.database, statement_timeout=timedelta(minutes=1))) as database:
            database.upgrade()
            with scoring_batch(database) as batch:
                batch.add_decisions(decisions(rows.iloc[blocked], "block"))
                batch.add_decisions(decisions(rows[~reported].iloc[300:400], "review"))
        job = build_defs(deployment.settings).resolve_implicit_global_asset_job_def()
        run = job.execute_in_process(instance=instance, asset_selection=[dg.AssetKey("training_set")])
        (event,) = run.asset_materializations_for_node("training_set")
        left_out: Any = event.metadata["left_out"].value
        assert left_out["blocked_and_never_reported"] == 300
        store = TableStore(deployment.settings.tables_directory)
        hidden = set(rows[~reported]["transaction_id"].iloc[:300])
        assert set(store.read_whole(HIDDEN_ROWS)["transaction_id"]) == hidden
        learned, everything = store.read_whole("training_set"), tables.training_set()
        gone = set(everything["transaction_id"]) - set(learned["transaction_id"])
        assert gone == set(everything["transaction_id"]) & hidden
        assert len(gone) > 100


def decisions(rows: pd.DataFrame, decision: str) -> list[StoredDecision]:
    """The decisions on these transactions."""
    nothing = np.zeros(len(FEATURE_NAMES), np.float32).tobytes()
    return [
        StoredDecision(id_, at, decision, 0.9, "model", "full", "", "[]", "1", "0" * 64, nothing, 1, 1, 1)
        for id_, at in zip(rows["transaction_id"], microseconds(rows["event_time"]).tolist(), strict=True)
    ]
