"""The real HTTP service as a separate process.

Belongs here: starting, calling and stopping it. Must not be here: assertions about answers.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Final

import httpx
import pytest

from fraud_pipeline.settings import Settings
from fraud_pipeline_tests.support.waiting import LIMIT_SECONDS, until
from serving.auth.tokens import SCOPES, issue_token_for

MAY_START_SERVERS: Final = "TEST_MAY_START_SERVERS"
"""A variable of the environment that conftest.py sets for each test."""
_SERVE: Final = """
import sys
from fraud_pipeline.settings import load_settings
from serving.http.launch import serve
serve(load_settings(), host="localhost", port=int(sys.argv[1]))
"""


@dataclass(frozen=True, slots=True)
class Server:
    """A running service and how to ask it."""

    process: "subprocess.Popen[bytes]"
    home: Path
    url: str
    token: str

    def client(self, *, token: str | None = None) -> httpx.Client:
        """A client with all scopes, or with another token; an empty one sends none."""
        token = self.token if token is None else token
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx.Client(base_url=self.url, headers=headers, timeout=LIMIT_SECONDS)


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port


def check_may_start(server: str) -> None:
    """Fail a test that starts a server although `make test-fast` runs it."""
    if os.environ.get(MAY_START_SERVERS) == "no":
        pytest.fail(f"the test starts {server}: mark it `servers`, so that `make test-fast` leaves it out")


def start(home: Path, **settings: str) -> Server:
    """The service on a free port, ready."""
    check_may_start("the HTTP service")
    port = free_port()
    environment = os.environ | {"FRAUD_HOME": str(home), "FRAUD_RATE_LIMIT_PER_SECOND": "100000"} | settings
    command = [sys.executable, "-c", _SERVE, str(port)]
    with (home / "server.log").open("ab") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=home)
    url = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + LIMIT_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"{url}/readyz").status_code == 200:
                token = issue_token_for(
                    Settings(home=home), subject="tests", scopes=SCOPES, lifetime=timedelta(hours=1)
                )
                return Server(process, home, url, token=token)
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    process.kill()
    pytest.fail(f"the service did not start:\n{(home / 'server.log').read_text()[-3_000:]}")


def stop(server: Server) -> int:
    server.process.send_signal(signal.SIGTERM)
    return server.process.wait(LIMIT_SECONDS)


def wait_for_answer(url: str) -> None:
    """Until something answers well there."""
    until(lambda: httpx.get(url).is_success, what=f"an answer at {url}")
