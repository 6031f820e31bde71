"""Handlers of all paths: read the request, call the scorer, build the answer.

Belongs here: paths, and the status of each error. Must not be here: rules about requests (`requests.py`) or fraud
(`fraud_pipeline`), authorization (`serving/auth/tokens.py`), the assembly (`service.py`).
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Protocol

from starlette import types as asgi
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from fraud_pipeline.host.logs import REQUEST
from fraud_pipeline.host.tracing import current_span
from fraud_pipeline.schema.transactions import TransactionRow, now_microseconds
from fraud_pipeline.scoring.decide import provisional_decisions
from fraud_pipeline.scoring.decision_record import Conflict, ScoringResult
from fraud_pipeline.scoring.errors import NotStoredError
from serving.errors import FieldProblem, RequestError
from serving.http.answers import (
    answer,
    batch_body,
    conflict_body,
    decision_body,
    error_body,
    policy_body,
    reasons_body,
    time_of,
)
from serving.http.batching import MicroBatcher, OverloadedError
from serving.http.json_documents import check_content_type
from serving.http.openapi import describe
from serving.http.requests import RequestParser, parse_feedback, parse_transaction_id
from serving.http.scoring_requests import ScoringRequest
from serving.runtime.champion import LoadedModel
from serving.runtime.shadow import ShadowReport

ANSWER_WITHIN: Final = 10.0
"""Seconds for a whole request including its body; a longer wait or upload is given up."""

log: Final = logging.getLogger(__name__)
Handler = Callable[[Request], Awaitable[Response]]


class Records(Protocol):
    """The scorer's methods for everything but scoring."""

    def find(self, transaction_id: str) -> ScoringResult | None: ...
    def report(self, transaction_id: str, *, is_fraud: bool) -> int | None: ...


@dataclass(frozen=True, slots=True)
class Endpoints:
    """The handlers of all paths and their dependencies."""

    parser: RequestParser
    batcher: MicroBatcher[ScoringRequest, ScoringResult | Conflict]
    records: Records
    champion: Callable[[], LoadedModel | None]
    shadow: Callable[[], ShadowReport | None]
    metrics: Callable[[], tuple[bytes, str]]

    async def score(self, request: Request) -> Response:
        """POST /score: the decision on one transaction."""
        started = time.perf_counter()
        row = self.parser.transaction(await _json(request), now=now_microseconds())
        try:
            outcome = await self.batcher.score_one(ScoringRequest(row, _request_id(), current_span()))
        except NotStoredError:
            (provisional,) = await asyncio.to_thread(_provisional, [row])
            return _storage_away(provisional=provisional)
        if isinstance(outcome, Conflict):
            return answer(conflict_body(), status=409)
        return answer(decision_body(outcome, latency_ms=_milliseconds(started)))

    async def score_batch(self, request: Request) -> Response:
        """POST /score_batch: the decisions on several transactions, in their order."""
        started = time.perf_counter()
        rows = self.parser.batch(await _json(request), now=now_microseconds())
        request_id, span = _request_id(), current_span()
        try:
            outcomes = await self.batcher.score_many([ScoringRequest(row, request_id, span) for row in rows])
        except NotStoredError:
            return _storage_away(provisional_decisions=await asyncio.to_thread(_provisional, rows))
        return answer(batch_body(outcomes, latency_ms=_milliseconds(started)))

    async def feedback(self, request: Request) -> Response:
        """POST /feedback: the label of a transaction."""
        sent = parse_feedback(await _json(request))
        reported_at = await asyncio.to_thread(self.records.report, sent.transaction_id, is_fraud=sent.is_fraud)
        if reported_at is None:
            raise _unknown_transaction()
        return answer({"transaction_id": sent.transaction_id, "reported_at": time_of(reported_at)})

    async def decision(self, request: Request) -> Response:
        """GET /decisions/{transaction_id}: the stored decision."""
        started = time.perf_counter()
        transaction_id = parse_transaction_id(request.scope["path"].removeprefix("/decisions/"))
        scored = await asyncio.to_thread(self.records.find, transaction_id)
        if scored is None:
            raise _unknown_transaction()
        return answer(decision_body(scored, latency_ms=_milliseconds(started)))

    async def model(self, _request: Request) -> Response:
        """GET /model: the model that decides now."""
        loaded = self.champion()
        if loaded is None:
            raise RequestError(
                status=404, code="no_model", message="No model is loaded: rules decide until a champion is promoted."
            )
        shadow = self.shadow()
        return answer(
            {
                "version": loaded.version,
                "sha256": loaded.sha256,
                "loaded_at": loaded.loaded_at,
                "features": loaded.model.features,
                "label_maturity_days": loaded.model.feature_config.label_maturity / timedelta(days=1),
                **policy_body(loaded.model.policy),
                "shadow": shadow.to_dict() if shadow else None,
            }
        )

    async def description(self, _request: Request) -> Response:
        """GET /openapi.json."""
        document = describe(
            currency=self.parser.currency,
            max_batch=self.parser.max_batch,
            now=time_of(now_microseconds()),
            declared=self.parser.declared().values(),
            conversion=self.parser.conversion(),
        )
        return answer(document)

    async def measurements(self, _request: Request) -> Response:
        """GET /metrics: Prometheus text of all workers."""
        content, content_type = await asyncio.to_thread(self.metrics)
        return Response(content, headers={"Content-Type": content_type})

    def application(self) -> asgi.ASGIApp:
        """The ASGI application of these endpoints; its errors are JSON too.

        The guard has refused every other path and method already, and for one transaction a router with its
        middlewares costs as much as reading the request.
        """
        exact: dict[str, Handler] = {
            "/score": self.score,
            "/score_batch": self.score_batch,
            "/feedback": self.feedback,
            "/model": self.model,
            "/openapi.json": self.description,
            "/metrics": self.measurements,
        }

        async def application(scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
            request = Request(scope, receive)
            try:
                async with asyncio.timeout(ANSWER_WITHIN):
                    response = await exact.get(scope["path"], self.decision)(request)
            except Exception as error:  # noqa: BLE001 - every request is answered
                response = _failed(error)
            await response(scope, receive, send)

        return application


def _request_id() -> str:
    ids = REQUEST.get()
    return ids.request_id if ids else ""


async def _json(request: Request) -> bytes:
    headers = request.headers
    check_content_type(headers.get("content-type"), encoding=headers.get("content-encoding"))
    return await request.body()


def _milliseconds(started: float) -> float:
    return round((time.perf_counter() - started) * 1_000, 3)


def _unknown_transaction() -> RequestError:
    return RequestError(
        status=404,
        code="unknown_transaction",
        message="No decision is stored under this transaction_id; score it first.",
    )


def _provisional(rows: Sequence[TransactionRow]) -> list[dict[str, Any]]:
    return [
        {"decision": decision, "decided_by": "fail_safe", "reasons": reasons_body(reasons)}
        for decision, reasons in provisional_decisions(rows)
    ]


def _storage_away(**provisional: Any) -> Response:
    body = error_body(
        code="storage_unavailable",
        message="Not everything could be stored. Send the same request again: stored decisions are answered unchanged.",
    )
    return answer(body | provisional, status=503, headers={"Retry-After": "5"})


def _failed(error: Exception) -> Response:
    status = 500
    headers: Mapping[str, str] | None = None
    fields: tuple[FieldProblem, ...] = ()
    code, message = "internal_error", "The service failed on this request: see its log."
    match error:
        case NotStoredError():
            return _storage_away()
        case ClientDisconnect():
            return Response(status_code=400)  # the client is gone
        case RequestError():
            status, code, message, fields = error.status, error.code, error.message, error.fields
        case OverloadedError() | TimeoutError():
            status, headers = 503, {"Retry-After": "1"}
            code, message = "overloaded", "Too busy to answer in time; send the same request again."
        case _:
            log.error("a request failed", exc_info=error)
    return answer(error_body(code=code, message=message, fields=fields), status=status, headers=headers)
