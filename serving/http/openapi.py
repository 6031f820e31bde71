"""The OpenAPI 3.1 description of the service, made from the models that requests and answers follow.

Belongs here: paths, statuses, examples, and the few rules that types cannot say. Must not be here: handlers, models.

FastAPI would write most of this, and answer for it: with its router and response models the whole service scores 1,750
requests per processor second in place of 3,244 (`benchmarks/routers.py` on a busy machine with 2 cores).
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from importlib.metadata import version
from typing import Any, Final

from pydantic.json_schema import models_json_schema

from fraud_pipeline.schema.amounts import whole_units
from fraud_pipeline.schema.fields import fields_of, transaction_fields
from fraud_pipeline.schema.local_time import OFFSET_FIELD
from fraud_pipeline.schema.money import MONEY_FIELDS, RATE, Conversion
from fraud_pipeline.schema.own_fields import OwnField
from serving.http.answers import BatchOut, DecisionOut, ErrorOut, FeedbackOut, ModelOut
from serving.http.guard import PATHS
from serving.http.models import BatchIn, FeedbackIn, TransactionIn
from serving.http.own_fields import own_fields_schema

Json = dict[str, Any]

_MODELS: Final = (
    (TransactionIn, "validation"),
    (BatchIn, "validation"),
    (FeedbackIn, "validation"),
    (DecisionOut, "serialization"),
    (BatchOut, "serialization"),
    (FeedbackOut, "serialization"),
    (ModelOut, "serialization"),
    (ErrorOut, "serialization"),
)
_ERRORS: Final[Mapping[int, str]] = {
    400: "The body is not JSON.",
    401: "No token, or one that is not valid.",
    403: "The token lacks the scope.",
    404: "Nothing is known under this id.",
    409: "The transaction_id was used before for another transaction.",
    413: "The body or the batch is too large.",
    415: "The body is not declared as JSON.",
    422: "A field is wrong: `fields` names it and the remedy.",
    429: "Too many requests of this client: wait as Retry-After says.",
    503: "Overloaded, or decisions cannot be stored: wait as Retry-After says and send the same request again.",
}
_LINKS: Final[Json] = {
    "decision": {"operationId": "decision", "parameters": {"transaction_id": "$response.body#/transaction_id"}},
    "feedback": {
        "operationId": "feedback",
        "requestBody": {"transaction_id": "$response.body#/transaction_id", "label": "fraud"},
    },
}
_EVERYWHERE: Final = (401, 403, 429, 503)
_WITH_BODY: Final = (400, 413, 415, 422)
_EXAMPLE: Final[Json] = {field.name: field.example for field in fields_of("request")}
_FEEDBACK: Final[Json] = {field.name: field.example for field in fields_of("feedback")}
_DECISION: Final[Json] = {
    "transaction_id": _EXAMPLE["transaction_id"],
    "decision": "review",
    "probability": 0.41,
    "reasons": [{"code": "feature.customer_amount_over_mean_30d", "text": "amount 8.2x this customer's 30-day mean"}],
    "model_version": "7",
    "decided_by": "model",
    "mode": "full",
    "missing": [],
    "decided_at": "2026-01-31T13:45:00.213456Z",
    "replayed": False,
    "latency_ms": 4.1,
    "request_id": "7f3a9c0e5b1d4f6a8c2e0d9b7a5f3c1e",
    "unused_fields": [],
    "rule": None,
    "model_decision": None,
    "tags": [],
}


def describe(
    *,
    currency: str,
    max_batch: int,
    now: datetime,
    declared: Collection[OwnField] = (),
    conversion: Conversion | None = None,
) -> Json:
    """The document that /openapi.json answers with; its examples are of `now`, so that they can be sent as they are.

    `declared` are the own fields that the champion declares, `conversion` its rates, if it has some.
    """
    _, definitions = models_json_schema(_MODELS, ref_template="#/components/schemas/{model}")
    schemas: Json = definitions["$defs"]
    _add_rules(schemas, currency=currency, max_batch=max_batch, declared=declared)
    example = {**_EXAMPLE, "event_time": now.isoformat(timespec="seconds"), "currency": currency}
    if conversion is not None:
        _add_currencies(schemas["TransactionIn"]["properties"], conversion)
        example["currency"] = conversion.reporting
    if whole_units(example["currency"]):
        example["amount"] = round(example["amount"])
    document: Json = {
        "openapi": "3.1.0",
        "info": {
            "title": "Fraud detection",
            "version": version("fraud-pipeline"),
            "description": "One card transaction in, one explained and stored decision out.",
        },
        "paths": {
            "/score": {
                "post": _operation(
                    "score",
                    "Decide on one transaction",
                    body=("TransactionIn", example),
                    answer="DecisionOut",
                    example=_DECISION,
                    errors=(*_WITH_BODY, 409),
                )
            },
            "/score_batch": {
                "post": _operation(
                    "score_batch",
                    f"Decide on up to {max_batch} transactions",
                    body=("BatchIn", {"transactions": [example]}),
                    answer="BatchOut",
                    example={"decisions": [_DECISION]},
                    errors=_WITH_BODY,
                )
            },
            "/feedback": {
                "post": _operation(
                    "feedback",
                    "Report what a transaction turned out to be",
                    body=("FeedbackIn", _FEEDBACK),
                    answer="FeedbackOut",
                    errors=(*_WITH_BODY, 404),
                    example={"transaction_id": example["transaction_id"], "reported_at": "2026-02-03T09:00:00Z"},
                )
            },
            "/decisions/{transaction_id}": {
                "parameters": [
                    {
                        "name": "transaction_id",
                        "in": "path",
                        "required": True,
                        "schema": schemas["TransactionIn"]["properties"]["transaction_id"],
                        "example": example["transaction_id"],
                    }
                ],
                "get": _operation(
                    "decision",
                    "The stored decision on a transaction",
                    answer="DecisionOut",
                    example={**_DECISION, "replayed": True},
                    errors=(404, 422),
                ),
            },
            "/model": {"get": _operation("model", "The model that decides now", answer="ModelOut", errors=(404,))},
            "/openapi.json": {"get": _operation("description", "This document", answer=None)},
            "/metrics": {"get": _operation("metrics", "Prometheus metrics of all workers", answer="text")},
        },
        "components": {
            "schemas": schemas,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
        },
    }
    for (method, path), scopes in PATHS.items():
        document["paths"][path][method.lower()]["security"] = [{"token": [scope]} for scope in sorted(scopes)]
    document["paths"]["/score"]["post"]["responses"]["200"]["links"] = _LINKS
    return document


def _add_rules(schemas: Json, *, currency: str, max_batch: int, declared: Collection[OwnField]) -> None:
    transaction = schemas["TransactionIn"]
    description = transaction["properties"]["currency"]["description"]
    transaction["properties"]["currency"] = {"const": currency, "type": "string", "description": description}
    transaction["properties"]["amount"]["multipleOf"] = 1 if whole_units(currency) else 0.01
    pairs = {frozenset((field.name, field.together_with)) for field in transaction_fields() if field.together_with}
    transaction["allOf"] = [_both_or_neither(sorted(pair)) for pair in sorted(pairs, key=sorted)]
    # The offset is read from the time.
    transaction["properties"]["own_fields"] = own_fields_schema([own for own in declared if own != OFFSET_FIELD])
    if OFFSET_FIELD in declared:
        of_clock = "; its offset is that of the local clock, and Z means that nobody knows it"
        transaction["properties"]["event_time"]["description"] += of_clock
    schemas["BatchIn"]["properties"]["transactions"]["maxItems"] = max_batch


def _add_currencies(properties: Json, conversion: Conversion) -> None:
    """What a currency may be, where amounts are converted; which amounts it has is not for JSON Schema to say."""
    described = {"type": "string", "description": properties["currency"]["description"]}
    rates = {"pattern": "^[A-Z]{3}$"} if conversion.rate_of_row else {"enum": list(conversion.currencies)}
    properties["currency"] = described | rates
    for limit in ("minimum", "maximum", "multipleOf"):
        del properties["amount"][limit]
    for own in MONEY_FIELDS:
        if own.name != RATE or not conversion.rate_of_row:
            properties["own_fields"]["properties"].pop(own.name, None)


def _both_or_neither(names: Sequence[str]) -> Json:
    both: Json = {"required": list(names), "properties": {name: {"type": "number"} for name in names}}
    return {"anyOf": [both, {"properties": {name: {"type": "null"} for name in names}}]}


def _operation(
    name: str,
    summary: str,
    *,
    answer: str | None,
    body: tuple[str, Json] | None = None,
    example: Json | None = None,
    errors: Sequence[int] = (),
) -> Json:
    operation: Json = {
        "operationId": name,
        "summary": summary,
        "responses": {
            "200": _success(answer, example=example),
            **{str(status): _error(status) for status in sorted({*errors, *_EVERYWHERE})},
        },
    }
    if body is not None:
        schema, sample = body
        operation["requestBody"] = {"required": True, "content": _json(_reference(schema), example=sample)}
    return operation


def _success(answer: str | None, *, example: Json | None) -> Json:
    if answer == "text":
        return {"description": "Done.", "content": {"text/plain": {"schema": {"type": "string"}}}}
    schema = _reference(answer) if answer else {"type": "object"}
    return {"description": "Done.", "content": _json(schema, example=example)}


def _error(status: int) -> Json:
    response: Json = {"description": _ERRORS[status], "content": _json(_reference("ErrorOut"))}
    if status in {429, 503}:
        response["headers"] = {"Retry-After": {"description": "seconds", "schema": {"type": "string"}}}
    return response


def _json(schema: Json, *, example: Json | None = None) -> Json:
    return {"application/json": {"schema": schema} | ({"example": example} if example else {})}


def _reference(schema: str) -> Json:
    return {"$ref": f"#/components/schemas/{schema}"}
