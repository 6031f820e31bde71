"""The choice of the training source: flags, settings and the stored choice, also across processes."""

import json
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fraud_pipeline.cli.training_plan import Flags, Plan, UsageError, plan_training
from fraud_pipeline.ingest.declaration import declaration_toml
from fraud_pipeline.ingest.source_choice import (
    CHOICE_FILE,
    FileChoice,
    SourceChoiceError,
    SyntheticChoice,
    read_choice,
    save_choice,
)
from fraud_pipeline.ingest.sources import SourceError
from fraud_pipeline.ingest.time_guesses import TimeOptions
from fraud_pipeline.settings import SETTINGS_FILE, explicit_settings, load_settings

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
EARLIER = datetime(2026, 2, 1, tzinfo=UTC)
DAY = timedelta(days=1)
WEEK = timedelta(days=7)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home directory of its own; the environment holds no other setting."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("FRAUD_HOME", str(home))
    return home


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Ten days of a bank, with labels and without report times."""
    return bank(tmp_path / "bank.csv")


def bank(path: Path, **columns: Any) -> Path:
    days = pd.date_range("2025-05-01", periods=10, tz="UTC")
    rows = pd.DataFrame(
        {
            "transaction_id": [f"t-{number}" for number in range(10)],
            "event_time": days.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "customer_id": "c-1",
            "merchant_id": "m-1",
            "amount": 5.0,
            "is_fraud": 0,
            **columns,
        }
    )
    rows.to_csv(path, index=False)
    return path


def explicitly(home: Path, *lines: str) -> None:
    (home / SETTINGS_FILE).write_text("".join(f"{line}\n" for line in lines))


def plan(home: Path, *, now: datetime = NOW, **flags: Any) -> Plan:
    """The plan of `fraud-detect train` with these flags."""
    return plan_training(Flags(**flags), explicit=explicit_settings(), remembered=read_choice(home), now=now)


def trained(home: Path, **flags: Any) -> Plan:
    """As `plan`, with a usable source."""
    made = plan(home, **flags)
    if made.choice is not None:
        save_choice(made.choice, home=home)
    return made


def plan_text(made: Plan) -> str:
    return " ".join([made.origin, *made.notes])


class TestRemembered:
    def test_a_new_home_uses_the_synthetic_world_and_says_so(self, home: Path) -> None:
        made = plan(home)
        assert made.settings.source_kind == "synthetic"
        assert "first look at the synthetic world" in plan_text(made)
        assert load_settings().source_kind == "none", "a plan writes nothing"

    def test_a_file_is_repeated_with_its_columns_and_delay_until_told_otherwise(
        self, home: Path, tmp_path: Path
    ) -> None:
        path = tmp_path / "foreign.csv"
        pd.read_csv(bank(path)).rename(columns={"amount": "PAID"}).to_csv(path, index=False)
        first = trained(home, data_path=path, columns="amount=PAID", label_delay=timedelta(days=5))
        again = plan(home)
        assert (again.settings, again.first, again.last) == (first.settings, date(2025, 5, 1), date(2025, 5, 10))
        assert again.settings.label_maturity == timedelta(days=5)
        assert "remembered from 2026-03-01; --synthetic for the synthetic world" in again.origin
        loaded = load_settings()
        assert loaded.tables_directory == again.settings.tables_directory, "the UI and the daemon see the same"
        assert (loaded.first_day, loaded.last_day) == (again.first, again.last)

    def test_the_synthetic_world_is_the_same_whatever_was_trained_before(self, home: Path, file: Path) -> None:
        fresh = plan(home, synthetic=True)
        trained(home, data_path=file, columns="amount=amount", label_delay=WEEK)
        after = trained(home, synthetic=True)
        assert (after.settings, after.first, after.last) == (fresh.settings, fresh.first, fresh.last)
        assert plan(home).settings == fresh.settings
        assert load_settings().source_kind == "synthetic"

    def test_another_file_takes_nothing_from_the_one_before(self, home: Path, file: Path, tmp_path: Path) -> None:
        other = bank(tmp_path / "other.csv")
        fresh = plan(home, data_path=other)
        trained(home, data_path=file, columns="amount=amount", label_delay=timedelta(days=1))
        assert plan(home, data_path=other).settings == fresh.settings

    def test_flags_of_one_run_are_not_remembered(self, home: Path) -> None:
        trained(home, transactions=1_000)
        assert plan(home).last == plan(home, transactions=100_000).last
        assert set(json.loads((home / CHOICE_FILE).read_text())) == {"version", "chosen_at", "kind", "first_day"}

    def test_normalisations_of_reading_are_shown(self, home: Path, tmp_path: Path) -> None:
        padded = bank(tmp_path / "padded.csv", customer_id=[" c-1 "] * 10)
        assert "Read padded.csv: customer_id: " in plan_text(plan(home, data_path=padded))

    def test_a_missing_file_is_one_sentence_and_changes_nothing(self, home: Path, file: Path) -> None:
        trained(home, data_path=file)
        before = (home / CHOICE_FILE).read_bytes()
        file.unlink()
        with pytest.raises(SourceError, match="no such file"):
            plan(home)
        assert (home / CHOICE_FILE).read_bytes() == before


class TestExplicit:
    """Explicit settings in the environment or settings.env win."""

    def test_a_home_of_an_earlier_release_keeps_working(self, home: Path, file: Path) -> None:
        explicitly(
            home,
            f"FRAUD_DATA_PATH='{file}'",
            "FRAUD_FIRST_DAY='2025-05-01'",
            "FRAUD_LAST_DAY='2025-05-10'",
            "FRAUD_LABEL_DELAY='P5DT0H0M0S'",
            "FRAUD_LABEL_MATURITY='P5DT0H0M0S'",
        )
        before = (home / SETTINGS_FILE).read_bytes()
        made = trained(home)
        assert made.settings.tables_directory == load_settings().tables_directory
        assert (made.first, made.last) == (date(2025, 5, 1), date(2025, 5, 10))
        assert made.settings.label_maturity == timedelta(days=5)
        assert f"FRAUD_DATA_PATH in {home / SETTINGS_FILE}" in made.origin
        assert (home / SETTINGS_FILE).read_bytes() == before

    def test_a_relative_path_has_the_same_tables_in_a_training_and_in_the_daemon(
        self, home: Path, file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(file.parent)
        explicitly(home, "FRAUD_DATA_PATH=bank.csv")
        made = trained(home)
        assert made.settings.tables_directory == load_settings().tables_directory
        assert made.settings.source_id == plan(home, data_path=file).settings.source_id

    def test_a_flag_replaces_a_choice_that_contradicts_the_settings(self, home: Path, file: Path) -> None:
        trained(home, data_path=file, label_delay=timedelta(days=100))
        explicitly(home, "FRAUD_HISTORY_RETENTION=90d")
        with pytest.raises(ValueError, match="FRAUD_HISTORY_RETENTION to 1"):
            plan(home)
        assert plan(home, data_path=file, label_delay=WEEK).settings.label_maturity == WEEK

    def test_a_delay_that_the_settings_cannot_hold_is_refused_before_it_is_remembered(
        self, home: Path, file: Path
    ) -> None:
        with pytest.raises(ValueError, match="FRAUD_HISTORY_RETENTION"):
            trained(home, data_path=file, label_delay=timedelta(days=900))
        assert load_settings().source_kind == "none"

    def test_the_environment_wins_over_settings_env_and_both_over_what_is_remembered(
        self, home: Path, file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        trained(home, data_path=file, label_delay=WEEK)
        explicitly(home, "FRAUD_LABEL_MATURITY=9d")
        assert load_settings().label_maturity == timedelta(days=9)
        monkeypatch.setenv("FRAUD_LABEL_MATURITY", "10d")
        made = plan(home)
        assert made.settings.label_maturity == load_settings().label_maturity == timedelta(days=10)
        assert "FRAUD_LABEL_MATURITY in the environment is used: 10 days" in plan_text(made)

    def test_another_file_in_the_settings_wins_as_a_whole_and_that_is_said(
        self, home: Path, file: Path, tmp_path: Path
    ) -> None:
        trained(home, data_path=file, columns="amount=amount", label_delay=timedelta(days=1))
        explicitly(home, f"FRAUD_DATA_PATH={bank(tmp_path / 'other.csv')}")
        made = plan(home)
        assert made.settings.source_name == "file other.csv"
        assert (made.settings.columns, made.settings.label_delay) == ("", WEEK)
        assert "wins over the remembered bank.csv" in plan_text(made)
        assert load_settings().columns == ""

    def test_a_flag_wins_for_its_run_and_names_the_stored_choice(self, home: Path, file: Path, tmp_path: Path) -> None:
        explicitly(
            home,
            f"FRAUD_DATA_PATH={file}",
            "FRAUD_COLUMNS=amount=amount",
            "FRAUD_FIRST_DAY=2025-05-03",
            "FRAUD_LAST_DAY=2025-05-08",
        )
        made = trained(home, synthetic=True)
        assert (made.settings.source_kind, made.settings.columns) == ("synthetic", "")
        assert made.first == date(2025, 9, 25), "days of a file are no days of the synthetic world"
        assert "FRAUD_DATA_PATH" in plan_text(made)
        assert "stays" in plan_text(made)
        assert load_settings().source_name == plan(home).settings.source_name == "file bank.csv"

    def test_days_that_settings_name_narrow_those_of_the_file(self, home: Path, file: Path) -> None:
        explicitly(home, "FRAUD_FIRST_DAY=2025-05-03")
        assert plan(home, data_path=file).first == date(2025, 5, 3)
        explicitly(home, "FRAUD_FIRST_DAY=2026-01-01")
        with pytest.raises(SourceError, match="holds 2025-05-01 to 2025-05-10.*leave no day of it"):
            plan(home, data_path=file)

    def test_served_rows_are_trained_on_over_the_calendar_of_the_bank_s_file(self, home: Path, file: Path) -> None:
        trained(home, data_path=file)
        explicitly(home, "FRAUD_LEARN_FROM_SERVED=true", "FRAUD_HISTORY_RETENTION=70d")
        made = plan(home)
        assert (made.settings.source_kind, made.first, made.last) == ("served", date(2025, 12, 22), date(2026, 2, 28))
        assert made.settings.source_id == plan(home, data_path=file).settings.source_id, "one bank"
        assert made.choice is None

    def test_a_first_look_says_nothing_about_what_is_served(self, home: Path) -> None:
        trained(home, synthetic=True)
        before = load_settings()
        explicitly(home, "FRAUD_LEARN_FROM_SERVED=true")
        served = load_settings()
        assert (served.source_kind, served.history_kind, served.database) == ("served", "none", before.database)
        assert served.source_id != before.source_id


class TestLivingWorld:
    """The synthetic world of a home begins so that its history ends with yesterday, and goes on from there."""

    def test_a_new_world_ends_with_yesterday_and_is_older_than_its_training_set(self, home: Path) -> None:
        made = plan(home)
        assert (made.last - made.first).days + 1 == 121, "100,000 transactions"
        assert made.history_last == date(2026, 2, 28)
        assert 35 <= (made.history_last - made.last).days < 42
        assert made.judged == (date(2026, 2, 26), date(2026, 2, 28))
        assert made.settings.living, "a missing day is a fault"
        assert f"{made.first:%A}" == "Thursday", "weekdays fall on the same days of every world's life"

    def test_it_is_remembered_and_goes_on(self, home: Path) -> None:
        first = trained(home)
        later = plan(home, now=NOW + 10 * DAY)
        assert (later.settings, later.first, later.last) == (first.settings, first.first, first.last)
        assert later.history_last == date(2026, 3, 10)
        loaded = load_settings()
        assert (loaded.first_day, loaded.world_begins, loaded.source_id) == (
            first.first,
            first.first,
            first.settings.source_id,
        )

    def test_a_first_day_that_is_set_makes_the_same_rows_on_every_day(self, home: Path) -> None:
        trained(home)
        explicitly(home, "FRAUD_FIRST_DAY=2026-01-01")
        made = plan(home)
        assert (made.first, made.last, made.history_last, made.judged) == (
            date(2026, 1, 1),
            date(2026, 5, 1),
            None,
            None,
        )
        assert load_settings().world_begins == date(2026, 1, 1)
        assert not load_settings().living
        assert load_settings().source_id == made.settings.source_id == "synthetic-7-0.5"

    def test_the_world_of_an_earlier_release_stays(self, home: Path) -> None:
        save_choice(SyntheticChoice(chosen_at=EARLIER), home=home)
        made = plan(home)
        assert (made.first, made.history_last) == (date(2026, 1, 1), None)
        assert made.settings.source_id == "synthetic-7-0.5"

    def test_more_transactions_than_have_happened_are_said(self, home: Path) -> None:
        trained(home, transactions=1_000)
        made = plan(home)
        assert made.last == made.history_last == date(2026, 2, 28)
        assert made.judged is None
        assert "lived for 38 days only" in plan_text(made)

    @pytest.mark.parametrize("first_day", [date(2026, 1, 1), date(2025, 8, 7)])
    def test_back_from_a_file_it_is_the_world_of_before(self, home: Path, file: Path, first_day: date) -> None:
        save_choice(SyntheticChoice(chosen_at=EARLIER, first_day=first_day), home=home)
        before = plan(home).settings
        before.tables_directory.mkdir(parents=True)
        (before.tables_directory.parent / "synthetic-7-0.55-2026-02-05").mkdir()
        trained(home, data_path=file)
        back = trained(home, synthetic=True, now=NOW + 40 * DAY)
        assert (back.first, back.settings.source_id) == (first_day, before.source_id)
        assert load_settings().tables_directory == before.tables_directory

    def test_a_world_of_the_future_is_refused(self, home: Path) -> None:
        explicitly(home, "FRAUD_WORLD_FIRST_DAY=2026-03-01")
        with pytest.raises(UsageError, match="begins on 2026-03-01: train once that day has passed"):
            plan(home)

    def test_a_rehearsal_of_serving_keeps_the_identity_whatever_its_calendar(self, home: Path) -> None:
        before = trained(home).settings
        explicitly(home, "FRAUD_SYNTHETIC=true", "FRAUD_LEARN_FROM_SERVED=true", "FRAUD_FIRST_DAY=2026-02-20")
        served = load_settings()
        assert (served.source_kind, served.first_day) == ("served", date(2026, 2, 20))
        assert (served.source_id, served.database) == (before.source_id, before.database)


class TestColumns:
    def test_a_declaration_in_the_directory_is_used_and_so_are_its_changes(
        self, home: Path, file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(file.parent)
        guessed = plan(home, data_path=file).settings.declaration
        assert guessed is not None
        others = {field: name for field, name in guessed.fields.items() if field != "merchant_id"}
        edited = guessed.model_copy(update={"fields": others | {"category": "merchant_id"}})
        Path("fraud.toml").write_text(declaration_toml(edited))
        first = trained(home, data_path=file)
        assert first.settings.declaration == edited
        assert "Columns: fraud.toml in this directory." in plan_text(first)
        Path("fraud.toml").write_text(declaration_toml(guessed))
        assert plan(home).settings.declaration == guessed
        Path("fraud.toml").unlink()
        assert plan(home).settings == first.settings, "a choice holds what it was made from"

    def test_columns_win_over_a_declaration_in_the_directory(
        self, home: Path, file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(file.parent)
        Path("fraud.toml").write_text("version = 1\n")
        made = plan(home, data_path=file, columns="amount=amount")
        assert (made.settings.columns, made.settings.declaration) == ("amount=amount", None)

    def test_a_short_file_shortens_delay_and_gap_for_every_process(self, home: Path, file: Path) -> None:
        made = trained(home, data_path=file)
        assert (made.settings.label_delay, made.settings.gap) == (timedelta(days=1), timedelta(hours=12))
        assert plan(home).settings == made.settings
        assert load_settings().gap == timedelta(hours=12)

    def test_what_a_person_says_about_delay_and_gap_stays(self, home: Path, file: Path) -> None:
        explicitly(home, "FRAUD_GAP=2d")
        made = plan(home, data_path=file, label_delay=WEEK)
        assert (made.settings.label_delay, made.settings.gap) == (WEEK, timedelta(days=2))


class TestUsage:
    @pytest.mark.parametrize(
        ("flags", "problem"),
        [
            ({"synthetic": True, "data_path": Path("x.csv")}, "two sources"),
            ({"data_path": Path("x.csv"), "transactions": 5}, "--transactions is for the synthetic world"),
            ({"synthetic": True, "columns": "amount=A"}, "--columns is for a file"),
            ({"synthetic": True, "label_delay": WEEK}, "--label-delay is for a file"),
            ({"columns": "amount=A"}, "--columns is for a file"),
            ({"declaration": Path("fraud.toml")}, "--declaration is for a file"),
            ({"time": TimeOptions(unit="s")}, "an option on columns or times is for a file"),
        ],
    )
    def test_a_flag_that_would_not_be_used_is_refused(self, home: Path, flags: dict[str, Any], problem: str) -> None:
        with pytest.raises(UsageError, match=problem):
            plan(home, **flags)

    def test_the_remembered_file_refuses_transactions(self, home: Path, file: Path) -> None:
        trained(home, data_path=file)
        with pytest.raises(UsageError, match="the source is file bank.csv"):
            plan(home, transactions=5)


class TestRecord:
    @given(
        name=st.text(st.sampled_from("ab/ #'\"\\=ü;&\n"), min_size=1, max_size=12),
        columns=st.text(max_size=20),
        delay=st.timedeltas(timedelta(0), timedelta(days=400)),
    )
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
    def test_every_record_survives_json(self, home: Path, name: str, columns: str, delay: timedelta) -> None:
        path = Path(f"/d{name}.csv")
        choice = FileChoice(
            chosen_at=NOW, data_path=path, columns=columns, label_delay=delay, first_day=date(2026, 1, 1)
        )
        save_choice(choice, home=home)
        assert read_choice(home) == choice
        assert load_settings().data_path == path

    @pytest.mark.parametrize(
        "content", ["", "{}", '{"version": 2, "kind": "file"}', '{"kind": "synthetic", "more": 1}']
    )
    def test_a_damaged_record_is_named_with_the_remedy(self, home: Path, content: str) -> None:
        (home / CHOICE_FILE).write_text(content)
        with pytest.raises(SourceChoiceError, match=r"source\.json is damaged or of another .*train --synthetic"):
            load_settings()

    def test_saving_replaces_the_record_and_leaves_nothing_beside_it(self, home: Path) -> None:
        save_choice(SyntheticChoice(chosen_at=EARLIER), home=home)
        save_choice(SyntheticChoice(chosen_at=NOW), home=home)
        assert [path.name for path in home.iterdir()] == [CHOICE_FILE]
        assert read_choice(home) == SyntheticChoice(chosen_at=NOW)
