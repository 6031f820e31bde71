"""The id of a request and its trace, from the headers X-Request-Id and traceparent.

Belongs here: which ids are accepted and which are generated. Must not be here: HTTP and Kafka themselves, spans
(`fraud_pipeline/host/tracing.py`). Ids reach logs and the database, so an id that could be a card number or is not
short plain text is replaced.
"""

import os
import re
from collections.abc import Iterable
from typing import Final

from fraud_pipeline.host.logs import RequestIds

REQUEST_ID_HEADER: Final = b"x-request-id"
TRACEPARENT_HEADER: Final = b"traceparent"

_REQUEST_ID: Final = re.compile(rb"(?![0-9 -]{12,}$)[A-Za-z0-9][A-Za-z0-9._:/+=-]{0,63}")
# https://www.w3.org/TR/trace-context/#traceparent-header; later versions may add fields.
_TRACEPARENT: Final = re.compile(
    rb"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?"
)


def request_ids(request_id: bytes | None, traceparent: bytes | None) -> RequestIds:
    """The ids of a request; without an id of its own it is called by its trace, else by a new random id."""
    match = _TRACEPARENT.fullmatch(traceparent) if traceparent else None
    trace_id = match[1].decode() if match else ""
    if request_id and _REQUEST_ID.fullmatch(request_id):
        return RequestIds(request_id.decode(), trace_id)
    return RequestIds(trace_id or os.urandom(16).hex(), trace_id)


def record_request_ids(headers: Iterable[tuple[str, bytes | None]]) -> RequestIds | None:
    """The ids of a Kafka record, whose headers have the names of HTTP's in any case; None where it carries none."""
    values = {name.lower(): value for name, value in headers if value}
    request_id, traceparent = values.get("x-request-id"), values.get("traceparent")
    return request_ids(request_id, traceparent) if request_id or traceparent else None
