"""What a merchant's days looked like: volume, and how many transactions stayed unreported until mature.

Belongs here: the daily snapshot that stands in for a merchant's raw history. Must not be here: features made of it.
"""

from datetime import timedelta
from typing import Final

import numpy as np
import pandas as pd

from fraud_pipeline.transactions import TIME_DTYPE

NEVER: Final = np.iinfo(np.int64).min // 4


def days_to_clear(label_maturity: timedelta) -> int:
    """Whole days after the end of a day until each of its transactions has had time to be reported."""
    return -(-label_maturity // timedelta(days=1))


def merchant_days(transactions: pd.DataFrame, reports: pd.DataFrame, *, label_maturity: timedelta) -> pd.DataFrame:
    """One row per merchant and UTC day with transactions.

    Columns: merchant_id, day, transaction_count, amount_sum_cents, cleared_count, last_cleared_time (microseconds,
    NEVER if none). A transaction is cleared when nobody reported it as fraud within `label_maturity`; both cleared
    columns of a day hold once `days_to_clear` further days are over, and must not be looked at before.
    """
    frauds = reports[reports["is_fraud"]]
    prompt = frauds.loc[frauds["reported_at"] <= frauds["event_time"] + label_maturity, "transaction_id"]
    cleared = ~transactions["transaction_id"].isin(prompt)
    rows = pd.DataFrame(
        {
            "merchant_id": transactions["merchant_id"],
            "day": transactions["event_time"].dt.floor("D"),
            "amount_sum_cents": transactions["amount_cents"],
            "cleared_count": cleared.astype("int64"),
            "last_cleared_time": transactions["event_time"].astype(TIME_DTYPE).astype("int64").where(cleared, NEVER),
        }
    )
    days = rows.groupby(["merchant_id", "day"], as_index=False, sort=False).agg(
        transaction_count=("cleared_count", "size"),
        amount_sum_cents=("amount_sum_cents", "sum"),
        cleared_count=("cleared_count", "sum"),
        last_cleared_time=("last_cleared_time", "max"),
    )
    return days.sort_values(["day", "merchant_id"], ignore_index=True)
