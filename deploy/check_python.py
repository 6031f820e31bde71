"""Refuses a Python that cannot run this project, in one line with the remedy. `make setup` starts with it.

Belongs here: what the interpreter itself must bring. Must not be here: packages, and syntax newer than Python 3.6,
because an old Python must be able to read this file.
"""

import re
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"


def supported(project: str) -> "list[str]":
    """Versions of Python that `requires-python` in the text of pyproject.toml allows, oldest first."""
    lowest, above = re.findall(r'^requires-python = ">=3\.(\d+),<3\.(\d+)"$', project, re.MULTILINE)[0]
    return [f"3.{minor}" for minor in range(int(lowest), int(above))]


def problem(versions: "list[str]", *, version: str, has_venv: bool) -> str:
    """The reason why this Python cannot be used, with the remedy; empty if it can."""
    if version not in versions:
        installed = [name for name in map("python{}".format, reversed(versions)) if shutil.which(name)]
        remedy = f"repeat the command with PYTHON={installed[0]}" if installed else "install one of these and its venv"
        return f"{sys.executable} is Python {version}; this project runs on {versions[0]} to {versions[-1]}: {remedy}"
    if not has_venv:
        return f"{sys.executable} cannot make virtual environments: install its venv (apt-get install python3-venv)"
    return ""


if __name__ == "__main__":
    sys.exit(
        problem(
            supported(PROJECT.read_text()),
            version="{}.{}".format(*sys.version_info),
            has_venv=find_spec("ensurepip") is not None,
        )
        or None
    )
