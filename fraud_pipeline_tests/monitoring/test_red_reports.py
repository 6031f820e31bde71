"""A red report is exported as a Prometheus gauge and posted to the webhook."""

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pytest

from fraud_pipeline.database import Database
from fraud_pipeline.database.retention import remove_expired
from fraud_pipeline.database.verdicts import (
    ReportVerdict,
    days_with_page,
    newest_verdicts,
    read_page,
    replace_verdict,
)
from fraud_pipeline.definitions import build_defs
from fraud_pipeline.modeling.training import TrainedModel
from fraud_pipeline.settings import Settings
from fraud_pipeline_tests.support.metrics_text import metric_value
from fraud_pipeline_tests.support.reports import (
    LAST_DAY,
    Deployment,
    deployment_in,
    near_perfect_evaluation,
    write_units_fault,
)
from fraud_pipeline_tests.support.services import Server, free_port
from fraud_pipeline_tests.support.small_world import Tables
from fraud_pipeline_tests.support.waiting import until
from fraud_pipeline_tests.support.webhooks import Webhook
from serving.runtime.prometheus_metrics import Metrics
from serving.runtime.report_watch import ReportWatch

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of MLflow, as the next
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

DAY = pd.Timestamp("2026-03-01", tz="UTC")


def drift(*, red: bool, day: int = 0, summary: str = "drift in amount") -> ReportVerdict:
    return ReportVerdict("drift", DAY + pd.Timedelta(days=day), red=red, summary=summary)


class TestVerdicts:
    def test_the_newest_judged_day_decides_the_verdict(self, database: Database) -> None:
        assert newest_verdicts(database) == []
        performance = ReportVerdict("performance", DAY, red=True, summary="recall fell")
        for verdict in (performance, drift(red=False, day=3), drift(red=True, day=1)):
            replace_verdict(database, verdict)
        assert newest_verdicts(database) == [drift(red=False, day=3), performance]
        replace_verdict(database, drift(red=True, day=3))
        assert newest_verdicts(database) == [drift(red=True, day=3), performance]

    def test_verdicts_are_kept_longer_than_pages(self, database: Database) -> None:
        for day in (0, 1, 90):
            replace_verdict(database, drift(red=False, day=day), page=f"<p>{day} €")
        removed = remove_expired(database, limits={"report_page_retention": DAY + pd.Timedelta(days=1)})
        assert removed == {"report_pages": 1}
        assert days_with_page(database, "drift") == [DAY + pd.Timedelta(days=day) for day in (90, 1)]
        assert read_page(database, "drift", DAY + pd.Timedelta(days=1)) == "<p>1 €"
        assert read_page(database, "drift", DAY) is None
        assert read_page(database, "performance", DAY) is None


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory, tables: Tables, trained: TrainedModel) -> Deployment:
    """A world whose last day has a units fault, and a champion with inflated figures."""
    made = deployment_in(tmp_path_factory.mktemp("home"), tables, trained.model)
    made.promote(near_perfect_evaluation())
    write_units_fault(made, tables)
    return made


@pytest.mark.slow
class TestReports:
    """The assets themselves."""

    def test_each_judged_day_of_a_range_has_a_page_and_the_last_decides(self, deployment: Deployment) -> None:
        learned = pd.Timestamp(deployment.model.lineage["trained_to"]).date()
        last = pd.Timestamp(LAST_DAY, tz="UTC")
        _, check = deployment.report(learned, LAST_DAY, asset="drift_report")
        with closing(Database(deployment.settings.database)) as database:
            verdicts = {verdict.report: verdict for verdict in newest_verdicts(database)}
            days = days_with_page(database, "drift")
            pages = [read_page(database, "drift", day) for day in days]
        assert (verdicts["drift"].day, verdicts["drift"].red, check.passed) == (last, True, False)
        assert "amount" in verdicts["drift"].summary
        # The day that the champion learned from is not judged.
        assert days == [last - pd.Timedelta(days=age) for age in range((LAST_DAY - learned).days)]
        for day, page in zip(days, pages, strict=True):
            assert page is not None
            assert f"<h1>Drift report of {day:%Y-%m-%d}</h1>" in page
            file = deployment.settings.home / "reports" / f"drift-{day:%Y-%m-%d}.html"
            assert file.read_text(encoding="utf-8") == page

    def test_a_degraded_champion_is_red(self, deployment: Deployment) -> None:
        _, check = deployment.report(LAST_DAY)
        with closing(Database(deployment.settings.database)) as database:
            verdicts = {verdict.report: verdict for verdict in newest_verdicts(database)}
        assert (verdicts["performance"].red, check.passed) == (True, False)
        assert "clearly worse" in verdicts["performance"].summary


class TestGauge:
    @pytest.fixture
    def metrics(self, monkeypatch: pytest.MonkeyPatch) -> Metrics:
        monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
        return Metrics()

    def test_it_follows_the_database_and_keeps_its_value_during_an_outage(
        self, tmp_path: Path, metrics: Metrics, caplog: pytest.LogCaptureFixture
    ) -> None:
        with closing(Database(f"sqlite:///{tmp_path / 'fraud.db'}")) as database:
            watch = ReportWatch(database, on_verdict=metrics.reported)
            watch.look()
            watch.look()
            assert len(caplog.records) == 1, "tables that are not there are told of once"
            database.upgrade()
            replace_verdict(database, drift(red=True))
            watch.look()
            assert metric_value(metrics, "fraud_report_red", "drift") == 1
            database.downgrade("base")
            watch.look()
            assert metric_value(metrics, "fraud_report_red", "drift") == 1
            database.upgrade()
            replace_verdict(database, drift(red=False))
            watch.look()
            assert metric_value(metrics, "fraud_report_red", "drift") == 0

    def test_a_thread_polls_until_it_is_closed(self, database: Database, metrics: Metrics) -> None:
        replace_verdict(database, drift(red=True))
        watch = ReportWatch(database, on_verdict=metrics.reported, every=0.01)
        watch.start()
        until(lambda: b'fraud_report_red{report="drift"} 1.0' in metrics.exposition()[0], what="the gauge")
        watch.close()
        replace_verdict(database, drift(red=False))
        time.sleep(0.1)
        assert metric_value(metrics, "fraud_report_red", "drift") == 1

    def test_one_that_never_started_closes(self, database: Database, metrics: Metrics) -> None:
        ReportWatch(database, on_verdict=metrics.reported).close()

    @pytest.mark.slow
    def test_the_running_service_exports_it(self, server: Server) -> None:
        with server.client() as client:
            assert "fraud_report_red{" not in client.get("/metrics").text
            with closing(Database(Settings(home=server.home).database)) as database:
                replace_verdict(database, drift(red=True))
            until(
                lambda: 'fraud_report_red{report="drift"} 1.0' in client.get("/metrics").text,
                what="the service's gauge",
            )


class TestWebhook:
    """The sensor, evaluated as the daemon does it."""

    @pytest.fixture
    def webhook(self) -> Iterator[Webhook]:
        running = Webhook()
        yield running
        running.server.shutdown()
        running.server.server_close()

    @pytest.fixture
    def settings(self, tmp_path: Path, webhook: Webhook) -> Settings:
        return Settings(home=tmp_path, alert_webhook_url=webhook.url)

    @pytest.fixture
    def database(self, settings: Settings) -> Iterator[Database]:
        with closing(Database(settings.database)) as database:
            database.upgrade()
            yield database

    def tick(self, settings: Settings, cursor: str | None = None) -> Any:
        sensor = build_defs(settings).resolve_sensor_def("red_report_alert")
        with dg.DagsterInstance.ephemeral() as instance:
            return sensor.evaluate_tick(dg.build_sensor_context(instance=instance, cursor=cursor))

    def test_one_line_when_it_turns_red_and_again_after_a_recovery(
        self, settings: Settings, database: Database, webhook: Webhook
    ) -> None:
        cursor = self.tick(settings).cursor
        assert webhook.received == []
        for red, received in ((True, 1), (True, 1), (False, 1), (True, 2)):
            replace_verdict(database, drift(red=red, summary="2026-03-01: drift in amount (psi 0.71, limit 0.2)."))
            cursor = self.tick(settings, cursor).cursor
            assert len(webhook.received) == received
        assert webhook.received[0] == {
            "text": "no_drift of 2026-03-01 is red: 2026-03-01: drift in amount (psi 0.71, limit 0.2). | "
            "open drift_report in the Dagster UI, and docs/how-to/alarms.md#reportred",
            "report": "drift",
            "day": "2026-03-01",
        }

    def test_each_report_has_a_line_of_its_own(self, settings: Settings, database: Database, webhook: Webhook) -> None:
        replace_verdict(database, drift(red=True))
        cursor = self.tick(settings).cursor
        replace_verdict(database, ReportVerdict("performance", DAY, red=True, summary="Champion 3: recall fell."))
        self.tick(settings, cursor)
        assert [payload["report"] for payload in webhook.received] == ["drift", "performance"]
        assert webhook.received[1]["text"].startswith("no_degradation of 2026-03-01 is red: Champion 3: recall fell.")

    def test_an_unreachable_webhook_gets_the_line_later_and_its_url_is_in_no_message(
        self, settings: Settings, database: Database, webhook: Webhook
    ) -> None:
        replace_verdict(database, drift(red=True))
        away = settings.model_copy(update={"alert_webhook_url": f"http://127.0.0.1:{free_port()}/secret"})
        tick = self.tick(away)
        assert "cannot be reached" in tick.skip_message
        assert "secret" not in tick.skip_message
        self.tick(settings, tick.cursor)
        assert len(webhook.received) == 1

    def test_without_a_webhook_the_line_is_in_the_log_only(self, settings: Settings, database: Database) -> None:
        replace_verdict(database, drift(red=True))
        quiet = settings.model_copy(update={"alert_webhook_url": ""})
        assert self.tick(quiet).cursor == '["drift"]'
