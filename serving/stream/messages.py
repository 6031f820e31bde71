"""Messages of the stream: a message becomes a row or a bad message; decisions and dead letters become messages.

Belongs here: what a message may hold, and the layout of our messages. Must not be here: clients and topics
(`fraud_pipeline/messaging/topics.py`), reading and committing, scoring.

A value holds the fields of the HTTP body and is judged by the same models. Reasons name where and why, never the value.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from fraud_pipeline.messaging.topics import SCHEMA, SCHEMA_HEADER, Message, message
from fraud_pipeline.schema.personal_fields import NOTHING_PERSONAL, PersonalFields
from fraud_pipeline.schema.transactions import TransactionRow
from fraud_pipeline.scoring.decision_record import ScoringResult
from serving.errors import REMEDIES, FieldProblem, RequestError
from serving.http.answers import decision_body
from serving.http.json_documents import decode
from serving.http.requests import Report, RequestParser, report_in

_OF_MESSAGES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "no_value": "the message has no value: nothing is deleted by a message, send the whole transaction",
        "unknown_schema": f'write "schema": {SCHEMA} into the value; the {SCHEMA_HEADER} header may repeat it',
        "too_large": "send one transaction in a message, in the fields of /score",
        "conflict": "the transaction_id was used before for another transaction: send it under a new one",
        "unknown_transaction": "no transaction of that id within a week: replay this when one did, or correct the id",
        "declared_otherwise": "the model at that time refused an own field or the currency: replay this",
        "unreadable": "the record cannot be decompressed: check its sender, and how it compresses records",
        "internal": "handling it failed on our side, see the log: report it, and replay this once it is fixed",
    }
)

MESSAGE_REMEDIES: Final[Mapping[str, str]] = MappingProxyType({**REMEDIES, **_OF_MESSAGES})
"""Why a message is bad -> what to do about it: the problems of HTTP requests, and those that only messages have."""

MAX_VALUE_BYTES: Final = 65_536
"""A longer value is not read; the largest transaction with own fields is far smaller."""
MAX_LETTER_BYTES: Final = 98_304
"""Of a dead letter's key, value and headers as they came: brokers refuse a message above a million by default."""
_HEADER_OVERHEAD: Final = 10

MARK: Final = "dead-letter-"
"""What the names of our own headers on a dead letter begin with."""

# These differ between deliveries of the same transaction, so they are no part of its decision.
_OF_THE_REQUEST: Final = ("replayed", "latency_ms")

Headers = Sequence[tuple[str, bytes | None]]


@dataclass(frozen=True, slots=True)
class BadMessage:
    """A message that will never be readable; `reason` is a key of MESSAGE_REMEDIES, `path` where it applies."""

    reason: str
    path: str = "value"

    @property
    def remedy(self) -> str:
        return message_remedy(self.reason, path=self.path)


def message_remedy(reason: str, *, path: str) -> str:
    """What to do about a bad message, in the limits of the field that the path names."""
    return FieldProblem(path, reason).remedy if reason in REMEDIES else _OF_MESSAGES[reason]


@dataclass(frozen=True, slots=True)
class MessageReader(RequestParser):
    """Reads messages, one transaction in each."""

    max_batch: int = 1

    def transaction_message(self, value: bytes | None, headers: Headers, *, now: int) -> TransactionRow | BadMessage:
        """The transaction of a message; `now` in microseconds since 1970-01-01 UTC."""
        try:
            document = _document(value, headers)
            return document if isinstance(document, BadMessage) else self.row(document, now=now, root="value")
        except RequestError as error:
            return _bad(error.fields)


def report_of(value: bytes | None, headers: Headers) -> Report | BadMessage:
    """The fraud report of a message."""
    try:
        document = _document(value, headers)
        return document if isinstance(document, BadMessage) else report_in(document, root="value")
    except RequestError as error:
        return _bad(error.fields)


def decision_message(scored: ScoringResult, *, customer_id: str) -> Message:
    """A decision as /score answers it, the same bytes whenever it is sent; keyed by customer as the transaction was."""
    body = decision_body(scored, latency_ms=0)
    return message(customer_id, {name: value for name, value in body.items() if name not in _OF_THE_REQUEST})


def dead_letter(
    bad: BadMessage,
    *,
    key: bytes | None,
    value: bytes | None,
    headers: Headers,
    topic: str,
    partition: int,
    offset: int,
    timestamp: int,
    personal: PersonalFields = NOTHING_PERSONAL,
) -> Message:
    """The message as it came; headers hold the reason, its place in the topic, its timestamp, size and SHA-256.

    A message that is too large to be sent again is cut, and the header `truncated` says so. Personal fields hold
    pseudonyms. A value that is no JSON object could hold them anywhere: it is left out where a field is personal, and
    the header `withheld` says so. Its SHA-256 would let others guess it, so size and hash are of what is sent.
    """
    withheld = False
    if personal.fields and value:
        safe = personal.document(value)
        withheld, value = safe is None, b"" if safe is None else safe
    marks = {
        "reason": bad.reason,
        "path": bad.path,
        "topic": topic,
        "partition": str(partition),
        "offset": str(offset),
        "timestamp": str(timestamp),
        "size": str(len(value or b"")),
        "sha256": hashlib.sha256(value or b"").hexdigest(),
    }
    if withheld:
        marks["withheld"] = "yes"
    header_bytes = sum(len(name.encode()) + len(content or b"") + _HEADER_OVERHEAD for name, content in headers)
    if len(key or b"") + len(value or b"") + header_bytes > MAX_LETTER_BYTES:
        marks["truncated"] = "yes"
        key, value, headers = _beginning(key), _beginning(value), ()
    # Others send headers without a value, and records that are nothing but headers; our own client does not.
    value = b"" if key is None and value is None else value
    kept = [(name, content or b"") for name, content in headers]
    return Message(key, value, [*kept, *((f"{MARK}{name}", text.encode()) for name, text in marks.items())])


def _beginning(sent: bytes | None) -> bytes | None:
    return sent and sent[: MAX_LETTER_BYTES // 2]


def _document(value: bytes | None, headers: Headers) -> object | BadMessage:
    """The fields of a value, without its schema version."""
    if value is None:
        return BadMessage("no_value")
    if len(value) > MAX_VALUE_BYTES:
        return BadMessage("too_large")
    if any(name == SCHEMA_HEADER and version != b"%d" % SCHEMA for name, version in headers):
        return BadMessage("unknown_schema", f"headers.{SCHEMA_HEADER}")
    document = decode(value)
    if isinstance(document, dict):
        schema = document.pop("schema", None)
        if type(schema) is not int or schema != SCHEMA:
            return BadMessage("unknown_schema", "schema")
    return document


def _bad(problems: Sequence[FieldProblem]) -> BadMessage:
    return BadMessage(problems[0].problem, problems[0].path)
