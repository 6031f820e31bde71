"""Makes the pictures of the README: the whole system runs for two minutes on a synthetic world in front of a browser.

Usage: python docs/screenshots.py [--home DIRECTORY]   (a trained home saves a minute) It needs Chromium, and starts
everything else itself: broker, service, consumer, producer, dashboard, Dagster.
"""

import sys
from pathlib import Path

# Servers are started by helpers of the tests, which an installation leaves out.
sys.path.append(str(Path(__file__).resolve().parents[1]))

# isort: split
import argparse
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime, timedelta
from threading import Event, Thread
from typing import Any, Final

import dagster as dg
import httpx

from fraud_pipeline.definitions import build_defs
from fraud_pipeline.defs.instance import RANGE_END_TAG, RANGE_START_TAG, prepare_dagster_home
from fraud_pipeline.settings import HOME_VARIABLE, Settings, load_settings
from fraud_pipeline.storage.tables import TableStore
from fraud_pipeline_tests.support.brokers import running_broker
from fraud_pipeline_tests.support.browser import chromium
from fraud_pipeline_tests.support.services import free_port, wait_for_answer
from serving.auth.tokens import issue_token_for
from serving.stream.producer import synthetic_rows

IMAGES: Final = Path(__file__).with_name("images")
REPORT_DAYS: Final = 21
LIVE_SECONDS: Final = 60
SIZE: Final = {"width": 1500, "height": 950}
FRAUD_DETECT: Final = str(Path(sys.executable).with_name("fraud-detect"))


def main() -> None:
    """Start everything, take the pictures, and stop everything."""
    top = argparse.ArgumentParser(description=__doc__)
    top.add_argument("--home", type=Path, help="a home directory with a champion")
    given = top.parse_args().home
    with ExitStack() as running:
        home = given or Path(running.enter_context(tempfile.TemporaryDirectory(prefix="fraud-")))
        os.environ[HOME_VARIABLE] = str(home.resolve())
        if not (home / "champion").exists():
            subprocess.run([FRAUD_DETECT, "train"], check=True)
        settings = load_settings()
        report_the_last_days(settings)
        broker = running.enter_context(running_broker())
        os.environ["FRAUD_KAFKA_BOOTSTRAP_SERVERS"] = broker.bootstrap_servers
        service, board, dagster = free_port(), free_port(), free_port()
        os.environ["FRAUD_SERVICE_URL"] = f"http://127.0.0.1:{service}"
        for command in (
            ["serve", f"--port={service}"],
            ["consume"],
            ["produce", "--rate=40", f"--count={60 * LIVE_SECONDS}"],
            ["dashboard", f"--port={board}"],
            ["ui", f"--port={dagster}"],
        ):
            running.enter_context(process(command, log=home / f"{command[0]}.log"))
        wait_for_answer(f"http://127.0.0.1:{board}/_stcore/health")
        wait_for_answer(f"http://127.0.0.1:{service}/readyz")
        wait_for_answer(f"http://127.0.0.1:{dagster}/server_info")
        stop = Event()
        running.callback(stop.set)
        Thread(target=send_payments, args=(settings, f"http://127.0.0.1:{service}"), kwargs={"stop": stop}).start()
        time.sleep(LIVE_SECONDS)
        take_pictures(settings, board=f"http://127.0.0.1:{board}", dagster=f"http://127.0.0.1:{dagster}")


def report_the_last_days(settings: Settings) -> None:
    """Drift and performance of the last days of the trained world."""
    last = max(TableStore(settings.tables_directory).days("features"))
    prepare_dagster_home(settings)
    with dg.DagsterInstance.get() as instance:
        build_defs(settings).resolve_job_def("drift_job").execute_in_process(
            instance=instance,
            run_config={"loggers": {"console": {"config": {"log_level": "ERROR"}}}},
            tags={
                RANGE_START_TAG: (last - timedelta(days=REPORT_DAYS - 1)).isoformat(),
                RANGE_END_TAG: last.isoformat(),
            },
        )


@contextmanager
def process(arguments: list[str], *, log: Path) -> Iterator[None]:
    """One of our commands, until the block ends."""
    with log.open("w") as output:
        running = subprocess.Popen([FRAUD_DETECT, *arguments], stdout=output, stderr=output, start_new_session=True)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGINT)  # Dagster's processes too
        try:
            running.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(running.pid, signal.SIGKILL)


def send_payments(settings: Settings, url: str, *, stop: Event) -> None:
    """Transactions over HTTP, about ten a second."""
    token = issue_token_for(settings, subject="shop", scopes={"score"}, lifetime=timedelta(hours=1))
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}) as client:
        for row in synthetic_rows(settings):
            fields = {name: value for name, value in row._asdict().items() if value is not None}
            amount = fields.pop("amount_cents") / 100
            payment = {"amount": amount, "currency": settings.currency, "event_time": datetime.now(UTC).isoformat()}
            client.post("/score", json=fields | payment).raise_for_status()
            if stop.wait(0.1):
                return


def take_pictures(settings: Settings, *, board: str, dagster: str) -> None:
    """Every page of the dashboard, and the assets in Dagster."""
    token = issue_token_for(settings, subject="ann", scopes={"feedback", "admin"}, lifetime=timedelta(hours=1))
    with chromium() as browser:
        page = browser.new_page(viewport=SIZE)
        page.goto(board)
        page.get_by_label("Token").fill(token)
        picture(page, "dashboard-login")
        page.get_by_role("button", name="Log in").click()
        page.get_by_role("button", name="Take the next").click()
        page.get_by_text("decided by").wait_for()
        picture(page, "dashboard-alerts")
        for title in ("Traffic", "Drift", "Performance", "Missed fraud", "Models", "Stream"):
            page.get_by_role("link", name=title).click()
            page.get_by_role("heading", name=title, exact=True).wait_for()
            picture(page, f"dashboard-{title.lower().replace(' ', '-')}")
        page.goto(f"{dagster}/asset-groups/")
        page.get_by_text("monitoring", exact=True).first.wait_for(timeout=60_000)
        page.set_viewport_size({"width": 1_900, "height": 1_200})
        page.keyboard.press("Alt+e")  # expands all groups
        page.wait_for_timeout(1_000)
        page.reload()  # fits the view
        page.get_by_text("drift_report").first.wait_for()
        picture(page, "asset-graph")


def picture(page: Any, name: str) -> None:
    """The page's picture after it has settled."""
    page.wait_for_timeout(6_000)
    page.screenshot(path=str(IMAGES / f"{name}.png"))
    print(IMAGES / f"{name}.png", flush=True)


if __name__ == "__main__":
    main()
