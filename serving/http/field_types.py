"""The pydantic type of each kind of field: what JSON may hold, and the value that is stored.

Belongs here: one type per kind, with the limits of the table of fields, and its JSON Schema. Must not be here: bodies
(`models.py`), rules that compare fields or the clock (`requests.py`).
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BeforeValidator, StringConstraints, ValidationInfo, WithJsonSchema
from pydantic import Field as Limits
from pydantic_core import PydanticCustomError

from fraud_pipeline.features.definitions import LONGEST_WINDOW
from fraud_pipeline.schema.amounts import cents_of
from fraud_pipeline.schema.fields import Field
from fraud_pipeline.schema.identifiers import (
    AFTER_PATTERN,
    BEFORE_PATTERN,
    EDGES,
    NOTHING_PATTERN,
    REFUSED_PATTERN,
    WHOLE_PATTERN,
    read_identifier,
)
from fraud_pipeline.schema.transactions import DAY
from serving.errors import REASON_ERROR

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_RFC_3339: Final = re.compile(r"\d{4}-\d{2}-\d{2}[Tt]\d{2}:\d{2}:\d{2}(\.\d{1,9})?([Zz]|[+-]\d{2}:\d{2})")

# What an id may be, for the readers of /openapi.json; `read_identifier` decides.
_NEVER: Final = r"\x00-\x1f\x7f\ufffd"
_AROUND: Final = f"[\\t{EDGES}]*"
# Patterns of JSON Schema have no flag for letter case.
_NOTHING: Final = re.sub(r"(?<!\\)[a-z]", lambda letter: f"[{letter[0]}{letter[0].upper()}]", NOTHING_PATTERN)


def request_type(field: Field) -> Any:
    """The type of a field in JSON, for a model or a TypeAdapter; it gives the value that is stored."""
    base: Any = str
    constraints: tuple[Any, ...] = ()
    match field.kind:
        case "identifier" | "text":
            length = StringConstraints(min_length=1, max_length=field.max_length)
            constraints = (length, BeforeValidator(_reader(field)), WithJsonSchema(_text_schema(field)))
        case "time":
            constraints = (StringConstraints(max_length=field.max_length), AfterValidator(_time_reader(field)))
        case "code":
            constraints = (StringConstraints(pattern=f"^(?:{field.pattern})$"),)
        case "currency":
            constraints = (StringConstraints(max_length=field.max_length),)
        case "amount":
            limits = WithJsonSchema({"type": "number", "minimum": field.minimum, "maximum": field.maximum})
            base, constraints = float, (limits, AfterValidator(_amount_reader(field)))
        case "coordinate":
            base, constraints = float, (Limits(ge=field.minimum, le=field.maximum),)
        case "choice":
            base = _literal(tuple(field.allowed))
        case "flag":
            base = bool
    return Annotated[base, *constraints] if constraints else base


def _literal(values: tuple[str, ...]) -> Any:
    literal: Any = Literal
    return literal[values]


def describe_field(field: Field) -> dict[str, Any]:
    """What the JSON Schema of a field says beside its type."""
    match field.kind:
        case "identifier" | "text":
            more = f"; 1 to {field.max_length} characters, white space around them is removed"
        case "time":
            ahead, behind = field.max_ahead // timedelta(minutes=1), LONGEST_WINDOW // DAY
            more = f": RFC 3339 with an offset; at most {ahead} minutes ahead of the service's clock and {behind} days"
            return {"description": f"{field.description}{more} behind it", "format": "date-time"}
        case _:
            more = f"; together with {field.together_with}, or not at all" if field.together_with else ""
    return {"description": field.description + more}


def _text_schema(field: Field) -> dict[str, str]:
    """The JSON Schema of an id or text. Its length counts without the padding, which no maxLength could say."""
    ends = f"[^{_NEVER}{EDGES}]"
    text = f"{ends}(?:[^{_NEVER}]{{0,{field.max_length - 2}}}{ends})?"
    refused = [_NOTHING] if not field.when_missing else []
    if field.when_missing:
        text = f"(?:{text})?"
    before = BEFORE_PATTERN
    if field.kind == "identifier":
        refused.append(REFUSED_PATTERN)
        before = f"(?!{_AROUND}{WHOLE_PATTERN}{_AROUND}$){BEFORE_PATTERN}"
    never = f"(?!{before}(?:{'|'.join(refused)}){AFTER_PATTERN}$)"
    # In some dialects $ also stands before a last line feed.
    return {"type": "string", "pattern": f"^{never}{_AROUND}{text}{_AROUND}(?!\\n)$"}


def _reader(field: Field) -> Callable[[object], object]:
    exact = field.kind == "identifier"

    def read(text: object) -> object:
        if not isinstance(text, str):
            return text  # for pydantic to refuse
        reading = read_identifier(text, exact=exact)
        if reading.problem is not None:
            raise _refused(reading.problem)
        return reading.text or field.when_missing

    return read


def _time_reader(field: Field) -> Callable[[str], int]:
    def microseconds(text: str) -> int:
        """A time in microseconds since 1970-01-01 UTC."""
        if not _RFC_3339.fullmatch(text):
            raise _refused(field.reason)
        try:
            return (datetime.fromisoformat(text.upper()) - _EPOCH) // _MICROSECOND
        except ValueError:
            raise _refused(field.reason) from None

    return microseconds


def _amount_reader(field: Field) -> Callable[[float, ValidationInfo], float]:
    def read(amount: float, info: ValidationInfo) -> float:
        """Cents; with a conversion as the context, the amount as it came, because its currency decides."""
        if info.context is not None:
            return amount
        if not field.minimum <= amount <= field.maximum:
            raise _refused("out_of_range")
        cents = cents_of(amount)
        if cents is None:
            raise _refused("finer_than_a_cent")
        return cents

    return read


def _refused(reason: str) -> PydanticCustomError:
    return PydanticCustomError(REASON_ERROR, "{reason}", {"reason": reason})
