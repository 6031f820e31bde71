"""A request is followed by its id, in the answer, the log and the stored decision, and by its trace."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import Any, Final

import httpx
import pytest

from fraud_pipeline.modeling.training import TrainedModel
from fraud_pipeline.promotion.published_model import publish
from fraud_pipeline.settings import Settings
from fraud_pipeline_tests.support.bad_inputs import transaction_with_id
from fraud_pipeline_tests.support.otlp import Receiver, otlp_receiver
from fraud_pipeline_tests.support.services import Server, start, stop
from fraud_pipeline_tests.support.waiting import until
from serving.http.guard import PATHS
from serving.http.request_context import RequestContext
from serving.http.routes import Routes

TRACE: Final = "4bf92f3577b34da6a3ce929d0e0e4736"
SENDER: Final = "00f067aa0ba902b7"
TRACEPARENT: Final = f"00-{TRACE}-{SENDER}-01"
STAGES: Final = {"history", "features", "model"}

_LOGS: Final = """
import asyncio, logging, sys
from fraud_pipeline.host.logs import configure_logging
from serving.http.request_context import RequestContext
from serving.http.routes import Routes

configure_logging(sys.argv[1], "INFO")
configure_logging(sys.argv[1], "INFO")
log = logging.getLogger("a.module")

async def app(scope, receive, send):
    log.debug("not logged")
    await asyncio.to_thread(log.info, "in a\\nthread")
    try:
        raise ZeroDivisionError
    except ZeroDivisionError:
        log.exception("failed")

headers = [(b"x-request-id", b"order-17"), (b"traceparent", sys.argv[2].encode())]
scope = {"type": "http", "method": "GET", "path": "/model", "headers": headers}
asyncio.run(RequestContext(app, routes=Routes(["/model"]))(scope, None, None))
log.warning("outside")
"""


def logged(log_format: str) -> str:
    """The log lines of a process while it answers a request, and after it."""
    command = [sys.executable, "-c", _LOGS, log_format, TRACEPARENT]
    return subprocess.run(command, capture_output=True, text=True, check=True).stderr


@pytest.mark.slow
def test_json_logs_are_an_object_per_line_with_the_request() -> None:
    in_thread, failed, outside = map(json.loads, logged("json").splitlines())
    of_request = {"request_id": "order-17", "trace_id": TRACE}
    assert {**in_thread, "time": ""} == {
        **of_request,
        "time": "",
        "level": "info",
        "logger": "a.module",
        "message": "in a\nthread",
    }
    assert failed.items() >= {**of_request, "level": "error", "message": "failed"}.items()
    assert failed["exception"].endswith("ZeroDivisionError")
    assert (outside["message"], "request_id" in outside) == ("outside", False)


@pytest.mark.slow
def test_text_logs_name_the_request_too() -> None:
    lines = logged("text")
    assert "thread [request order-17]" in lines
    assert lines.endswith("WARNING a.module: outside\n")


@pytest.mark.slow
def test_without_an_endpoint_nothing_of_opentelemetry_is_loaded() -> None:
    program = """
import sys
from fraud_pipeline.host.tracing import span, start_tracing
import fraud_pipeline.scoring.scorer, serving.http.request_context, serving.stream.consumer_process
stop = start_tracing({"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"})
start_tracing({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"})
start_tracing({})
with span("nothing") as current:
    assert current is None
stop()
print(*(name for name in sys.modules if name.startswith("opentelemetry")))
"""
    modules = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert modules.split() == []


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with otlp_receiver() as receiver:
        yield receiver


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory, trained: TrainedModel, receiver: Receiver) -> Iterator[Server]:
    """The service with traces and JSON logs on."""
    home = tmp_path_factory.mktemp("traced")
    trained.model.save(home / "trained")
    publish(home / "trained", link=Settings(home=home).champion_directory)
    server = start(
        home,
        OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url,
        OTEL_BSP_SCHEDULE_DELAY="100",
        FRAUD_LOG_FORMAT="json",
        FRAUD_LOG_LEVEL="INFO",
    )
    yield server
    assert stop(server) == 0
    lines = [json.loads(line) for line in (home / "server.log").read_text().splitlines()]
    assert any(line["message"].startswith("model version") for line in lines)


@pytest.mark.servers
def test_a_request_is_one_trace_from_the_caller_to_the_database(traced: Server, receiver: Receiver) -> None:
    headers = {"X-Request-Id": "order-17", "traceparent": TRACEPARENT}
    with traced.client() as client:
        transaction = transaction_with_id("traced")
        answer = post(client, "/score", transaction, headers=headers)
        again = post(client, "/score", transaction)
        stored = client.get("/decisions/traced")
    assert answer.headers["x-request-id"] == "order-17"
    assert {response.json()["request_id"] for response in (answer, again, stored)} == {"order-17"}
    until(lambda: {"POST /score", "score micro-batch", "transaction"} <= receiver.names(), what="the spans")
    spans = [span for _, span in receiver.spans if span.trace_id.hex() == TRACE]
    by_id = {span.span_id: span for span in spans}
    by_name = {span.name: span for span in spans}
    request = next(span for span in spans if span.span_id.hex() in answer.headers["traceparent"])
    assert request.parent_span_id.hex() == SENDER
    assert answer.headers["traceparent"] == f"00-{TRACE}-{request.span_id.hex()}-01"
    assert attributes(request).items() >= {"http.response.status_code": 200, "fraud.request_id": "order-17"}.items()
    for child, parent in (("score micro-batch", "POST /score"), *((stage, "transaction") for stage in STAGES)):
        assert by_id[by_name[child].parent_span_id].name == parent
    assert {service for service, _ in receiver.spans} == {"fraud-detect"}
    # Ids of transactions and customers are no part of a trace.
    assert "traced" not in str(receiver.spans)


@pytest.mark.servers
def test_spans_are_named_by_declared_paths_and_a_bad_request_id_is_replaced(traced: Server, receiver: Receiver) -> None:
    route = "GET /decisions/{transaction_id}"
    with traced.client() as client:
        rows = [transaction_with_id(f"batch-{number}") for number in range(3)]
        post(client, "/score_batch", {"transactions": rows}, headers={"X-Request-Id": "a batch"})
        made = client.get("/decisions/batch-0").json()["request_id"]
        assert client.get("/decisions/nobody").status_code == 404
    assert len(made) == 32
    until(lambda: 404 in [attributes(span)["http.response.status_code"] for span in receiver.named(route)])


def test_an_answer_carries_the_ids_of_its_request() -> None:
    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"a", b"b")]})

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"x-request-id", b"order-17"), (b"traceparent", TRACEPARENT.encode())]
    scope = {"type": "http", "method": "GET", "path": "/model", "headers": headers}
    service = RequestContext(app, routes=Routes([path for _, path in PATHS]))
    asyncio.run(service(scope, None, send))  # type: ignore[arg-type]  # this application receives nothing
    assert sent[0]["headers"] == [(b"a", b"b"), *headers]


def post(client: httpx.Client, path: str, body: Any, *, headers: Mapping[str, str] | None = None) -> httpx.Response:
    """A good answer: a machine with much else to do sheds load, and then the same request is sent again."""
    answers: list[httpx.Response] = []

    def answered() -> bool:
        answers.append(client.post(path, json=body, headers=headers))
        return answers[-1].status_code != 503

    until(answered, what="an answer")
    assert answers[-1].status_code == 200, answers[-1].text
    return answers[-1]


def attributes(span: Any) -> dict[str, Any]:
    """The attributes of a span as plain values."""
    return {attribute.key: attribute.value.int_value or attribute.value.string_value for attribute in span.attributes}
