"""Currencies and rates in fraud.toml: there and back, what is refused, and that nothing changes without them."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fraud_pipeline.ingest.declaration import Declaration, DeclarationError, declaration_toml, read_declaration
from fraud_pipeline.ingest.inspection import Inspection, inspect
from fraud_pipeline.schema.money import MONEY_FIELDS, Conversion

PLAIN = """\
version = 1

[fields]
event_time = "time"
amount = "amt"

[own_fields.age]
type = "number"
column = "AGE"
"""
RATES = "\n[rates]\nEUR = 1.0\nUSD = 0.92\n"


def with_money(fields: str, more: str = "", *, top: str = "") -> str:
    return top + PLAIN.replace("[fields]\n", f"[fields]\n{fields}\n") + more


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (with_money('currency = "ccy"', RATES), Conversion(reporting="EUR", rates=(("USD", 0.92),))),
        (with_money('currency = {column = "ccy"}', RATES), Conversion(reporting="EUR", rates=(("USD", 0.92),))),
        (with_money('currency = {constant = "USD"}'), Conversion(reporting="USD")),
        (with_money('currency = "ccy"', top='reporting_currency = "KWD"\n'), Conversion(reporting="KWD")),
        (
            with_money('currency = "ccy"\nexchange_rate = "fx"', top='reporting_currency = "EUR"\n'),
            Conversion(reporting="EUR", rate_of_row=True),
        ),
    ],
)
def test_a_declaration_gives_its_conversion_there_and_back(text: str, expected: Conversion) -> None:
    declaration = read_declaration(text)

    assert declaration.conversion == expected
    assert declaration.own_fields[1:] == MONEY_FIELDS
    assert read_declaration(declaration_toml(declaration)) == declaration
    assert Declaration.model_validate_json(declaration.model_dump_json()) == declaration


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (with_money('currency = "ccy"'), "line 4, fields.currency: the reporting currency is not clear"),
        (with_money('currency = "ccy"', "\n[rates]\nUSD = 0.9\n"), "rates: the reporting currency is not clear"),
        (with_money('currency = "ccy"', RATES + "UDS = 2\n"), "line 15, rates.UDS: this is no currency of ISO 4217"),
        (with_money('currency = "ccy"', RATES + "JPY = 0\n"), "rates.JPY: a rate is a positive number"),
        (with_money('currency = "ccy"', RATES + "JPY = inf\n"), "rates.JPY: a rate is a positive number"),
        (with_money('currency = {constant = "EURO"}'), "fields.currency: this is no currency of ISO 4217"),
        (with_money('currency = {constant = "SEK"}', RATES), "fields.currency: SEK has no rate"),
        (with_money("currency = 3"), "fields.currency: write the column's"),
        (with_money("", RATES), "rates: no row has a currency"),
        (with_money('exchange_rate = "fx"'), "fields.exchange_rate: no row has a currency"),
        (with_money('currency = "amt"', RATES), "column 'amt' is given to two fields"),
        (with_money('currency = "ccy"', RATES, top='reporting_currency = "USD"\n'), "rates.USD: this is the reporting"),
        (with_money('currency = "ccy"', RATES).replace('amount = "amt"\n', ""), "fields.currency: no amount"),
        (
            with_money('currency = "ccy"', RATES).replace("own_fields.age", "own_fields.exchange_rate"),
            "own_fields.exchange_rate: the original amount is stored by this name",
        ),
    ],
)
def test_an_error_names_the_key_the_problem_and_the_remedy(text: str, problem: str) -> None:
    with pytest.raises(DeclarationError) as caught:
        read_declaration(text)
    assert problem in str(caught.value)


def test_without_a_currency_days_keep_their_versions() -> None:
    """These ids are those of releases that knew no currency; others would bring every stored day again."""
    declaration = read_declaration(PLAIN)
    assert (declaration.id, declaration.fixed_id) == ("0635c8e1f065a4b8", "63224649cb0f404e")


def test_a_rate_changes_the_rows_of_a_day_and_not_whose_they_are() -> None:
    before = read_declaration(with_money('currency = "ccy"', RATES))
    after = read_declaration(with_money('currency = "ccy"', RATES.replace("0.92", "0.93")))

    assert before.id != after.id
    assert before.fixed_id == after.fixed_id


def inspected(directory: Path, currencies: list[str]) -> Inspection:
    generator = np.random.default_rng(0)
    size = 400
    frame = pd.DataFrame(
        {
            "time": pd.date_range("2026-01-01", periods=size, freq="6h"),
            "card": [f"c{n % 40}" for n in range(size)],
            "amount": generator.integers(100, 90_000, size) / 100,
            "payment_currency": [currencies[n % len(currencies)] for n in range(size)],
            "is_fraud": (np.arange(size) % 10 == 3).astype(int),
        }
    )
    frame.to_csv(directory / "bank.csv", index=False)
    return inspect(directory / "bank.csv")


class TestInit:
    def test_declares_the_only_currency(self, tmp_path: Path) -> None:
        inspection = inspected(tmp_path, ["USD"])

        assert inspection.declaration.conversion == Conversion(reporting="USD")
        (place,) = [each for each in inspection.columns if each.column == "payment_currency"]
        assert (place.use, place.name, place.evidence) == ("field", "currency", "USD in all sampled rows")

    def test_names_several_currencies_and_the_remedy(self, tmp_path: Path) -> None:
        inspection = inspected(tmp_path, ["EUR", "EUR", "USD", "JPY"])

        assert inspection.declaration.conversion is None
        (warning,) = [text for text in inspection.warnings if "currencies" in text]
        assert "'payment_currency' names 3 currencies (EUR 50%, JPY 25%, USD 25%)" in warning
        assert "[rates]" in warning

    def test_leaves_other_codes_alone(self, tmp_path: Path) -> None:
        inspection = inspected(tmp_path, ["EURO", "DOLLAR"])

        assert inspection.declaration.conversion is None
        assert not [text for text in inspection.warnings if "currencies" in text]
