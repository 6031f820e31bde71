"""Requests counted and timed, whatever becomes of them.

Belongs here: when a request begins and ends, and with which status. Must not be here: the metrics themselves
(`serving/runtime/prometheus_metrics.py`), routes (`routes.py`).
"""

import time

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.http.routes import Routes
from serving.runtime.prometheus_metrics import Metrics


class MeasuredRequests:
    """Counts and times every request of an ASGI application; paths without a route of their own are one together."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics, routes: Routes) -> None:
        self._app = app
        self._metrics = metrics
        self._routes = routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 500  # the server's answer when the application sends none

        async def send_and_note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        started = time.perf_counter()
        self._metrics.began()
        try:
            await self._app(scope, receive, send_and_note)
        finally:
            self._metrics.ended()
            self._metrics.stage("total", time.perf_counter() - started)
            self._metrics.answered(route=self._routes.of(scope["path"]), status=status)
