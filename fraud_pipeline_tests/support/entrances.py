"""One transaction through every entrance: its result from a CSV, a Parquet file, HTTP and Kafka."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import jsonschema_rs
import pandas as pd

from fraud_pipeline.ingest.sources import FileSource
from fraud_pipeline.ingest.validation import validate
from fraud_pipeline.schema.fields import FIELDS, transaction_fields
from fraud_pipeline.schema.transactions import TRANSACTION_COLUMNS, TransactionRow
from serving.errors import RequestError
from serving.http.openapi import describe
from serving.http.requests import RequestParser
from serving.stream.messages import MessageReader

NOW: Final = datetime(2026, 6, 1, 12, tzinfo=UTC)
MICROSECONDS: Final = int(NOW.timestamp() * 1_000_000)
HTTP: Final = RequestParser(currency="EUR", max_batch=1)
STREAM: Final = MessageReader(currency="EUR")
GOOD: Final[dict[str, Any]] = {
    "transaction_id": "good",
    "event_time": "2026-06-01T10:00:00Z",
    "customer_id": "c-1",
    "merchant_id": "m-1",
    "amount": 12.34,
}
N_GOOD: Final = 40
"""Valid rows next to the tested one, so that one cell does not decide the type of a column."""

Outcome = TransactionRow | tuple[str, str]
"""The accepted row, or the field and the reason."""


def of_http(sent: dict[str, Any]) -> Outcome:
    """The result of /score for these fields."""
    try:
        return HTTP.transaction(json.dumps({**sent, "currency": "EUR"}).encode(), now=MICROSECONDS)
    except RequestError as error:
        return error.fields[0].path, error.fields[0].problem


def of_stream(sent: dict[str, Any]) -> Outcome:
    """The result of the consumer for these fields."""
    value = json.dumps({"schema": 1, **sent, "currency": "EUR"}).encode()
    row = STREAM.transaction_message(value, [], now=MICROSECONDS)
    return row if isinstance(row, TransactionRow) else (row.path, row.reason)


def of_file(path: Path) -> Outcome:
    """The result of the pipeline for the tested row, among valid ones."""
    source = FileSource(path)
    raw = source.transactions(start=pd.Timestamp("2026-01-01", tz="UTC"), end=pd.Timestamp(NOW) + pd.Timedelta(days=3))
    result = validate(raw, now=pd.Timestamp(NOW), fallback_time=pd.Timestamp("2026-01-01", tz="UTC"))
    rows = result.accepted[~result.accepted["transaction_id"].str.startswith("good-")]
    assert len(result.accepted) - len(rows) == N_GOOD
    assert len(result.accepted) + len(result.rejected) == N_GOOD + 1
    if rows.empty:
        return str(result.rejected["field"].item()), str(result.rejected["reason"].item())
    (row,) = rows.to_dict("records")
    row["event_time"] = row["event_time"].value // 1_000
    return TransactionRow._make((*(None if pd.isna(row[name]) else row[name] for name in TRANSACTION_COLUMNS), None))


def outcomes(directory: Path, good: dict[str, Any], **changes: Any) -> dict[str, Outcome]:
    """The outcome of a good transaction with some changes, by entrance."""
    sent = good | changes
    rows = pd.DataFrame([*(good | {"transaction_id": f"good-{n}"} for n in range(N_GOOD)), sent])
    path = directory / uuid4().hex
    rows.to_parquet(path.with_suffix(".parquet"))
    rows.to_csv(path.with_suffix(".csv"), index=False)
    return {
        "HTTP": of_http(sent),
        "Kafka": of_stream(sent),
        "Parquet": of_file(path.with_suffix(".parquet")),
        "CSV": of_file(path.with_suffix(".csv")),
    }


def is_described(sent: dict[str, Any]) -> bool:
    """Whether the schema of /openapi.json accepts these fields."""
    document = describe(currency="EUR", max_batch=1, now=NOW)
    schema = {"$ref": "#/components/schemas/TransactionIn", "components": document["components"]}
    return jsonschema_rs.validator_for(schema).is_valid({**sent, "currency": "EUR"})


def full_transaction() -> dict[str, Any]:
    """A good transaction with all fields of the table."""
    return {field.name: field.example for field in transaction_fields()} | GOOD


def same_reason(outcome: Outcome) -> Outcome:
    """Files cannot distinguish an empty time from an unreadable one, so both have the reason of the latter."""
    if isinstance(outcome, tuple) and not isinstance(outcome, TransactionRow):
        field, reason = outcome
        if reason == "missing" and FIELDS[field].kind == "time":
            return field, FIELDS[field].reason
    return outcome
