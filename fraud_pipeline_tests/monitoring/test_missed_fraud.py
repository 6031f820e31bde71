"""The report on missed fraud: what is expected by now, when it is too much, and that chance alone is not."""

from contextlib import closing
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Final

import dagster as dg
import numpy as np
import pandas as pd
import pytest

from fraud_pipeline.database import Database
from fraud_pipeline.database.performance import decisions_on
from fraud_pipeline.database.verdicts import newest_verdicts, read_page
from fraud_pipeline.definitions import build_defs
from fraud_pipeline.modeling.training import NEVER, TrainedModel
from fraud_pipeline.monitoring.missed_fraud import (
    ACTIVE_DAYS,
    MissedFraudReport,
    active_customers,
    allowed_frauds,
    missed_fraud_report,
    unseen_from,
)
from fraud_pipeline.monitoring.surge_test import MIN_DAYS
from fraud_pipeline.policy.decisions import decide
from fraud_pipeline.storage.tables import TableStore
from fraud_pipeline_tests.support.reports import LAST_DAY, AutomationTicks, Deployment, deployment_in
from fraud_pipeline_tests.support.small_world import Tables

# MLflow and its dependencies warn about themselves; nothing here can mend that.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

FIRST: Final = date(2026, 3, 1)
START: Final = pd.Timestamp(FIRST, tz="UTC")
MATURITY: Final = timedelta(days=21)
DAYS: Final = 60
NOTHING_SERVED: Final = pd.DataFrame({"transaction_id": [], "decision": []}, dtype=object)


def lived(
    seed: int,
    *,
    a_day: float = 4.0,
    surge: float = 1.0,
    begins: int = DAYS,
    days: int = DAYS,
    delays: tuple[int, ...] = (0, 0, 1, 2, 5, 9, 20),
    victims: int = 1,
    kept_to: str = "",
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Allowed frauds and their reports: a Poisson number a day, `surge` times as many from a day on.

    Each has one of the `delays` in days; `victims` are hit together. Those of the surge may keep to a channel.
    """
    generator = np.random.default_rng(seed)
    usual = np.repeat(np.repeat(np.arange(days), generator.poisson(a_day / victims, days)), victims)
    more = np.repeat(np.arange(begins, days), generator.poisson(a_day * (surge - 1), days - begins))
    day = np.concatenate([usual, more])
    channel = generator.choice(["online", "chip", "contactless"], len(day), p=[0.5, 0.3, 0.2])
    if kept_to:
        channel[len(usual) :] = kept_to
    when = START + pd.to_timedelta(day, unit="D") + pd.to_timedelta(generator.uniform(0, 12, len(day)), unit="h")
    names = [f"t{number}" for number in range(len(day))]
    allowed = pd.DataFrame(
        {
            "transaction_id": names,
            "event_time": when,
            "customer_id": [f"c{number}" for number in range(len(day))],
            "channel": channel,
            "category": np.where(np.arange(len(day)) < len(usual), "grocery", "electronics"),
        }
    )
    late = pd.to_timedelta(generator.choice(delays, len(day)), unit="D")
    reports = pd.DataFrame({"transaction_id": names, "reported_at": when + late, "is_fraud": True})
    return allowed, reports


def report_on(
    lived: tuple[pd.DataFrame, pd.DataFrame], day: int, *, customers: dict[date, int] | None = None
) -> MissedFraudReport:
    """The report at the end of a day."""
    allowed, reports = lived
    usual = {FIRST + timedelta(days=number): 1_000 for number in range(DAYS)}
    return missed_fraud_report(
        FIRST + timedelta(days=day),
        allowed,
        reports,
        usual if customers is None else customers,
        champion="3",
        first=FIRST,
        label_maturity=MATURITY,
    )


class TestReport:
    @pytest.mark.parametrize("victims", [1, 4])
    def test_chance_alone_is_no_surge_nor_are_victims_of_one_shop(self, victims: int) -> None:
        reports = [
            report_on(lived(seed, victims=victims, a_day=8), day) for seed in range(20) for day in range(40, 60, 4)
        ]
        assert all(not report.not_judged for report in reports)
        assert np.mean([report.red for report in reports]) <= 0.01

    def test_a_surge_is_detected_before_its_labels_mature_with_start_and_group(self) -> None:
        world = lived(1, a_day=30, surge=1.5, begins=50, kept_to="contactless")
        red = [day for day in range(40, 60) if report_on(world, day).red]
        assert red[0] in range(50, 53), "within three days, although labels mature in 21"
        assert red == list(range(red[0], 60))
        report = report_on(world, 59)
        assert report.surge is not None
        assert report.since is not None
        assert abs((report.since - FIRST).days - 50) <= 3
        assert report.summary.startswith(f"2026-04-29: a surge since {report.since}: ")
        assert f"{report.surge.incidents} incidents of fraud in channel contactless that champion 3" in report.summary
        assert "most of all category electronics" in report.summary
        kind = world[0].set_index("transaction_id").loc[list(report.examples), "channel"]
        assert set(kind) == {"contactless"}
        assert not any(group.segment == "channel" for group in report.groups)
        known = world[1].loc[world[1]["reported_at"] < START + pd.Timedelta(days=60), "transaction_id"]
        is_surge = world[0]["transaction_id"].isin(known) & (world[0]["channel"] == "contactless")
        assert report.incidents.sum() == is_surge.sum()
        assert f"| channel contactless | {report.surge.incidents:,} | {report.surge.expected:.1f} |" in (
            report.to_markdown()
        )

    def test_a_surge_in_one_channel_is_detected_sooner(self) -> None:
        first_red = {
            channel: np.mean(
                [
                    next((day for day in range(50, DAYS) if report_on(world, day).red), DAYS)
                    for world in (lived(seed, a_day=30, surge=1.4, begins=50, kept_to=channel) for seed in range(10))
                ]
            )
            for channel in ("contactless", "")
        }
        assert first_red["contactless"] + 1 < first_red[""]

    def test_the_most_significant_group_comes_first(self) -> None:
        allowed, reports = lived(1, a_day=30, surge=2, begins=50)
        number, new = np.arange(len(allowed)), allowed["category"] == "electronics"
        rare = np.where(new, number % 5 < 2, number % 10 == 0)
        report = report_on((allowed.assign(category=np.where(rare, "luxury", "grocery")), reports), 59)
        luxury, grocery = (group for group in report.groups if group.segment == "category")
        assert (luxury.name, grocery.name) == ("luxury", "grocery")
        assert luxury.incidents - luxury.expected < grocery.incidents - grocery.expected

    def test_a_surge_in_all_channels_names_no_channel(self) -> None:
        report = report_on(lived(1, a_day=30, surge=2, begins=50), 59)
        assert (report.red, report.group) == (True, "")
        assert "incidents of fraud that champion 3 allowed" in report.summary
        assert {"channel", "category"} == {group.segment for group in report.groups}

    @pytest.mark.slow
    def test_more_customers_bring_more_fraud_and_that_is_no_surge(self) -> None:
        doubled = {FIRST + timedelta(days=day): 1_000 if day < 50 else 2_000 for day in range(DAYS)}
        worlds = [lived(seed, a_day=30, surge=2, begins=50) for seed in range(20)]
        red = [report_on(world, day, customers=doubled).red for world in worlds for day in range(50, 60)]
        assert np.mean(red) <= 0.01
        assert all(report_on(world, 59).red for world in worlds)

    def test_reports_that_always_come_a_week_late_are_waited_for(self) -> None:
        """As with a file of labels only: no reports of the last week are known or expected."""
        world = lived(3, a_day=30, surge=3, begins=45, delays=(7,))
        report = report_on(world, 51)
        assert report.expected[-7:].sum() == report.incidents[-7:].sum() == 0
        assert not report.red
        assert report_on(world, 54).red

    @pytest.mark.parametrize("day", [45, 55])
    def test_later_reports_and_rows_change_nothing(self, day: int) -> None:
        allowed, reports = lived(4, a_day=10, surge=2, begins=50)
        end = START + pd.Timedelta(days=day + 1)
        known = allowed[allowed["event_time"] < end], reports[reports["reported_at"] < end]
        assert report_on((allowed, reports), day).to_markdown() == report_on(known, day).to_markdown()

    def test_a_small_rise_among_many_is_no_surge(self) -> None:
        """A million rows would make everything significant."""
        report = report_on(lived(5, a_day=3_000, surge=1.15, begins=50), 59)
        assert report.surge is not None
        assert report.surge.p < 1e-6
        assert not report.red

    def test_few_days_are_not_judged_and_the_report_says_so(self) -> None:
        judged = [not report_on(lived(6), day).not_judged for day in range(-3, DAYS)]
        first = MATURITY.days + MIN_DAYS - 1
        assert judged == [day >= first for day in range(-3, DAYS)]
        report = report_on(lived(6), 10)
        assert report.summary == report.to_markdown()
        assert "not judged yet: 14 days with matured labels" in report.summary

    def test_nothing_reported_is_no_surge(self) -> None:
        allowed, reports = lived(7)
        for nothing in ((allowed.iloc[:0], reports.iloc[:0]), (allowed, reports.iloc[:0])):
            report = report_on(nothing, 59)
            assert (report.red, report.not_judged, report.incidents.sum()) == (False, "", 0)
            assert "None was reported." in report.to_markdown()


class TestActiveCustomers:
    def counted(self, *paid: list[str]) -> list[int]:
        """Of days that follow each other."""
        days = (FIRST + timedelta(days=number) for number in range(len(paid)))
        return list(active_customers(zip(days, (pd.Series(who, dtype=object) for who in paid), strict=True)).values())

    def test_a_customer_who_paid_within_four_weeks_counts_once(self) -> None:
        assert self.counted(["a", "b", "a"], ["b"], ["c"]) == [2, 2, 3]
        counts = self.counted(["a", "b"], *[["b"]] * ACTIVE_DAYS)
        assert counts == [*[2] * ACTIVE_DAYS, 1]

    def test_a_busy_day_counts_like_others_and_a_day_without_data_for_none(self) -> None:
        assert self.counted(["a", "b"], ["a"] * 50, [], ["b"]) == [2, 2, 0, 2]


class TestIncidents:
    def counted(self, *rows: tuple[str, float, bool], customer: str = "c") -> int:
        """Incidents of one customer; each row is a day and the report on it a day later."""
        days = [pd.Timedelta(days=day) for _, day, _ in rows]
        names = [name for name, _, _ in rows]
        allowed = pd.DataFrame(
            {"transaction_id": names, "event_time": [START + day for day in days], "customer_id": customer}
        ).drop_duplicates("transaction_id")
        reports = pd.DataFrame(
            {
                "transaction_id": names,
                "reported_at": [START + day + pd.Timedelta(days=1) for day in days],
                "is_fraud": [fraud for _, _, fraud in rows],
            }
        )
        return int(report_on((allowed, reports), 59).incidents.sum())

    def test_rows_of_one_theft_are_one_incident(self) -> None:
        assert self.counted(("a", 1, True), ("b", 1.5, True), ("c", 4, True)) == 1
        assert self.counted(("a", 1, True), ("b", 5, True)) == 2

    def test_a_withdrawn_report_does_not_count(self) -> None:
        assert self.counted(("a", 1, True), ("a", 2, False)) == 0
        assert self.counted(("a", 1, False), ("a", 2, True)) == 1

    def test_incidents_of_two_customers_are_separate(self) -> None:
        allowed = pd.DataFrame({"transaction_id": ["a", "b"], "event_time": START, "customer_id": ["c", "d"]})
        reports = pd.DataFrame({"transaction_id": ["a", "b"], "reported_at": START, "is_fraud": True})
        assert report_on((allowed, reports), 59).incidents.tolist() == [2, *[0] * 59]


class TestAllowed:
    def test_only_allowed_rows_by_their_served_decision(self, tables: Tables, trained: TrainedModel) -> None:
        frauds = tables.features["transaction_id"].isin(tables.reports["transaction_id"])
        features = tables.model_rows[frauds.to_numpy()]
        amounts = features["amount"].to_numpy(np.float32)
        decided = decide(trained.model.predict(features), trained.model.policy, amounts_cents=amounts)
        offline = set(features.loc[decided == "allow", "transaction_id"])
        allowed = allowed_frauds(trained.model, features, tables.transactions, NOTHING_SERVED)
        assert set(allowed["transaction_id"]) == offline
        assert {"amount", "channel", "category"} < set(allowed.columns)
        caught, missed = min(set(features["transaction_id"]) - offline), min(offline)
        served = pd.DataFrame({"transaction_id": [caught, missed, "else"], "decision": ["allow", "block", "allow"]})
        allowed = allowed_frauds(trained.model, features, tables.transactions, served)
        assert set(allowed["transaction_id"]) == offline - {missed} | {caught}

    def test_no_fraud_at_all(self, tables: Tables, trained: TrainedModel) -> None:
        allowed = allowed_frauds(
            trained.model, tables.model_rows.iloc[:0], tables.transactions.iloc[:0], NOTHING_SERVED
        )
        assert not report_on((allowed, tables.reports.iloc[:0]), 59).red

    def test_it_begins_with_the_test_part(self, trained: TrainedModel, training_set: pd.DataFrame) -> None:
        test = training_set.loc[training_set["part"] == "test", "event_time"]
        start = unseen_from(trained.model)
        assert pd.Timestamp(start, tz="UTC") - test.min() < pd.Timedelta(days=1)
        assert pd.Timestamp(start, tz="UTC") >= test.min()
        assert training_set.loc[training_set["part"] != "test", "event_time"].max() < test.min()
        lineage = {name: value for name, value in trained.model.lineage.items() if name != "evaluated_from"}
        earlier = unseen_from(replace(trained.model, lineage=lineage))
        assert earlier == (test.max() + pd.Timedelta(days=1)).date(), "an earlier release's: after its test part"


def plant_surge(deployment: Deployment, tables: Tables) -> None:
    """Sixty customers report a payment of the last three days at once."""
    late = tables.transactions["event_time"] >= pd.Timestamp("2026-02-07", tz="UTC")
    rows = tables.transactions[late & (tables.transactions["channel"] == "contactless")]
    rows = rows.drop_duplicates("customer_id")[:60]
    new = rows.assign(is_fraud=True, reported_at=rows["event_time"])[tables.reports.columns]
    days = [date(2026, 1, 1) + timedelta(days=number) for number in range(40)]
    TableStore(deployment.settings.tables_directory).write_days(
        "fraud_reports", pd.concat([tables.reports, new]), time_column="reported_at", days=days
    )


class TestAsset:
    @pytest.fixture
    def deployment(self, tmp_path: Path, tables: Tables, trained: TrainedModel) -> Deployment:
        """A champion whose test part began on the sixth day; it allows everything, also what it was trained on."""
        lineage = {**trained.model.lineage, "evaluated_from": "2026-01-06T00:00:00+00:00"}
        return deployment_in(tmp_path, tables, replace(trained.model, lineage=lineage, policy=NEVER))

    def test_without_a_champion_it_says_so_and_passes(self, deployment: Deployment) -> None:
        metadata, checks = deployment.checked(LAST_DAY, asset="missed_fraud_report")
        assert (
            metadata["summary"]
            == "2026-02-09 was not judged: there is no champion yet; `fraud-detect train` makes one."
        )
        assert checks["no_surge"].passed

    @pytest.mark.slow
    def test_a_surge_turns_the_report_red_posts_a_line_and_starts_no_training(
        self, deployment: Deployment, tables: Tables, tmp_path: Path
    ) -> None:
        deployment.promote(None)
        with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
            ticks = AutomationTicks(build_defs(deployment.settings), instance)
            assert ticks.next() == set()
            metadata, checks = deployment.checked(LAST_DAY, asset="missed_fraud_report", instance=instance)
            assert checks["no_surge"].passed
            assert metadata["summary"].startswith("2026-02-09: no surge. Since ")
            assert "data:image/png;base64," in metadata["by_day"]
            plant_surge(deployment, tables)
            metadata, checks = deployment.checked(
                date(2026, 2, 5), LAST_DAY, asset="missed_fraud_report", instance=instance
            )
            assert ticks.next() == set(), "its labels have not matured: there is nothing to learn from yet"
        assert not checks["no_surge"].passed
        assert "a surge since 2026-02-07" in metadata["summary"]
        assert metadata["incidents"] > 2 * metadata["expected"]
        with closing(Database(deployment.settings.database)) as database:
            (verdict,) = newest_verdicts(database)
            page = read_page(database, "missed_fraud", verdict.day)
        assert (verdict.report, verdict.red, verdict.summary) == ("missed_fraud", True, metadata["summary"])
        assert page is not None
        assert "<p class=red>2026-02-09: a surge since 2026-02-07" in page

    def test_days_before_the_champion_are_not_judged(self, deployment: Deployment) -> None:
        deployment.promote(None)
        metadata, checks = deployment.checked(date(2026, 1, 2), asset="missed_fraud_report")
        assert "not judged yet" in metadata["summary"]
        assert checks["no_surge"].passed
        with closing(Database(deployment.settings.database)) as database:
            assert newest_verdicts(database) == []

    def test_decisions_of_one_model_are_read_for_many_transactions(self, database: Database) -> None:
        assert decisions_on(database, [], model_sha256="0" * 64).empty
        assert decisions_on(database, [f"t{number}" for number in range(25_000)], model_sha256="0" * 64).empty
