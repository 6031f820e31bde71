"""The commands around the shell: completion, and the project's own tests.

Belongs here: commands that need no part of the system. Must not be here: commands that do.
"""

import argparse
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import shtab

from fraud_pipeline.cli.arguments import location, path
from fraud_pipeline.cli.parser import build_parser

ROOT: Final = Path(__file__).resolve().parents[2]


def completion(arguments: argparse.Namespace) -> int:
    """Print the script that completes commands, options and paths in a shell."""
    parser = build_parser()
    for action in _actions(parser):
        if action.type in (Path, path, location):
            action.complete = shtab.FILE  # type: ignore[attr-defined]  # shtab reads it
    print(shtab.complete(parser, shell=arguments.shell))
    return 0


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:  # noqa: SLF001 - argparse has no public list
        yield action
        for command in action.choices.values() if isinstance(action.choices, dict) else ():
            yield from _actions(command)


def test(arguments: argparse.Namespace) -> int:
    """Run the project's own tests. Raises RuntimeError outside of a checkout."""
    if not (ROOT / "fraud_pipeline_tests").is_dir():
        raise RuntimeError(f"{ROOT}: an installed package holds no tests; run `fraud-detect test` in a checkout")
    return subprocess.call([sys.executable, "-m", "pytest", *arguments.pytest], cwd=ROOT)  # noqa: S603 - our own arguments
