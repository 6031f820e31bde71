"""Rows that wait to be scored over HTTP, and the scoring of a micro-batch of them.

Belongs here: a row with the request that it came with. Must not be here: the queue (`batching.py`), scoring.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from fraud_pipeline.host.tracing import span, tracing_is_on
from fraud_pipeline.schema.transactions import TransactionRow
from fraud_pipeline.scoring.decision_record import Conflict, ScoringResult
from serving.runtime.resilience import ResilientScorer


class ScoringRequest(NamedTuple):
    """A transaction, the id of its request, and the request's span while tracing is on."""

    row: TransactionRow
    request_id: str
    span: Any


def score_requests(scorer: ResilientScorer, requests: Sequence[ScoringRequest]) -> list[ScoringResult | Conflict]:
    """One outcome per request, in order; of requests for one transaction, the first gives the stored request id."""
    request_ids = {request.row.transaction_id: request.request_id for request in reversed(requests)}
    rows = [request.row for request in requests]
    if not tracing_is_on():
        return scorer.score(rows, request_ids=request_ids)
    spans = list({request.span.span_id: request.span for request in requests if request.span is not None}.values())
    with span("score micro-batch", parent=spans[0] if spans else None, links=spans[1:]) as current:
        current.set_attribute("fraud.rows", len(rows))
        return scorer.score(rows, request_ids=request_ids)
