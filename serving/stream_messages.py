"""Messages of the stream: what was read becomes a row or a bad message; decisions and dead letters as they are sent.

Belongs here: what a message may say, and the layout of what we answer. Must not be here: clients and topics
(`fraud_pipeline/topics.py`), reading and committing, scoring.

A value says what the HTTP body says and is judged by the same rules under the same names. Reasons name where and why,
never what was sent.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, TypeVar

from pydantic import TypeAdapter

from fraud_pipeline.scoring import Scored
from fraud_pipeline.topics import SCHEMA, SCHEMA_HEADER, Message, message
from fraud_pipeline.transactions import TransactionRow
from serving.answers import decision_body
from serving.refusals import REMEDIES, FieldProblem, RequestError
from serving.requests import FeedbackIn, RequestParser, TransactionIn, _document, _validated

MESSAGE_REMEDIES: Final[Mapping[str, str]] = MappingProxyType(
    {
        **REMEDIES,
        "no_value": "the message has no value: nothing is deleted by a message, send the whole transaction",
        "unknown_schema": f'write "schema": {SCHEMA} into the value; the {SCHEMA_HEADER} header may repeat it',
        "too_large": "send one transaction in a message, in the fields of /score",
        "conflict": "the transaction_id was used before for another transaction: send it under a new one",
        "unknown_transaction": "no transaction of that id was scored: replay this when it was, or mend the id",
    }
)
"""Why a message is bad -> what to do about it: the problems of HTTP requests and five of the stream's own."""

MAX_VALUE_BYTES: Final = 16_384
"""Far above any transaction: a value that is longer is not worth reading."""

_TRANSACTION: Final = TypeAdapter(TransactionIn)
_REPORT: Final = TypeAdapter(FeedbackIn)
# Not of what a decision is: they differ between deliveries of the same transaction.
_OF_THE_REQUEST: Final = ("replayed", "latency_ms")

Headers = Sequence[tuple[str, bytes]]
Said = TypeVar("Said")


@dataclass(frozen=True, slots=True)
class BadMessage:
    """A message that will never be readable; `reason` is a key of MESSAGE_REMEDIES, `path` where it applies."""

    reason: str
    path: str = "value"

    @property
    def remedy(self) -> str:
        return MESSAGE_REMEDIES[self.reason]


@dataclass(frozen=True, slots=True)
class Report:
    """What somebody found out about one transaction."""

    transaction_id: str
    is_fraud: bool


@dataclass(frozen=True, slots=True)
class MessageReader(RequestParser):
    """Reads messages for one currency."""

    max_batch: int = 1

    def transaction_message(self, value: bytes | None, headers: Headers, *, now: int) -> TransactionRow | BadMessage:
        """The transaction of a message; `now` in microseconds since 1970-01-01 UTC."""
        try:
            sent = _said(_TRANSACTION, value, headers)
            return sent if isinstance(sent, BadMessage) else self._rows([sent], now=now, paths=[""])[0]
        except RequestError as error:
            return _bad(error.fields)


def report_of(value: bytes | None, headers: Headers) -> Report | BadMessage:
    """The fraud report of a message."""
    try:
        sent = _said(_REPORT, value, headers)
    except RequestError as error:
        return _bad(error.fields)
    return sent if isinstance(sent, BadMessage) else Report(sent.transaction_id, is_fraud=sent.label == "fraud")


def decision_message(scored: Scored, *, customer_id: str) -> Message:
    """A decision as /score answers it, the same bytes whenever it is sent; keyed by customer as the transaction was."""
    body = decision_body(scored, latency_ms=0)
    return message(customer_id, {name: said for name, said in body.items() if name not in _OF_THE_REQUEST})


def dead_letter(
    bad: BadMessage,
    *,
    key: bytes | None,
    value: bytes | None,
    headers: Headers,
    topic: str,
    partition: int,
    offset: int,
) -> Message:
    """The message exactly as it came, with why it was put aside, where it stood, and the SHA-256 of its value."""
    told = {
        "reason": bad.reason,
        "path": bad.path,
        "topic": topic,
        "partition": str(partition),
        "offset": str(offset),
        "sha256": hashlib.sha256(value or b"").hexdigest(),
    }
    return Message(key, value, [*headers, *((f"dead-letter-{name}", text.encode()) for name, text in told.items())])


def _said(adapter: TypeAdapter[Said], value: bytes | None, headers: Headers) -> Said | BadMessage:
    if value is None:
        return BadMessage("no_value")
    if len(value) > MAX_VALUE_BYTES:
        return BadMessage("too_large")
    if any(name == SCHEMA_HEADER and version != b"%d" % SCHEMA for name, version in headers):
        return BadMessage("unknown_schema", f"headers.{SCHEMA_HEADER}")
    document = _document(value)
    if isinstance(document, dict):
        schema = document.pop("schema", None)
        if type(schema) is not int or schema != SCHEMA:
            return BadMessage("unknown_schema", "schema")
    return _validated(adapter, document, root="value")


def _bad(problems: Sequence[FieldProblem]) -> BadMessage:
    return BadMessage(problems[0].problem, problems[0].path)
