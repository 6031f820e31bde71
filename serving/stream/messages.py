"""Messages of the stream: what was read becomes a row or a bad message; decisions and dead letters as they are sent.

Belongs here: what a message may say, and the layout of what we answer. Must not be here: clients and topics
(`fraud_pipeline/messaging/topics.py`), reading and committing, scoring.

A value says what the HTTP body says and is judged by the same rules under the same names. Reasons name where and why,
never what was sent.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, TypeVar

from pydantic import TypeAdapter

from fraud_pipeline.messaging.topics import SCHEMA, SCHEMA_HEADER, Message, message
from fraud_pipeline.schema.transactions import TransactionRow
from fraud_pipeline.scoring.scorer import ScoringResult
from serving.errors import REMEDIES, FieldProblem, RequestError
from serving.http.answers import decision_body
from serving.http.requests import FeedbackIn, RequestParser, TransactionIn, _document, _validated

MESSAGE_REMEDIES: Final[Mapping[str, str]] = MappingProxyType(
    {
        **REMEDIES,
        "no_value": "the message has no value: nothing is deleted by a message, send the whole transaction",
        "unknown_schema": f'write "schema": {SCHEMA} into the value; the {SCHEMA_HEADER} header may repeat it',
        "too_large": "send one transaction in a message, in the fields of /score",
        "conflict": "the transaction_id was used before for another transaction: send it under a new one",
        "unknown_transaction": "no transaction of that id came within a week: replay this when it did, or mend the id",
        "unreadable": "the record cannot be unpacked: look at its sender, and at what it packs records with",
        "internal": "handling it failed on our side, see the log: report it, and replay this once it is mended",
    }
)
"""Why a message is bad -> what to do about it: the problems of HTTP requests and seven of the stream's own."""

MAX_VALUE_BYTES: Final = 16_384
"""Far above any transaction: a value that is longer is not worth reading."""
MAX_LETTER_BYTES: Final = 32_768
"""Of a dead letter's key, value and headers as they came: brokers refuse a message above a million by default."""
_HEADER_OVERHEAD: Final = 10

MARK: Final = "dead-letter-"
"""What the names of our own headers on a dead letter begin with."""

_TRANSACTION: Final = TypeAdapter(TransactionIn)
_REPORT: Final = TypeAdapter(FeedbackIn)
# Not of what a decision is: they differ between deliveries of the same transaction.
_OF_THE_REQUEST: Final = ("replayed", "latency_ms")

Headers = Sequence[tuple[str, bytes | None]]
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


def decision_message(scored: ScoringResult, *, customer_id: str) -> Message:
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
    timestamp: int,
) -> Message:
    """The message as it came, with why it was put aside, where it stood, when it was sent, its size and its SHA-256.

    Of one that is too large to be sent there is the beginning, and it says so.
    """
    told = {
        "reason": bad.reason,
        "path": bad.path,
        "topic": topic,
        "partition": str(partition),
        "offset": str(offset),
        "timestamp": str(timestamp),
        "size": str(len(value or b"")),
        "sha256": hashlib.sha256(value or b"").hexdigest(),
    }
    of_headers = sum(len(name.encode()) + len(said or b"") + _HEADER_OVERHEAD for name, said in headers)
    if len(key or b"") + len(value or b"") + of_headers > MAX_LETTER_BYTES:
        told["truncated"] = "yes"
        key, value, headers = _beginning(key), _beginning(value), ()
    # Others send headers without a value, and records that are nothing but headers; our own client does not.
    value = b"" if key is None and value is None else value
    kept = [(name, said or b"") for name, said in headers]
    return Message(key, value, [*kept, *((f"{MARK}{name}", text.encode()) for name, text in told.items())])


def _beginning(sent: bytes | None) -> bytes | None:
    return sent and sent[: MAX_LETTER_BYTES // 2]


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
