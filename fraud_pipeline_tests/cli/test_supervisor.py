"""Several servers as one: what ends is noticed by name, and nothing outlives the supervisor."""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from fraud_pipeline.cli import supervisor
from fraud_pipeline.cli.supervisor import Service, ServiceEndedError, Supervisor
from fraud_pipeline_tests.support.waiting import until

WAITS = "import time\ntime.sleep(600)"
HAS_A_CHILD = """
import subprocess, sys, time
ignores = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
child = subprocess.Popen([sys.executable, "-c", ignores], start_new_session=True)
print(child.pid, flush=True)
time.sleep(600)
"""
IGNORES_SIGNALS = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("deaf", flush=True)
time.sleep(600)
"""
SAYS_WHY_AND_ENDS = "import sys\nprint('first line')\nsys.exit('the disk is full')"


def python(code: str, *, name: str = "worker", is_ready: Callable[[], bool] = lambda: True) -> Service:
    return Service(name=name, command=[sys.executable, "-c", code], is_ready=is_ready)


@pytest.fixture
def supervised(tmp_path: Path) -> Supervisor:
    return Supervisor(tmp_path, os.environ)


def has_ended(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_a_service_that_ends_is_named_with_the_end_of_its_log(supervised: Supervisor) -> None:
    with supervised as running:
        running.start(python(WAITS, name="broker"))
        running.start(python(SAYS_WHY_AND_ENDS, name="consumer", is_ready=lambda: False))
        with pytest.raises(ServiceEndedError, match="consumer ended with status 1") as raised:
            running.wait_until_ready()
        assert "the disk is full" in str(raised.value)
        assert str(running.log("consumer")) in str(raised.value)


def test_a_service_that_ends_later_is_named_too(supervised: Supervisor) -> None:
    with supervised as running:
        running.start(python(WAITS, name="broker"))
        running.wait_until_ready()
        running.check()
        psutil.Process(running.pid("broker")).kill()

        def noticed() -> str:
            try:
                running.check()
            except ServiceEndedError as error:
                return str(error)
            return ""

        assert "broker ended with status -9" in until(noticed)


def test_a_service_that_never_answers_is_named(supervised: Supervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "READY_SECONDS", 0.2)
    with supervised as running:
        running.start(python(WAITS, name="dagster", is_ready=lambda: False))
        with pytest.raises(ServiceEndedError, match="dagster did not answer"):
            running.wait_until_ready()


def test_leaving_the_block_ends_the_processes_that_a_service_started(
    supervised: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one with a session of its own, as BentoML's workers have, whose parent ended without it."""
    monkeypatch.setattr(supervisor, "STOP_SECONDS", 0.5)
    with supervised as running:
        running.start(python(HAS_A_CHILD))
        child = int(until(lambda: running.log("worker").read_text().strip()))
        service = running.pid("worker")
        assert not has_ended(child)
    assert has_ended(service)
    until(lambda: has_ended(child))


def test_a_ctrl_c_in_the_block_ends_the_services(supervised: Supervisor) -> None:
    def interrupted() -> bool:
        raise KeyboardInterrupt

    supervised.start(python(WAITS, is_ready=interrupted))
    pid = supervised.pid("worker")
    with pytest.raises(KeyboardInterrupt), supervised as running:
        running.wait_until_ready()
    assert has_ended(pid)


def test_a_service_that_ignores_the_signal_is_killed(supervised: Supervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "STOP_SECONDS", 0.5)
    with supervised as running:
        running.start(python(IGNORES_SIGNALS))
        until(lambda: "deaf" in running.log("worker").read_text())
        pid = running.pid("worker")
    assert has_ended(pid)


def test_a_polite_end_does_not_wait_for_the_limit(supervised: Supervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "STOP_SECONDS", 300.0)
    with supervised as running:
        running.start(python(WAITS))
        began = time.monotonic()
    assert time.monotonic() - began < 200


def test_a_service_gets_the_given_environment_only(tmp_path: Path) -> None:
    with Supervisor(tmp_path, {"FRAUD_HOME": "/demo"}) as running:
        running.start(python("import os\nprint(sorted(os.environ), flush=True)"))
        text = until(lambda: running.log("worker").read_text().strip())
    assert "FRAUD_HOME" in text
    assert "PATH'" not in text
