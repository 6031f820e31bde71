"""What fraud.toml says of money: the currency of each amount, and the rates.

Belongs here: these keys as data, their rules, their TOML. Must not be here: conversion (`schema/money.py`).
"""

from collections.abc import Mapping
from typing import Any, Final, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from fraud_pipeline.ingest.toml_text import KeyedError, KeyPath, toml_key, toml_value
from fraud_pipeline.schema.currencies import MINOR_DIGITS
from fraud_pipeline.schema.money import Conversion, is_rate

MONEY_KEYS: Final = ("currency", "exchange_rate")
"""Keys of [fields] beside the fields of a file."""
_PLACES: Final[Mapping[str, KeyPath]] = {
    "column": ("fields", "currency"),
    "constant": ("fields", "currency"),
    "rate_column": ("fields", "exchange_rate"),
    "rates": ("rates",),
    "reporting": ("reporting_currency",),
}
"""Argument -> its key in fraud.toml."""
_NO_CURRENCY: Final = "this is no currency of ISO 4217: write a code such as EUR"


class MoneyReading(BaseModel):
    """The currency is that of a `column`, or one `constant`; the rate that of `rate_column`, or of `rates`.

    `reporting` is the currency to which amounts are converted. It may be left out where one rate is 1.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    column: str = ""
    constant: str = ""
    rate_column: str = ""
    rates: Mapping[str, float] = Field(default_factory=dict)
    reporting: str = ""

    @model_validator(mode="after")
    def _check_keys(self) -> Self:
        if bool(self.column) == bool(self.constant):
            raise KeyedError(_PLACES["column"], 'write the column\'s "NAME", or {constant = "EUR"} for all rows')
        for code, rate in self.rates.items():
            if code not in MINOR_DIGITS:
                raise KeyedError(("rates", code), _NO_CURRENCY)
            if not is_rate(rate):
                raise KeyedError(("rates", code), "a rate is a positive number: one unit in the reporting currency")
        for argument, code in (("constant", self.constant), ("reporting", self.reporting)):
            if code and code not in MINOR_DIGITS:
                raise KeyedError(_PLACES[argument], _NO_CURRENCY)
        return self

    @model_validator(mode="after")
    def _check_rates(self) -> Self:
        into = self._into
        if not into:
            place = _PLACES["rates"] if self.rates else _PLACES["column"]
            problem = 'the reporting currency is not clear: write reporting_currency = "EUR" above [fields]'
            raise KeyedError(place, f"{problem}, and [rates] where rows have other currencies")
        if self.rates.get(into, 1) != 1:
            raise KeyedError(("rates", into), "this is the reporting currency: its rate is 1")
        if self.constant and not self.rate_column and self.constant not in {into, *self.rates}:
            raise KeyedError(_PLACES["constant"], f"{self.constant} has no rate: add it to [rates]")
        return self

    @property
    def _into(self) -> str:
        """The reporting currency: as written, or the only one whose rate is 1, or the only one there is."""
        units = [code for code, rate in self.rates.items() if rate == 1]
        only = "" if self.rates or self.rate_column else self.constant
        return self.reporting or (units[0] if len(units) == 1 else only)

    @property
    def conversion(self) -> Conversion:
        """How amounts become cents of the reporting currency."""
        others = sorted((code, float(rate)) for code, rate in self.rates.items() if code != self._into)
        return Conversion(reporting=self._into, rates=tuple(others), rate_of_row=bool(self.rate_column))

    @property
    def columns(self) -> dict[str, str]:
        """{key of [fields]: column} of what columns give."""
        given = {"currency": self.column, "exchange_rate": self.rate_column}
        return {key: column for key, column in given.items() if column}


def money_document(fields: Mapping[str, Any], document: Mapping[str, Any]) -> dict[str, Any] | None:
    """The arguments of a MoneyReading in a TOML document; None where it says nothing of money. Raises KeyedError."""
    given = {
        "rates": document.get("rates"),
        "reporting": document.get("reporting_currency"),
        "rate_column": fields.get("exchange_rate"),
    }
    present = {argument: value for argument, value in given.items() if value is not None}
    currency = fields.get("currency")
    if currency is None:
        if present:
            place = _PLACES[next(iter(present))]
            raise KeyedError(place, "no row has a currency: add currency to [fields], or remove this key")
        return None
    of_currency = {"column": currency} if isinstance(currency, str) else currency
    if not isinstance(of_currency, dict) or not of_currency.keys() <= {"column", "constant"}:
        raise KeyedError(_PLACES["column"], 'write the column\'s "NAME", or {constant = "EUR"} for all rows')
    return {**of_currency, **present}


def money_key(argument: str, rest: list[str]) -> KeyPath:
    """The key of fraud.toml that an argument of a MoneyReading stands for."""
    return (*_PLACES.get(argument, _PLACES["column"]), *rest)


def money_fields_toml(money: MoneyReading) -> list[str]:
    """The lines of [fields]."""
    constant = f"{{constant = {toml_value(money.constant)}}}"
    lines = [f"currency = {toml_value(money.column) if money.column else constant}"]
    return lines + ([f"exchange_rate = {toml_value(money.rate_column)}"] if money.rate_column else [])


def rates_toml(money: MoneyReading) -> list[str]:
    """The table [rates]; nothing without rates."""
    lines = [f"{toml_key(code)} = {toml_value(rate)}" for code, rate in money.rates.items()]
    return ["", "[rates]  # one unit in the reporting currency", *lines] if lines else []
