"""The bodies of requests as pydantic models, generated from the table of fields.

Belongs here: which fields a body has. Must not be here: what a field may hold (`field_types.py`, `schema/fields.py`),
answers (`answers.py`).
"""

from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, create_model
from pydantic import Field as ModelField

from fraud_pipeline.schema.fields import Entrance, Field, fields_of
from serving.errors import TooManyKeys
from serving.http.field_types import describe_field, request_type


class Body(BaseModel):
    """What all bodies have in common: strict types, no unknown fields."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False, hide_input_in_errors=True)


def body_model(name: str, entrance: Entrance, *, doc: str, base: type[Body] = Body) -> type[Body]:
    """The model of a body that holds the fields of an entrance."""
    definitions: dict[str, Any] = {field.name: _definition(field) for field in fields_of(entrance)}
    return create_model(name, __base__=base, __doc__=doc, **definitions)


def _definition(field: Field) -> tuple[Any, Any]:
    kind, extra = request_type(field), describe_field(field)
    info: dict[str, Any] = {"description": extra.pop("description"), "json_schema_extra": extra or None}
    if field.required and not field.when_missing:
        return kind, ModelField(**info)
    if not field.when_missing:
        return kind | None, ModelField(None, **info)
    filled = AfterValidator(lambda value: field.when_missing if value is None else value)
    return Annotated[kind | None, filled], ModelField(None, validate_default=True, **info)


def _own_fields(sent: object) -> object:
    return sent.own_fields if isinstance(sent, TooManyKeys) and sent.own_fields is not None else sent


class _WithOwnFields(Body):
    own_fields: Annotated[dict[str, Any] | None, BeforeValidator(_own_fields)] = ModelField(
        None, description="the bank's own fields"
    )


TransactionIn: Final = body_model(
    "TransactionIn", "request", base=_WithOwnFields, doc="One card transaction to decide on."
)
FeedbackIn: Final = body_model(
    "FeedbackIn", "feedback", doc="What was found out about a transaction that this service decided on."
)
_ITEM: Final[Any] = TransactionIn
BatchIn: Final = create_model(
    "BatchIn",
    __base__=Body,
    __doc__="Several transactions, decided on in their order.",
    transactions=(list[_ITEM], ModelField(min_length=1)),
)

REQUIRED: Final = frozenset(
    name
    for model in (TransactionIn, BatchIn, FeedbackIn)
    for name, field in model.model_fields.items()
    if field.is_required()
)
"""Names of fields that may not be null."""
