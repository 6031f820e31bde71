"""The bank's own fields of a request: what the champion declares is read strictly, all others are kept as they came.

Belongs here: the limits of own fields, and their one spelling in the database. Must not be here: what a declared field
may hold (`schema/own_fields.py`), how a refusal is worded (`serving/errors.py`).

The spelling holds the JSON values as they were sent, whatever the champion declares. So a transaction that is sent
again equals the stored one, also after another model became champion.
"""

import re
from collections.abc import Callable, Collection, Mapping
from math import isfinite
from types import MappingProxyType
from typing import Any, Final

from fraud_pipeline.schema.fields import FIELDS
from fraud_pipeline.schema.own_fields import (
    MAX_OWN_TEXT_LENGTH,
    OwnField,
    OwnValueError,
    one_spelling,
    own_fields_json,
    read_own_value,
)
from serving.errors import shown_name

MAX_OTHER_FIELDS: Final = 256
"""Own fields of one transaction that the champion does not declare."""
MAX_NAME_LENGTH: Final = 64
MAX_CHARACTERS: Final = 32_768
"""Of the names and texts of all own fields of one transaction."""

_DAMAGED: Final = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")
# In some dialects $ also stands before a last line feed.
_UNDAMAGED: Final = r"^[^\x00-\x1f\x7f]*(?!\n)$"

DeclaredFields = Callable[[], Mapping[str, OwnField]]
"""The own fields that the champion declares now, by name."""


def nothing_declared() -> Mapping[str, OwnField]:
    """The declaration while there is no champion."""
    return MappingProxyType({})


def own_field_problems(sent: Mapping[str, object], declared: Mapping[str, OwnField]) -> list[tuple[str, str]]:
    """Path and problem of each own field that is refused."""
    problems: list[tuple[str, str]] = []
    undeclared = 0
    for name, value in sent.items():
        if name in declared:
            problem, shown = _declared_problem(declared[name], value), name
        else:
            undeclared += 1
            problem, shown = "bad_name" if _is_bad_name(name) else _other_problem(value), shown_name(name)
        if problem:
            problems.append((f"own_fields.{shown}", problem))
    if undeclared > MAX_OTHER_FIELDS:
        problems.append(("own_fields", "too_many_own_fields"))
    if sum(len(name) + (len(value) if isinstance(value, str) else 0) for name, value in sent.items()) > MAX_CHARACTERS:
        problems.append(("own_fields", "own_fields_too_large"))
    return problems


def spelling(sent: Mapping[str, Any]) -> str | None:
    """The text that is stored of own fields; None where there is none."""
    present = {name: one_spelling(value) for name, value in sent.items() if value is not None}
    return own_fields_json(present) if present else None


def own_fields_schema(declared: Collection[OwnField]) -> dict[str, Any]:
    """The JSON Schema of `own_fields`, with the type of each declared field."""
    return {
        "type": ["object", "null"],
        "description": "the bank's own fields. Those that the model declares are listed; others are stored, and listed "
        f"in the answer's unused_fields: at most {MAX_OTHER_FIELDS} of them",
        "properties": {field.name: _schema(field) for field in declared},
        "propertyNames": {"minLength": 1, "maxLength": MAX_NAME_LENGTH, "pattern": _UNDAMAGED},
        "additionalProperties": {
            "type": ["string", "number", "boolean", "null"],
            "maxLength": MAX_OWN_TEXT_LENGTH,
            "pattern": _UNDAMAGED,
        },
        "maxProperties": MAX_OTHER_FIELDS + len(declared),
    }


def _schema(field: OwnField) -> dict[str, Any]:
    stored = "; stored as a pseudonym" if field.personal else ""
    described = {"description": (field.description or f"{field.name}, {field.type}") + stored}
    match field.type:
        case "number" | "money":
            return described | {"type": ["number", "null"]}
        case "boolean":
            return described | {"type": ["boolean", "null"]}
        case "country":
            return described | {"type": ["string", "null"], "pattern": f"^(?:{FIELDS['country'].pattern})$"}
        case "time":
            return described | {"type": ["string", "null"], "format": "date-time"}
    return described | {"type": ["string", "null"], "maxLength": MAX_OWN_TEXT_LENGTH}


def _declared_problem(field: OwnField, value: object) -> str:
    try:
        read_own_value(field, value)
    except OwnValueError as error:
        return error.reason
    return ""


def _is_bad_name(name: str) -> bool:
    return not 0 < len(name) <= MAX_NAME_LENGTH or _is_damaged(name)


def _other_problem(value: object) -> str:
    match value:
        case str():
            if len(value) > MAX_OWN_TEXT_LENGTH:
                return "too_long"
            return "control_character" if _is_damaged(value) else ""
        case float():
            return "" if isfinite(value) else "not_finite"
        case None | bool() | int():
            return ""
    return "wrong_type"


def _is_damaged(text: str) -> bool:
    return _DAMAGED.search(text) is not None
