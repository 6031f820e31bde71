"""From a request to the row of a transaction, a label or an id.

Belongs here: the rules that compare fields, the clock and the service's currency. Must not be here: what one field may
hold (`field_types.py`), how a refusal is worded (`serving/errors.py`), HTTP routing, scoring.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Final

import pandas as pd
from pydantic import TypeAdapter

from fraud_pipeline.features.definitions import LONGEST_WINDOW
from fraud_pipeline.schema.amounts import whole_units
from fraud_pipeline.schema.fields import FIELDS, transaction_fields
from fraud_pipeline.schema.local_time import OFFSET_FIELD, UTC_OFFSET, offset_of_time
from fraud_pipeline.schema.money import MONEY_NAMES, RATE, Conversion, MoneyError, is_rate
from fraud_pipeline.schema.personal_fields import PersonalNow, nothing_personal
from fraud_pipeline.schema.transactions import EARLIEST_EVENT_TIME, TransactionRow, microsecond
from serving.errors import FieldProblem, RequestError, refuse
from serving.http.field_types import request_type
from serving.http.json_documents import decode, validate
from serving.http.models import BatchIn, FeedbackIn, TransactionIn
from serving.http.own_fields import DeclaredFields, nothing_declared, own_field_problems, spelling

_TRANSACTION: Final = TypeAdapter(TransactionIn)
_BATCH: Final = TypeAdapter(BatchIn)
_FEEDBACK: Final = TypeAdapter(FeedbackIn)
_TRANSACTION_ID: Final[TypeAdapter[str]] = TypeAdapter(request_type(FIELDS["transaction_id"]))

_EARLIEST: Final = microsecond(EARLIEST_EVENT_TIME)
_MAX_AHEAD: Final = pd.Timedelta(FIELDS["event_time"].max_ahead) // pd.Timedelta(microseconds=1)
_PAIRS: Final = tuple((field.name, field.together_with) for field in transaction_fields() if field.together_with)
_row_values: Final = itemgetter(*(field.name for field in transaction_fields()))


def no_conversion() -> None:
    """The conversion of models whose amounts have one currency."""


@dataclass(frozen=True, slots=True)
class Report:
    """The label of one transaction."""

    transaction_id: str
    is_fraud: bool


@dataclass(frozen=True, slots=True)
class RequestParser:
    """Reads bodies for one limit of transactions in a batch; all methods raise RequestError.

    `declared` gives the own fields that the champion declares, which are read strictly. Of those that `personal` gives,
    rows hold pseudonyms. Amounts are in `currency`, or in those of the champion's `conversion` if it has one.
    """

    currency: str
    max_batch: int
    declared: DeclaredFields = nothing_declared
    conversion: Callable[[], Conversion | None] = no_conversion
    personal: PersonalNow = nothing_personal

    @property
    def known_currency(self) -> str:
        """A currency that is accepted."""
        conversion = self.conversion()
        return conversion.reporting if conversion else self.currency

    def transaction(self, body: bytes, *, now: int) -> TransactionRow:
        """The transaction of a /score body; `now` in microseconds since 1970-01-01 UTC."""
        return self.row(decode(body), now=now)

    def row(self, document: object, *, now: int, root: str = "body") -> TransactionRow:
        """The transaction of a JSON document; `root` is the name of the whole in refusals."""
        conversion = self.conversion()
        transaction = vars(validate(_TRANSACTION, document, root=root, context=conversion))
        return self._rows([transaction], [document], now=now, paths=[""], conversion=conversion)[0]

    def batch(self, body: bytes, *, now: int) -> list[TransactionRow]:
        """The transactions of a /score_batch body, in order; one bad one refuses all."""
        document: Any = decode(body)
        listed = document.get("transactions") if isinstance(document, dict) else None
        if isinstance(listed, list) and len(listed) > self.max_batch:
            raise RequestError(
                status=413,
                code="batch_too_large",
                message=f"A batch may hold at most {self.max_batch} transactions.",
                fields=[FieldProblem("transactions", "too_many_transactions")],
            )
        conversion = self.conversion()
        transactions = [vars(item) for item in vars(validate(_BATCH, document, context=conversion))["transactions"]]
        paths = [f"transactions[{position}]." for position in range(len(transactions))]
        return self._rows(transactions, document["transactions"], now=now, paths=paths, conversion=conversion)

    def _rows(
        self,
        transactions: Sequence[Mapping[str, Any]],
        documents: Sequence[Any],
        *,
        now: int,
        paths: Sequence[str],
        conversion: Conversion | None,
    ) -> list[TransactionRow]:
        problems: list[FieldProblem] = []
        rows: list[TransactionRow] = []
        personal = self.personal()
        has_local_time = self.declared().get(UTC_OFFSET) == OFFSET_FIELD
        for sent, document, path in zip(transactions, documents, paths, strict=True):
            values, of_money = (sent, self._currency_problems(sent)) if conversion is None else _paid(sent, conversion)
            of_row = self._problems(sent, of_money, now=now)
            if has_local_time:
                values, of_clock = _on_local_clock(values, document["event_time"])
                of_row += of_clock
            problems += [FieldProblem(path + field, reason) for field, reason in of_row]
            own = values["own_fields"]
            stored = spelling(personal.values(own)) if own and not problems else None
            rows.append(TransactionRow._make((*_row_values(values), stored)))
        if problems:
            refuse(problems)
        return rows

    def _currency_problems(self, values: Mapping[str, Any]) -> list[tuple[str, str]]:
        """What is wrong with money in the one currency of the service; its amount is in cents."""
        problems: list[tuple[str, str]] = []
        if values["amount"] % 100 and whole_units(self.currency):
            problems.append(("amount", "finer_than_the_currency"))
        if values["currency"] != self.currency:
            problems.append(("currency", "unknown_currency" if values["currency"] else "missing"))
        return problems

    def _problems(
        self, values: Mapping[str, Any], of_money: Sequence[tuple[str, str]], *, now: int
    ) -> list[tuple[str, str]]:
        """Field and reason of what only the clock, the currency or another field can tell."""
        problems: list[tuple[str, str]] = []
        event_time = values["event_time"]
        if event_time > now + _MAX_AHEAD:
            problems.append(("event_time", "future_time"))
        elif event_time < now - LONGEST_WINDOW:
            problems.append(("event_time", "too_old"))
        elif event_time < _EARLIEST:
            problems.append(("event_time", "too_early"))
        problems += of_money
        for field, other in _PAIRS:
            if values[field] is None and values[other] is not None:
                problems.append((field, "incomplete_position"))
        if values["own_fields"]:
            problems += own_field_problems(values["own_fields"], self.declared())
        return problems


def _paid(sent: Mapping[str, Any], conversion: Conversion) -> tuple[Mapping[str, Any], list[tuple[str, str]]]:
    """The transaction with cents of the reporting currency and the original as own fields, or what is wrong."""
    own: Mapping[str, Any] = sent["own_fields"] or {}
    reserved = MONEY_NAMES - {RATE} if conversion.rate_of_row else MONEY_NAMES
    problems = [(f"own_fields.{name}", "name_taken") for name in sorted(reserved & own.keys())]
    rate = own.get(RATE)
    if problems or (rate is not None and not is_rate(rate)):
        return sent, problems or [(f"own_fields.{RATE}", "bad_rate")]
    try:
        paid = conversion.paid(sent["amount"], sent["currency"], rate=rate)
    except MoneyError as error:
        return sent, [(error.field, error.reason)]
    return {**sent, "amount": paid.cents, "own_fields": {**own, **paid.own_values}}, []


def _on_local_clock(values: Mapping[str, Any], time: str) -> tuple[Mapping[str, Any], list[tuple[str, str]]]:
    """The transaction with the offset of its time as an own field, or what is wrong."""
    own: Mapping[str, Any] = values["own_fields"] or {}
    if UTC_OFFSET in own:
        return values, [(f"own_fields.{UTC_OFFSET}", "name_taken")]
    return {**values, "own_fields": {**own, UTC_OFFSET: offset_of_time(time)}}, []


def parse_feedback(body: bytes) -> Report:
    """The label of a /feedback body. Raises RequestError."""
    return report_in(decode(body))


def report_in(document: object, *, root: str = "body") -> Report:
    """The label of a JSON document; `root` is the name of the whole in refusals. Raises RequestError."""
    values = vars(validate(_FEEDBACK, document, root=root))
    return Report(values["transaction_id"], is_fraud=values["label"] == "fraud")


def parse_transaction_id(text: str) -> str:
    """A transaction id from a URL. Raises RequestError."""
    return validate(_TRANSACTION_ID, text, root="transaction_id")
