"""Served days become training days, even if a night failed, came late or was filled later.

A real database with served transactions, real ticks of the schedule and the sensors, real runs on a real instance.
"""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from threading import Thread
from typing import Any, Final

import dagster as dg
import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa

from fraud_pipeline.cli.doctor import check_days
from fraud_pipeline.database import Database
from fraud_pipeline.database.history import load_history, read_reports, read_transactions
from fraud_pipeline.database.tables import TRANSACTIONS
from fraud_pipeline.definitions import build_defs
from fraud_pipeline.defs.calendar import Span
from fraud_pipeline.defs.features import INPUTS_CURRENT, engineer
from fraud_pipeline.features.engineer import FEATURE_NAMES, History, merchant_days
from fraud_pipeline.generator import SyntheticWorld, WorldConfig
from fraud_pipeline.ingest.day_state import MissingLookbackError, StaleFeaturesError
from fraud_pipeline.ingest.validation import validate
from fraud_pipeline.settings import Settings
from fraud_pipeline.storage.tables import TableStore

# Warnings of MLflow and its dependencies about themselves.
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

FIRST: Final = date(2026, 1, 1)
DAYS: Final = 14
QUIET: Final = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def day(number: int) -> date:
    return FIRST + timedelta(days=number)


def midnight(number: int) -> pd.Timestamp:
    return pd.Timestamp(day(number), tz="UTC")


@pytest.fixture(scope="module")
def world() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Accepted transactions and reports of two weeks."""
    made = SyntheticWorld(WorldConfig(seed=7, first_day=FIRST, customers=60, fraud_rate=0.01))
    span = {"start": midnight(0), "end": midnight(DAYS)}
    return validate(made.transactions(**span), now=midnight(DAYS)).accepted, made.reports(**span)


@dataclass(frozen=True)
class Home:
    """A deployment that learns from served transactions."""

    settings: Settings
    instance: dg.DagsterInstance

    @property
    def definitions(self) -> dg.Definitions:
        return build_defs(self.settings)

    @property
    def store(self) -> TableStore:
        return TableStore(self.settings.tables_directory)

    def database(self) -> Database:
        return Database(self.settings.database, statement_timeout=timedelta(minutes=1))

    def serve(self, transactions: pd.DataFrame, reports: pd.DataFrame) -> None:
        """Store events in the database, as the entrances do."""
        with closing(self.database()) as database:
            database.upgrade()
            load_history(database, transactions=transactions, reports=reports)

    def run(self, tags: dict[str, str], *, assets: Any = None, raise_on_error: bool = True) -> Any:
        job = self.definitions.resolve_job_def("ingest_job")
        return job.execute_in_process(
            instance=self.instance, tags=tags, asset_selection=assets, run_config=QUIET, raise_on_error=raise_on_error
        )

    def ingest(self, first: int, last: int, *, assets: Any = None, raise_on_error: bool = True) -> Any:
        """Run ingest_job for these days, as a person would start it."""
        return self.run(Span(day(first), day(last)).tags, assets=assets, raise_on_error=raise_on_error)

    def requests(self, number: int) -> list[dg.RunRequest]:
        """The runs that the schedule requests in the night after this day."""
        tick = self.definitions.resolve_schedule_def("daily_ingest").evaluate_tick(
            dg.build_schedule_context(
                instance=self.instance,
                scheduled_execution_time=datetime.combine(day(number + 1), time(1, 30), tzinfo=UTC),
            )
        )
        return list(tick.run_requests or [])

    def night(self, number: int) -> list[str]:
        """Run that night: each run that the schedule requests, in its order; returns their results."""
        done = []
        for request in self.requests(number):
            assert self.run(dict(request.tags), assets=request.asset_selection).success
            done.append(str(request.run_key).split(" ", 1)[1])
        return done

    def learned(self, number: int) -> set[str]:
        return set(self.store.read("transactions", day(number), day(number))["transaction_id"])

    def served(self, number: int) -> set[str]:
        return set(self._served()[0].loc[lambda rows: rows["event_time"].dt.date == day(number), "transaction_id"])

    def differing(self, first: int, last: int) -> int:
        """Feature rows of these days that are not, bit for bit, those that all served events give."""
        transactions, reports = self._served()
        known = merchant_days(transactions, reports, label_maturity=self.settings.label_maturity)
        history = History(transactions=transactions, reports=reports, merchant_days=known)
        new = transactions[transactions["event_time"].dt.date.between(day(first), day(last))].reset_index(drop=True)
        expected = engineer(self.settings).compute(history=history, new=new).set_index("transaction_id")
        stored = self.store.read("features", day(first), day(last)).set_index("transaction_id")
        assert set(stored.index) == set(expected.index)
        names = list(FEATURE_NAMES)
        bits = [rows.loc[expected.index, names].to_numpy(np.float32).view(np.uint32) for rows in (stored, expected)]
        return int((bits[0] != bits[1]).any(axis=1).sum())

    def _served(self) -> tuple[pd.DataFrame, pd.DataFrame]:
        with closing(self.database()) as database:
            start, end = midnight(0), midnight(DAYS)
            return read_transactions(database, start=start, end=end), read_reports(database, start=start, end=end)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    settings = Settings(
        home=tmp_path / "home",
        first_day=FIRST,
        learn_from_served=True,
        label_maturity=timedelta(days=3),
        # The world of these tests lies in the past.
        history_retention=timedelta(days=10_000),
    )
    (tmp_path / "dagster").mkdir()
    with dg.DagsterInstance.local_temp(str(tmp_path / "dagster")) as instance:
        yield Home(settings, instance)


World = tuple[pd.DataFrame, pd.DataFrame]


class TestNights:
    """The nightly run brings every day that is missing or differs."""

    def test_five_nights_away_are_made_up_for_in_one(self, home: Home, world: World) -> None:
        home.serve(*world)
        home.ingest(0, 6)
        assert home.night(11) == [f"ingest {day(7)} {day(11)}"]
        assert [home.learned(number) for number in range(12)] == [home.served(number) for number in range(12)]
        assert home.differing(0, 11) == 0
        assert home.requests(11) == []

    def test_what_comes_after_its_night_is_learned_the_next(self, home: Home, world: World) -> None:
        transactions, reports = world
        noon = midnight(8) + pd.Timedelta(hours=12)
        late = transactions["event_time"].between(noon, midnight(9))
        waiting = reports["reported_at"].between(midnight(5), midnight(6))
        assert late.any()
        assert waiting.any()
        home.serve(transactions[~late], reports[~waiting])
        home.ingest(0, 9)
        home.serve(transactions[late], reports[waiting])
        assert home.night(10) == [
            f"ingest {day(5)} {day(5)}",
            f"features {day(6)} {day(7)}",
            f"ingest {day(8)} {day(8)}",
            f"features {day(9)} {day(9)}",
            f"ingest {day(10)} {day(10)}",
        ]
        assert home.learned(8) == home.served(8)
        assert home.differing(0, 10) == 0
        assert home.requests(10) == []

    def test_a_change_of_content_that_leaves_the_count_is_seen(self, home: Home, world: World) -> None:
        home.serve(*world)
        home.ingest(0, 4)
        changed = TRANSACTIONS.c.transaction_id == min(home.served(2))
        with closing(home.database()) as database, database.transaction() as connection:
            connection.execute(sa.update(TRANSACTIONS).where(changed).values(merchant_id="another"))
        assert [str(request.run_key).split(" ", 1)[1] for request in home.requests(4)] == [
            f"ingest {day(2)} {day(2)}",
            f"features {day(3)} {day(4)}",
        ]

    def test_a_day_that_failed_half_way_is_due_again(self, home: Home, world: World) -> None:
        """Raw rows were replaced, and the accepted ones equal those of before."""
        transactions, reports = world
        late = transactions["event_time"].between(midnight(2) + pd.Timedelta(hours=12), midnight(3))
        home.serve(transactions[~late], reports)
        home.ingest(0, 3)
        home.serve(transactions[late], reports)
        home.ingest(2, 2, assets=[dg.AssetKey("raw_transactions")])
        assert home.night(3)[0] == f"ingest {day(2)} {day(2)}"
        assert home.learned(2) == home.served(2)

    def test_days_before_the_first_event_are_none(self, home: Home, world: World) -> None:
        transactions, reports = world
        home.serve(transactions[transactions["event_time"] >= midnight(5)], reports.iloc[:0])
        assert home.night(7) == [f"ingest {day(5)} {day(7)}"]

    def test_where_nothing_was_served_nothing_is_asked_for(self, home: Home, world: World) -> None:
        home.serve(world[0].iloc[:0], world[1].iloc[:0])
        assert home.requests(7) == []


class TestGaps:
    """Features never pass over a day that is missing."""

    def test_a_gap_is_an_error_that_names_its_days_and_the_remedy(self, home: Home, world: World) -> None:
        home.serve(*world)
        home.ingest(0, 4)
        with pytest.raises(MissingLookbackError, match=rf"2 of these .*{day(5)} to {day(6)}.*fraud-detect ingest"):
            home.ingest(7, 7)
        assert day(7) not in home.store.days("features")
        assert home.night(7) == [f"ingest {day(5)} {day(6)}", f"features {day(7)} {day(7)}"]
        assert home.differing(0, 7) == 0

    def test_the_first_day_is_no_gap_unless_the_source_has_days_before_it(self, home: Home, world: World) -> None:
        home.serve(*world)
        home.ingest(0, 0)
        with pytest.raises(MissingLookbackError, match=f"{day(1)} to {day(2)}"):
            home.ingest(3, 3)

    def test_days_that_nobody_can_bring_any_more_have_a_remedy(self, home: Home, world: World) -> None:
        home.serve(*world)
        home.ingest(0, 2)
        kept = pd.Timestamp.now(tz="UTC") - midnight(6)
        short = Home(home.settings.model_copy(update={"history_retention": kept.to_pytimedelta()}), home.instance)
        with pytest.raises(MissingLookbackError, match=f"set FRAUD_FIRST_DAY to {day(7)}"):
            short.ingest(7, 7)
        later = Home(short.settings.model_copy(update={"first_day": day(7)}), home.instance)
        later.ingest(7, 7)


class TestStale:
    """Features record the versions of their inputs."""

    def test_a_filled_day_makes_later_features_stale_and_the_night_makes_them_again(
        self, home: Home, world: World
    ) -> None:
        transactions, reports = world
        late = transactions["event_time"].between(midnight(3), midnight(4))
        home.serve(transactions[~late], reports)
        home.ingest(0, 6)
        home.serve(transactions[late], reports)
        run = home.ingest(3, 3)
        checks = {check.check_name: check for check in run.get_asset_check_evaluations()}
        assert not checks[INPUTS_CURRENT].passed
        finding = str(checks[INPUTS_CURRENT].metadata["finding"].value)
        assert f"3 stale ({day(4)} to {day(6)}: since {day(3)} changed)" in finding
        assert home.differing(4, 6) > 0
        job = home.definitions.resolve_implicit_global_asset_job_def()
        with pytest.raises(StaleFeaturesError, match=f"3 stale .{day(4)} to {day(6)}"):
            job.execute_in_process(instance=home.instance, asset_selection=[dg.AssetKey("training_set")])
        diagnosis = check_days(home.settings, now=(midnight(7) + pd.Timedelta(hours=4)).timestamp)
        assert (diagnosis.state, f"3 stale ({day(4)} to {day(6)}" in diagnosis.finding) == ("warn", True)
        assert home.night(6) == [f"features {day(4)} {day(6)}"]
        assert home.differing(0, 6) == 0
        assert check_days(home.settings, now=(midnight(7) + pd.Timedelta(hours=4)).timestamp).state == "ok"

    def test_doctor_says_which_days_are_missing(self, home: Home, world: World) -> None:
        home.serve(*world)
        home.ingest(0, 2)
        diagnosis = check_days(home.settings, now=(midnight(8) + pd.Timedelta(hours=4)).timestamp)
        assert diagnosis.state == "warn"
        assert diagnosis.finding.startswith(
            f"days of features: 5 missing ({day(3)} to {day(7)}): run `fraud-detect ingest`"
        )

    def test_the_check_is_asked_for_when_days_were_made_without_it(self, home: Home, world: World) -> None:
        home.serve(*world)
        checks = ChecksAskedFor(home.definitions, home.instance)
        home.ingest(0, 1)
        checks.next()
        home.ingest(1, 2)
        assert checks.next() == set()
        # A person selects two assets in the UI and materializes a day of them.
        home.definitions.resolve_implicit_global_asset_job_def().execute_in_process(
            instance=home.instance,
            asset_selection=[dg.AssetKey("transactions"), dg.AssetKey("rejected_transactions")],
            partition_key=day(1).isoformat(),
            run_config=QUIET,
        )
        assert checks.next() == {INPUTS_CURRENT}
        assert checks.next() == set()


class ChecksAskedFor:
    """The ticks of the daemon, one at a time: the checks that each requests."""

    def __init__(self, definitions: dg.Definitions, instance: dg.DagsterInstance) -> None:
        self._definitions, self._instance = definitions, instance
        self._cursor: Any = None

    def next(self) -> set[str]:
        evaluation = dg.evaluate_automation_conditions(self._definitions, instance=self._instance, cursor=self._cursor)
        self._cursor = evaluation.cursor
        requested = (result.key for result in evaluation.results if not result.true_subset.is_empty)
        return {key.name for key in requested if isinstance(key, dg.AssetCheckKey)}


class TestReports:
    """The reports of a day follow its features, at whatever hour these were made."""

    def test_each_ingest_is_judged_once_and_one_that_is_repeated_is_judged_anew(self, home: Home, world: World) -> None:
        home.serve(*world)
        definitions = home.definitions
        sensor = definitions.resolve_sensor_def("reports_after_features")
        cursor: str | None = None

        def tick() -> list[dict[str, str]]:
            nonlocal cursor
            context = dg.build_sensor_context(
                instance=home.instance, cursor=cursor, repository_def=definitions.get_repository_def()
            )
            result = sensor.evaluate_tick(context)
            cursor = result.cursor
            return [dict(request.tags) for request in result.run_requests or []]

        tick()
        home.ingest(0, 1)
        run_tags = tick()
        assert [Span(day(0), day(1)).tags.items() <= tags.items() for tags in run_tags] == [True]
        assert tick() == []
        home.ingest(1, 1)
        (again,) = tick()
        assert Span(day(1), day(1)).tags.items() <= again.items()
        # The run that the sensor requests runs, and is no ingest itself.
        job = definitions.resolve_job_def("drift_job")
        run = job.execute_in_process(instance=home.instance, tags=again, run_config=QUIET)
        assert run.success
        assert tick() == []


class TestIds:
    """An id is accepted once, whichever days hold it and whenever they are made."""

    @pytest.fixture
    def shared(self, home: Home, world: World) -> Home:
        """A file whose days 1 and 4 hold one id; every day has the transactions of the world."""
        rows = world[0].assign(amount=world[0]["amount_cents"] / 100).drop(columns="amount_cents")
        rows = rows[rows["event_time"] < midnight(6)].reset_index(drop=True)
        for number in (1, 4):
            rows.loc[rows["event_time"].dt.date.eq(day(number)).idxmax(), "transaction_id"] = "shared"
        path = home.settings.home / "file.parquet"
        path.parent.mkdir(parents=True)
        rows.to_parquet(path)
        changes = {"learn_from_served": False, "data_path": path, "last_day": day(5), "max_rejected_share": 0.5}
        return Home(home.settings.model_copy(update=changes), home.instance)

    def holders(self, home: Home) -> list[int]:
        stored = home.store.days("transactions")
        return [number for number in range(6) if day(number) in stored and "shared" in home.learned(number)]

    def test_days_of_separate_runs_accept_it_once_and_the_first_keeps_it(self, shared: Home) -> None:
        shared.ingest(0, 3)
        shared.ingest(4, 5)
        assert self.holders(shared) == [1]
        rejected = shared.store.read("rejected_transactions", day(4), day(4))
        assert rejected[["transaction_id", "reason"]].to_numpy().tolist() == [["shared", "duplicate_id"]]
        # Again in any order: a day does not reject its own rows, and takes none from another.
        for number in (1, 4, 1):
            shared.ingest(number, number)
            assert self.holders(shared) == [1]

    def test_an_id_that_another_day_gave_up_is_accepted_the_next_night(self, shared: Home) -> None:
        shared.ingest(0, 5)
        path = shared.settings.data_path
        assert isinstance(path, Path)
        rows = pd.read_parquet(path)
        rows.loc[
            rows["event_time"].dt.date.eq(day(1)).to_numpy() & rows["transaction_id"].eq("shared"), "transaction_id"
        ] = "own"
        rows.to_parquet(path)
        shared.night(5)
        shared.night(5)
        assert self.holders(shared) == [4]
        assert "own" in shared.learned(1)
        assert shared.requests(5) == []

    def test_two_runs_at_once_do_not_both_accept_it(self, shared: Home) -> None:
        shared.ingest(0, 3)
        first = shared.store.read("transactions", day(1), day(1))
        without = first[first["transaction_id"] != "shared"]
        shared.store.write_days("transactions", without, time_column="event_time", days=[day(1)])
        run = Thread(target=shared.ingest, args=(4, 4), kwargs={"raise_on_error": False})
        with shared.store.locked("transactions"):
            run.start()
            run.join(10)
            # Another run, which started first, is about to accept the id.
            shared.store.write_days("transactions", first, time_column="event_time", days=[day(1)])
        run.join()
        assert self.holders(shared) == [1]
