"""Requests counted and timed, whatever becomes of them.

Belongs here: when a request begins and ends, and which route it counts for. Must not be here: the metrics themselves
(`serving/runtime/prometheus_metrics.py`).
"""

import time
from collections.abc import Collection
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.runtime.prometheus_metrics import Metrics

OTHER_ROUTE: Final = "other"


class MeasuredRequests:
    """Counts and times every request of an ASGI application; paths that are not of `routes` are all one route."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics, routes: Collection[str]) -> None:
        self._app = app
        self._metrics = metrics
        self._exact = frozenset(route for route in routes if "{" not in route)
        self._below = {route.partition("{")[0]: route for route in routes if "{" in route}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 500  # what the server says when the application says nothing

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
            self._metrics.answered(route=self._route(scope["path"]), status=status)

    def _route(self, path: str) -> str:
        if path in self._exact:
            return path
        return next((route for start, route in self._below.items() if path.startswith(start)), OTHER_ROUTE)
