"""The registry, called through `fraud-detect`: MLflow takes seconds to load, so no serving process imports it.

Belongs here: running its commands. Must not be here: what they do (`fraud_pipeline/promotion/registry.py`).
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from fraud_pipeline.settings import HOME_VARIABLE

_PATIENCE: Final = 120


class RegistryCommandError(RuntimeError):
    """The command failed; the message is its error output."""


def read_models(home: Path) -> dict[str, Any]:
    """The output of `fraud-detect models --json`: versions and promotions. Raises RegistryCommandError."""
    models: dict[str, Any] = json.loads(_run(home, "models", "--json"))
    return models


def roll_back(home: Path, *, reason: str) -> str:
    """Make the previous champion the champion again; returns the command's output. Raises RegistryCommandError."""
    return _run(home, "rollback", "--reason", reason).strip()


def _run(home: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(  # noqa: S603 - our own program, through no shell
            [sys.executable, "-m", "fraud_pipeline.cli.main", *arguments],
            env=os.environ | {HOME_VARIABLE: str(home)},
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise RegistryCommandError(f"the registry did not answer in {_PATIENCE} s: see that MLflow runs") from error
    if done.returncode:
        raise RegistryCommandError((done.stderr.strip().splitlines() or ["the command failed without a message"])[-1])
    return done.stdout
