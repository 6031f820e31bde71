"""The built wheel in an empty environment: each extra installs the packages of its commands, without a checkout."""

import os
import re
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx
import pytest

from fraud_pipeline.modeling.training import TrainedModel
from fraud_pipeline.promotion.published_model import publish
from fraud_pipeline.settings import Settings
from fraud_pipeline_tests.support.bad_inputs import good_transaction
from fraud_pipeline_tests.support.deployment import BIN, ROOT
from fraud_pipeline_tests.support.services import free_port
from fraud_pipeline_tests.support.waiting import LIMIT_SECONDS, until

pytestmark = pytest.mark.slow

VERSION: Final = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
# The locked versions leave out NVIDIA's collectives; a plain installation would fetch 300 MB of them.
LEFT_OUT: Final = "nvidia-nccl-cu12 ; sys_platform == 'never'\n"
UNREACHABLE: Final = re.compile("error sending request|Failed to fetch|dns error")
SMALL_WORLD: Final = {
    "FRAUD_LABEL_MATURITY": "P10D",
    "FRAUD_WARM_UP": "P5D",
    "FRAUD_GAP": "P1D",
    "FRAUD_SCHEDULES_ENABLED": "false",
}


@dataclass(frozen=True, slots=True)
class Installed:
    """An environment that holds the wheel, and the directory where its commands run, far from the checkout."""

    bin: Path
    home: Path

    def run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """One call of `fraud-detect`."""
        return subprocess.run(
            [self.bin / "fraud-detect", *arguments],
            cwd=self.home, env=self.environment, capture_output=True, text=True, check=False,
        )  # fmt: skip

    @contextmanager
    def running(self, *arguments: str, ready: str) -> Iterator[None]:
        """`fraud-detect` as a server, once the address `ready` answers well."""
        log = self.home / f"{arguments[0]}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [self.bin / "fraud-detect", *arguments],
                cwd=self.home, env=self.environment, stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip
        try:
            # Compiling the kernels takes a minute in a new environment.
            until(lambda: process.poll() is not None or _answers(ready), what=ready)
            assert process.poll() is None, log.read_text()
            yield
        finally:
            os.killpg(process.pid, signal.SIGINT)
            try:
                process.wait(LIMIT_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    @property
    def environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("FRAUD_", "DAGSTER_"))}
        return inherited | SMALL_WORLD | {"FRAUD_HOME": str(self.home), "BENTOML_DO_NOT_TRACK": "true"}


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5).is_success
    except httpx.HTTPError:
        return False


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, because setuptools would add leftovers of an earlier build in the checkout."""
    directory = tmp_path_factory.mktemp("wheel")
    for name in ("fraud_pipeline", "fraud_pipeline_tests", "serving"):
        shutil.copytree(ROOT / name, directory / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, directory)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "."]
    subprocess.run(command, cwd=directory, check=True)
    return next(directory.glob("*.whl"))


@pytest.fixture(scope="module")
def install(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Installed]:
    """Installs the wheel with an extra into an empty environment, at the locked versions."""

    def with_extra(extra: str) -> Installed:
        directory = tmp_path_factory.mktemp("installed")
        subprocess.run([BIN / "uv", "venv", "--quiet", "--python", sys.executable, directory / "venv"], check=True)
        (directory / "left_out.txt").write_text(LEFT_OUT)
        done = subprocess.run(
            [
                BIN / "uv", "pip", "install", "--quiet", "--python", directory / "venv" / "bin" / "python",
                "--constraints", ROOT / "requirements.txt", "--overrides", directory / "left_out.txt",
                f"fraud-pipeline{extra} @ {wheel.as_uri()}",
            ],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if UNREACHABLE.search(done.stderr):
            pytest.skip(f"no package index can be reached: {done.stderr.strip().splitlines()[0]}")
        assert done.returncode == 0, done.stderr
        (directory / "home").mkdir()
        return Installed(bin=directory / "venv" / "bin", home=directory / "home")

    return with_extra


def test_without_an_extra_it_explains_itself(install: Callable[[str], Installed]) -> None:
    plain = install("")
    version = plain.run("--version")
    assert version.stdout.startswith(f"fraud-detect {VERSION} (Python 3."), version.stderr
    explained = plain.run("--help")
    assert explained.returncode == 0, explained.stderr
    assert re.search(r"^ +train +\w", explained.stdout, re.MULTILINE)
    for command in ("train", "serve"):
        missing = plain.run(command)
        assert missing.returncode == 1
        assert "pip install 'fraud-pipeline[" in missing.stderr
        assert len(missing.stderr.splitlines()) == 1
    tests = plain.run("test")
    assert tests.returncode == 1
    assert "checkout" in tests.stderr


def test_the_serving_extra_scores(install: Callable[[str], Installed], trained: TrainedModel) -> None:
    serving = install("[serving]")
    trained.model.save(serving.home / "trained")
    publish(serving.home / "trained", link=Settings(home=serving.home).champion_directory, version=1)
    port = free_port()
    with serving.running("serve", "--port", str(port), ready=f"http://127.0.0.1:{port}/readyz"):
        token = serving.run("token", "--subject", "a-test").stdout.strip()
        answer = httpx.post(
            f"http://127.0.0.1:{port}/score",
            json=good_transaction(), headers={"Authorization": f"Bearer {token}"}, timeout=LIMIT_SECONDS,
        )  # fmt: skip
    assert answer.status_code == 200, answer.text
    assert (answer.json()["decided_by"], answer.json()["model_version"]) == ("model", "1")


def test_the_training_extra_trains_and_shows_the_run(install: Callable[[str], Installed]) -> None:
    training = install("[training]")
    done = training.run("train", "--synthetic", "--transactions", "41000", "--n-trials", "1")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "champion is version 1" in done.stdout
    assert "days that the model did not learn from" in done.stdout, "the world ends now, and is judged"
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    query = """{
        workspaceOrError { ... on Workspace { locationEntries { name locationOrLoadError { __typename } } } }
        runsOrError { ... on Runs { results { jobName status } } }
    }"""
    with training.running("ui", "--port", str(port), ready=f"{url}/server_info"):
        answer = httpx.post(f"{url}/graphql", json={"query": query}, timeout=LIMIT_SECONDS).json()["data"]
    (location,) = answer["workspaceOrError"]["locationEntries"]
    assert (location["name"], location["locationOrLoadError"]["__typename"]) == ("fraud_pipeline", "RepositoryLocation")
    assert {"jobName": "source_to_champion_job", "status": "SUCCESS"} in answer["runsOrError"]["results"]
