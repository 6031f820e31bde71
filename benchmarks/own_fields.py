"""Measures what `init` and `train` make of files that nobody prepared, beside plain XGBoost on the same rows.

    python benchmarks/own_fields.py FILE... [--n-trials N] [--keep DIRECTORY]

Runs the commands `fraud-detect init FILE` and `fraud-detect train --data-path FILE` in an empty home for each file, as
a newcomer does. `ours` and `plain` are average precision on the same test rows, and `gain` is their difference. Bounds
are 95 % intervals from resampled customers. `level` says whether the gate would promote by this comparison. Prints one
JSON object for each file. Files to try: `python benchmarks/own_field_files.py DIRECTORY`.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from fraud_pipeline.ingest.declaration import read_declaration
from fraud_pipeline.modeling.comparison import Comparison
from fraud_pipeline.modeling.training_workspace import Workspace
from fraud_pipeline.promotion.quality_checks import level_with_plain
from fraud_pipeline.promotion.verdict import GateRules
from fraud_pipeline.settings import Settings

VERDICT: Final = re.compile(r"^Verdict on version \d+: (\w+);", re.MULTILINE)
FRAUD_TOML: Final = "fraud.toml"


def command(arguments: Sequence[str], *, directory: Path) -> tuple[subprocess.CompletedProcess[str], float]:
    """Run `fraud-detect` with a home below `directory`; what it printed, and seconds."""
    # A setting of the person who measures must not decide what a newcomer would get.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FRAUD_")}
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "fraud_pipeline.cli.main", *arguments],
        cwd=directory,
        env={**environment, "FRAUD_HOME": str(directory / "home")},
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    return done, time.perf_counter() - began


def understood(path: Path) -> dict[str, Any]:
    """Which field is which column, how many own fields of each type, and the columns that are not used."""
    if not path.is_file():
        return {}
    declaration = read_declaration(path.read_text(), path=path)
    types = Counter(own.type for own in declaration.own)
    return {
        "fields": dict(declaration.fields),
        "event_time": list(declaration.event_time.columns) if declaration.event_time else [],
        "label": declaration.label.column if declaration.label else "",
        "own_fields": dict(types),
        "not_used": list(declaration.not_used),
    }


def beside_plain(home: Path) -> dict[str, Any]:
    """Our average precision and the plain model's on the same test rows."""
    evaluation = Workspace(Settings(home=home).model_directory).evaluation_file
    if not evaluation.is_file():
        return {}
    record = json.loads(evaluation.read_text())["beside_plain"]
    compared = Comparison.from_dict(record)
    return {
        "test_rows": compared.rows,
        "test_frauds": compared.frauds,
        "ours": _rounded(record["model"]),
        "plain": _rounded(record["plain"]),
        "plain_columns": len(record["columns"]),
        "gain": _rounded(record["gain"]),
        "level": level_with_plain(compared, rules=GateRules()).passed,
    }


def measure(file: Path, *, directory: Path, n_trials: int | None) -> dict[str, Any]:
    """What both commands made of one file."""
    init, init_seconds = command(["init", str(file)], directory=directory)
    trials = [] if n_trials is None else ["--n-trials", str(n_trials)]
    train, train_seconds = command(["train", "--data-path", str(file), *trials], directory=directory)
    verdict = VERDICT.search(train.stdout)
    problems = [done.stderr.strip().splitlines()[-3:] for done in (init, train) if done.returncode]
    return {
        "file": file.name,
        "init": {"status": init.returncode, "seconds": round(init_seconds, 1), **understood(directory / FRAUD_TOML)},
        "train": {
            "status": train.returncode,
            "seconds": round(train_seconds, 1),
            "verdict": verdict.group(1) if verdict else "",
            **beside_plain(directory / "home"),
        },
        "problems": [line for lines in problems for line in lines],
    }


def _rounded(interval: dict[str, float | None]) -> list[float | None]:
    bounds = (interval[name] for name in ("value", "low", "high"))
    return [None if bound is None else round(bound, 4) for bound in bounds]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--n-trials", type=int)
    parser.add_argument("--keep", type=Path, help="directory that keeps the homes; by default they are removed")
    arguments = parser.parse_args()
    for file in arguments.files:
        with tempfile.TemporaryDirectory() as temporary:
            directory = arguments.keep / file.stem if arguments.keep else Path(temporary)
            directory.mkdir(parents=True, exist_ok=True)
            measured = measure(file.resolve(), directory=directory, n_trials=arguments.n_trials)
        print(json.dumps(measured), flush=True)


if __name__ == "__main__":
    main()
