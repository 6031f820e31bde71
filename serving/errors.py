"""The one form of a refused request: location, problem, remedy.

Belongs here: problems that only requests have, and pydantic's errors in our terms. Must not be here: the fields of a
request (`serving/http/`). Problems that files have, too, use the names and remedies of `schema/reasons.py`. An error
never quotes the value, because bodies contain card data.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, NoReturn

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from fraud_pipeline.features.definitions import LONGEST_WINDOW
from fraud_pipeline.schema.fields import FIELDS
from fraud_pipeline.schema.own_fields import own_remedy
from fraud_pipeline.schema.reasons import REASONS, field_remedies, remedy
from fraud_pipeline.schema.transactions import DAY

MAX_FIELDS_SHOWN: Final = 20
"""The first few problems of a batch of a thousand bad rows are enough; the rest would only be a large answer."""

REASON_ERROR: Final = "field_reason"
"""The type of a pydantic error whose context holds one of our reasons."""

_OF_REQUESTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "missing": "the field is required: send it, with a value",
        "blank": "leave the field out, or give it a value",
        "wrong_type": "text fields need JSON text, amounts and positions JSON numbers such as 12.34",
        "unknown_field": "leave the field out, or correct its name: /openapi.json lists the fields",
        "duplicate_key": "send each key of an object once",
        "time_missing_or_unreadable": "write the time as RFC 3339 with an offset: 2026-01-31T13:45:00Z",
        "too_old": f"the time lies more than {LONGEST_WINDOW // DAY} days back: load old transactions by file",
        "not_json": "send one JSON document in UTF-8, and nest it less",
        "not_an_object": "send a JSON object: /openapi.json shows one",
        "wrong_content_type": "send Content-Type: application/json, in UTF-8 and uncompressed",
        "too_short": "send at least one transaction",
        "too_many_transactions": "send the transactions in several smaller batches",
        "name_taken": "leave the field out: it is made from amount, currency and event_time",
        "bad_name": "the name of an own field has 1 to 64 characters without control characters",
        "too_many_own_fields": "send at most 256 own fields that the model does not declare",
        "own_fields_too_large": "send own fields of at most 32,768 characters in all, names and texts together",
    }
)
_OF_FIELDS: Final = {
    reason: text
    for field in FIELDS.values()
    for reason, text in field_remedies(field).items()
    if reason == field.reason
}

_OF_OWN_FIELDS: Final = {
    reason: own_remedy(reason)
    for reason in (
        "wrong_type",
        "too_long",
        "not_finite",
        "time_missing_or_unreadable",
        "bad_country",
        "bad_ip",
        "bad_email",
    )
}
_OWN_FIELDS: Final = "own_fields."

REMEDIES: Final[Mapping[str, str]] = MappingProxyType({**_OF_OWN_FIELDS, **_OF_FIELDS, **REASONS, **_OF_REQUESTS})
"""Problem of a field -> remedy, with the limits of all fields."""

# A letter or an underscore at a time, so that no number fits: senders have put card numbers in keys.
_NAME: Final = re.compile(r"[A-Za-z_]{1,40}", re.ASCII)
_BY_KIND: Final = MappingProxyType(
    {
        "missing": "missing",
        "extra_forbidden": "unknown_field",
        "finite_number": "not_finite",
        "greater_than": "out_of_range",
        "greater_than_equal": "out_of_range",
        "less_than_equal": "out_of_range",
        "too_short": "too_short",
        "string_unicode": "control_character",
        "model_type": "not_an_object",
    }
)
"""Error type of pydantic -> problem, where it does not depend on the field."""
_ABOUT_TEXT: Final = MappingProxyType(
    {
        "literal_error": "wrong_type",
        "string_pattern_mismatch": "wrong_type",
        "string_too_long": "too_long",
        "string_too_short": "blank",
    }
)
"""The same for text of the right type, in a field that has no problem of its own."""


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """One problem of one field; `problem` is a key of REMEDIES."""

    path: str
    problem: str

    @property
    def remedy(self) -> str:
        if _OWN_FIELDS in self.path and self.problem in _OF_OWN_FIELDS:
            return _OF_OWN_FIELDS[self.problem]
        return _OF_REQUESTS.get(self.problem) or remedy(self.problem, field=self.path.rpartition(".")[2])


class RequestError(Exception):
    """The request cannot be answered: the status, and what the caller must change."""

    def __init__(self, *, status: int, code: str, message: str, fields: Sequence[FieldProblem] = ()) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.fields = status, code, message, tuple(fields)


@dataclass(frozen=True, slots=True)
class RepeatedKey:
    """Replaces an object in which this key appeared twice, so that validation reports the path to it."""

    key: str


@dataclass(frozen=True, slots=True)
class TooManyKeys:
    """Replaces an object with far too many keys: reporting each one would be slow and make a large answer.

    `own_fields` is the object where it may still be the own fields of a transaction, which are many.
    """

    own_fields: Mapping[str, object] | None = None


def refuse(problems: Sequence[FieldProblem]) -> NoReturn:
    """RequestError (422) with the first few problems."""
    more = len(problems) - MAX_FIELDS_SHOWN
    raise RequestError(
        status=422,
        code="invalid_request",
        message="Nothing was stored. Fix these fields and send the request again."
        + (f" {more} more problems are not listed." if more > 0 else ""),
        fields=problems[:MAX_FIELDS_SHOWN],
    )


def problems_of(error: ValidationError, *, required: frozenset[str], root: str) -> list[FieldProblem]:
    """Pydantic's errors in our terms. `required` are the fields that must not be null; `root` names the whole body."""
    details = error.errors(include_url=False)
    return [_problem(detail, required=required, root=root) for detail in details]


def _problem(error: ErrorDetails, *, required: frozenset[str], root: str) -> FieldProblem:
    path, sent = _path(error["loc"]), error["input"]
    if isinstance(sent, RepeatedKey):
        return FieldProblem(_path([*error["loc"], sent.key]), "duplicate_key")
    if isinstance(sent, TooManyKeys):
        return FieldProblem(path or root, "unknown_field")
    field = path.rpartition(".")[2] or root
    if error["type"] == REASON_ERROR:
        return FieldProblem(path or root, error["ctx"]["reason"])
    return FieldProblem(path or root, _problem_name(error["type"], sent, field=field, required=field in required))


def _problem_name(kind: str, sent: object, *, field: str, required: bool) -> str:
    blank = kind == "string_too_short" or (isinstance(sent, str) and not sent.strip())
    if required and (sent is None or blank):
        return "missing"
    if isinstance(sent, str) and kind in _ABOUT_TEXT:
        return (FIELDS[field].reason if field in FIELDS else "") or _ABOUT_TEXT[kind]
    return _BY_KIND.get(kind, "wrong_type")


def shown_name(name: str) -> str:
    """A key of the sender as a refusal may show it."""
    return name if _NAME.fullmatch(name) else "(name)"


def _path(location: Sequence[int | str]) -> str:
    steps = (f"[{step}]" if isinstance(step, int) else f".{shown_name(step)}" for step in location)
    return "".join(steps).lstrip(".")
