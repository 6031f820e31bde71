"""Starts the dashboard as `streamlit run` would.

Belongs here: the command and options of the process. Must not be here: pages; importing Streamlit.
"""

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Final, NoReturn

from fraud_pipeline.settings import HOME_VARIABLE, Settings

MAIN: Final = Path(__file__).with_name("main.py")
_OPTIONS: Final = {
    "server.headless": "true",  # opens no browser
    "server.fileWatcherType": "none",
    "server.showEmailPrompt": "false",
    "browser.gatherUsageStats": "false",
    "client.toolbarMode": "viewer",
    "client.showErrorDetails": "none",  # an unforeseen error may hold values
    "theme.base": "light",  # charts and reports are drawn for white paper
    "theme.primaryColor": "#2f6ea5",
}


def serve(settings: Settings, *, host: str, port: int) -> NoReturn:
    """Become the dashboard of these settings' home directory. Raises RuntimeError where Streamlit is not installed."""
    if find_spec("streamlit") is None:
        raise RuntimeError("the dashboard needs its extra: pip install 'fraud-pipeline[dashboard]'")
    options = _OPTIONS | {"server.address": host, "server.port": str(port)}
    command = [
        sys.executable,
        "-m",
        "streamlit",
        "run",
        str(MAIN),
        *(f"--{name}={value}" for name, value in options.items()),
    ]
    sys.stdout.flush()
    environment = os.environ | {HOME_VARIABLE: str(settings.home)}
    os.execve(sys.executable, command, environment)  # noqa: S606  # our own command, through no shell
