"""Money: one exact rule from an amount and its currency to cents, for one amount and for columns."""

from datetime import date
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

import numpy as np
import pytest
from babel.core import get_global
from hypothesis import given
from hypothesis import strategies as st

from fraud_pipeline.schema.currencies import MINOR_DIGITS
from fraud_pipeline.schema.money import (
    ANY_CURRENCY,
    MONEY_FIELDS,
    ORIGINAL_AMOUNT,
    ORIGINAL_CURRENCY,
    RATE,
    Conversion,
    MoneyError,
    Paid,
    same_transaction,
)
from fraud_pipeline.schema.own_fields import own_columns, own_fields_json
from fraud_pipeline.schema.transactions import MAX_AMOUNT_CENTS, TransactionRow

RATES = (("JPY", 0.0061), ("KWD", 3.0107), ("USD", 0.92), ("VND", 3.5e-05))
EURO = Conversion(reporting="EUR", rates=RATES)
OF_ROW = Conversion(reporting="EUR", rates=RATES, rate_of_row=True)
CODES = ["EUR", "JPY", "KWD", "USD", "VND", "SEK", "EURO", ""]
PAID = TransactionRow("t1", 1, "c1", "m1", 920, own_fields=own_fields_json(EURO.paid(10.0, "USD").own_values))


class TestCurrencies:
    def test_have_the_minor_units_of_iso(self) -> None:
        assert {code: MINOR_DIGITS[code] for code in ("EUR", "JPY", "KWD", "HUF", "CLF", "ISK")} == {
            "EUR": 2,
            "JPY": 0,
            "KWD": 3,
            "HUF": 2,  # CLDR says 0, because nobody uses fillér any more
            "CLF": 4,
            "ISK": 0,
        }

    def test_hold_every_legal_tender_that_babel_knows(self) -> None:
        today = date(2026, 1, 1).isoformat()
        tender = {
            code
            for entries in get_global("territory_currencies").values()
            for code, _, end, is_tender in entries
            if is_tender and end is None
        }
        assert len(tender) > 140, today
        assert tender <= MINOR_DIGITS.keys()


class TestOneAmount:
    @pytest.mark.parametrize(
        ("amount", "currency", "expected"),
        [
            (10.0, "EUR", (1_000, "EUR", 1_000, 1.0)),
            (10.0, "USD", (920, "USD", 1_000, 0.92)),
            (1500, "JPY", (915, "JPY", 1_500, 0.0061)),
            (1.234, "KWD", (372, "KWD", 1_234, 3.0107)),  # 371.52038 cents
            (-10.0, "USD", (-920, "USD", -1_000, 0.92)),
            (500_000_000, "VND", (1_750_000, "VND", 500_000_000, 3.5e-05)),
        ],
    )
    def test_becomes_whole_cents(self, amount: float, currency: str, expected: tuple[Any, ...]) -> None:
        assert tuple(EURO.paid(amount, currency)) == expected

    @pytest.mark.parametrize(("minor_units", "cents"), [(25, 2), (35, 4), (-25, -2), (-35, -4), (45, 4)])
    def test_is_rounded_half_to_even(self, minor_units: int, cents: int) -> None:
        tenth = Conversion(reporting="EUR", rates=(("USD", 0.1),))
        assert tenth.paid(minor_units / 100, "USD").cents == cents

    def test_stands_for_the_decimal_that_spells_the_rate(self) -> None:
        """In binary, 1.005 is a little less than 1005/1000, so that floats would see no tie."""
        rate = Conversion(reporting="EUR", rates=(("USD", 1.005),))
        assert rate.paid(1.0, "USD").cents == 100  # 100.5 exactly, to the even side
        assert rate.paid(3.0, "USD").cents == 302  # 301.5 exactly, to the even side

    @pytest.mark.parametrize(
        ("amount", "currency", "rate", "problem"),
        [
            (1.0, "EURO", None, ("currency", "unknown_currency")),
            (1.0, "", None, ("currency", "missing")),
            (1.0, "SEK", None, ("currency", "no_rate")),
            (1.0, "SEK", -1.0, ("currency", "bad_rate")),
            (1.0, "EUR", 1.1, ("currency", "bad_rate")),
            (1.5, "JPY", None, ("amount", "finer_than_the_currency")),
            (1.2345, "KWD", None, ("amount", "finer_than_the_currency")),
            (200_000_000.0, "EUR", None, ("amount", "out_of_range")),
            (1e300, "EUR", None, ("amount", "out_of_range")),
        ],
    )
    def test_is_refused_by_name(self, amount: float, currency: str, rate: float | None, problem: Any) -> None:
        with pytest.raises(MoneyError) as caught:
            OF_ROW.paid(amount, currency, rate=rate)
        assert (caught.value.field, caught.value.reason) == problem


def outcome(amount: float, currency: str, rate: float | None) -> Paid | tuple[str, str]:
    """The amount, converted, or field and reason of its refusal."""
    try:
        return OF_ROW.paid(amount, currency, rate=rate)
    except MoneyError as error:
        return error.field, error.reason


@given(
    st.lists(
        st.tuples(
            st.one_of(
                st.integers(-(10**12), 10**12).map(lambda cents: cents / 100),
                st.integers(-(10**9), 10**9).map(lambda mils: mils / 1_000),
                st.floats(-1e12, 1e12),
            ),
            st.sampled_from(CODES),
            st.one_of(st.none(), st.floats(-1, 10), st.sampled_from([1.0, 0.92, 1e-9, 123_456.789012])),
        ),
        max_size=30,
    )
)
def test_columns_are_converted_as_single_amounts(drawn: list[tuple[float, str, float | None]]) -> None:
    """And both as Python's decimals, so that no entrance and no order of operations makes another cent."""
    amounts = np.array([amount for amount, _, _ in drawn], np.float64)
    currencies = np.array([currency for _, currency, _ in drawn], object)
    rates = np.array([np.nan if rate is None else rate for _, _, rate in drawn], np.float64)
    columns = OF_ROW.paid_columns(amounts, currencies, rates)
    problems: dict[int, set[tuple[str, str]]] = {}
    for field, reason, rows in columns.problems:
        for index in np.flatnonzero(rows).tolist():
            problems.setdefault(index, set()).add((field, reason))

    for position, (amount, currency, rate) in enumerate(drawn):
        paid = outcome(amount, currency, rate)
        if not isinstance(paid, Paid):
            assert paid in problems[position]
            continue
        assert position not in problems
        assert columns.cents[position] == paid.cents
        assert columns.minor_units[position] == paid.minor_units
        assert columns.rates[position] == paid.rate
        units = Decimal(paid.minor_units).scaleb(-MINOR_DIGITS[currency])
        exact = units * Decimal(repr(paid.rate)) * 100
        assert paid.cents == exact.quantize(Decimal(1), rounding=ROUND_HALF_EVEN)


class TestConversion:
    def test_survives_json(self) -> None:
        assert Conversion.from_dict(OF_ROW.to_dict()) == OF_ROW

    def test_lists_the_currencies_that_have_a_rate(self) -> None:
        assert EURO.currencies == ("EUR", "JPY", "KWD", "USD", "VND")

    def test_what_is_stored_reads_back_as_columns(self) -> None:
        columns = own_columns([PAID.own_fields], MONEY_FIELDS)
        assert columns.iloc[0].to_dict() == {ORIGINAL_CURRENCY: "USD", ORIGINAL_AMOUNT: 1_000.0, RATE: 0.92}


class TestSameTransaction:
    def paid(self, conversion: Conversion, amount: float, currency: str, **more: Any) -> TransactionRow:
        paid = conversion.paid(amount, currency)
        return PAID._replace(amount_cents=paid.cents, own_fields=own_fields_json({**more, **paid.own_values}))

    def test_of_another_rate_is_the_same(self) -> None:
        other = Conversion(reporting="EUR", rates=(("USD", 0.87),))
        assert same_transaction(PAID, self.paid(other, 10.0, "USD"))
        assert same_transaction(PAID, self.paid(ANY_CURRENCY, 10.0, "USD"))

    def test_of_another_amount_currency_field_or_id_is_another(self) -> None:
        others = [
            self.paid(EURO, 10.01, "USD"),
            self.paid(EURO, 9.2, "EUR"),  # as many cents
            self.paid(EURO, 10.0, "USD", device="d1"),
            PAID._replace(merchant_id="m2"),
        ]
        assert not any(same_transaction(PAID, other) for other in others)

    def test_before_the_first_rates_is_compared_in_the_one_currency(self) -> None:
        before = PAID._replace(amount_cents=1_000, own_fields=None)
        assert same_transaction(before, self.paid(EURO, 10.0, "EUR"))
        assert not same_transaction(before, self.paid(EURO, 10.01, "EUR"))
        assert not same_transaction(before, before._replace(amount_cents=1_001))

    def test_a_huge_amount_can_be_compared(self) -> None:
        huge = self.paid(ANY_CURRENCY, 5e9, "VND")
        assert huge.amount_cents > MAX_AMOUNT_CENTS
        assert same_transaction(self.paid(EURO, 5e8, "VND")._replace(own_fields=huge.own_fields), huge)
