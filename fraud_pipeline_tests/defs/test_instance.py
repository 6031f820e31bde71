"""The Dagster instance: SQLite by default, a real PostgreSQL by one environment variable."""

import os
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from fraud_pipeline.defs.instance import (
    POSTGRES_VARIABLE,
    ingest,
    prepare_dagster_home,
)
from fraud_pipeline.settings import Settings


@pytest.fixture(autouse=True)
def dagster_home(monkeypatch: pytest.MonkeyPatch) -> None:
    """Restore the variable that preparing a home sets."""
    monkeypatch.setenv("DAGSTER_HOME", "")


@dg.asset
def an_asset() -> int:
    return 1


def test_without_the_variable_storage_is_sqlite_below_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(POSTGRES_VARIABLE, raising=False)
    home = prepare_dagster_home(Settings(home=tmp_path))
    with dg.DagsterInstance.from_config(str(home)) as instance:
        assert dg.materialize([an_asset], instance=instance).success
        assert "Sqlite" in type(instance.run_storage).__name__ + type(instance.event_log_storage).__name__
        assert instance.run_retries_enabled
        assert not instance.telemetry_enabled
    assert list(tmp_path.rglob("*.db"))


def test_with_the_variable_runs_and_events_are_in_postgres_and_the_password_is_not_in_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_postgres_url: str
) -> None:
    # SQLAlchemy reads a bare postgresql:// as psycopg 3, with which dagster-postgres fails.
    postgres_url = empty_postgres_url.replace("postgresql://", "postgresql+psycopg2://")
    monkeypatch.setenv(POSTGRES_VARIABLE, postgres_url)
    home = prepare_dagster_home(Settings(home=tmp_path))
    assert postgres_url not in (home / "dagster.yaml").read_text()
    with dg.DagsterInstance.from_config(str(home)) as instance:
        result = dg.materialize([an_asset], instance=instance)
        assert type(instance.run_storage).__module__.startswith("dagster_postgres")
    with dg.DagsterInstance.from_config(str(home)) as again:
        run = again.get_run_by_id(result.run_id)
        assert run is not None
        assert run.status is dg.DagsterRunStatus.SUCCESS
        assert again.get_latest_materialization_event(an_asset.key) is not None
    assert not list(home.rglob("runs.db"))


def test_ctrl_c_during_a_run_is_no_error_of_the_run(tmp_path: Path) -> None:
    """Dagster marks the run as failed and returns; the command must end as after any other Ctrl+C."""
    lines: list[str] = []

    def interrupt_at_the_first_table(line: str) -> None:
        lines.append(line)
        if len(lines) == 2:
            os.kill(os.getpid(), signal.SIGINT)

    yesterday = (datetime.now(UTC) - timedelta(days=1)).date()
    settings = Settings(home=tmp_path, synthetic=True, first_day=yesterday)
    with pytest.raises(KeyboardInterrupt):
        ingest(settings, on_progress=interrupt_at_the_first_table)
    assert "features" not in "".join(lines), "the run went on"
    with dg.DagsterInstance.from_config(str(settings.dagster_home)) as instance:
        assert [run.status for run in instance.get_runs()] == [dg.DagsterRunStatus.FAILURE]
