"""From the bytes of a request to checked values.

Belongs here: what a request may say. Must not be here: how a refusal is worded (`serving/errors.py`), HTTP routing,
scoring.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final, Literal, TypeVar

import pandas as pd
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
)
from pydantic_core import PydanticCustomError

from fraud_pipeline.features.definitions import LONGEST_WINDOW
from fraud_pipeline.ingest.validation import CLOCK_TOLERANCE
from fraud_pipeline.schema.amounts import cents_of
from fraud_pipeline.schema.identifiers import (
    AFTER_PATTERN,
    BEFORE_PATTERN,
    EDGES,
    NOTHING_PATTERN,
    REFUSED_PATTERN,
    WHOLE_PATTERN,
    read_identifier,
)
from fraud_pipeline.schema.transactions import MAX_AMOUNT_CENTS, MAX_ID_LENGTH, Channel, TransactionRow
from serving.errors import FieldProblem, RepeatedKey, RequestError, TooManyKeys, problems_of, refuse

_MAX_KEYS: Final = 64
_MAX_INTEGER_DIGITS: Final = 18
_FUTURE: Final = CLOCK_TOLERANCE // pd.Timedelta(microseconds=1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_RFC_3339: Final = re.compile(r"\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2}(\.\d{1,9})?([Zz]|[+-]\d{2}:\d{2})")
# ISO 4217 currencies whose smallest coin is the unit itself.
_WITHOUT_CENTS: Final = frozenset(
    (
        "BIF",
        "CLP",
        "DJF",
        "GNF",
        "ISK",
        "JPY",
        "KMF",
        "KRW",
        "PYG",
        "RWF",
        "UGX",
        "UYI",
        "VND",
        "VUV",
        "XAF",
        "XOF",
        "XPF",
    )
)

# What an id may be, for the readers of /openapi.json; `read_identifier` decides.
_NEVER: Final = r"\x00-\x1f\x7f\ufffd"
_AROUND: Final = f"[\\t{EDGES}]*"
# Patterns of JSON Schema have no flag for letter case.
_NOTHING: Final = re.sub(r"(?<!\\)[a-z]", lambda letter: f"[{letter[0]}{letter[0].upper()}]", NOTHING_PATTERN)

_REFUSED_ID: Final = f"(?!{_AROUND}{WHOLE_PATTERN}{_AROUND}$){BEFORE_PATTERN}(?:{_NOTHING}|{REFUSED_PATTERN})"


def _description(refused: str) -> dict[str, str]:
    """The JSON Schema of an id or text. Its length counts without the padding, which no maxLength could say."""
    ends = f"[^{_NEVER}{EDGES}]"
    text = f"{ends}(?:[^{_NEVER}]{{0,{MAX_ID_LENGTH - 2}}}{ends})?"
    # In some dialects $ also stands before a last line feed.
    pattern = f"^(?!{refused}{AFTER_PATTERN}$){_AROUND}{text}{_AROUND}(?!\\n)$"
    return {
        "type": "string",
        "pattern": pattern,
        "description": f"1 to {MAX_ID_LENGTH} characters; white space around them is removed",
    }


def _read(text: object, *, exact: bool) -> object:
    if not isinstance(text, str):
        return text  # for pydantic to refuse
    reading = read_identifier(text, exact=exact)
    if reading.problem is not None:
        raise PydanticCustomError("identifier", "{problem}", {"problem": reading.problem})
    return reading.text or ""


def _read_identifier(text: object) -> object:
    return _read(text, exact=True)


def _read_text(text: object) -> object:
    return _read(text, exact=False)


_SHORT: Final = StringConstraints(min_length=1, max_length=MAX_ID_LENGTH)
Identifier = Annotated[
    str,
    _SHORT,
    BeforeValidator(_read_identifier),
    WithJsonSchema(_description(_REFUSED_ID)),
]
ShortText = Annotated[
    str,
    _SHORT,
    BeforeValidator(_read_text),
    WithJsonSchema(_description(BEFORE_PATTERN + _NOTHING)),
]
Country = Annotated[str, StringConstraints(pattern="^[A-Z]{2}$")]
T = TypeVar("T")


class _Body(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False, hide_input_in_errors=True)


class TransactionIn(_Body):
    """One card transaction to decide on."""

    transaction_id: Identifier = Field(description="unique for ever; the same id with the same body is answered again")
    event_time: str = Field(
        max_length=64,
        description="RFC 3339 with an offset; at most 5 minutes ahead of the service's clock and 60 days behind it",
        json_schema_extra={"format": "date-time"},
    )
    customer_id: Identifier
    merchant_id: Identifier
    amount: float = Field(
        gt=0, le=MAX_AMOUNT_CENTS / 100, description="in currency units, with the currency's decimals"
    )
    currency: str = Field(max_length=64)
    category: ShortText | None = None
    channel: Channel | None = None
    country: Country | None = Field(None, description="ISO 3166 alpha-2")
    latitude: float | None = Field(None, ge=-90, le=90, description="together with longitude, or not at all")
    longitude: float | None = Field(None, ge=-180, le=180, description="together with latitude, or not at all")


class BatchIn(_Body):
    """Several transactions, decided on in their order."""

    transactions: list[TransactionIn] = Field(min_length=1)


class FeedbackIn(_Body):
    """What was found out about a transaction that this service decided on."""

    transaction_id: Identifier
    label: Literal["fraud", "legitimate"] = Field(
        description="fraud: the cardholder did not make it; legitimate: the cardholder did"
    )


@dataclass(frozen=True, slots=True)
class RequestParser:
    """Reads bodies for one currency and one limit of transactions in a batch; all methods raise RequestError."""

    currency: str
    max_batch: int

    def transaction(self, body: bytes, *, now: int) -> TransactionRow:
        """The transaction of a /score body; `now` in microseconds since 1970-01-01 UTC."""
        return self._rows([_validated(_TRANSACTION, _document(body))], now=now, paths=[""])[0]

    def batch(self, body: bytes, *, now: int) -> list[TransactionRow]:
        """The transactions of a /score_batch body, in order; one bad one refuses all."""
        document = _document(body)
        listed = document.get("transactions") if isinstance(document, dict) else None
        if isinstance(listed, list) and len(listed) > self.max_batch:
            raise RequestError(
                status=413,
                code="batch_too_large",
                message=f"A batch may hold at most {self.max_batch} transactions.",
                fields=[FieldProblem("transactions", "too_many_transactions")],
            )
        sent = _validated(_BATCH, document).transactions
        return self._rows(sent, now=now, paths=[f"transactions[{position}]." for position in range(len(sent))])

    def _rows(self, sent: Sequence[TransactionIn], *, now: int, paths: Sequence[str]) -> list[TransactionRow]:
        rows: list[TransactionRow] = []
        problems: list[FieldProblem] = []
        for transaction, path in zip(sent, paths, strict=True):
            row, found = self._row(transaction, now=now)
            rows.append(row)
            problems += [FieldProblem(path + field, problem) for field, problem in found]
        return refuse(problems) if problems else rows

    def _row(self, sent: TransactionIn, *, now: int) -> tuple[TransactionRow, list[tuple[str, str]]]:
        """The row, which counts only if no (field, problem) is found: the rules that types cannot say."""
        problems: list[tuple[str, str]] = []
        event_time = _microseconds(sent.event_time)
        if event_time is None:
            problems.append(("event_time", "time_missing_or_unreadable"))
        elif event_time > now + _FUTURE:
            problems.append(("event_time", "future_time"))
        elif event_time < now - LONGEST_WINDOW:
            problems.append(("event_time", "too_old"))
        cents = cents_of(sent.amount)
        if cents is None:
            problems.append(("amount", "finer_than_a_cent"))
        elif cents % 100 and whole_units(self.currency):
            problems.append(("amount", "finer_than_the_currency"))
        if sent.currency != self.currency:
            problems.append(("currency", "unknown_currency" if sent.currency else "missing"))
        if (sent.latitude is None) != (sent.longitude is None):
            problems.append(("latitude" if sent.latitude is None else "longitude", "incomplete_position"))
        row = TransactionRow(
            sent.transaction_id,
            event_time or 0,
            sent.customer_id,
            sent.merchant_id,
            cents or 0,
            sent.category,
            sent.channel,
            sent.country,
            sent.latitude,
            sent.longitude,
        )
        return row, problems


def whole_units(currency: str) -> bool:
    """Whether a currency has no smaller coin than its unit."""
    return currency in _WITHOUT_CENTS


def parse_feedback(body: bytes) -> FeedbackIn:
    """The report of a /feedback body. Raises RequestError."""
    return _validated(_FEEDBACK, _document(body))


def parse_transaction_id(text: str) -> str:
    """A transaction id from a URL. Raises RequestError."""
    return _validated(_IDENTIFIER, text, root="transaction_id")


def check_content_type(content_type: str | None, *, encoding: str | None) -> None:
    """RequestError (415) unless the body is said to be plain JSON in UTF-8."""
    kind, _, parameters = (content_type or "").lower().replace(" ", "").partition(";")
    utf8 = parameters.replace('"', "") in {"", "charset=utf-8"}
    if kind == "application/json" and utf8 and (encoding or "identity").lower() == "identity":
        return
    raise RequestError(
        status=415,
        code="unsupported_media_type",
        message="Only JSON is read here.",
        fields=[FieldProblem("content-type", "wrong_content_type")],
    )


def _object(pairs: list[tuple[str, object]]) -> object:
    result = dict(pairs)
    if len(result) == len(pairs) <= _MAX_KEYS:
        return result
    if len(pairs) > _MAX_KEYS:
        return TooManyKeys()
    keys = [key for key, _ in pairs]
    return RepeatedKey(next(key for position, key in enumerate(keys) if key in keys[:position]))


def _integer(digits: str) -> float:
    # Python reads no integer of many thousand digits; as a float such a number is merely out of range.
    return int(digits) if len(digits) <= _MAX_INTEGER_DIGITS else float(digits)


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_object, parse_int=_integer)
_TRANSACTION: Final = TypeAdapter(TransactionIn)
_BATCH: Final = TypeAdapter(BatchIn)
_FEEDBACK: Final = TypeAdapter(FeedbackIn)
_IDENTIFIER: Final[TypeAdapter[str]] = TypeAdapter(Identifier)
_REQUIRED: Final = frozenset(
    name
    for model in (TransactionIn, BatchIn, FeedbackIn)
    for name, field in model.model_fields.items()
    if field.is_required()
)


def _document(body: bytes) -> object:
    try:
        return _DECODER.decode(body.decode())
    except (ValueError, RecursionError):
        # The decoder's own message would quote the body.
        raise RequestError(
            status=400,
            code="not_json",
            message="The body is not a JSON document.",
            fields=[FieldProblem("body", "not_json")],
        ) from None


def _validated(adapter: TypeAdapter[T], document: object, *, root: str = "body") -> T:
    try:
        return adapter.validate_python(document)
    except ValidationError as error:
        problems = problems_of(error, required=_REQUIRED, root=root)
    return refuse(problems)


def _microseconds(text: str) -> int | None:
    """A time in microseconds since 1970-01-01 UTC; None when it is not written as RFC 3339."""
    if not _RFC_3339.fullmatch(text):
        return None
    try:
        return (datetime.fromisoformat(text.upper()) - _EPOCH) // _MICROSECOND
    except ValueError:
        return None
