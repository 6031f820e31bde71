"""Dagster's definitions: every asset has a description; jobs and schedules run the assets that they name."""

from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path

import dagster as dg
import pytest

from fraud_pipeline.definitions import build_defs
from fraud_pipeline.defs.automation import failure_line
from fraud_pipeline.defs.calendar import RANGE_END_TAG, RANGE_START_TAG
from fraud_pipeline.defs.catalog import DATABASE_TABLES, STORED_TABLES
from fraud_pipeline.defs.checks import SCHEMA
from fraud_pipeline.defs.instance import WORKSPACE_FILE
from fraud_pipeline.defs.named_source import NO_SOURCE
from fraud_pipeline.defs.resources import build_resources
from fraud_pipeline.ingest.source_choice import SyntheticChoice, save_choice
from fraud_pipeline.settings import Settings, load_settings

ASSETS = {
    "raw_transactions",
    "transactions",
    "rejected_transactions",
    "fraud_reports",
    "merchant_days",
    "features",
    "training_set",
    "fraud_model",
    "evaluation",
    "registered_model",
    "online_history",
    "retention",
    "champion",
    "scored_transactions",
    "drift_report",
    "performance_report",
    "missed_fraud_report",
}
EXTERNAL = {
    "transactions_topic",
    "fraud_reports_topic",
    "decisions",
    "decisions_topic",
    "dead_letter_topic",
    "alerts",
    "model_registry",
}
DAILY = {
    "raw_transactions",
    "transactions",
    "rejected_transactions",
    "fraud_reports",
    "merchant_days",
    "features",
    "drift_report",
    "performance_report",
    "missed_fraud_report",
}


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(home=tmp_path_factory.mktemp("home"), first_day=date(2026, 1, 1), synthetic=True)


@pytest.fixture(scope="module")
def definitions(settings: Settings) -> dg.Definitions:
    return build_defs(settings)


def test_the_graph_holds_every_stage_from_source_to_champion(definitions: dg.Definitions) -> None:
    graph = definitions.resolve_asset_graph()
    assert {key.to_user_string() for key in graph.get_all_asset_keys()} == ASSETS | EXTERNAL
    assert {key.to_user_string() for key in graph.external_asset_keys} == EXTERNAL
    assert {key.asset_key.to_user_string() for key in graph.asset_check_keys} == {
        *STORED_TABLES,
        "champion",
        "drift_report",
        "missed_fraud_report",
        "online_history",
        "performance_report",
    }


def test_every_asset_explains_itself(definitions: dg.Definitions) -> None:
    for spec in definitions.resolve_all_asset_specs():
        assert spec.description
        assert spec.group_name in {"data", "features", "training", "serving", "monitoring"}
        assert spec.owners == ["fraud-ml@example.com"]
        assert spec.kinds


def test_every_asset_that_a_run_makes_has_a_code_version_and_every_table_columns_and_a_place(
    definitions: dg.Definitions,
) -> None:
    for spec in definitions.resolve_all_asset_specs():
        name = spec.key.to_user_string()
        assert name in EXTERNAL or spec.code_version
        if name in {*STORED_TABLES, *DATABASE_TABLES}:
            columns = spec.metadata["dagster/column_schema"]
            assert isinstance(columns, dg.TableSchema)
            assert columns.columns
            assert str(spec.metadata["dagster/uri"]).startswith(("file:///", "sqlite:////"))


def test_the_place_of_a_database_holds_no_password(settings: Settings) -> None:
    url = "postgresql://fraud:s3cret@db.example:5432/fraud"
    specs = build_defs(settings.model_copy(update={"database_url": url})).resolve_all_asset_specs()
    places = {spec.key.to_user_string(): spec.metadata.get("dagster/uri") for spec in specs}
    assert places["decisions"] == "postgresql://db.example:5432/fraud#decisions"
    assert "s3cret" not in str(places)


def test_every_stored_table_has_a_blocking_schema_check(definitions: dg.Definitions) -> None:
    """An asset with the kind `parquet` writes a table, so a new one cannot lack a check."""
    graph = definitions.resolve_asset_graph()
    checked = {key.asset_key.to_user_string() for key in graph.asset_check_keys if key.name == SCHEMA}
    tables = {spec.key.to_user_string() for spec in definitions.resolve_all_asset_specs() if "parquet" in spec.kinds}
    assert checked == tables == set(STORED_TABLES)
    assert all(graph.get_check_spec(key).blocking for key in graph.asset_check_keys if key.name == SCHEMA)


def test_every_job_stops_a_run_that_hangs(definitions: dg.Definitions) -> None:
    jobs = [job for job in definitions.resolve_all_job_defs() if not job.name.startswith("__")]
    limits = {job.name: int(job.run_tags["dagster/max_runtime"]) for job in jobs}
    assert limits["scored_transactions_job"] == 600
    assert all(limits["scored_transactions_job"] <= limit <= 12 * 3_600 for limit in limits.values())


def test_daily_assets_do_a_day_or_a_year_in_one_run(definitions: dg.Definitions) -> None:
    for name in ASSETS:
        asset = definitions.resolve_assets_def(name)
        if name in DAILY:
            assert asset.backfill_policy == dg.BackfillPolicy.single_run()
            assert isinstance(asset.partitions_def, dg.DailyPartitionsDefinition)
        else:
            assert asset.partitions_def is None


def test_checks_before_training_and_promotion_block(definitions: dg.Definitions) -> None:
    graph = definitions.resolve_asset_graph()
    names = [
        "schema",
        "hidden_rows_schema",
        "unknown_labels_schema",
        "future_invariance",
        "single_feature_auc",
        "null_pattern_auc",
        "segment_base_rate",
    ]
    assert {key.name for key in graph.asset_check_keys if graph.get_check_spec(key).blocking} == {
        *names,
        "served_features",
        "gate",
    }


def nightly(definitions: dg.Definitions) -> list[tuple[str, str]]:
    """The days that the night of 10 March requests, a pair for each run."""
    schedule = definitions.resolve_schedule_def("daily_ingest")
    tick = schedule.evaluate_tick(
        dg.build_schedule_context(
            scheduled_execution_time=datetime(2026, 3, 10, 1, 30, tzinfo=UTC),
            repository_def=definitions.get_repository_def(),
        )
    )
    return [(request.tags[RANGE_START_TAG], request.tags[RANGE_END_TAG]) for request in tick.run_requests or []]


def test_the_nightly_tick_asks_for_every_day_that_is_missing_a_month_at_a_time(definitions: dg.Definitions) -> None:
    schedule = definitions.resolve_schedule_def("daily_ingest")
    assert nightly(definitions) == [
        ("2026-01-01", "2026-01-31"),
        ("2026-02-01", "2026-03-03"),
        ("2026-03-04", "2026-03-09"),
    ]
    assert (schedule.cron_schedule, schedule.job_name) == ("30 1 * * *", "ingest_job")
    assert schedule.default_status is dg.DefaultScheduleStatus.RUNNING


def test_runs_over_days_take_turns_and_so_do_reports(definitions: dg.Definitions) -> None:
    pools = {name: definitions.resolve_assets_def(name).op.pool for name in DAILY}
    reports = {name for name in DAILY if name.endswith("_report")}
    assert pools == {name: "reports" if name in reports else "days" for name in DAILY}


def test_no_day_after_the_end_of_a_file_is_asked_for(settings: Settings) -> None:
    ended = settings.model_copy(update={"last_day": date(2026, 1, 5)})
    assert nightly(build_defs(ended)) == [("2026-01-01", "2026-01-05")]


@pytest.mark.parametrize(("name", "resources"), [("daily_ingest", ()), ("weekly_retraining", ("registry",))])
def test_without_a_source_nothing_runs_by_itself_and_the_reason_says_how_to_name_one(
    tmp_path: Path, name: str, resources: Sequence[str]
) -> None:
    """A production deployment without data must not fill with days of the synthetic world."""
    settings = Settings(home=tmp_path, first_day=date(2026, 1, 1))
    context = dg.build_schedule_context(
        scheduled_execution_time=datetime(2026, 3, 9, 4, tzinfo=UTC),
        resources={resource: build_resources(settings)[resource] for resource in resources},
    )
    tick = build_defs(settings).resolve_schedule_def(name).evaluate_tick(context)
    assert not tick.run_requests
    for remedy in ("--data-path FILE", "FRAUD_LEARN_FROM_SERVED=true", "--synthetic"):
        assert remedy in (tick.skip_message or "")


def test_a_source_that_is_named_after_the_definitions_were_loaded_asks_for_a_reload(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A code location lives for weeks, while `fraud-detect train` in another process chooses a source."""
    monkeypatch.setenv("FRAUD_HOME", str(tmp_path))
    tick_at = dg.build_schedule_context(scheduled_execution_time=datetime(2026, 3, 9, 4, tzinfo=UTC))
    loaded_before = build_defs(load_settings())
    save_choice(SyntheticChoice(chosen_at=datetime(2026, 3, 8, tzinfo=UTC)), home=tmp_path)
    tick = loaded_before.resolve_schedule_def("daily_ingest").evaluate_tick(tick_at)
    assert not tick.run_requests
    assert "(no source) than is named now (synthetic world): reload it" in (tick.skip_message or "")


def test_without_a_source_raw_transactions_fail_with_the_same_sentence(tmp_path: Path) -> None:
    job = build_defs(Settings(home=tmp_path, first_day=date(2026, 1, 1))).resolve_job_def("ingest_job")
    with dg.DagsterInstance.ephemeral() as instance:
        run = job.execute_in_process(instance=instance, partition_key="2026-01-02", raise_on_error=False)
    failure = run.failure_data_for_node("raw_transactions")
    assert failure is not None
    assert NO_SOURCE in str(failure.error)
    assert not (tmp_path / "tables").exists()


def test_the_weekly_tick_retrains_on_monday(definitions: dg.Definitions, settings: Settings) -> None:
    schedule = definitions.resolve_schedule_def("weekly_retraining")
    tick = schedule.evaluate_tick(
        dg.build_schedule_context(
            scheduled_execution_time=datetime(2026, 3, 9, 4, tzinfo=UTC),
            resources={"registry": build_resources(settings)["registry"]},
            repository_def=definitions.get_repository_def(),
        )
    )
    assert len(tick.run_requests or []) == 1
    assert (schedule.cron_schedule, schedule.job_name) == ("0 4 * * 1", "retraining_job")


def test_schedules_and_sensors_stay_off_when_the_settings_say_so(settings: Settings) -> None:
    quiet = build_defs(settings.model_copy(update={"schedules_enabled": False}))
    for name in (
        "daily_ingest",
        "daily_gate",
        "weekly_retraining",
        "daily_online_history",
        "daily_retention",
    ):
        assert quiet.resolve_schedule_def(name).default_status is dg.DefaultScheduleStatus.STOPPED
    for name in (
        "run_failure_alert",
        "red_report_alert",
        "retraining_on_alarm",
        "reports_after_features",
        "features_inputs_watch",
    ):
        assert quiet.resolve_sensor_def(name).default_status is dg.DefaultSensorStatus.STOPPED


def test_the_calendar_of_a_file_ends_with_the_file(settings: Settings) -> None:
    file = settings.model_copy(update={"first_day": date(2018, 4, 1), "last_day": date(2018, 4, 3)})
    days = build_defs(file).resolve_assets_def("features").partitions_def
    assert days is not None
    assert list(days.get_partition_keys()) == ["2018-04-01", "2018-04-02", "2018-04-03"]


def test_the_workspace_file_loads_these_definitions() -> None:
    assert "module_name: fraud_pipeline.definitions" in WORKSPACE_FILE.read_text()


def test_a_failure_is_one_line_that_says_what_to_do() -> None:
    line = failure_line(job="ingest_job", run_id="r1", step="transactions", message="\n  ValueError: bad\n  more\n")
    assert line.startswith("ingest_job failed in transactions: ValueError: bad | run r1 | ")
    assert "\n" not in line
