"""The Dagster UI and its daemon: a real `fraud-detect ui`, a real browser, real sensor ticks."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from fraud_pipeline_tests.support.browser import chromium
from fraud_pipeline_tests.support.services import free_port
from fraud_pipeline_tests.support.waiting import LIMIT_SECONDS, until
from fraud_pipeline_tests.support.webhooks import Webhook

pytestmark = pytest.mark.slow

DAILY = (
    "raw_transactions",
    "transactions",
    "rejected_transactions",
    "fraud_reports",
    "merchant_days",
    "features",
)


@dataclass(frozen=True)
class Ui:
    url: str
    webhook: Webhook
    environment: dict[str, str]

    def graphql(self, query: str, **variables: Any) -> dict[str, Any]:
        answer = httpx.post(f"{self.url}/graphql", json={"query": query, "variables": variables}, timeout=LIMIT_SECONDS)
        data: dict[str, Any] = answer.raise_for_status().json()["data"]
        return data


@pytest.fixture(scope="module")
def ui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ui]:
    """A small world that was trained by the command line, and the UI over the same home."""
    home, webhook = tmp_path_factory.mktemp("home"), Webhook()
    environment = {
        **os.environ,
        "FRAUD_HOME": str(home),
        "FRAUD_FIRST_DAY": "2026-01-01",
        "FRAUD_LABEL_MATURITY": "P10D",
        "FRAUD_WARM_UP": "P5D",
        "FRAUD_GAP": "P1D",
        # A flag would hold for that training only, and the UI's training would make another model.
        "FRAUD_N_TRIALS": "1",
        "FRAUD_ALERT_WEBHOOK_URL": webhook.url,
    }
    command = [str(Path(sys.executable).with_name("fraud-detect"))]
    trained = subprocess.run(
        [*command, "train", "--transactions", "41000"],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert trained.returncode == 0, trained.stdout + trained.stderr
    assert "Tested on" in trained.stdout
    assert "make ui" in trained.stdout
    port = free_port()
    with (home / "ui.log").open("w") as log:
        process = subprocess.Popen(
            [*command, "ui", "--port", str(port)],
            env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        running = Ui(url=f"http://127.0.0.1:{port}", webhook=webhook, environment=environment)
        try:
            until(lambda: _answers(running.url), what="the UI's start")
            yield running
        finally:
            os.killpg(process.pid, signal.SIGINT)
            process.wait(LIMIT_SECONDS)
            webhook.server.shutdown()
            webhook.server.server_close()


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/server_info", timeout=5).is_success
    except httpx.HTTPError:
        return False


@pytest.fixture(scope="module")
def page() -> Iterator[Any]:
    with chromium() as browser:
        yield browser.new_page(viewport={"width": 1600, "height": 1000})


@pytest.mark.browser
class TestBrowser:
    def test_the_asset_graph_shows_the_groups_and_offers_to_materialize_all(self, ui: Ui, page: Any) -> None:
        page.goto(f"{ui.url}/asset-groups/")
        for group in ("data", "features", "training"):
            page.get_by_text(group, exact=True).first.wait_for(timeout=1000 * LIMIT_SECONDS)
        page.get_by_text("Materialize all").first.wait_for(timeout=1000 * LIMIT_SECONDS)

    def test_a_materialized_asset_shows_its_figures_and_plots(self, ui: Ui, page: Any) -> None:
        page.goto(f"{ui.url}/assets/evaluation")
        for text in ("average_precision", "precision_recall", "model_card", "fraud-ml@example.com"):
            page.get_by_text(text).first.wait_for(timeout=1000 * LIMIT_SECONDS)

    def test_the_run_of_the_command_line_is_visible(self, ui: Ui, page: Any) -> None:
        page.goto(f"{ui.url}/runs")
        page.get_by_text("source_to_champion_job").first.wait_for(timeout=1000 * LIMIT_SECONDS)


LAUNCH = """
mutation($job: String!, $tags: [ExecutionTag!]!) {
  launchRun(executionParams: {
    selector: {jobName: $job, repositoryName: "__repository__", repositoryLocationName: "fraud_pipeline"},
    runConfigData: {}, executionMetadata: {tags: $tags}
  }) { __typename ... on LaunchRunSuccess { run { id } } ... on PythonError { message } }
}
"""

BACKFILL = """
mutation($assets: [AssetKeyInput!]!, $partitions: [String!]) {
  launchPartitionBackfill(backfillParams: {assetSelection: $assets, partitionNames: $partitions}) {
    __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message }
  }
}
"""

BACKFILL_STATUS = (
    "query($id: String!) { partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill { status } } }"
)


TICKS = """{ sensorOrError(sensorSelector: {
  repositoryName: "__repository__", repositoryLocationName: "fraud_pipeline", sensorName: "run_failure_alert"
}) { ... on Sensor { sensorState { ticks(limit: 3) { timestamp } } } } }"""


DECLARATION = """version = 1
[fields]
transaction_id = "transaction_id"
event_time = {columns = ["event_time"]}
customer_id = "customer_id"
merchant_id = "merchant_id"
amount = "amount"
is_fraud = {column = "is_fraud"}
"""


class TestDaemon:
    def test_schedules_and_sensors_are_running(self, ui: Ui) -> None:
        repositories = ui.graphql(
            """{ repositoriesOrError { ... on RepositoryConnection { nodes {
              schedules { name scheduleState { status } } sensors { name sensorState { status } } } } } }"""
        )["repositoriesOrError"]["nodes"]
        states = {
            schedule["name"]: schedule["scheduleState"]["status"]
            for node in repositories
            for schedule in node["schedules"]
        }
        states |= {
            schedule["name"]: schedule["sensorState"]["status"] for node in repositories for schedule in node["sensors"]
        }
        assert (
            states.items()
            >= {
                "daily_ingest": "RUNNING",
                "weekly_retraining": "RUNNING",
                "run_failure_alert": "RUNNING",
            }.items()
        )

    def ticks_of_the_failure_sensor(self, ui: Ui) -> list[float]:
        """When the sensor ticked, the newest first; the first tick only sets its cursor."""
        return [tick["timestamp"] for tick in ui.graphql(TICKS)["sensorOrError"]["sensorState"]["ticks"]]

    def test_a_failed_run_posts_one_line_that_names_the_cause(self, ui: Ui) -> None:
        # The first tick of a run status sensor only sets its cursor; failures before it are not its business.
        until(
            lambda: self.ticks_of_the_failure_sensor(ui),
            what="the sensor's first tick",
        )
        # Without a day, the first step cannot know which rows to read.
        launched = ui.graphql(LAUNCH, job="ingest_job", tags=[])
        assert launched["launchRun"]["__typename"] == "LaunchRunSuccess", launched
        (post,) = until(lambda: ui.webhook.received, what="the failure's message")
        assert post["run_id"] == launched["launchRun"]["run"]["id"]
        assert post["job"] == "ingest_job"
        assert "ingest_job failed in raw_transactions: " in post["text"]
        assert "partition" in post["text"]

    def test_materialize_all_of_the_asset_graph_runs_to_its_end(self, ui: Ui) -> None:
        """The action of the button: one backfill of every asset."""
        days = [(date(2026, 1, 1) + timedelta(days=offset)).isoformat() for offset in range(49)]
        names = [*DAILY, "training_set", "fraud_model", "evaluation", "registered_model", "champion"]
        launched = ui.graphql(BACKFILL, assets=[{"path": [name]} for name in names], partitions=days)
        assert launched["launchPartitionBackfill"]["__typename"] == "LaunchBackfillSuccess", launched
        backfill = launched["launchPartitionBackfill"]["backfillId"]
        status = until(
            lambda: (
                status
                if (status := ui.graphql(BACKFILL_STATUS, id=backfill)["partitionBackfillOrError"]["status"])
                not in ("REQUESTED", "IN_PROGRESS")
                else None
            ),
            what="the end of the backfill",
        )
        assert status == "COMPLETED_SUCCESS"

    def test_a_failed_run_of_the_command_line_is_posted_once_and_not_run_again(self, ui: Ui, tmp_path: Path) -> None:
        """It runs in the terminal's process, and the daemon of the same home sees it end."""
        until(lambda: self.ticks_of_the_failure_sensor(ui), what="the sensor's first tick")
        header = "transaction_id,event_time,customer_id,merchant_id,amount,is_fraud"
        rows = [f"row-{number},2026-01-01T08:{number:02d}:00Z,c-1,m-1,9.90,0" for number in range(60)]
        (tmp_path / "one-hour.csv").write_text("\n".join([header, *rows]))
        # With a declaration, the file is not inspected before the run, which would stop for want of frauds.
        (tmp_path / "fraud.toml").write_text(DECLARATION)
        failed = subprocess.run(
            [str(Path(sys.executable).with_name("fraud-detect")), "train", "--data-path", "one-hour.csv"],
            env=ui.environment, cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert failed.returncode == 1, failed.stdout + failed.stderr
        run_id = failed.stderr.partition("\nrun ")[2].partition(";")[0]
        assert run_id, failed.stderr

        def posts() -> list[str]:
            return [post["run_id"] for post in ui.webhook.received if post["job"] == "source_to_champion_job"]

        until(posts, what="the failure's message")
        posted = time.time()
        until(
            # Two whole ticks later, a second post or a second run would have come.
            lambda: sum(tick > posted for tick in self.ticks_of_the_failure_sensor(ui)) >= 2,
            what="two more ticks of the sensor",
        )
        assert posts() == [run_id]
        query = '{ runsOrError(filter: {pipelineName: "source_to_champion_job"}) { ... on Runs { results { id } } } }'
        newest, *others = (run["id"] for run in ui.graphql(query)["runsOrError"]["results"])
        assert (newest, len(others)) == (run_id, 1), "the run that failed, and the training before it"
