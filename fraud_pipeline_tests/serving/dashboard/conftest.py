"""A home of its own for each test of a page, the dashboard as people start it, and a browser."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fraud_pipeline.settings import HOME_VARIABLE, Settings
from fraud_pipeline_tests.support.browser import chromium
from fraud_pipeline_tests.support.services import free_port, wait_for_answer
from fraud_pipeline_tests.support.waiting import LIMIT_SECONDS


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))
    monkeypatch.setenv("FRAUD_KAFKA_BOOTSTRAP_SERVERS", f"127.0.0.1:{free_port()}")
    monkeypatch.setenv("FRAUD_KAFKA_CONNECT_TIMEOUT", "PT1S")
    monkeypatch.setenv("FRAUD_SERVICE_URL", f"http://127.0.0.1:{free_port()}")
    return Settings(home=tmp_path)


@pytest.fixture
def page() -> Iterator[Any]:
    with chromium() as browser:
        new_page = browser.new_page(viewport={"width": 1600, "height": 1000})
        new_page.set_default_timeout(1000 * LIMIT_SECONDS)
        yield new_page


@pytest.fixture
def board(settings: Settings) -> Iterator[str]:
    """The real command, as people start it."""
    port = free_port()
    command = [str(Path(sys.executable).with_name("fraud-detect")), "dashboard", "--port", str(port)]
    with (settings.home / "dashboard.log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=os.environ)
    try:
        wait_for_answer(f"http://127.0.0.1:{port}/_stcore/health")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        assert process.wait(LIMIT_SECONDS) == 0
