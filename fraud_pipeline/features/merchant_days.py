"""What a merchant's days looked like: volume, and how many transactions stayed unreported until mature.

Belongs here: the daily snapshot that stands in for a merchant's raw history, at once or a day at a time. Must not be
here: features made of it.
"""

from datetime import timedelta
from typing import Final

import numpy as np
import pandas as pd
import pandera.pandas as pa

from fraud_pipeline.schema.transactions import TIME_DTYPE

NEVER: Final = np.iinfo(np.int64).min // 4

FINAL_MERCHANT_DAYS: Final = pa.DataFrameSchema(
    {
        "merchant_id": pa.Column(str),
        "day": pa.Column(TIME_DTYPE),
        "transaction_count": pa.Column("int64"),
        "amount_sum_cents": pa.Column("int64"),
        "cleared_count": pa.Column("int64"),
        "last_cleared_time": pa.Column("int64"),
        "final_on": pa.Column(TIME_DTYPE),
    },
    strict=True,
    ordered=True,
    name="merchant_days",
)
"""What `final_on` gives: the stored table, by `final_on`."""


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


def final_on(
    day: pd.Timestamp,
    *,
    transactions: pd.DataFrame,
    settling: pd.DataFrame,
    reports: pd.DataFrame,
    label_maturity: timedelta,
) -> pd.DataFrame:
    """What becomes final of merchants' days at the end of `day`: its own volume, and what was cleared of another day.

    `transactions` are those of `day`, `settling` those of the day `days_to_clear` before, `reports` at least those from
    that day to this one. Columns are those of FINAL_MERCHANT_DAYS; what a row does not tell is 0, or NEVER.
    """
    volume = merchant_days(transactions, reports.iloc[:0], label_maturity=label_maturity)
    since = day - pd.Timedelta(days=days_to_clear(label_maturity))
    recent_reports = reports[(reports["reported_at"] >= since) & (reports["reported_at"] < day + pd.Timedelta(days=1))]
    cleared = merchant_days(settling, recent_reports, label_maturity=label_maturity)
    rows = pd.concat(
        [
            volume.assign(cleared_count=0, last_cleared_time=NEVER),
            cleared.assign(transaction_count=0, amount_sum_cents=0),
        ],
        ignore_index=True,
    )
    return rows.assign(final_on=pd.Series(day, index=rows.index, dtype=TIME_DTYPE))


def assembled(final: pd.DataFrame) -> pd.DataFrame:
    """Rows of `final_on` of consecutive days, as `merchant_days` gives them wherever a feature may look.

    A day whose volume is not among `final` has no transactions, and one that has not settled has cleared none.
    """
    days = final.groupby(["merchant_id", "day"], as_index=False, sort=False).agg(
        transaction_count=("transaction_count", "sum"),
        amount_sum_cents=("amount_sum_cents", "sum"),
        cleared_count=("cleared_count", "sum"),
        last_cleared_time=("last_cleared_time", "max"),
    )
    return days.sort_values(["day", "merchant_id"], ignore_index=True)
