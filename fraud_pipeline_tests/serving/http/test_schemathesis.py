"""Thousands of requests that a stranger derives from /openapi.json, sent to the real process."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from fraud_pipeline_tests.support.services import Server

_STRANGER_TIMES: Final = """
from datetime import UTC, datetime, timedelta
import schemathesis
from hypothesis import strategies as st

# The schema cannot say that times must be recent.
minutes = st.integers(-59 * 24 * 60, 4)
recent = minutes.map(lambda ago: (datetime.now(UTC) + timedelta(minutes=ago)).isoformat())
schemathesis.openapi.format("date-time", recent)


# Nor that 17.410000000000004, the noise of a calculation, is 17.41.
def has_noise(value):
    if isinstance(value, dict):
        return any(has_noise(item) for item in value.values())
    if isinstance(value, list):
        return any(has_noise(item) for item in value)
    return isinstance(value, float) and value != round(value, 2) and abs(value - round(value, 2)) < 1e-7


@schemathesis.hook
def filter_body(context, body):
    return not has_noise(body)
"""
_EXPECTED: Final = """
[checks]
negative_data_rejection.expected-statuses = ["4xx"]
positive_data_acceptance.expected-statuses = ["2xx", "404", "409"]
"""


@pytest.mark.slow
def test_schemathesis_finds_nothing_in_two_thousand_requests(server: Server, tmp_path: Path) -> None:
    (tmp_path / "recent_times.py").write_text(_STRANGER_TIMES)
    (tmp_path / "schemathesis.toml").write_text(_EXPECTED)
    with server.client() as client:
        (tmp_path / "openapi.json").write_bytes(client.get("/openapi.json").content)
    command = [str(Path(sys.executable).with_name("schemathesis")), "run", "openapi.json", "--url", server.url]
    options = ["--checks", "all", "--max-examples", "450", "--header", f"Authorization: Bearer {server.token}"]
    environment = os.environ | {"SCHEMATHESIS_HOOKS": "recent_times", "PYTHONPATH": str(tmp_path), "COLUMNS": "200"}
    result = subprocess.run(
        [*command, *options], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stdout[-8_000:] + result.stderr
    generated = re.search(r"(\d+) generated, (\d+) passed", result.stdout)
    assert generated is not None, result.stdout[-2_000:]
    assert int(generated[1]) >= 2_000
