"""Money: an amount in a currency becomes cents of the reporting currency, by one rule for files, HTTP and Kafka.

Belongs here: rates, conversion and its rounding, what is stored of the original. Must not be here: how an entrance
spells amounts, currencies or rates.

A rate is what one unit costs in the reporting currency. It stands for the shortest decimal that spells it, so 0.92 is
exactly 92/100. Cents are rounded once, half to even, from whole numbers: no order of operations changes them.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final, NamedTuple, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fraud_pipeline.schema.amounts import cents_of, whole_cents
from fraud_pipeline.schema.currencies import MINOR_DIGITS
from fraud_pipeline.schema.local_time import UTC_OFFSET
from fraud_pipeline.schema.own_fields import OwnField
from fraud_pipeline.schema.transactions import MAX_AMOUNT_CENTS, MIN_AMOUNT_CENTS, TransactionRow

ORIGINAL_CURRENCY: Final = "original_currency"
ORIGINAL_AMOUNT: Final = "original_minor_units"
RATE: Final = "exchange_rate"
MONEY_FIELDS: Final = (
    OwnField(name=ORIGINAL_CURRENCY, type="category", description="the currency in which it was paid"),
    OwnField(name=ORIGINAL_AMOUNT, type="number", description="the amount in minor units of the original currency"),
    OwnField(name=RATE, type="number", description="one unit of the original currency in the reporting currency"),
)
"""What is stored of the original amount, beside the converted one, as own fields."""
MONEY_NAMES: Final = frozenset(own.name for own in MONEY_FIELDS)

_LOWEST, _HIGHEST = 1e-9, 1e9
_EXACT: Final = 2.0**53
_CENTS: Final = 100
_NO_CURRENCY: Final = "XXX"
"""ISO's code where no currency is involved."""


class MoneyError(ValueError):
    """An amount that cannot be converted; `field` is the fixed field at fault."""

    def __init__(self, reason: str, *, field: str) -> None:
        super().__init__(reason)
        self.reason, self.field = reason, field


class Paid(NamedTuple):
    """Cents of the reporting currency, and what they were made of."""

    cents: int
    currency: str
    minor_units: int
    rate: float

    @property
    def own_values(self) -> dict[str, str | float]:
        """The values of MONEY_FIELDS; a whole rate is an integer, as everywhere in stored own fields."""
        rate = int(self.rate) if self.rate.is_integer() else self.rate
        return {ORIGINAL_CURRENCY: self.currency, ORIGINAL_AMOUNT: self.minor_units, RATE: rate}


@dataclass(frozen=True, slots=True)
class PaidColumns:
    """`Paid` of n rows, shape (n,); `problems` holds field, reason and rows of what cannot be converted."""

    cents: NDArray[np.int64]
    minor_units: NDArray[np.float64]
    rates: NDArray[np.float64]
    problems: tuple[tuple[str, str, NDArray[np.bool_]], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversion:
    """The rates in force: `rates` are (currency, rate) of other currencies than `reporting`, sorted.

    With `rate_of_row`, a transaction brings its rate, and `rates` are for those that bring none.
    """

    reporting: str
    rates: tuple[tuple[str, float], ...] = ()
    rate_of_row: bool = False
    table: Mapping[str, float] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "table", {**dict(self.rates), self.reporting: 1.0})

    @property
    def currencies(self) -> tuple[str, ...]:
        """The currencies that are accepted without a rate of the row, sorted."""
        return tuple(sorted(self.table))

    def paid(self, amount: float, currency: str, *, rate: float | None = None) -> Paid:
        """One amount, converted; `rate` is that of the row. Raises MoneyError."""
        digits = MINOR_DIGITS.get(currency)
        if digits is None:
            raise MoneyError("unknown_currency" if currency else "missing", field="currency")
        if rate is not None and not self._possible(currency, rate):
            raise MoneyError("bad_rate", field="currency")
        used = self.table.get(currency) if rate is None else rate
        if used is None:
            raise MoneyError("no_rate", field="currency")
        if not abs(amount) * 10**digits < _EXACT:
            raise MoneyError("out_of_range", field="amount")
        minor_units = cents_of(amount, digits=digits)
        if minor_units is None:
            raise MoneyError("finer_than_the_currency", field="amount")
        factor, divisor = _ratio(used, digits)
        cents = _half_even(minor_units * factor, divisor)
        if self.reporting != _NO_CURRENCY and not MIN_AMOUNT_CENTS <= cents <= MAX_AMOUNT_CENTS:
            raise MoneyError("out_of_range", field="amount")
        return Paid(cents, currency, minor_units, used)

    def paid_columns(
        self,
        amounts: NDArray[np.float64],
        currencies: NDArray[np.object_],
        rates: NDArray[np.float64],
        *,
        single: bool = False,
    ) -> PaidColumns:
        """`paid` of n rows; a missing amount or rate is NaN, a missing currency None. `single` as in `whole_cents`."""
        size = len(amounts)
        cents, minor_units = np.zeros(size, np.int64), np.full(size, np.nan)
        used = np.full(size, np.nan)
        flags = {key: np.zeros(size, np.bool_) for key in _PROBLEMS}
        known = ~np.isnan(amounts)
        for currency, positions in pd.Series(range(size)).groupby(pd.Series(currencies), dropna=False, sort=False):
            rows = positions.to_numpy()
            digits = MINOR_DIGITS.get(currency) if isinstance(currency, str) else None
            if digits is None:
                named = isinstance(currency, str) and currency
                flags["currency", "unknown_currency" if named else "missing"][rows] = True
                continue
            given = rates[rows]
            possible = self._possible(currency, given) | np.isnan(given)
            flags["currency", "bad_rate"][rows[~possible]] = True
            used[rows] = np.where(np.isnan(given), self.table.get(currency, np.nan), given)
            flags["currency", "no_rate"][rows[np.isnan(used[rows])]] = True
            fits = known[rows] & (np.abs(np.nan_to_num(amounts[rows])) * 10**digits < _EXACT)
            flags["amount", "out_of_range"][rows[known[rows] & ~fits]] = True
            whole, exact = whole_cents(np.where(fits, amounts[rows], np.nan), digits=digits, single=single)
            flags["amount", "finer_than_the_currency"][rows[fits & ~exact]] = True
            usable = exact & possible & ~np.isnan(used[rows])
            kept = rows[usable]
            minor_units[kept] = whole[usable]
            cents[kept], within = _converted(whole[usable], used[kept], digits)
            flags["amount", "out_of_range"][kept[~within]] = True
        problems = tuple((*key, rows) for key, rows in flags.items() if rows.any())
        return PaidColumns(cents, minor_units, used, problems)

    def _possible(self, currency: str, rate: Any) -> Any:
        """Whether a rate, or each rate of an array, can be that of the currency; NaN cannot."""
        return (rate >= _LOWEST) & (rate <= _HIGHEST) & ((currency != self.reporting) | (rate == 1))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"reporting": self.reporting, "rates": dict(self.rates), "rate_of_row": self.rate_of_row}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The conversion that `to_dict` wrote. Raises KeyError, TypeError or ValueError for other values."""
        rates = tuple(sorted((str(code), float(rate)) for code, rate in values["rates"].items()))
        return cls(reporting=str(values["reporting"]), rates=rates, rate_of_row=bool(values["rate_of_row"]))


ANY_CURRENCY: Final = Conversion(
    reporting=_NO_CURRENCY, rates=tuple((code, 1.0) for code in sorted(MINOR_DIGITS)), rate_of_row=True
)
"""Reads every currency at the rate 1, in any range: for comparing with a stored transaction, never for deciding."""

_PROBLEMS: Final = (
    *(("currency", reason) for reason in ("missing", "unknown_currency", "bad_rate", "no_rate")),
    *(("amount", reason) for reason in ("finer_than_the_currency", "out_of_range")),
)


def sent_money(own: dict[str, Any], *, with_rate: bool) -> dict[str, Any]:
    """Amount and currency as they were sent, of own values with an original; the values made of them are removed."""
    currency, minor_units = own.pop(ORIGINAL_CURRENCY), own.pop(ORIGINAL_AMOUNT)
    if not with_rate:
        own.pop(RATE, None)
    return {"amount": minor_units / 10 ** MINOR_DIGITS[currency], "currency": currency}


def is_rate(value: object) -> bool:
    """Whether a value can be a rate."""
    return isinstance(value, int | float) and not isinstance(value, bool) and _LOWEST <= value <= _HIGHEST


@lru_cache(maxsize=4_096)
def _ratio(rate: float, digits: int) -> tuple[int, int]:
    """Cents of one minor unit, as a fraction of whole numbers."""
    numerator, denominator = Decimal(repr(float(rate))).as_integer_ratio()
    return numerator * _CENTS, denominator * 10**digits


def _half_even(numerator: Any, denominator: Any) -> Any:
    """The nearest whole number of a fraction, half to even; of integers, or of arrays of them."""
    whole, rest = numerator // denominator, numerator % denominator
    return whole + ((2 * rest > denominator) | ((2 * rest == denominator) & (whole % 2 == 1)))


def _converted(
    minor_units: NDArray[np.int64], rates: NDArray[np.float64], digits: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Cents of amounts in one currency, and whether they are in range; 0 where they are not."""
    different, places = np.unique(rates, return_inverse=True)
    ratios = [_ratio(rate, digits) for rate in different.tolist()]
    largest = int(np.abs(minor_units).max(initial=0)) * max((factor for factor, _ in ratios), default=0)
    # Whole numbers of any size where 64 bits may not hold a product.
    dtype = np.int64 if 2 * max([largest, *(divisor for _, divisor in ratios)]) < 2**63 else np.object_
    fractions: Any = np.array(ratios, dtype).reshape(-1, 2)[places]
    cents = _half_even(minor_units.astype(dtype) * fractions[:, 0], fractions[:, 1])
    within = np.asarray((cents >= MIN_AMOUNT_CENTS) & (cents <= MAX_AMOUNT_CENTS), np.bool_)
    return np.where(within, cents, 0).astype(np.int64), within


def same_transaction(one: TransactionRow, other: TransactionRow) -> bool:
    """Whether two rows are the same transaction: equal but for the rate, the converted amount and the local clock.

    So an id that is sent again after another model became champion, with other rates or with local time, is no
    conflict.
    """
    if one == other:
        return True
    made = (ORIGINAL_CURRENCY, UTC_OFFSET)
    if not any(name in (row.own_fields or "") for row in (one, other) for name in made):
        return False
    own, theirs = json.loads(one.own_fields or "{}"), json.loads(other.own_fields or "{}")
    paid, paid_there = ([fields.pop(name, None) for name in _AS_PAID] for fields in (own, theirs))
    # One of them may have been sent to a model without currencies.
    unnamed = None in (paid[0], paid_there[0])
    same_money = one.amount_cents == other.amount_cents if unnamed else paid == paid_there
    for name in (RATE, UTC_OFFSET):
        own.pop(name, None)
        theirs.pop(name, None)
    rest, rest_there = (row._replace(amount_cents=0, own_fields=None) for row in (one, other))
    return same_money and own == theirs and rest == rest_there


_AS_PAID: Final = (ORIGINAL_CURRENCY, ORIGINAL_AMOUNT)
