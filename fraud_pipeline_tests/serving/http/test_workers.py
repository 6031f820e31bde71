"""Two workers of one service: each sees the counts and answers of the other."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx
import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from fraud_pipeline_tests.support.bad_inputs import good_transaction
from fraud_pipeline_tests.support.services import Server, start, stop
from fraud_pipeline_tests.support.waiting import until


@pytest.fixture
def two_workers(tmp_path: Path) -> Iterator[Server]:
    server = start(tmp_path, FRAUD_HTTP_WORKERS="2")
    yield server
    assert stop(server) == 0


def worker_of(client: httpx.Client, server: Server) -> int | None:
    """The process that a client's connection, kept open, leads to."""
    answer = client.get("/model")
    port = answer.extensions["network_stream"].get_extra_info("client_addr")[1]
    for process in psutil.Process(server.process.pid).children(recursive=True):
        if any(connection.raddr and connection.raddr.port == port for connection in process.net_connections()):
            return int(process.pid)
    return None


def totals(client: httpx.Client) -> dict[str, float]:
    """The sums over all workers, by name."""
    sums: dict[str, float] = {}
    for family in text_string_to_metric_families(client.get("/metrics").text):
        for sample in family.samples:
            sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
    return sums


def test_the_other_worker_answers_as_stored_and_counts_with_the_first(two_workers: Server) -> None:
    with ExitStack() as stack:
        clients: dict[int | None, httpx.Client] = {}

        def both() -> bool:
            client = stack.enter_context(two_workers.client())
            clients.setdefault(worker_of(client, two_workers), client)
            return len(clients.keys() - {None, os.getpid()}) == 2

        until(both, what="a connection to each worker")
        client_a, client_b = (client for pid, client in clients.items() if pid is not None)
        sent = [good_transaction() | {"transaction_id": f"t-{number}"} for number in range(10)]
        first = [
            client.post("/score", json=body).json() for client, body in zip([client_a, client_b] * 5, sent, strict=True)
        ]
        again = [
            client.post("/score", json=body).json() for client, body in zip([client_b, client_a] * 5, sent, strict=True)
        ]
        assert [answer["replayed"] for answer in first + again] == [False] * 10 + [True] * 10
        compared = ("transaction_id", "decision", "probability", "reasons", "mode", "decided_by")
        assert [[answer[name] for name in compared] for answer in again] == [
            [answer[name] for name in compared] for answer in first
        ]
        changed = client_b.post("/score", json=sent[0] | {"amount": 77.77})
        assert changed.status_code == 409
        for client in (client_a, client_b):
            counted = totals(client)
            assert counted["fraud_decisions_total"] == 10
            assert counted["fraud_replayed_answers_total"] == 10
            assert counted["fraud_conflicts_total"] == 1
