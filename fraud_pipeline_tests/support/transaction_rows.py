"""Transactions as the entrances pass them to the scorer.

Must not be here: decisions.
"""

import pandas as pd

from fraud_pipeline.features.kernels.columns import table
from fraud_pipeline.schema.transactions import TRANSACTION_COLUMNS, TransactionRow


def transaction_rows(transactions: pd.DataFrame) -> list[TransactionRow]:
    """Plain values, as an entrance gives them."""
    columns = table(transactions)
    plain = [
        [None if value is None or value != value else value for value in columns[name].tolist()]  # noqa: PLR0124 - NaN
        for name in TRANSACTION_COLUMNS
    ]
    return [TransactionRow(*values) for values in zip(*plain, strict=True)]
