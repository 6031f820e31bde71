"""The end of `fraud-detect train`: the commands that a person pastes next."""

import sys
from pathlib import Path

import pytest

from fraud_pipeline.cli.parser import build_parser
from fraud_pipeline.cli.training_summary import fraud_detect, next_steps
from fraud_pipeline.settings import Settings


def test_every_command_exists(tmp_path: Path) -> None:
    program = fraud_detect()
    commands = [line.split(program, 1)[1].split()[0] for line in next_steps(Settings(home=tmp_path)) if program in line]
    assert len(commands) == 6
    for command in commands:
        assert callable(build_parser().parse_args([command]).run)


def test_the_program_is_named_so_that_the_shell_finds_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = Path(sys.executable).parent
    monkeypatch.setenv("PATH", "/usr/bin")
    monkeypatch.chdir(directory.parent.parent)
    assert fraud_detect() == f"{directory.parent.name}/{directory.name}/fraud-detect"
    monkeypatch.setenv("PATH", f"{directory}:/usr/bin")
    assert fraud_detect() == "fraud-detect"
    other = tmp_path / "fraud-detect"
    other.write_text("#!/bin/sh\n")
    other.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{directory}")
    assert fraud_detect() != "fraud-detect", "the shell would run another installation"
