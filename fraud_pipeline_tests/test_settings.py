"""Settings come from the environment, then from the file in the home directory, then from defaults."""

from datetime import date, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from fraud_pipeline.settings import SETTINGS_FILE, Settings, home_directory, load_settings, save_settings


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home directory of its own; the environment holds no other setting."""
    monkeypatch.setenv("FRAUD_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


class TestHome:
    def test_relative_means_below_the_working_directory(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("FRAUD_HOME", "here/state")
        found = load_settings()
        assert found.home == tmp_path / "here" / "state"
        assert found.tracking_uri == f"sqlite:///{tmp_path}/here/state/mlflow.db"
        for directory in (
            found.tables_directory.parent,
            found.model_directory,
            found.champion_directory,
            found.dagster_home,
        ):
            assert directory.is_absolute()
            assert directory.parent == found.home
        assert found.artifact_directory == found.home / "mlflow-artifacts"
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
        found = load_settings()
        assert found.model_dump(exclude={"home"}) == Settings(home=home).model_dump(exclude={"home"})
        assert (found.home, found.data_path, found.last_day) == (home, None, None)

    def test_the_file_wins_over_defaults_and_the_environment_over_the_file(
        self, home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        save_settings({"n_trials": "3", "seed": "11"}, home=home)
        monkeypatch.setenv("FRAUD_N_TRIALS", "4")
        assert (load_settings().n_trials, load_settings().seed) == (4, 11)

    def test_an_empty_variable_counts_as_unset(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        save_settings({"n_trials": "3"}, home=home)
        monkeypatch.setenv("FRAUD_N_TRIALS", "")
        assert load_settings().n_trials == 3

    def test_a_tracking_server_replaces_the_file(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FRAUD_MLFLOW_TRACKING_URI", "http://mlflow.example.com")
        assert load_settings().tracking_uri == "http://mlflow.example.com"
        assert load_settings().home == home


class TestFile:
    def test_what_the_command_line_saves_is_read_with_its_type(self, home: Path) -> None:
        values = {
            "first_day": "2026-02-01",
            "label_delay": "P7D",
            "gap": "36:00:00",
            "schedules_enabled": "false",
            "data_path": "x.csv",
        }
        save_settings(values, home=home)
        found = load_settings()
        assert found.first_day == date(2026, 2, 1)
        assert (found.label_delay, found.gap) == (timedelta(days=7), timedelta(hours=36))
        assert found.schedules_enabled is False
        assert found.data_path == Path("x.csv")

    def test_saving_keeps_the_others_and_empty_text_removes(self, home: Path) -> None:
        save_settings({"n_trials": "3", "seed": "11"}, home=home)
        save_settings({"n_trials": "", "difficulty": "0.25"}, home=home)
        found = load_settings()
        assert (found.seed, found.difficulty) == (11, 0.25)
        assert found.n_trials == Settings.model_fields["n_trials"].default
        assert "N_TRIALS" not in (home / SETTINGS_FILE).read_text()

    @given(path=st.text(st.sampled_from("ab/ #'\"\\=ü;&"), min_size=1, max_size=12).map(lambda text: f"/d{text}.csv"))
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_any_path_comes_back_as_it_was(self, home: Path, path: str) -> None:
        save_settings({"data_path": path, "columns": path}, home=home)
        assert load_settings().data_path == Path(path)
        assert load_settings().columns == path
        save_settings({"seed": "1"}, home=home)
        assert load_settings().columns == path


class TestErrors:
    @pytest.mark.parametrize(
        ("name", "value", "told"),
        [
            ("n_trials", "0", "greater than or equal to 1"),
            ("difficulty", "2", "less than or equal to 1"),
            ("precision_floor", "high", "valid number"),
            ("first_day", "tomorrow", "valid date"),
            ("gap", "soon", "valid timedelta"),
        ],
    )
    def test_a_bad_value_names_the_setting_and_its_range(
        self, home: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, told: str
    ) -> None:
        monkeypatch.setenv(f"FRAUD_{name.upper()}", value)
        with pytest.raises(ValidationError, match=told) as caught:
            load_settings()
        assert [error["loc"] for error in caught.value.errors()] == [(name,)]
        assert not home.exists(), "reading makes nothing"

    def test_settings_cannot_be_changed_once_read(self, home: Path) -> None:
        found = load_settings()
        with pytest.raises(ValidationError, match="frozen"):
            found.n_trials = 1  # type: ignore[misc]  # that is what is tested
        assert found.home == home


class TestSources:
    def test_every_source_has_tables_of_its_own(self, tmp_path: Path) -> None:
        world = Settings(home=tmp_path)
        file = Settings(home=tmp_path, data_path=Path("mine.csv"))
        mapped = Settings(home=tmp_path, data_path=Path("mine.csv"), columns="amount=AMT")
        assert len({one.tables_directory for one in (world, file, mapped)}) == 3
        assert Settings(home=tmp_path).tables_directory == world.tables_directory
