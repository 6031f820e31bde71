"""Why a value is refused, and what to do about it: the codes and remedies that all entrances share.

Belongs here: reason codes with their remedies, made from the table of fields. Must not be here: finding the reason.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from fraud_pipeline.schema.fields import FIELDS, Field
from fraud_pipeline.schema.identifiers import PROBLEMS

_OF_ANY_FIELD: Final = MappingProxyType(
    {
        "missing": "the field is required and empty: fill it, or map the right column to it",
        "wrong_type": "text fields need text, amounts and positions need plain numbers such as 12.34",
        "future_time": "the time lies in the future: check the sender's clock and timezone",
        "control_character": "remove NUL, control characters and broken Unicode from the text",
        **PROBLEMS,
        "not_finite": "replace infinite numbers",
        "no_rate": "add the currency to [rates] of fraud.toml and train; /openapi.json lists those that have a rate",
        "bad_rate": "a rate is one unit in the reporting currency: a number above 0, and 1 for that currency itself",
        "finer_than_the_currency": "round the amount to the decimals of its currency: 0 for JPY, 2 for EUR, 3 for KWD",
        "finer_than_a_cent": "round amounts to two decimals, in currency units",
        "duplicate_id": "each transaction_id may occur once (the first row was kept): is the right column mapped?",
    }
)


def field_remedies(field: Field) -> dict[str, str]:
    """The reasons whose remedy names a limit of the field -> that remedy."""
    remedies: dict[str, str] = {}
    match field.kind:
        case "identifier" | "text":
            remedies["too_long"] = f"shorten the text to at most {field.max_length} characters"
        case "time":
            remedies["too_early"] = f"the time lies before {field.earliest:%Y-%m-%d}: check its unit and format"
        case "amount":
            limits = f"{field.minimum:,.0f} and {field.maximum:,.0f}"
            remedies["out_of_range"] = f"the {field.name} must lie within {limits}"
        case "coordinate":
            remedies["out_of_range"] = f"the {field.name} must lie within {field.minimum:g} and {field.maximum:g}"
        case _:
            pass
    if field.together_with:
        first, second = sorted((field.name, field.together_with))
        remedies["incomplete_position"] = f"give both {first} and {second}, or neither"
    if field.reason:
        remedies[field.reason] = field.remedy or _allowed(field)
    return remedies


def _allowed(field: Field) -> str:
    values = " or ".join(field.allowed) if len(field.allowed) < 3 else f"one of {', '.join(field.allowed)}"
    return f"the {field.name} must be {values}" + ("" if field.required else ", or empty")


def _all_remedies() -> dict[str, str]:
    of_fields: dict[str, dict[str, None]] = {}
    for field in FIELDS.values():
        if "file" in field.entrances or field.kind == "currency":  # fraud.toml names the currency of a file
            for reason, remedy in field_remedies(field).items():
                of_fields.setdefault(reason, {})[remedy] = None
    return {**_OF_ANY_FIELD, **{reason: "; ".join(remedies) for reason, remedies in of_fields.items()}}


_BY_FIELD: Final = MappingProxyType({field.name: field_remedies(field) for field in FIELDS.values()})

REASONS: Final[Mapping[str, str]] = MappingProxyType(_all_remedies())
"""Why a row of a file is rejected -> what to do about it, in the limits of all fields."""


def remedy(reason: str, *, field: str) -> str:
    """What to do about a value of this field that is refused for this reason."""
    return _BY_FIELD.get(field, {}).get(reason) or REASONS[reason]
