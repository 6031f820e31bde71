"""`fraud-detect mlflow` as people start it: a real server, a real browser, Ctrl+C."""

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from fraud_pipeline.promotion.registry import Registry
from fraud_pipeline.settings import Settings
from fraud_pipeline_tests.support.browser import chromium
from fraud_pipeline_tests.support.services import free_port, wait_for_answer
from fraud_pipeline_tests.support.waiting import LIMIT_SECONDS

pytestmark = [
    pytest.mark.slow,
    pytest.mark.browser,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),  # of MLflow
]


def test_the_printed_link_shows_the_runs_of_training_and_ctrl_c_ends_it(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    registry = Registry(
        tracking_uri=settings.tracking_uri,
        model_name=settings.model_name,
        artifact_directory=settings.artifact_directory,
    )
    experiment = registry.ensure_experiment(settings.model_name)
    MlflowClient(settings.tracking_uri).create_run(experiment, run_name="a training of last night")
    port = free_port()
    command = [str(Path(sys.executable).with_name("fraud-detect")), "mlflow", "--port", str(port)]
    with (tmp_path / "mlflow.log").open("w") as log:
        process = subprocess.Popen(
            command,
            env=os.environ | {"FRAUD_HOME": str(tmp_path)},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        wait_for_answer(f"http://127.0.0.1:{port}/health")
        link = re.search(r"http://\S+", (tmp_path / "mlflow.log").read_text())
        assert link is not None
        with chromium() as browser:
            page = browser.new_page(viewport={"width": 1440, "height": 900})
            page.goto(link.group())
            page.get_by_text("a training of last night").first.wait_for(timeout=1000 * LIMIT_SECONDS)
            assert f"/experiments/{experiment}/runs" in page.url, "the page of training, not of generative AI"
        os.killpg(process.pid, signal.SIGINT)  # what Ctrl+C in a terminal does
        assert process.wait(LIMIT_SECONDS) == 128 + signal.SIGINT
        with socket.socket() as reused:
            # Closed connections to the port do not count; a server that still listens does.
            reused.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            reused.bind(("127.0.0.1", port))
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
