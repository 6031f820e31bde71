"""Amounts with a currency in raw rows: cents of the reporting currency, and the original beside them.

Belongs here: cells of a file for `schema/money.py`. Must not be here: rates, rounding.
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from fraud_pipeline.ingest.column_checks import amounts_of, numbers_of, text_of
from fraud_pipeline.ingest.verdict import Verdict
from fraud_pipeline.schema.fields import Field
from fraud_pipeline.schema.money import ORIGINAL_AMOUNT, ORIGINAL_CURRENCY, RATE, Conversion

_NO_RATE: float = -1.0
"""Stands for a cell that is no number, and is refused as a rate."""


def check_money(raw: pd.DataFrame, amount: Field, verdict: Verdict, conversion: Conversion) -> Mapping[str, pd.Series]:
    """The columns of a row's money as they are stored; those of rejected rows mean nothing."""
    amounts, single = amounts_of(raw, amount, verdict)
    currencies = text_of(raw["currency"])
    rates = np.full(len(raw), np.nan)
    if RATE in raw:
        numbers, readable = numbers_of(raw[RATE])
        rates = np.where(readable, numbers, _NO_RATE)
    paid = conversion.paid_columns(amounts, currencies.values, rates, single=single)
    for field, reason, rows in paid.problems:
        verdict.reject(rows, field=field, reason=reason)
    columns = {
        amount.stored_as: pd.Series(paid.cents),
        ORIGINAL_CURRENCY: pd.Series(currencies.values, dtype=object),
        ORIGINAL_AMOUNT: pd.Series(paid.minor_units),
        RATE: pd.Series(paid.rates),
    }
    return {name: column.set_axis(raw.index) for name, column in columns.items()}
