"""Invalid HTTP requests, by mistake or on purpose; each must be refused with 4xx and a remedy.

Every value that could be card data contains CARD, which no answer may repeat.
"""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from fraud_pipeline.schema.fields import fields_of

REQUIRED: Final = tuple(field.name for field in fields_of("request") if field.required and not field.when_missing)
CARD: Final = "411111"
MAX_BATCH: Final = 1_000
MAX_BODY: Final = 1_000_000


def good_transaction(**changes: Any) -> dict[str, Any]:
    """A transaction that is accepted now, with these changes."""
    return {
        "transaction_id": f"t-{CARD}",
        "event_time": datetime.now(UTC).isoformat(),
        "customer_id": f"c-{CARD}",
        "merchant_id": f"m-{CARD}",
        "amount": 411111.11,
        "currency": "EUR",
    } | changes


def transaction_with_id(transaction_id: str, **changes: Any) -> dict[str, Any]:
    """An accepted transaction with this id and no card data in its amount."""
    return good_transaction(**{"transaction_id": transaction_id, "amount": 19.99} | changes)


@dataclass(frozen=True, slots=True)
class BadInput:
    """One request, the status it gets, and the field that the answer blames; None where no field is to blame."""

    name: str
    status: int
    blames: str | None
    body: bytes
    path: str = "/score"
    method: str = "POST"
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": "application/json"})


def _field(name: str, path: str, **changes: Any) -> BadInput:
    return BadInput(name, 422, path, json.dumps(good_transaction(**changes)).encode())


def _raw(name: str, path: str, old: str, new: str) -> BadInput:
    return BadInput(name, 422, path, json.dumps(good_transaction()).replace(old, new).encode())


def _not_json(name: str, body: bytes) -> BadInput:
    return BadInput(name, 400, "body", body)


def _without(name: str) -> BadInput:
    sent = {key: value for key, value in good_transaction().items() if key != name}
    return BadInput(f"no {name}", 422, name, json.dumps(sent).encode())


def _typed(content_type: str | None, **more: str) -> BadInput:
    headers = ({"Content-Type": content_type} if content_type else {}) | more
    name = f"content type {content_type} {more or ''}".strip()
    return BadInput(name, 415, "content-type", json.dumps(good_transaction()).encode(), headers=headers)


def _at(**delta: float) -> str:
    return (datetime.now(UTC) + timedelta(**delta)).isoformat()


def _batch(name: str, status: int, path: str | None, transactions: Any) -> BadInput:
    return BadInput(name, status, path, json.dumps({"transactions": transactions}).encode(), path="/score_batch")


def _feedback(name: str, path: str, **sent: Any) -> BadInput:
    return BadInput(name, 422, path, json.dumps(sent).encode(), path="/feedback")


BAD_INPUTS: Final[tuple[BadInput, ...]] = (
    _not_json("empty body", b""),
    _not_json("form data", b"amount=411111&currency=EUR"),
    _not_json("half an object", json.dumps(good_transaction()).encode()[:-1]),
    _not_json("single quotes", b"{'amount': 411111}"),
    _not_json("a comment", b'{"amount": 411111} // EUR'),
    _not_json("two documents", b"{} {}"),
    _not_json("a leading zero", b'{"amount": 0411111}'),
    _not_json("UTF-16", json.dumps(good_transaction()).encode("utf-16")),
    _not_json("a byte order mark", b"\xef\xbb\xbf" + json.dumps(good_transaction()).encode()),
    _not_json("broken UTF-8", b'{"customer_id": "411111\xff"}'),
    _not_json("an encoded surrogate", b'{"customer_id": "411111\xed\xa0\x80"}'),
    _not_json("a raw NUL", b'{"customer_id": "411111\x00"}'),
    _not_json("a raw newline in text", b'{"customer_id": "411111\n"}'),
    _not_json("a pickle declared as JSON", b"\x80\x04\x95\x0c\x00\x00\x00\x00\x00\x00\x00\x8c\x06411111\x94."),
    _not_json("arrays 100,000 deep", b"[" * 100_000 + b"]" * 100_000),
    _not_json("objects 100,000 deep", b'{"a":' * 100_000 + b"1" + b"}" * 100_000),
    BadInput("an array", 422, "body", b"[411111]"),
    BadInput("text", 422, "body", b'"411111"'),
    BadInput("a number", 422, "body", b"411111"),
    BadInput("null", 422, "body", b"null"),
    BadInput("NaN alone", 422, "body", b"NaN"),
    BadInput("500 keys", 422, "body", json.dumps({f"k{number}{CARD}": 1 for number in range(500)}).encode()),
    *(_without(name) for name in REQUIRED),
    *(_field(f"null {name}", name, **{name: None}) for name in REQUIRED),
    _field("unknown field", "label", label=CARD),
    _field("card number as a key", "(name)", **{f"{CARD}1111111111": 1}),
    _field("amount as text", "amount", amount="411111.11"),
    _field("amount as a boolean", "amount", amount=True),
    _field("amount as an array", "amount", amount=[411111.11]),
    _field("amount as an object", "amount", amount={"value": 411111.11}),
    _field("refund above the cap", "amount", amount=-411_111_111_111),
    _field("amount above the cap", "amount", amount=411_111_111_111),
    _field("amount of a fraction of a cent", "amount", amount=0.004),
    _field("amount finer than a cent", "amount", amount=411111.115),
    _field("amount NaN", "amount", amount=float("nan")),
    _field("amount Infinity", "amount", amount=float("inf")),
    _field("amount -Infinity", "amount", amount=float("-inf")),
    _raw("amount 1e400", "amount", "411111.11", "411111e400"),
    _raw("amount of 5,000 digits", "amount", "411111.11", "411111" * 800),
    _raw("amount twice", "amount", '"amount"', '"amount": 1, "amount"'),
    _field("currency of another country", "currency", currency="USD"),
    _field("currency in lower case", "currency", currency="eur"),
    _field("currency that does not exist", "currency", currency="ZZZ"),
    _field("currency as a number", "currency", currency=978),
    _field("transaction id empty", "transaction_id", transaction_id=""),
    _field("transaction id of 65 characters", "transaction_id", transaction_id=CARD.ljust(65, "x")),
    _field("transaction id of 100,000 characters", "transaction_id", transaction_id=CARD * 16_000),
    _field("customer id blank", "customer_id", customer_id=" \u2003 "),
    _field("customer id as a number", "customer_id", customer_id=411111),
    _field("customer id with NUL", "customer_id", customer_id=f"{CARD}\x00"),
    _field("customer id with a lone surrogate", "customer_id", customer_id=f"{CARD}\ud800"),
    _field("customer id with a newline", "customer_id", customer_id=f"{CARD}\n"),
    _field("customer id with DEL", "customer_id", customer_id=f"{CARD}\x7f"),
    _field("merchant id as an object", "merchant_id", merchant_id={"id": CARD}),
    _field("category empty", "category", category=""),
    _field("category too long", "category", category=CARD * 20),
    _field("channel unknown", "channel", channel=f"pigeon-{CARD}"),
    _field("channel as a list", "channel", channel=["chip"]),
    _field("country in lower case", "country", country="de"),
    _field("country in three letters", "country", country="DEU"),
    _field("latitude alone", "longitude", latitude=41.1111),
    _field("longitude alone", "latitude", longitude=41.1111),
    _field("latitude out of range", "latitude", latitude=411.111, longitude=0),
    _field("longitude out of range", "longitude", latitude=0, longitude=-411.111),
    _field("latitude NaN", "latitude", latitude=float("nan"), longitude=0),
    _field("latitude as text", "latitude", latitude="41.1111", longitude=0),
    _field("event time without offset", "event_time", event_time="2026-04-11T11:11:11"),
    _field("event time with a space", "event_time", event_time="2026-04-11 11:11:11Z"),
    _field("event time as a date", "event_time", event_time="2026-04-11"),
    _field("event time as a number", "event_time", event_time=1_764_111_111),
    _field("event time with month 13", "event_time", event_time="2026-13-11T11:11:11Z"),
    _field("event time in local notation", "event_time", event_time="11.04.2026 11:11"),
    _field("event time an hour ahead", "event_time", event_time=_at(hours=1)),
    _field("event time 61 days ago", "event_time", event_time=_at(days=-61)),
    _field("event time in the year 1", "event_time", event_time="0001-01-01T00:00:00Z"),
    _field("event time in the year 9999", "event_time", event_time="9999-12-31T23:59:59Z"),
    _typed(None),
    _typed("text/plain"),
    _typed("application/octet-stream"),
    _typed("application/vnd.bentoml+pickle"),
    _typed("application/x-www-form-urlencoded"),
    _typed("multipart/form-data; boundary=x"),
    _typed("application/json; charset=utf-16"),
    _typed("application/json", **{"Content-Encoding": "gzip"}),
    BadInput("a body above the limit", 413, None, json.dumps(good_transaction(category="x" * MAX_BODY)).encode()),
    _batch("a batch above the limit", 413, "transactions", [0] * (MAX_BATCH + 1)),
    _batch("an empty batch", 422, "transactions", []),
    _batch("a batch that is an object", 422, "transactions", {"0": good_transaction()}),
    _batch("a batch with null", 422, "transactions[1]", [good_transaction(), None]),
    _batch(
        "a batch with one bad amount",
        422,
        "transactions[1].amount",
        [good_transaction(), good_transaction(amount=10**9)],
    ),
    _batch("a batch of empty objects", 422, "transactions[0].amount", [{}] * MAX_BATCH),
    BadInput("a batch for /score", 422, "transactions", b'{"transactions": []}'),
    BadInput(
        "a transaction for /score_batch", 422, "transactions", json.dumps(good_transaction()).encode(), "/score_batch"
    ),
    _feedback("feedback with another label", "label", transaction_id=f"t-{CARD}", label=f"maybe {CARD}"),
    _feedback("feedback without an id", "transaction_id", label="fraud"),
    _feedback("feedback with a boolean", "label", transaction_id=f"t-{CARD}", label=True),
    BadInput(
        "feedback on what was never scored",
        404,
        None,
        b'{"transaction_id": "411111-never", "label": "fraud"}',
        "/feedback",
    ),
    BadInput("a decision never taken", 404, None, b"", "/decisions/411111-never", "GET", {}),
    BadInput("an id of 65 characters in the path", 422, "transaction_id", b"", f"/decisions/{'x' * 65}", "GET", {}),
    BadInput("a NUL in the path", 422, "transaction_id", b"", "/decisions/%00", "GET", {}),
    BadInput("no id in the path", 422, "transaction_id", b"", "/decisions/", "GET", {}),
    BadInput("GET /score", 405, None, b"", method="GET"),
    BadInput("PUT /score", 405, None, json.dumps(good_transaction()).encode(), method="PUT"),
    BadInput("POST /model", 405, None, b"{}", "/model"),
    BadInput("a path that is not there", 404, None, b"{}", "/predict"),
    BadInput("a slash too many", 404, None, json.dumps(good_transaction()).encode(), "/score/"),
)
