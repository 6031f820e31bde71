"""Requests are counted by declared route and by status, and timed."""

import asyncio
import re
from typing import Final

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from fraud_pipeline_tests.support.metrics_text import metric_value, samples_by_name
from serving.http.guard import PATHS
from serving.http.measured import MeasuredRequests
from serving.http.routes import OTHER_ROUTE, Routes
from serving.runtime.prometheus_metrics import Metrics

ROUTES: Final = {path for _, path in PATHS}


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


def service(metrics: Metrics) -> MeasuredRequests:
    """Answers at each path, one of which fails."""

    async def answer(request: Request) -> Response:
        during = metric_value(metrics, "fraud_http_requests_in_flight")
        return Response(str(during), status_code=404 if request.method == "GET" else 200)

    async def crash(_request: Request) -> Response:
        raise ZeroDivisionError

    paths = [Route(re.sub(r"\{(.*)\}", r"{\1:path}", path), answer, methods=["GET", "POST"]) for path in ROUTES]
    app = Starlette(routes=[*paths, Route("/crash", crash)])
    return MeasuredRequests(app, metrics=metrics, routes=Routes(ROUTES))


def send(app: MeasuredRequests, method: str, path: str) -> str:
    async def sent() -> str:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            return (await client.request(method, path)).text

    return asyncio.run(sent())


class TestRequests:
    def test_requests_are_counted_by_route_and_status_and_timed(self, metrics: Metrics) -> None:
        app = service(metrics)
        assert send(app, "POST", "/score") == "1.0"
        for path in ("/decisions/a/b/c", "/crash", "/nowhere"):
            send(app, "GET", path)
        assert metric_value(metrics, "fraud_http_requests_total", "/score", "200") == 1
        assert metric_value(metrics, "fraud_http_requests_total", "/decisions/{transaction_id}", "404") == 1
        assert metric_value(metrics, "fraud_http_requests_total", OTHER_ROUTE, "500") == 1
        assert metric_value(metrics, "fraud_http_requests_total", OTHER_ROUTE, "404") == 1
        assert metric_value(metrics, "fraud_stage_duration_seconds_count", "total") == 4
        assert metric_value(metrics, "fraud_http_requests_in_flight") == 0

    @given(st.text() | st.sampled_from(sorted(ROUTES)).flatmap(lambda route: st.text().map(lambda tail: route + tail)))
    def test_any_path_is_one_of_the_declared_routes(self, path: str) -> None:
        metrics = Metrics()

        async def app(_scope: object, _receive: object, _send: object) -> None:
            """Sends no answer."""

        service = MeasuredRequests(app, metrics=metrics, routes=Routes(ROUTES))
        asyncio.run(service({"type": "http", "path": path}, None, None))  # type: ignore[arg-type]
        counted = [
            labels
            for name, labels in samples_by_name(metrics.exposition()[0].decode())
            if name == "fraud_http_requests_total"
        ]
        assert [labels - {"500"} <= {*ROUTES, OTHER_ROUTE} for labels in counted] == [True]

    def test_no_path_is_a_label_as_it_was_sent(self, metrics: Metrics) -> None:
        for path in ("/decisions/card-4711", "/card-4711", "/score/card-4711"):
            send(service(metrics), "GET", path)
        assert b"card-4711" not in metrics.exposition()[0]
