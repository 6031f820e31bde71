"""A sender's ids are taken over only where they are short plain text and no card number."""

import re

import pytest

from fraud_pipeline.host.logs import RequestIds
from serving.request_ids import record_request_ids, request_ids

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE}-00f067aa0ba902b7-01".encode()


@pytest.mark.parametrize("sent", [b"7", b"order/17:a_b-c.d+e=", b"A" * 64, TRACE.encode()])
def test_a_sane_id_is_taken_over(sent: bytes) -> None:
    assert request_ids(sent, None) == RequestIds(sent.decode())


@pytest.mark.parametrize(
    "sent",
    [
        *(None, b"", b" ", b"a b", b"a\tb", b"a\r\nX-Evil: 1", b"A" * 65, b"-a", "é".encode(), b'{"a":1}', b"a\x00"),
        *(b"4111111111111111", b"4111-1111-1111-1111", b"4111 1111 1111 1111", b"0" * 64),
    ],
)
def test_any_other_id_is_replaced_by_a_new_one(sent: bytes | None) -> None:
    first, second = request_ids(sent, None), request_ids(sent, None)
    assert first != second
    assert re.fullmatch("[0-9a-f]{32}", first.request_id)


def test_a_request_without_an_id_is_called_by_its_trace() -> None:
    assert request_ids(None, TRACEPARENT) == RequestIds(TRACE, TRACE)
    assert request_ids(b"order-17", TRACEPARENT) == RequestIds("order-17", TRACE)


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        TRACEPARENT.upper(),
        TRACEPARENT[:-1],
        TRACEPARENT.replace(b"00-", b"ff-", 1),
        TRACEPARENT.replace(TRACE.encode(), b"0" * 32),
        TRACEPARENT.replace(b"00f067aa0ba902b7", b"0" * 16),
        TRACEPARENT + b"x",
    ],
)
def test_a_malformed_trace_is_none(sent: bytes) -> None:
    assert request_ids(b"order-17", sent) == RequestIds("order-17", "")


def test_records_carry_the_same_headers_in_any_case() -> None:
    assert record_request_ids([("X-Request-Id", b"order-17"), ("other", None)]) == RequestIds("order-17")
    assert record_request_ids([("traceparent", TRACEPARENT)]) == RequestIds(TRACE, TRACE)
    assert record_request_ids([("other", b"1"), ("x-request-id", None)]) is None
