"""Settings come from the environment, then from the file in the home directory, then from defaults."""

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from pydantic import ValidationError

from fraud_pipeline.settings import SETTINGS_FILE, Settings, home_directory, load_settings


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home directory of its own; the environment holds no other setting."""
    monkeypatch.setenv("FRAUD_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def write(home: Path, *lines: str) -> None:
    """The settings file of a person."""
    home.mkdir(parents=True, exist_ok=True)
    (home / SETTINGS_FILE).write_text("".join(f"{line}\n" for line in lines))


class TestHome:
    def test_relative_means_below_the_working_directory(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("FRAUD_HOME", "here/state")
        settings = load_settings()
        assert settings.home == tmp_path / "here" / "state"
        assert settings.tracking_uri == f"sqlite:///{tmp_path}/here/state/mlflow.db"
        for directory in (
            settings.tables_directory.parent,
            settings.model_directory,
            settings.champion_directory,
            settings.dagster_home,
        ):
            assert directory.is_absolute()
            assert directory.parent == settings.home
        assert settings.artifact_directory == settings.home / "mlflow-artifacts"
        assert Settings(mlflow_tracking_uri="http://mlflow:5000").artifact_directory is None

    @pytest.mark.parametrize("value", [None, ""])
    def test_unset_or_empty_means_dot_fraud(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str | None
    ) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.delenv("FRAUD_HOME", raising=False)
        if value is not None:
            monkeypatch.setenv("FRAUD_HOME", value)
        assert home_directory() == load_settings().home == tmp_path / ".fraud"

    def test_a_home_given_in_code_is_absolute_too(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        assert Settings(home=Path("elsewhere")).home == tmp_path / "elsewhere"


class TestOrder:
    def test_defaults_without_a_file(self, home: Path) -> None:
        settings = load_settings()
        assert settings.model_dump(exclude={"home"}) == Settings(home=home).model_dump(exclude={"home"})
        assert (settings.home, settings.data_path, settings.last_day) == (home, None, None)

    def test_the_file_wins_over_defaults_and_the_environment_over_the_file(
        self, home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write(home, "FRAUD_N_TRIALS=3", "FRAUD_SEED=11")
        monkeypatch.setenv("FRAUD_N_TRIALS", "4")
        assert (load_settings().n_trials, load_settings().seed) == (4, 11)

    def test_an_empty_variable_counts_as_unset(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write(home, "FRAUD_N_TRIALS=3")
        monkeypatch.setenv("FRAUD_N_TRIALS", "")
        assert load_settings().n_trials == 3

    def test_a_tracking_server_replaces_the_file(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FRAUD_MLFLOW_TRACKING_URI", "http://mlflow.example.com")
        assert load_settings().tracking_uri == "http://mlflow.example.com"
        assert load_settings().home == home


class TestFile:
    def test_lines_are_read_with_their_type(self, home: Path) -> None:
        write(
            home,
            "FRAUD_FIRST_DAY=2026-02-01",
            "FRAUD_LABEL_DELAY=P7D",
            "FRAUD_GAP=36:00:00",
            "FRAUD_SCHEDULES_ENABLED=false",
            "FRAUD_DATA_PATH='x #1.csv'",
        )
        settings = load_settings()
        assert settings.first_day == date(2026, 2, 1)
        assert (settings.label_delay, settings.gap) == (timedelta(days=7), timedelta(hours=36))
        assert settings.schedules_enabled is False
        assert settings.data_path == Path("x #1.csv")


class TestErrors:
    @pytest.mark.parametrize(
        ("name", "value", "message"),
        [
            ("n_trials", "0", "greater than or equal to 1"),
            ("difficulty", "2", "less than or equal to 1"),
            ("precision_floor", "high", "valid number"),
            ("first_day", "tomorrow", "valid date"),
            ("gap", "soon", "valid timedelta"),
        ],
    )
    def test_a_bad_value_names_the_setting_and_its_range(
        self, home: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str
    ) -> None:
        monkeypatch.setenv(f"FRAUD_{name.upper()}", value)
        with pytest.raises(ValidationError, match=message) as caught:
            load_settings()
        assert [error["loc"] for error in caught.value.errors()] == [(name,)]
        assert not home.exists(), "reading makes nothing"

    def test_settings_cannot_be_changed_once_read(self, home: Path) -> None:
        settings = load_settings()
        with pytest.raises(ValidationError, match="frozen"):
            settings.n_trials = 1  # type: ignore[misc]  # the error is what the test checks
        assert settings.home == home


class TestSources:
    def test_every_source_has_tables_and_an_identity_of_its_own(self, tmp_path: Path) -> None:
        sources = (
            Settings(home=tmp_path),
            Settings(home=tmp_path, synthetic=True),
            Settings(home=tmp_path, synthetic=True, seed=8),
            Settings(home=tmp_path, synthetic=True, first_day=date(2025, 1, 1)),
            Settings(home=tmp_path, data_path=Path("mine.csv")),
            Settings(home=tmp_path, data_path=Path("yours.csv")),
            Settings(home=tmp_path, learn_from_served=True),
        )
        assert len({settings.tables_directory for settings in sources}) == len(sources)
        assert len({settings.source_id for settings in sources}) == len(sources)

    def test_reading_options_decide_a_file_s_tables_but_not_its_identity(self, tmp_path: Path) -> None:
        plain = Settings(home=tmp_path, data_path=Path("mine.csv"))
        mapped = Settings(home=tmp_path, data_path=Path("mine.csv"), columns="amount=AMT")
        assert plain.tables_directory != mapped.tables_directory
        assert plain.source_id == mapped.source_id

    @pytest.mark.parametrize("history", [{}, {"synthetic": True}, {"data_path": Path("mine.csv")}])
    def test_training_on_served_rows_has_its_own_tables_and_keeps_the_decisions(
        self, tmp_path: Path, history: dict[str, Any]
    ) -> None:
        before = Settings(home=tmp_path, **history)
        served = Settings(home=tmp_path, **history, learn_from_served=True, first_day=date(2026, 6, 1))
        assert served.tables_directory == tmp_path / "tables" / "served"
        assert before.tables_directory != served.tables_directory
        assert served.database == before.database

    def test_a_pattern_of_files_names_a_database_that_can_be_opened(self, tmp_path: Path) -> None:
        database = sa.make_url(Settings(home=tmp_path, data_path=Path("days/2026-0?-*.parquet")).database)
        assert not database.query
        assert Path(database.database or "").parent == tmp_path

    def test_two_sources_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ValidationError, match="name two sources: keep one of them"):
            Settings(home=tmp_path, data_path=Path("mine.csv"), synthetic=True)
