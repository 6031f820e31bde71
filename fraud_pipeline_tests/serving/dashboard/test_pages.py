"""The dashboard: who gets in, pages over empty and full databases, and an analyst at work in a real browser."""

import base64
import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, get_args

import dagster as dg
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from streamlit.testing.v1 import AppTest

from fraud_pipeline.alerts.queue import listed, take_next
from fraud_pipeline.database import Batch, Database, DatabaseOutdatedError
from fraud_pipeline.database.drift import DriftRow, replace_drift
from fraud_pipeline.database.history import load_history
from fraud_pipeline.database.overview import count_alerts, read_case, read_probabilities, read_traffic
from fraud_pipeline.database.performance import PerformanceRow, read_performance, replace_performance
from fraud_pipeline.database.source import DatabaseSource
from fraud_pipeline.database.timeline import read_before
from fraud_pipeline.database.verdicts import ReportName, ReportVerdict, replace_verdict
from fraud_pipeline.defs.resources import build_resources
from fraud_pipeline.defs.training import training_assets
from fraud_pipeline.modeling.training import TrainedModel
from fraud_pipeline.monitoring.drift import STATES
from fraud_pipeline.promotion.registry import Registry
from fraud_pipeline.reporting.daily_charts import DECISION_COLOURS, drift_map, metric_over_time
from fraud_pipeline.schema.transactions import DAY, now_microseconds
from fraud_pipeline.settings import Settings
from fraud_pipeline.storage.tables import TableStore
from fraud_pipeline_tests.support.dashboard_pages import log_in, opened, rows, score, token
from fraud_pipeline_tests.support.services import Server, free_port
from fraud_pipeline_tests.support.small_world import DAYS, LABEL_MATURITY, Tables, tables_of
from fraud_pipeline_tests.support.waiting import LIMIT_SECONDS, until
from serving.auth.keys import rotate_keys
from serving.auth.tokens import Scope
from serving.dashboard.formatting import plain
from serving.dashboard.launch import MAIN
from serving.dashboard.service_metrics import (
    MINUTE,
    Sample,
    ServiceAwayError,
    StageTimes,
    keep_samples,
    quantile,
    read_stage_times,
    since,
    stage_times,
)

PAGES = ("alerts", "overview", "traffic", "drift", "performance", "missed_fraud", "models", "stream")
PAGE_TITLES = ("Alerts", "Overview", "Traffic", "Drift", "Performance", "Missed fraud", "Models", "Stream")
BEACON = "![](http://127.0.0.1:9/beacon.png)"
"""A customer's id that would fetch a picture if it were read as Markdown."""


class TestQuantiles:
    @given(st.lists(st.floats(0.001, 9.9), min_size=1, max_size=60), st.floats(0, 1))
    def test_a_quantile_lies_in_the_bucket_of_the_value_it_stands_for(self, values: list[float], share: float) -> None:
        bounds = [*np.arange(0.5, 10.5, 0.5), float("inf")]
        buckets = {bound: float(np.sum(np.array(values) <= bound)) for bound in bounds}
        estimate = quantile(buckets, share)
        assert estimate is not None
        rank = max(1, int(np.ceil(round(share * len(values), 9))))
        true = sorted(values)[rank - 1]
        bound = next(bound for bound in bounds if true <= bound)
        assert bound - 0.5 - 1e-9 <= estimate <= bound + 1e-9

    def test_of_nothing_there_is_none(self) -> None:
        assert quantile({}, 0.5) is None
        assert quantile({1.0: 0.0, float("inf"): 0.0}, 0.5) is None

    def test_what_lies_above_every_bound_is_told_as_the_largest_bound(self) -> None:
        assert quantile({1.0: 1.0, float("inf"): 100.0}, 0.99) == 1.0

    @given(st.lists(st.tuples(st.floats(0.1, 200), st.integers(0, 9), st.booleans()), min_size=1, max_size=30))
    def test_what_is_shown_is_what_was_counted_in_the_period_that_is_named(
        self, reads: list[tuple[float, int, bool]]
    ) -> None:
        """A page that reads now and then, of a service that answers requests and is started again at times."""
        at, counted = 0.0, 0
        samples: tuple[Sample, ...] = ()
        requests: list[float] = []  # when they were answered, since the last start
        for pause, answered, restarted in reads:
            at += pause
            if restarted and answered < counted:  # otherwise the counts look like those of a service that continues
                counted, requests = 0, []
            counted += answered
            requests += [at] * answered
            samples = keep_samples(samples, Sample(at, {"total": {float("inf"): counted}}))
            shown = stage_times(samples)
            if shown.seconds is None:
                assert shown.period == "since the service started"
                assert shown.stages["total"][float("inf")] == counted
            else:
                assert shown.seconds <= MINUTE
                assert shown.stages["total"][float("inf")] == sum(time > samples[0].at for time in requests)

    @pytest.mark.parametrize(("seconds", "period"), [(None, "since the service started"), (5, "last 5 s")])
    def test_the_period_is_named_for_what_it_is(self, seconds: float | None, period: str) -> None:
        assert StageTimes({}, seconds).period == period
        assert StageTimes({}, MINUTE).period == "last minute"

    def test_the_running_service_tells_its_stages(self, server: Server) -> None:
        settings = Settings(home=server.home, service_url=server.url)
        with server.client() as client:
            client.get("/model").raise_for_status()
        before = read_stage_times(settings)["total"]
        with server.client() as client:
            client.get("/model").raise_for_status()
        after = read_stage_times(settings)["total"]
        assert since(after, before)[float("inf")] >= 1
        assert quantile(after, 0.5) is not None

    def test_a_service_that_is_away_is_named(self, tmp_path: Path) -> None:
        settings = Settings(home=tmp_path, service_url=f"http://127.0.0.1:{free_port()}")
        with pytest.raises(ServiceAwayError, match="fraud-detect serve"):
            read_stage_times(settings)


class TestOverview:
    def test_what_was_decided_is_counted_by_minute_and_kind(self, database: Database, trained: TrainedModel) -> None:
        score(database, trained, rows(6))
        start = pd.Timestamp.now(tz="UTC") - pd.Timedelta(minutes=5)
        traffic = read_traffic(database, start=start)
        assert traffic["decisions"].sum() == 6
        assert set(traffic["decision"]) == {"review"}
        assert (traffic["minute"] == traffic["minute"].dt.floor("min")).all()
        assert len(read_probabilities(database, start=start, limit=4)) == 4
        assert read_traffic(database, start=start + pd.Timedelta(hours=1)).empty
        assert count_alerts(database) == {"open": 6}

    def test_a_case_is_the_decision_with_its_transaction(self, database: Database, trained: TrainedModel) -> None:
        (row,) = rows(1)
        score(database, trained, [row])
        case = read_case(database, row.transaction_id)
        assert case is not None
        assert (case.decision, case.amount_cents, case.category, case.model_version) == (
            "review",
            1_999,
            "grocery",
            "7",
        )
        assert case.event_time == pd.Timestamp(row.event_time, unit="us", tz="UTC")
        assert case.reasons
        assert read_case(database, "never seen") is None

    def test_a_customer_is_shown_newest_first_with_the_latest_report(
        self, database: Database, trained: TrainedModel
    ) -> None:
        score(database, trained, rows(3))
        score(database, trained, rows(1, customer="c-2"))
        with database.transaction() as connection:
            Batch(connection).add_report("t-1", reported_at=now_microseconds(), is_fraud=True)
            Batch(connection).add_report("t-1", reported_at=now_microseconds() + 1, is_fraud=False)
        history = read_before(database, "c-1", before=now_microseconds() + 1, limit=2)
        assert list(history["transaction_id"]) == ["t-2", "t-1"]
        assert history["is_fraud"].isna().tolist() == [True, False]
        assert not history["is_fraud"][1]


class TestLogin:
    def test_without_a_token_nothing_is_shown_and_nothing_is_read(self, settings: Settings) -> None:
        app = opened("alerts", with_token=None)
        assert [field.label for field in app.text_input] == ["Token"]
        assert not app.metric
        assert not list(settings.home.glob("*.db"))

    def test_the_token_of_an_analyst_opens_the_pages(self, settings: Settings) -> None:
        app = AppTest.from_file(str(MAIN), default_timeout=LIMIT_SECONDS).run()
        app.text_input[0].set_value(token(settings, "feedback"))
        app.button[0].click().run()
        assert not app.exception
        assert [header.value for header in app.header] == ["Alerts"]

    @pytest.mark.parametrize("scope", ["score", "metrics"])
    def test_a_program_s_token_does_not(self, settings: Settings, scope: Scope) -> None:
        app = opened("alerts", with_token=None)
        app.text_input[0].set_value(token(settings, scope))
        app.button[0].click().run()
        assert "feedback" in app.error[0].value
        assert not app.metric

    def test_nonsense_is_refused_and_not_repeated(self, settings: Settings) -> None:
        app = opened("alerts", with_token=None)
        app.text_input[0].set_value("né.such.token")
        app.button[0].click().run()
        assert "not valid here" in app.error[0].value
        assert "such" not in app.error[0].value

    @pytest.mark.parametrize("name", ["FRAUD_DATABASE_URL", "FRAUD_SEED"])
    def test_a_wrong_setting_is_named_without_its_value(
        self, settings: Settings, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        monkeypatch.setenv(name, "garbage")
        app = opened("alerts", with_token=token(settings, "feedback"))
        assert not app.exception
        assert name in app.error[0].value.replace("\\", "")
        assert "garbage" not in app.error[0].value

    def test_a_session_ends_with_its_token(self, settings: Settings) -> None:
        app = opened("alerts", with_token=token(settings, "feedback"))
        assert app.metric
        (settings.home / "keys.json").unlink()
        app.run()
        assert not app.metric
        assert [field.label for field in app.text_input] == ["Token"]

    @pytest.mark.parametrize("page", ["traffic", "stream"])
    def test_what_is_drawn_again_by_itself_asks_who_looks(self, settings: Settings, page: str) -> None:
        """The page's login is a captured one: the keys go between it and the part that draws itself again."""
        app = AppTest.from_string(
            "from fraud_pipeline.settings import load_settings\n"
            "from serving.dashboard.session import require_login\n"
            f"from serving.dashboard import {page}_page\n"
            "here = require_login()\n"
            "if here is not None:\n"
            "    load_settings().keys_file.unlink()\n"
            f"    {page}_page.show(here)\n",
            default_timeout=LIMIT_SECONDS,
        )
        app.session_state["token"] = token(settings, "feedback")
        app.run()
        assert not app.exception
        assert not [*app.metric, *app.info]
        assert [field.label for field in app.text_input] == ["Token"]
        assert "not valid here" in app.warning[0].value


class TestDatabase:
    def test_a_server_of_another_release_is_left_as_it_is_and_the_page_says_what_to_do(
        self, settings: Settings, empty_postgres_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("FRAUD_DATABASE_URL", empty_postgres_url)
        app = opened("alerts", with_token=token(settings, "feedback"))
        assert not app.exception
        assert "fraud-detect migrate" in app.error[0].value
        assert not app.metric
        with closing(Database(empty_postgres_url)) as database:
            with pytest.raises(DatabaseOutdatedError, match="at revision none"):
                database.check_revision()
            source = DatabaseSource(empty_postgres_url, retention=timedelta(days=180))
            now = pd.Timestamp.now(tz="UTC")
            with pytest.raises(DatabaseOutdatedError, match="at revision none"):
                source.reports(start=now, end=now)
            database.upgrade()
        app.run()
        assert app.metric

    def test_a_server_that_is_away_is_named(self, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FRAUD_DATABASE_URL", f"postgresql://nobody@127.0.0.1:{free_port()}/none")
        app = opened("alerts", with_token=token(settings, "feedback"))
        assert not app.exception
        assert "does not answer" in app.error[0].value


class TestPages:
    @pytest.mark.slow
    @pytest.mark.parametrize("page", PAGES)
    def test_a_page_of_an_empty_home_says_what_to_do(self, settings: Settings, page: str) -> None:
        app = opened(page, with_token=token(settings, "feedback", "admin"))
        assert not app.exception
        assert [*app.info, *app.success, *app.warning]

    def test_figures_of_two_champions_are_two_lines(self, settings: Settings) -> None:
        with closing(Database(settings.database)) as database:
            database.upgrade()
            today = pd.Timestamp.now(tz="UTC").floor("D")
            for age, version in ((2, "9"), (1, "9"), (0, "10")):
                figures = PerformanceRow("matured", "", "", "recall", 0.5, 0.4, 0.6, 100, 9, 100, version)
                replace_performance(database, day=today - pd.Timedelta(days=age), rows=[figures])
            stored = read_performance(database, start=today - pd.Timedelta(days=9), end=today + pd.Timedelta(days=1))
        assert list(stored["model_version"]) == ["9", "9", "10"]
        drawn = metric_over_time(stored, name="recall").to_dict()
        colours = [layer["encoding"]["color"] for layer in drawn["layer"]]
        assert {(channel["field"], *channel["sort"]) for channel in colours} == {("model_version", "9", "10")}
        app = opened("performance", with_token=token(settings, "feedback"))
        assert not app.exception
        assert list(app.dataframe[0].value["model_version"]) == ["10"]
        assert "every label that will come" not in app.caption[0].value

    def test_a_day_s_drift_report_can_be_read_and_had(self, settings: Settings) -> None:
        yesterday = pd.Timestamp.now(tz="UTC").floor("D") - pd.Timedelta(days=1)
        with closing(Database(settings.database)) as database:
            database.upgrade()
            for day in (yesterday - pd.Timedelta(days=1), yesterday):
                row = DriftRow("amount", "champion", "psi", size=0.1, q=1.0, drifted=False, model_version="7")
                replace_drift(database, day=day, rows=[row])
                verdict = ReportVerdict("drift", day, red=False, summary="no drift")
                replace_verdict(database, verdict, page=f"<h1>Drift of {day:%Y-%m-%d}</h1>")
        app = opened("drift", with_token=token(settings, "feedback"))
        assert not app.exception
        assert app.selectbox[0].options == [f"{yesterday:%Y-%m-%d}", f"{yesterday - pd.Timedelta(days=1):%Y-%m-%d}"]
        assert [button.proto.label for button in app.get("download_button")] == ["Download"]
        (frame,) = app.get("iframe")
        shown = base64.b64decode(frame.proto.src.partition(",")[2]).decode()
        assert shown == f"<h1>Drift of {yesterday:%Y-%m-%d}</h1>"

    @pytest.mark.parametrize("report", get_args(ReportName))
    @pytest.mark.parametrize(
        ("red", "judged", "kind"), [(True, True, "error"), (False, True, "success"), (False, False, "warning")]
    )
    def test_the_newest_report_is_shown_with_its_day_and_what_it_found(
        self, settings: Settings, report: ReportName, *, red: bool, judged: bool, kind: str
    ) -> None:
        with closing(Database(settings.database)) as database:
            database.upgrade()
            day = pd.Timestamp.now(tz="UTC").floor("D")
            verdict = ReportVerdict(report, day, red=red, judged=judged, summary="what was found")
            replace_verdict(database, verdict, page="<h1>A report" if judged else None)
        app = opened(report, with_token=token(settings, "feedback"))
        assert not app.exception
        assert not app.info
        assert app.caption[0].value == f"Newest report: {day:%A, %Y-%m-%d}"
        assert {
            shown: [element.value for element in getattr(app, shown)] for shown in ("error", "success", "warning")
        } == {
            "error": [],
            "success": [],
            "warning": [],
            kind: ["what was found"],
        }
        assert len(app.get("iframe")) == (judged and report != "performance")

    @pytest.mark.parametrize("report", get_args(ReportName))
    def test_without_a_report_the_page_names_the_job_and_the_asset_that_make_one(
        self, settings: Settings, report: ReportName
    ) -> None:
        app = opened(report, with_token=token(settings, "feedback"))
        (info,) = app.info
        assert info.value.startswith(f"No {report.replace('_', ' ')} report yet.")
        assert "`drift_job`" in info.value
        assert f"`{report}_report`" in info.value

    @pytest.mark.parametrize("report", get_args(ReportName))
    def test_after_a_day_that_could_not_be_judged_the_last_one_that_was_still_speaks(
        self, settings: Settings, report: ReportName
    ) -> None:
        today = pd.Timestamp.now(tz="UTC").floor("D")
        yesterday = today - pd.Timedelta(days=1)
        with closing(Database(settings.database)) as database:
            database.upgrade()
            replace_verdict(database, ReportVerdict(report, yesterday, red=True, summary="red"))
            replace_verdict(database, ReportVerdict(report, today, red=False, judged=False, summary="no rows came"))
        app = opened(report, with_token=token(settings, "feedback"))
        assert [element.value for element in app.warning] == ["no rows came"]
        assert [element.value for element in app.error] == ["red"]
        assert f"{yesterday:%Y-%m-%d}" in app.caption[1].value
        (days,) = app.table
        assert list(days.value["reason"]) == ["no rows came"]

    def test_matured_and_provisional_differ_by_line_and_marker_and_share_one_legend(self) -> None:
        day = pd.Timestamp("2026-03-01", tz="UTC")
        figures = [(day, kind, 0.5, 0.4, 0.6, "7") for kind in ("matured", "provisional")]
        names = ["day", "kind", "value", "low", "high", "model_version"]
        layers = metric_over_time(pd.DataFrame(figures, columns=names), name="recall").to_dict()["layer"]
        channels = [
            layer["encoding"][by] for layer in layers for by in ("strokeDash", "shape") if by in layer["encoding"]
        ]
        dashes, shapes = (encoding["scale"]["range"] for encoding in channels)
        assert dashes[0] != dashes[1]
        assert shapes[0] != shapes[1]
        assert channels[0]["legend"] == channels[1]["legend"]
        assert channels[0]["scale"]["domain"] == channels[1]["scale"]["domain"] == ["matured", "provisional"]

    def test_the_map_of_drift_has_a_red_cell_only_where_the_report_found_drift(self) -> None:
        days = pd.date_range("2026-03-01", periods=4, tz="UTC")
        states = pd.DataFrame(
            {"day": days[:3], "feature": "amount", "kind": "psi", "largest": [0.5, 9.0, 1.5], "champion": 9.0}
        ).assign(weeks_before=0.1, state=["within", "beyond", "drift"])
        drawn = drift_map(states, not_judged=[days[3]], top=5).to_dict()
        cells, dots = drawn["layer"]
        (rows,) = drawn["datasets"].values()
        colour = dict(zip(*(cells["encoding"]["color"]["scale"][side] for side in ("domain", "range")), strict=True))
        assert [row["day"] for row in rows if colour[row["state"]] == DECISION_COLOURS["block"]] == ["2026-03-03"]
        assert dots["transform"] == [{"filter": {"field": "state", "equal": STATES["drift"]}}]
        assert {row["day"]: row["state"] for row in rows}["2026-03-04"] == "not judged"

    def test_who_may_not_resolve_sees_no_button(self, settings: Settings, trained: TrainedModel) -> None:
        database = Database(settings.database)
        database.upgrade()
        score(database, trained, rows(1))
        take_next(database, who="ann")
        database.close()
        labels = [button.label for button in opened("alerts", with_token=token(settings, "admin")).button]
        assert labels == ["Back to the queue"]
        labels = [button.label for button in opened("alerts", with_token=token(settings, "feedback")).button]
        assert {"Take next alert", "Fraud", "Legitimate", "Duplicate"} <= set(labels)

    def test_what_was_taken_last_is_shown_and_after_it_what_is_left(
        self, settings: Settings, trained: TrainedModel
    ) -> None:
        database = Database(settings.database)
        database.upgrade()
        score(
            database,
            trained,
            [*rows(1, customer="c-1"), *(row._replace(transaction_id="u") for row in rows(1, customer="c-2"))],
        )
        app = opened("alerts", with_token=token(settings, "feedback"))
        for customer in ("c-1", "c-2"):
            next(button for button in app.button if button.label == "Take next alert").click().run()
            assert plain(f"Customer {customer}") in [heading.value for heading in app.subheader]
        next(button for button in app.button if button.label == "Duplicate").click().run()
        assert not app.exception
        assert plain("Customer c-1") in [heading.value for heading in app.subheader]
        assert [alert.status for alert in listed(database)] == ["in_review", "duplicate"]
        database.close()

    def test_an_alert_that_a_colleague_took_over_is_not_resolved_twice(
        self, settings: Settings, trained: TrainedModel
    ) -> None:
        database = Database(settings.database)
        database.upgrade()
        score(database, trained, rows(1))
        take_next(database, who="ann")
        app = opened("alerts", with_token=token(settings, "feedback"))
        with database.transaction() as connection:
            connection.exec_driver_sql("UPDATE alerts SET assignee = 'ben'")
        next(button for button in app.button if button.label == "Fraud").click().run()
        assert [alert.status for alert in listed(database)] == ["in_review"]
        database.close()


@given(st.text())
def test_text_from_outside_keeps_no_markup(text: str) -> None:
    shown = plain(text)
    assert "\n" not in shown
    for position, character in enumerate(shown):
        if character in "[]()!<>*_`":
            assert shown[position - 1] == "\\"


@pytest.mark.slow
@pytest.mark.browser
def test_a_page_that_draws_itself_asks_for_a_token_when_keys_are_replaced(
    settings: Settings, page: Any, board: str
) -> None:
    """A user leaves the page alone meanwhile."""
    log_in(page, board, token(settings, "feedback"))
    page.get_by_role("link", name="Traffic").click()
    page.get_by_text("Nothing was decided in this time.").wait_for()
    rotate_keys(settings.keys_file, keep=0)
    page.get_by_label("Token").wait_for()
    page.get_by_text("not valid here").wait_for()


@pytest.mark.slow
@pytest.mark.browser
def test_on_a_phone_the_menu_leaves_the_page_free_after_a_page_was_chosen(
    settings: Settings, page: Any, board: str
) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    log_in(page, board, token(settings, "feedback"))
    for title in ("Drift", "Missed fraud", "Alerts"):
        page.get_by_role("link", name=title, exact=True).click()
        heading = page.get_by_role("heading", name=title, exact=True)
        heading.wait_for()
        box = heading.bounding_box()
        assert box["y"] < 844 / 3, "the page begins in the upper third"
        # The topmost element at the heading's position is the heading: nothing covers it.
        middle = [box["x"] + 20, box["y"] + box["height"] / 2]
        assert title in page.evaluate("([x, y]) => document.elementFromPoint(x, y).textContent", middle)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        menu = [page.get_by_role("link", name=name, exact=True).bounding_box() for name in PAGE_TITLES]
        assert sum(link["width"] * link["height"] for link in menu) < 0.1 * 390 * 844


def has_alert(database: Database, status: str) -> bool:
    return status in [alert.status for alert in listed(database)]


@pytest.mark.slow
@pytest.mark.browser
def test_an_analyst_resolves_an_alert_and_the_next_training_knows(
    settings: Settings, trained: TrainedModel, tables: Tables, page: Any, board: str
) -> None:
    """Log in, take, judge; the verdict becomes a label of the asset's training set, once the rows have matured."""
    database = Database(settings.database)
    database.upgrade()
    tomorrow = pd.Timestamp.now(tz="UTC").floor("D") + pd.Timedelta(days=1)
    loaded = moved(tables, end=tomorrow)
    load_history(database, transactions=loaded.transactions, reports=loaded.reports)
    # The middle of the train part at any hour: rows in the gaps between the parts are not learned from.
    doubted = rows(3, customer=BEACON, age=LABEL_MATURITY + timedelta(days=15))
    score(database, trained, doubted)
    with database.transaction() as connection:
        connection.exec_driver_sql("UPDATE alerts SET queue_order = number")
        for row in doubted[1:]:
            # Another source reported fraud before; only the analyst can withdraw it.
            Batch(connection).add_report(row.transaction_id, reported_at=row.event_time + DAY, is_fraud=True)
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    log_in(page, board, token(settings, "feedback"))
    page.get_by_role("button", name="Take next alert").click()
    page.get_by_role("heading", name=f"Customer {BEACON}").wait_for()
    for number, (verdict, status) in enumerate((("Fraud", "confirmed_fraud"), ("Legitimate", "legitimate")), 2):
        page.get_by_role("button", name=re.compile(f"^{verdict}")).click()
        until(partial(has_alert, database, status), what=status)
        # The next alert opens by itself, and the address names it.
        page.wait_for_url(f"**alert={number}*")
    assert not [url for url in requests if "beacon" in url]
    assert [alert.status for alert in listed(database)] == ["confirmed_fraud", "legitimate", "in_review"]
    database.close()

    served = settings.model_copy(update={"learn_from_served": True, "label_maturity": LABEL_MATURITY})
    # The browser's event loop runs in this thread, and Dagster wants one of its own.
    with ThreadPoolExecutor(1) as elsewhere:
        learned = elsewhere.submit(training_set, served, end=tomorrow).result()
    labels = learned.set_index("transaction_id")["label"]
    assert [labels[row.transaction_id] for row in doubted] == [1.0, 0.0, 1.0]


def moved(tables: Tables, *, end: pd.Timestamp) -> Tables:
    """The small world as if it ended then, without later rows and reports."""
    shift, now = end - tables.as_of, pd.Timestamp.now(tz="UTC")
    transactions = tables.transactions.assign(event_time=tables.transactions["event_time"] + shift)
    reports = tables.reports.assign(
        event_time=tables.reports["event_time"] + shift, reported_at=tables.reports["reported_at"] + shift
    )
    return replace(
        tables,
        transactions=transactions[transactions["event_time"] < now],
        reports=reports[reports["reported_at"] < now],
        as_of=end,
    )


def training_set(settings: Settings, *, end: pd.Timestamp) -> pd.DataFrame:
    """The result of the asset of that name for served transactions, on tables as nightly runs would have left them."""
    source: Any = build_resources(settings)["source"]
    start = end - pd.Timedelta(days=DAYS)
    made = tables_of(source.source(), start=start, end=end)
    store = TableStore(settings.tables_directory)
    days = [(start + pd.Timedelta(days=number)).date() for number in range(DAYS)]
    made.write(store, settings, days=days)
    short = settings.model_copy(update={"gap": timedelta(days=1), "warm_up": timedelta(days=5)})
    run = dg.materialize(training_assets(short), resources=build_resources(short), selection=["training_set"])
    assert run.success
    return store.read_whole("training_set")


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # of MLflow
def test_the_champion_before_is_back_after_a_reason_and_a_second_click(
    settings: Settings, trained: TrainedModel, page: Any, board: str
) -> None:
    registry = Registry(
        tracking_uri=settings.tracking_uri,
        model_name=settings.model_name,
        artifact_directory=settings.artifact_directory,
    )
    trained.model.save(settings.home / "trained")
    for _ in range(2):
        run = registry._client.create_run(registry.ensure_experiment("fraud_model"))
        version = registry.register(settings.home / "trained", run_id=run.info.run_id, tags={}).version
        registry.install_champion(version, action="promote", reasons=["a test"], directory=settings.champion_directory)
    assert not [
        button for button in opened("models", with_token=token(settings, "feedback")).button if "v1" in button.label
    ]

    log_in(page, board, token(settings, "admin"))
    page.get_by_role("link", name="Models").click()
    page.get_by_role("button", name="Roll back to v1").click()
    assert page.get_by_role("button", name="Make v1 champion again").is_disabled()
    page.get_by_label("Why").fill("blocks too much")
    page.get_by_label("Why").press("Enter")
    page.get_by_role("button", name="Make v1 champion again").click()
    page.get_by_test_id("stMetricValue").get_by_text("v1").wait_for()
    champion = registry.with_alias("champion")
    assert champion is not None
    assert champion.version == 1
    assert registry.history()[-1].reasons == ("blocks too much (ann)",)
