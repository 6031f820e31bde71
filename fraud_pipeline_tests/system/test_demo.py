"""`fraud-detect demo` as a newcomer runs it: all services answer, attacks are announced, and nothing outlives it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import httpx
import psutil
import pytest

from fraud_pipeline.cli.demo_command import ADDRESSES_FILE
from fraud_pipeline_tests.support.services import check_may_start
from fraud_pipeline_tests.support.waiting import LIMIT_SECONDS, until

pytestmark = [pytest.mark.slow, pytest.mark.servers]

PLAYED_SECONDS: Final = 60
PAYMENT: Final = {"customer_id": "tour", "merchant_id": "m-1", "amount": 129.9, "currency": "EUR", "channel": "online"}
HEALTH: Final = {
    "service": "/readyz",
    "dashboard": "/_stcore/health",
    "dagster": "/server_info",
    "mlflow": "/health",
    "consumer": "/metrics",
}


@dataclass(frozen=True, slots=True)
class Played:
    """One run: its summary, which services answered meanwhile, and what it printed for a person."""

    summary: Mapping[str, Any]
    answered: Mapping[str, bool]
    text: str


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("demo") / "home"


def start(home: Path, *options: str, log: Path) -> "subprocess.Popen[str]":
    """The command with the least history that can be trained on."""
    check_may_start("the demo")
    small = ("--transactions=60000", "--n-trials=1", "--free-ports")
    command = [sys.executable, "-m", "fraud_pipeline.cli.main", "demo", f"--home={home}", *small, *options]
    environment = os.environ | {"FRAUD_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/a-banks"}
    with log.open("w") as output:
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=output, text=True, env=environment)


def processes_of(home: Path) -> list[psutil.Process]:
    """Living processes whose environment names this home."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("FRAUD_HOME") == str(home) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.fixture(scope="module")
def played(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    """The summary of one run, which URLs answered meanwhile, and what it printed for a person."""
    log = tmp_path_factory.mktemp("log") / "demo.log"
    demo = start(home, f"--seconds={PLAYED_SECONDS}", "--json", log=log)
    try:
        urls = until(lambda: addresses(home, ended=demo.poll() is not None), what="the addresses", seconds=1_800)
        answered = {name: httpx.get(f"{url}{HEALTH[name]}", timeout=60).is_success for name, url in urls.items()}
        send_burst(home, urls["service"])
        output, _ = demo.communicate(timeout=LIMIT_SECONDS)
        assert demo.returncode == 0, log.read_text()[-3_000:]
        yield Played(json.loads(output), answered, log.read_text())
    finally:
        with demo:  # waits, and closes its pipe
            demo.terminate()


def addresses(home: Path, *, ended: bool) -> dict[str, str]:
    """The URLs, once everything is ready."""
    if ended:
        raise AssertionError("the demo ended before it was ready")
    file = home / ADDRESSES_FILE
    return dict(json.loads(file.read_bytes())) if file.exists() else {}


def send_burst(home: Path, service: str) -> None:
    """The payments of the tour: so many of one card that the rules doubt them, whatever the model says."""
    token = fraud_detect(str(home), "token", "--subject=tour").strip()
    for number in range(1, 8):
        payment = {"transaction_id": f"tour-{number}", "event_time": datetime.now(UTC).isoformat(), **PAYMENT}
        headers = {"Authorization": f"Bearer {token}"}
        httpx.post(f"{service}/score", json=payment, headers=headers, timeout=60).raise_for_status()
        time.sleep(1.1)  # payments of one second do not see each other


def test_every_service_answers_while_it_runs(played: Played) -> None:
    assert played.answered == dict.fromkeys(HEALTH, True)
    assert set(played.summary["urls"]) == set(played.answered)


def test_payments_are_decided_on_and_alerts_are_listed(played: Played) -> None:
    summary = played.summary
    assert summary["trained"]
    assert summary["decisions"] > 0
    assert summary["alerts"].get("open", 0) > 0
    listed = fraud_detect(summary["home"], "alerts", "list", "--json")
    assert len(json.loads(listed)) > 0


def test_attacks_are_announced_with_their_outcome(played: Played) -> None:
    summary, text = played.summary, played.text
    assert summary["attacks"]
    for number, attack in enumerate(summary["attacks"], start=1):
        assert f"attack {number}: " in text
        assert attack["customer_id"] in text
    ended = [attack for attack in summary["attacks"] if attack["noticed_payments"] is not None]
    assert ended, "no attack ended in time"


def test_nothing_outlives_it(played: Played) -> None:
    home = Path(played.summary["home"])
    assert processes_of(home) == []
    assert not (home / ADDRESSES_FILE).exists()


@pytest.mark.usefixtures("played")
def test_a_second_start_trains_nothing_and_sigterm_ends_everything(home: Path, tmp_path: Path) -> None:
    demo = start(home, log=tmp_path / "demo.log")
    assert demo.stdout is not None
    for line in demo.stdout:
        assert "First start" not in line
        if line.startswith("Live traffic"):
            break
    assert len(processes_of(home)) > 6
    demo.send_signal(signal.SIGTERM)
    output, _ = demo.communicate(timeout=LIMIT_SECONDS)
    assert demo.returncode == 0, (tmp_path / "demo.log").read_text()[-3_000:]
    assert "Everything is stopped." in output
    assert processes_of(home) == []


def fraud_detect(home: str, *arguments: str) -> str:
    command = [sys.executable, "-m", "fraud_pipeline.cli.main", *arguments]
    environment = os.environ | {"FRAUD_HOME": home}
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
