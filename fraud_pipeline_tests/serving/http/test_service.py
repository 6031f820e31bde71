"""The real process: `bentoml serve` with a champion, a SQLite database and keys in a home of its own."""

import json
import os
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path
from typing import Final

import httpx
import pytest

from fraud_pipeline.modeling.training import TrainedModel
from fraud_pipeline.settings import Settings
from fraud_pipeline_tests.support.bad_inputs import BAD_INPUTS, CARD, BadInput, transaction_with_id
from fraud_pipeline_tests.support.services import Server, free_port, start, stop
from fraud_pipeline_tests.support.waiting import LIMIT_SECONDS
from serving.http.answers import BatchOut, DecisionOut, ErrorOut, FeedbackOut, ModelOut
from serving.http.launch import SERVICE

HEALTH: Final = {"/livez", "/readyz", "/healthz"}
OUR_PATHS: Final = {
    "/score",
    "/score_batch",
    "/feedback",
    "/decisions/{transaction_id}",
    "/model",
    "/openapi.json",
    "/metrics",
}
FORGED: Final = "e30.e30.e30"


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    """A client that may do everything."""
    with server.client() as client:
        yield client


def test_a_transaction_gets_one_decision_and_again_the_same(client: httpx.Client) -> None:
    sent = transaction_with_id("once")
    first = client.post("/score", json=sent)
    decision = DecisionOut.model_validate(first.json())
    assert (first.status_code, decision.transaction_id, decision.decided_by) == (200, "once", "model")
    assert (decision.mode, decision.replayed) == ("full", False)
    assert datetime.now(UTC) - decision.decided_at < timedelta(minutes=1)

    again = DecisionOut.model_validate(client.post("/score", json=sent).json())
    stored = DecisionOut.model_validate(client.get("/decisions/once").json())
    for other in (again, stored):
        assert other == decision.model_copy(update={"replayed": True, "latency_ms": other.latency_ms})


def test_an_id_used_for_another_transaction_is_a_conflict(client: httpx.Client) -> None:
    client.post("/score", json=transaction_with_id("taken"))
    answer = client.post("/score", json=transaction_with_id("taken", customer_id="somebody else"))
    assert (answer.status_code, ErrorOut.model_validate(answer.json()).error.code) == (409, "conflict")


def test_a_batch_is_answered_in_its_order_and_conflicts_stand_at_their_place(client: httpx.Client) -> None:
    first = transaction_with_id("batch-0")
    client.post("/score", json=first)
    sent = [transaction_with_id(f"batch-{number}") for number in range(1, 600)]
    clash = transaction_with_id("batch-0", merchant_id="another")
    answer = client.post("/score_batch", json={"transactions": [*sent[:300], clash, *sent[300:], first]})
    decisions = BatchOut.model_validate(answer.json()).decisions
    assert [decision.transaction_id for decision in decisions] == [
        *(body["transaction_id"] for body in sent[:300]),
        "batch-0",
        *(body["transaction_id"] for body in sent[300:]),
        "batch-0",
    ]
    assert [type(decision).__name__ for decision in (decisions[0], decisions[300], decisions[-1])] == [
        "DecisionOut",
        "UndecidedOut",
        "DecisionOut",
    ]


def test_one_bad_transaction_refuses_a_batch_of_which_nothing_is_stored(client: httpx.Client) -> None:
    batch = [transaction_with_id("unstored"), transaction_with_id("bad", amount=10**9)]
    assert client.post("/score_batch", json={"transactions": batch}).status_code == 422
    assert client.get("/decisions/unstored").status_code == 404


def test_many_callers_at_once_each_get_their_own_answer(client: httpx.Client) -> None:
    ids = [f"crowd-{number}" for number in range(200)]
    with ThreadPoolExecutor(32) as callers:
        answers = list(callers.map(lambda id_: client.post("/score", json=transaction_with_id(id_)).json(), ids))
    assert [answer["transaction_id"] for answer in answers] == ids
    assert {answer["replayed"] for answer in answers} == {False}


def test_feedback_is_remembered_once(client: httpx.Client) -> None:
    client.post("/score", json=transaction_with_id("reported"))
    sent = {"transaction_id": "reported", "label": "fraud"}
    first = FeedbackOut.model_validate(client.post("/feedback", json=sent).json())
    assert FeedbackOut.model_validate(client.post("/feedback", json=sent).json()) == first


@pytest.mark.parametrize("gap", [" ", "\u2003", "\u00a0"])
def test_ids_may_hold_anything_printable(gap: str, client: httpx.Client) -> None:
    """White space of any kind is one blank, so that a no-break space of an export makes no second id."""
    strange = f"a/b?c=d#e%20f é{gap}g"
    client.post("/score", json=transaction_with_id(strange))
    answer = client.get("/decisions/" + "".join(f"%{byte:02x}" for byte in strange.encode()))
    assert answer.json()["transaction_id"] == "a/b?c=d#e%20f é g"


def test_the_model_is_named(client: httpx.Client, trained: TrainedModel) -> None:
    model = ModelOut.model_validate(client.get("/model").json())
    assert model.features == list(trained.model.features)
    assert client.post("/score", json=transaction_with_id("by model")).json()["model_version"] == model.version


@pytest.mark.parametrize("bad", BAD_INPUTS, ids=[bad.name for bad in BAD_INPUTS])
def test_bad_input_is_refused_with_place_and_remedy_and_never_repeated(bad: BadInput, client: httpx.Client) -> None:
    answer = client.request(bad.method, bad.path, content=bad.body, headers=bad.headers)
    error = ErrorOut.model_validate(answer.json()).error
    assert answer.status_code == bad.status
    assert error.code
    assert len(error.message) > 10
    assert CARD not in answer.text
    assert bad.blames is None or bad.blames in {field.path for field in error.fields}
    assert all(field.problem and len(field.remedy) > 10 for field in error.fields)


def test_the_corpus_is_broad() -> None:
    assert len({bad.name for bad in BAD_INPUTS}) == len(BAD_INPUTS) >= 100


def test_the_description_lists_every_path_and_its_examples_are_accepted(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    assert document["paths"].keys() == OUR_PATHS
    for path, operations in document["paths"].items():
        if body := operations.get("post", {}).get("requestBody"):
            # Other tests send the examples to this server, too, at another time.
            example = json.dumps(body["content"]["application/json"]["example"]).replace("t-20260131", "t-again")
            assert client.post(path, json=json.loads(example)).status_code == 200, path


def test_storage_away_is_said_with_a_provisional_answer_and_later_decided(server: Server, client: httpx.Client) -> None:
    sent = transaction_with_id("stormy")
    large = transaction_with_id("stormy and large") | {"amount": 10_000.0}
    lock = sqlite3.connect(Settings(home=server.home).database.removeprefix("sqlite:///"), isolation_level=None)
    try:
        lock.execute("BEGIN IMMEDIATE")
        answer = client.post("/score", json=sent)
        batch = client.post("/score_batch", json={"transactions": [sent, large, sent]})
    finally:
        lock.execute("ROLLBACK")
        lock.close()
    body = ErrorOut.model_validate(answer.json())
    assert (answer.status_code, batch.status_code, answer.headers["Retry-After"]) == (503, 503, "5")
    assert body.provisional is not None
    assert body.provisional.decided_by == "fail_safe"
    provisional = ErrorOut.model_validate(batch.json()).provisional_decisions
    assert provisional is not None
    assert [entry.decision for entry in provisional] == ["allow", "review", "allow"]
    later = client.post("/score", json=sent)
    assert (later.status_code, later.json()["replayed"]) == (200, False)


@pytest.mark.slow
def test_a_body_that_never_ends_is_given_up(server: Server) -> None:
    host, port = server.url.removeprefix("http://").split(":")
    head = (
        f"POST /score HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {server.token}\r\n"
        "Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n"
    )
    with socket.create_connection((host, int(port)), timeout=LIMIT_SECONDS) as connection:
        connection.sendall(head.encode() + b"{")
        assert connection.recv(4_096).startswith(b"HTTP/1.1 503 ")


@pytest.mark.parametrize("name", ["FRAUD_DATABASE_URL", "FRAUD_SEED"])
def test_a_wrong_setting_ends_the_server_with_one_line(tmp_path: Path, name: str) -> None:
    command = [sys.executable, "-m", "bentoml", "serve", SERVICE, "--port", str(free_port())]
    environment = os.environ | {"FRAUD_HOME": str(tmp_path), "BENTOML_HOME": str(tmp_path / "bentoml"), name: "garbage"}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False)
    assert ended.returncode == 1
    (line,) = [line for line in ended.stderr.splitlines() if line]
    assert line.startswith("serving.service: ")
    assert name in line
    assert "garbage" not in line


_LIST_PATHS: Final = """
import bentoml
for route in bentoml.service(type("Plain", (), {})).to_asgi().routes:
    print(route.path or "/")
"""


@pytest.fixture(scope="session")
def bentoml_paths() -> set[str]:
    """The paths that BentoML itself would answer, in the installed version."""
    listed = subprocess.run([sys.executable, "-c", _LIST_PATHS], capture_output=True, text=True, check=True)
    return set(listed.stdout.split())


def test_only_the_health_probes_are_open(server: Server, bentoml_paths: set[str]) -> None:
    assert {"/metrics", "/docs.json", "/schema.json", *HEALTH} <= bentoml_paths
    guarded = {*OUR_PATHS, *bentoml_paths, "/static_content/index.html", "/anything"} - HEALTH
    with server.client(token="") as stranger, server.client(token=FORGED) as forger:
        for path, method in product(guarded, ("GET", "POST", "HEAD", "OPTIONS", "PUT")):
            assert stranger.request(method, path).status_code == 401, (method, path)
            assert forger.request(method, path).status_code == 401, (method, path)
        assert {stranger.get(path).status_code for path in HEALTH} == {200}


def test_nothing_of_bentoml_answers_but_its_health_probes(client: httpx.Client, bentoml_paths: set[str]) -> None:
    for path in bentoml_paths - HEALTH - OUR_PATHS:
        assert client.get(path).status_code == 404, path


@pytest.mark.servers
def test_sigterm_answers_everything_in_flight(home: Path) -> None:
    server = start(home)
    callers = 8
    with server.client() as client, ThreadPoolExecutor(callers) as threads:
        batches = [
            {"transactions": [transaction_with_id(f"last-{caller}-{number}") for number in range(100)]}
            for caller in range(callers)
        ]
        assert all(threads.map(lambda _: client.get("/livez").is_success, range(callers)))
        answers = [threads.submit(client.post, "/score_batch", json=batch) for batch in batches]
        while not any(answer.done() for answer in answers):
            time.sleep(0.001)
        assert stop(server) == 0
        assert [answer.result().status_code for answer in answers] == [200] * callers


@pytest.mark.servers
def test_sigterm_ends_connections_by_their_answers_so_that_no_request_is_lost(home: Path) -> None:
    server = start(home)
    first_answers = threading.Barrier(9)

    def send_until_closed(caller: int) -> list[int]:
        statuses = []
        with server.client() as client:
            for number in range(100_000):
                answer = client.post("/score", json=transaction_with_id(f"loop-{caller}-{number}"))
                while answer.status_code == 503:
                    # A busy machine sheds load; the client sends a refused request again.
                    time.sleep(float(answer.headers["Retry-After"]))
                    answer = client.post("/score", json=transaction_with_id(f"loop-{caller}-{number}"))
                statuses.append(answer.status_code)
                if number == 0:
                    first_answers.wait(LIMIT_SECONDS)
                if answer.headers.get("connection") == "close":
                    break
        return statuses

    with ThreadPoolExecutor(8) as threads:
        callers = [threads.submit(send_until_closed, caller) for caller in range(8)]
        first_answers.wait(LIMIT_SECONDS)
        assert stop(server) == 0
        assert {status for caller in callers for status in caller.result()} == {200}
