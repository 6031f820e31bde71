"""Cells of the reference tables: types, defaults, ranges and schemas in words.

Belongs here: words for one value. Must not be here: pages (`reference.py`).
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Final, get_args, get_origin

import sqlalchemy as sa
from pydantic.fields import FieldInfo

LIMITS: Final = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "maxLength": "length ≤"}
BOUNDS: Final = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}
TYPES: Final = {
    "str": "text",
    "bool": "`true` or `false`",
    "int": "whole number",
    "float": "number",
    "Path": "path",
    "DataUrl": "URL",
    "timedelta": "time span",
    "Declaration": "path",
    "FilePath": "path of a file",
    "SecretStr": "secret text",
}


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    cells = [[" ".join(cell.split()).replace("|", "&#124;") for cell in row] for row in lines]
    return "".join(f"| {' | '.join(row)} |\n" for row in cells)


def type_name(annotation: Any) -> str:
    """A type in words; the closed set of a Literal is listed."""
    if type(None) in get_args(annotation):
        return type_name(next(part for part in get_args(annotation) if part is not type(None)))
    if "Literal" in str(get_origin(annotation)):
        return ", ".join(f"`{value}`" for value in get_args(annotation))
    if hasattr(annotation, "__metadata__"):
        return type_name(get_args(annotation)[0])
    if len(kinds := get_args(annotation)) > 1:
        return " or ".join(map(type_name, kinds))
    return TYPES.get(annotation.__name__, str(annotation.__name__))


def value(default: Any) -> str:
    """A default as a person types it."""
    if default is None or default == "" or hasattr(default, "get_secret_value"):
        return "empty"
    if isinstance(default, timedelta):
        for unit, name in ((86_400, "days"), (3_600, "hours"), (60, "minutes")):
            if default.total_seconds() % unit == 0:
                number = int(default.total_seconds() // unit)
                return f"{number:,} {name if number != 1 else name[:-1]}"
        return f"{default.total_seconds():g} seconds"
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def bounds(field: FieldInfo) -> str:
    """The range of a setting."""
    pieces = []
    for limit in field.metadata:
        pieces += [f"{sign} {value(getattr(limit, name))}" for name, sign in BOUNDS.items() if hasattr(limit, name)]
        if getattr(limit, "pattern", None):
            pieces.append(f"pattern `{limit.pattern}`")
    return ", ".join(pieces)


def schema_type(schema: Mapping[str, Any]) -> str:
    """A JSON schema in words."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema or "oneOf" in schema:
        return " or ".join(schema_type(option) for option in schema.get("anyOf", schema.get("oneOf", ())))
    if "const" in schema or "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    if schema.get("type") == "array":
        return f"list of {schema_type(schema['items'])}"
    if isinstance(schema.get("type"), list):
        return " or ".join(schema_type({**schema, "type": name}) for name in schema["type"])
    limits = [f"{words} {schema[key]:,}" for key, words in LIMITS.items() if key in schema]
    return ", ".join([schema.get("format", schema.get("type", "any value")), *limits])


def yes(*, answer: bool | None) -> str:
    """A flag in a table."""
    return "yes" if answer else ""


def column_type(column: sa.Column[Any]) -> str:
    """The type of a column in words."""
    names = {"BIGINT": "whole number", "TEXT": "text", "DOUBLE": "number", "BOOLEAN": "yes or no", "BLOB": "bytes"}
    return names.get(str(column.type), str(column.type).lower())
