"""A transaction with a currency through every entrance: its row from a CSV, a Parquet file, HTTP and Kafka."""

import json
from pathlib import Path
from typing import Any, Final

import pandas as pd

from fraud_pipeline.database.own_fields import own_texts
from fraud_pipeline.ingest.declaration import Declaration, read_declaration
from fraud_pipeline.ingest.sources import FileSource
from fraud_pipeline.ingest.validation import validate
from fraud_pipeline.schema.money import RATE
from fraud_pipeline.schema.own_fields import transactions_schema
from fraud_pipeline.schema.transactions import TRANSACTION_COLUMNS, TransactionRow, microseconds
from fraud_pipeline_tests.support.entrances import GOOD, MICROSECONDS, NOW, Outcome
from serving.errors import RequestError
from serving.http.requests import RequestParser
from serving.stream.messages import MessageReader

DECLARED: Final = """\
version = 1

[fields]
transaction_id = "transaction_id"
event_time = "event_time"
customer_id = "customer_id"
merchant_id = "merchant_id"
amount = "amount"
currency = "ccy"
exchange_rate = "rate"

[rates]
EUR = 1
JPY = 0.0061
KWD = 3.0107
USD = 0.92
"""
BY_TABLE: Final = read_declaration(DECLARED.replace('exchange_rate = "rate"\n', ""))
BY_ROW: Final = read_declaration(DECLARED)


def of_files(directory: Path, sent: dict[str, Any], declaration: Declaration) -> list[Outcome]:
    """The outcomes of a CSV and of a Parquet file, in which other rows are good."""
    good = GOOD | {"ccy": "EUR", "rate": 1.0}
    rate = {"rate": sent.get("own_fields", {}).get(RATE)}
    of_row = {name: value for name, value in sent.items() if name not in ("currency", "own_fields")}
    tested = good | of_row | {"ccy": sent["currency"]} | rate
    frame = pd.DataFrame([*(good | {"transaction_id": f"good-{n}"} for n in range(9)), tested])
    if declaration is BY_TABLE:
        frame = frame.drop(columns="rate")
    frame.to_csv(directory / "bank.csv", index=False)
    frame.to_parquet(directory / "bank.parquet")
    return [_of_file(directory / name, declaration) for name in ("bank.csv", "bank.parquet")]


def _of_file(path: Path, declaration: Declaration) -> Outcome:
    source = FileSource(path, declaration=declaration)
    raw = source.transactions(start=pd.Timestamp("2026-01-01", tz="UTC"), end=pd.Timestamp("2026-07-01", tz="UTC"))
    result = validate(raw, now=pd.Timestamp(NOW), own_fields=declaration.own_fields, conversion=declaration.conversion)
    transactions_schema(declaration.own_fields).validate(result.accepted)
    assert len(result.accepted) + len(result.rejected) == 10
    if len(result.rejected):
        return str(result.rejected["field"].item()), str(result.rejected["reason"].item())
    row = result.accepted.tail(1)
    values = row[list(TRANSACTION_COLUMNS)].assign(event_time=microseconds(row["event_time"])).astype(object)
    (plain,), (own,) = values.to_numpy().tolist(), own_texts(row)
    return TransactionRow._make((*(None if pd.isna(value) else value for value in plain), own))


def of_requests(sent: dict[str, Any], declaration: Declaration) -> list[Outcome]:
    """The outcomes of /score, /score_batch and Kafka."""
    own = {field.name: field for field in declaration.own_fields}
    parser = RequestParser("EUR", 1, lambda: own, lambda: declaration.conversion)
    reader = MessageReader(currency="EUR", declared=lambda: own, conversion=lambda: declaration.conversion)
    outcomes: list[Outcome] = []
    for read, document in ((parser.transaction, sent), (parser.batch, {"transactions": [sent]})):
        try:
            row = read(json.dumps(document).encode(), now=MICROSECONDS)
            outcomes.append(row[0] if isinstance(row, list) else row)
        except RequestError as error:
            outcomes.append((error.fields[0].path.removeprefix("transactions[0]."), error.fields[0].problem))
    message = reader.transaction_message(json.dumps({"schema": 1, **sent}).encode(), [], now=MICROSECONDS)
    return [*outcomes, message if isinstance(message, TransactionRow) else (message.path, message.reason)]
