"""Which Pythons the project runs on: one answer in metadata, tools and workflow, and one line for all others."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from fraud_pipeline_tests.support.deployment import ROOT

PROJECT: Final[dict[str, Any]] = tomllib.loads((ROOT / "pyproject.toml").read_text())
SUPPORTED: Final = ["3.11", "3.12", "3.13", "3.14"]
# This interpreter, which reports another version, or a missing venv.
OTHER_PYTHON: Final = """#!/bin/sh
exec {python} -c 'import runpy, sys
sys.version_info = ({version}, 0, "final", 0)
sys.modules |= {{"ensurepip": None}} if {no_venv} else {{}}
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")' "$@"
"""


def test_metadata_tools_and_workflow_name_the_same_versions() -> None:
    classifiers = "\n".join(PROJECT["project"]["classifiers"])
    assert re.findall(r"Python :: (3\.\d+)$", classifiers, re.MULTILINE) == SUPPORTED
    assert PROJECT["project"]["requires-python"] == ">=3.11,<3.15"
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    assert workflow["jobs"]["fast"]["strategy"]["matrix"]["python"] == SUPPORTED
    lowest = SUPPORTED[0]
    assert PROJECT["tool"]["mypy"]["python_version"] == lowest
    assert PROJECT["tool"]["ruff"]["target-version"] == "py" + lowest.replace(".", "")
    assert f"--python-version {lowest} " in (ROOT / "Makefile").read_text()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The files that `make setup` reads first."""
    (tmp_path / "deploy").mkdir()
    for name in ("Makefile", "pyproject.toml", "requirements.txt", "deploy/check_python.py"):
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def make_setup(checkout: Path, *, version: str, no_venv: bool = False) -> "subprocess.CompletedProcess[str]":
    """`make setup` with a Python of another version and no other Python on the path."""
    other = checkout / "other-python"
    text = OTHER_PYTHON.format(python=sys.executable, version=version.replace(".", ", "), no_venv=no_venv)
    other.write_text(text)
    other.chmod(0o755)
    # Under `make test` these variables would make this make a recursive one, with other messages and other flags.
    environment = {
        name: value for name, value in os.environ.items() if name not in {"MAKEFLAGS", "MAKELEVEL", "MFLAGS"}
    }
    environment["PATH"] = str(checkout / "bin")
    return subprocess.run(
        [shutil.which("make") or "make", "setup", f"PYTHON={other}"],
        cwd=checkout, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize("version", ["3.10", "3.15", "4.0"])
def test_another_python_is_refused_in_one_line_before_anything_is_made(checkout: Path, version: str) -> None:
    done = make_setup(checkout, version=version)
    assert done.returncode != 0
    refusal, ended = done.stderr.splitlines()
    assert f"is Python {version}; this project runs on 3.11 to 3.14: install one of these" in refusal
    assert ended.startswith("make: ***")
    assert not (checkout / ".venv").exists()


def test_the_refusal_names_the_newest_python_that_fits(checkout: Path) -> None:
    (checkout / "bin").mkdir()
    for name in ("python3.12", "python3.13", "python3.15"):
        (checkout / "bin" / name).symlink_to(sys.executable)
    assert "repeat the command with PYTHON=python3.13" in make_setup(checkout, version="3.10").stderr


def test_a_python_without_venv_is_refused_with_the_package_that_brings_it(checkout: Path) -> None:
    done = make_setup(checkout, version="3.13", no_venv=True)
    assert done.returncode != 0
    assert "apt-get install python3-venv" in done.stderr.splitlines()[0]
    assert not (checkout / ".venv").exists()


@pytest.mark.parametrize("version", SUPPORTED)
def test_a_supported_python_passes(version: str, checkout: Path) -> None:
    done = make_setup(checkout, version=version)
    assert "this project runs on" not in done.stderr
    assert "-m venv .venv" in done.stdout, "the next step was not reached"
