"""Starts the HTTP service as `bentoml serve` would.

Belongs here: command and environment of the process. Must not be here: assembly of the service (`service.py`).
"""

import os
import socket
import sys
from pathlib import Path
from typing import Final, NoReturn

from fraud_pipeline.settings import HOME_VARIABLE, Settings

SERVICE: Final = "serving.service:FraudDetection"


def serve(settings: Settings, *, host: str, port: int) -> NoReturn:
    """Become the server of these settings' home directory; signals and exit status are its own."""
    # BentoML empties the metrics directory under its home when it starts, so each server has a home of its own.
    bentoml = Path(os.environ.get("BENTOML_HOME") or settings.home / "bentoml")
    environment = os.environ | {
        HOME_VARIABLE: str(settings.home),
        "BENTOML_HOME": str(bentoml / str(port)),
        "BENTOML_DO_NOT_TRACK": "true",
    }
    address = socket.gethostbyname(host)  # BentoML takes no names
    command = [sys.executable, "-m", "bentoml", "serve", SERVICE, "--host", address, "--port", str(port)]
    if settings.log_format == "json":
        # The lines with which BentoML starts its workers have a format of their own.
        command.append("--quiet")
    sys.stdout.flush()
    os.execve(sys.executable, command, environment)  # noqa: S606  # our own command, through no shell
