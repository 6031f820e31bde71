"""Gives each request its ids: for the log lines, the stored decision and the headers of the answer; and its span.

Belongs here: reading and answering headers. Must not be here: which ids are good (`serving/request_ids.py`).
"""

from typing import Any, Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fraud_pipeline.host.logs import REQUEST, RequestIds
from fraud_pipeline.host.tracing import current_span, remote_span, span, traceparent_of
from serving.http.guard import OPEN
from serving.http.routes import Routes
from serving.request_ids import REQUEST_ID_HEADER, TRACEPARENT_HEADER, request_ids

_HEADERS: Final = frozenset((REQUEST_ID_HEADER, TRACEPARENT_HEADER))


class RequestContext:
    """Sets `REQUEST` while the application answers, and names the request in the answer: X-Request-Id, traceparent.

    While tracing is on each request is a span, of the caller's trace if the caller names one. Health probes are none.
    """

    def __init__(self, app: ASGIApp, *, routes: Routes) -> None:
        self._app = app
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in OPEN:
            await self._app(scope, receive, send)
            return
        sent: dict[bytes, bytes] = {name: value for name, value in scope["headers"] if name in _HEADERS}
        traceparent = sent.get(TRACEPARENT_HEADER)
        with span("HTTP", kind="SERVER", parent=remote_span(traceparent)) as current:
            if current is not None:
                traceparent = traceparent_of(current_span()).encode()
            ids = request_ids(sent.get(REQUEST_ID_HEADER), traceparent)
            headers = [(REQUEST_ID_HEADER, ids.request_id.encode())]
            if ids.trace_id and traceparent is not None:
                headers.append((TRACEPARENT_HEADER, traceparent))
            if current is not None:
                self._describe(current, scope, ids)

            async def send_with_ids(message: Message) -> None:
                if message["type"] == "http.response.start":
                    message = {**message, "headers": [*message.get("headers", ()), *headers]}
                    if current is not None:
                        current.set_attribute("http.response.status_code", message["status"])
                await send(message)

            token = REQUEST.set(ids)
            try:
                await self._app(scope, receive, send_with_ids)
            finally:
                REQUEST.reset(token)

    def _describe(self, current: Any, scope: Scope, ids: RequestIds) -> None:
        """Name the span as OpenTelemetry's conventions say; ids in a path are no part of it."""
        route = self._routes.of(scope["path"])
        current.update_name(f"{scope['method']} {route}")
        current.set_attributes(
            {"http.request.method": scope["method"], "http.route": route, "fraud.request_id": ids.request_id}
        )
