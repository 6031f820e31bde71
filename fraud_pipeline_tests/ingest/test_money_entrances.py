"""The same money gives the same row at every entrance, or is refused by the same name with a remedy."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from fraud_pipeline.ingest.declaration import Declaration, read_declaration
from fraud_pipeline.ingest.sources import FileSource
from fraud_pipeline.ingest.validation import validate
from fraud_pipeline.messaging.topics import transaction_message
from fraud_pipeline.schema.money import ORIGINAL_AMOUNT, ORIGINAL_CURRENCY, RATE, Conversion
from fraud_pipeline.schema.reasons import remedy
from fraud_pipeline.schema.transactions import TransactionRow
from fraud_pipeline_tests.support.entrances import GOOD, MICROSECONDS, NOW
from fraud_pipeline_tests.support.money_entrances import BY_ROW, BY_TABLE, DECLARED, of_files, of_requests
from serving.http.openapi import describe
from serving.stream.messages import MessageReader


def sent(amount: float, currency: str, **own: Any) -> dict[str, Any]:
    return GOOD | {"amount": amount, "currency": currency} | ({"own_fields": own} if own else {})


@pytest.mark.parametrize("declaration", [BY_TABLE, BY_ROW], ids=["rates of fraud.toml", "rate of the row"])
@pytest.mark.parametrize(
    ("amount", "currency", "own", "expected"),
    [
        (12.34, "EUR", {}, (1_234, 1_234, 1)),
        (-12.34, "USD", {}, (-1_135, -1_234, 0.92)),
        (1_234, "JPY", {}, (753, 1_234, 0.0061)),
        (1.234, "KWD", {}, (372, 1_234, 3.0107)),
        (12.34, "USD", {RATE: 0.915}, (1_129, 1_234, 0.915)),
        (5_000_000_000, "VND", {RATE: 0.000035}, (17_500_000, 5_000_000_000, 0.000035)),
    ],
)
def test_money_is_the_same_at_every_entrance(
    tmp_path: Path, declaration: Declaration, amount: float, currency: str, own: dict[str, Any], expected: Any
) -> None:
    if own and declaration is BY_TABLE:
        pytest.skip("a rate of the row needs its column")
    document = sent(amount, currency, **own)
    outcomes = [*of_files(tmp_path, document, declaration), *of_requests(document, declaration)]

    assert len(set(outcomes)) == 1
    (row,) = set(outcomes)
    assert isinstance(row, TransactionRow)
    stored = json.loads(row.own_fields or "")
    assert (row.amount_cents, stored[ORIGINAL_AMOUNT], stored[RATE]) == expected
    assert stored[ORIGINAL_CURRENCY] == currency


@pytest.mark.parametrize(
    ("amount", "currency", "own", "problem"),
    [
        (1.0, "SEK", {}, ("currency", "no_rate")),
        (1.0, "XYZ", {}, ("currency", "unknown_currency")),
        (500_000_000.0, "USD", {}, ("amount", "out_of_range")),
        (1.0, "EUR", {RATE: 0.5}, ("currency", "bad_rate")),
    ],
)
def test_what_cannot_be_converted_is_refused_alike_with_a_remedy(
    tmp_path: Path, amount: float, currency: str, own: dict[str, Any], problem: tuple[str, str]
) -> None:
    document = sent(amount, currency, **own)
    outcomes = [*of_files(tmp_path, document, BY_ROW), *of_requests(document, BY_ROW)]

    assert set(outcomes) == {problem}
    assert remedy(problem[1], field=problem[0])


@pytest.mark.parametrize(
    ("document", "problem"),
    [
        (sent(1.5, "JPY"), ("amount", "finer_than_the_currency")),
        (sent(1.0, ""), ("currency", "missing")),
        (sent(1.0, "USD", **{RATE: 0.9}), (f"own_fields.{RATE}", "name_taken")),
        (sent(1.0, "USD", **{ORIGINAL_AMOUNT: 5}), (f"own_fields.{ORIGINAL_AMOUNT}", "name_taken")),
    ],
)
def test_requests_may_not_say_what_is_made_of_their_money(document: Any, problem: tuple[str, str]) -> None:
    assert set(of_requests(document, BY_TABLE)) == {problem}


def test_files_round_to_the_minor_units_of_the_currency_and_count_it(tmp_path: Path) -> None:
    rows = [("a", 1.2345, "KWD"), ("b", 10.5, "JPY"), ("c", 1.005, "USD"), ("d", 1.0, "EUR")]
    frame = pd.DataFrame([GOOD | {"transaction_id": id_, "amount": paid, "ccy": code} for id_, paid, code in rows])
    frame.to_csv(tmp_path / "bank.csv", index=False)
    source = FileSource(tmp_path / "bank.csv", declaration=BY_TABLE)
    raw = source.transactions(start=pd.Timestamp("2026-01-01", tz="UTC"), end=pd.Timestamp("2026-07-01", tz="UTC"))
    result = validate(raw, now=pd.Timestamp(NOW), own_fields=BY_TABLE.own_fields, conversion=BY_TABLE.conversion)

    assert result.accepted[ORIGINAL_AMOUNT].tolist() == [1_234, 10, 100, 100]
    assert source.notes["amount: more decimals than the currency has, rounded"] == 3


def test_reports_of_frauds_carry_the_converted_amount(tmp_path: Path) -> None:
    frame = pd.DataFrame([GOOD | {"ccy": "USD", "fraud": 1}, GOOD | {"transaction_id": "b", "ccy": "EUR", "fraud": 0}])
    frame.to_csv(tmp_path / "bank.csv", index=False)
    toml = DECLARED.replace('exchange_rate = "rate"', 'is_fraud = "fraud"')
    source = FileSource(tmp_path / "bank.csv", declaration=read_declaration(toml))

    reports = source.reports(start=pd.Timestamp("2026-01-01", tz="UTC"), end=pd.Timestamp("2026-07-01", tz="UTC"))

    assert reports["amount_cents"].tolist() == [1_135]


@pytest.mark.parametrize("declaration", [BY_TABLE, BY_ROW], ids=["rates of fraud.toml", "rate of the row"])
def test_a_row_is_sent_on_as_it_was_paid(declaration: Declaration) -> None:
    (row,) = set(of_requests(sent(12.34, "USD", device="d1"), declaration))
    assert isinstance(row, TransactionRow)
    own, conversion = {field.name: field for field in declaration.own_fields}, declaration.conversion
    assert isinstance(conversion, Conversion)
    reader = MessageReader(currency="EUR", declared=lambda: own, conversion=lambda: conversion)

    message = transaction_message(row, currency="EUR", with_rate=conversion.rate_of_row)

    assert reader.transaction_message(message.value, message.headers, now=MICROSECONDS) == row


def test_openapi_names_the_currencies_and_asks_for_nothing_that_is_made() -> None:
    own, conversion = BY_TABLE.own_fields, BY_TABLE.conversion
    document = describe(currency="CHF", max_batch=1, now=NOW, conversion=conversion, declared=own)
    properties = document["components"]["schemas"]["TransactionIn"]["properties"]

    assert properties["currency"]["enum"] == ["EUR", "JPY", "KWD", "USD"]
    assert properties["own_fields"]["properties"] == {}
    assert "maximum" not in properties["amount"]
    example = document["paths"]["/score"]["post"]["requestBody"]["content"]["application/json"]["example"]
    assert example["currency"] == "EUR"
