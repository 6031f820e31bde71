"""The benchmarks behind the documented figures still run: each ends with its line of JSON, in its smallest size.

The figures of such runs mean nothing, so they are not looked at.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import pytest

pytestmark = pytest.mark.slow

ROOT: Final = Path(__file__).parents[2]
PROGRAMS: Final = sorted(
    path.stem for path in (ROOT / "benchmarks").glob("*.py") if "__main__" in path.read_text(encoding="utf-8")
)


def run(name: str, *options: str) -> dict[str, Any]:
    """The last line of a benchmark's output."""
    command = [sys.executable, str(ROOT / "benchmarks" / f"{name}.py"), *options]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert result.returncode == 0, result.stderr[-2_000:]
    figures: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return figures


def test_features_agree_with_those_of_other_tools(tmp_path: Path) -> None:
    random, size = np.random.default_rng(1), 500
    rows = pd.DataFrame(
        {
            "TX_DATETIME": pd.Timestamp("2026-01-01")
            + pd.to_timedelta(random.integers(0, 86_400 * 60, size), unit="s"),
            "CUSTOMER_ID": random.integers(0, 20, size),
            "TERMINAL_ID": random.integers(0, 20, size),
            "TX_AMOUNT": random.integers(1, 10_000, size) / 100,
            "TX_FRAUD": random.integers(0, 2, size),
        }
    )
    rows.to_parquet(tmp_path / "handbook.parquet")
    figures = run("features", "--data", str(tmp_path / "handbook.parquet"), "--repeats", "1")
    assert figures["rows"] == size


@pytest.mark.parametrize(
    ("name", "options", "key"),
    [
        ("history_cache", ("--customers", "2000", "--events", "5", "--seconds", "0"), "batch_1"),
        ("retention", ("--years", "1", "--per-day", "1"), "years"),
        ("tuning", ("--n-trials", "2", "--transactions", "40000"), "trials_per_minute"),
    ],
)
def test_a_small_run_ends_with_its_figures(name: str, options: tuple[str, ...], key: str) -> None:
    assert run(name, *options)[key]


@pytest.mark.parametrize("name", PROGRAMS)
def test_each_program_says_how_it_is_used(name: str) -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / f"{name}.py"), "--help"]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert result.returncode == 0, result.stderr[-2_000:]
    assert result.stdout.startswith("usage:")
