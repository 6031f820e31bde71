"""Merchants' days: daily volume, and the number of matured legitimate transactions.

Belongs here: the daily aggregates that replace a merchant's raw history, for all days or one day at a time. Must not be
here: features.

Tables and database make the same bits in two ways. The table is made from frames, a day of a backfill at a time. The
database makes them by one statement, `database/merchant_days.py`, since rows need not leave it: a day of 767
transactions at 261 merchants took 2.8 ms of processor time as a statement, and 30 ms as frames that are read first.
"""

from datetime import timedelta
from typing import Final

import numpy as np
import pandas as pd
import pandera.pandas as pa

from fraud_pipeline.schema.fields import NO_MERCHANT
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
"""The schema of `final_on`'s rows, and of the stored table, which is partitioned by the column `final_on`."""


def days_to_clear(label_maturity: timedelta) -> int:
    """The number of whole days after the end of a day until the labels of all its transactions have matured."""
    return -(-label_maturity // timedelta(days=1))


def merchant_days(transactions: pd.DataFrame, reports: pd.DataFrame, *, label_maturity: timedelta) -> pd.DataFrame:
    """One row per merchant and UTC day with transactions.

    Columns: merchant_id, day, transaction_count, amount_sum_cents, cleared_count, last_cleared_time (microseconds,
    NEVER if none). A transaction is cleared (matured legitimate) when nobody reported it as fraud within
    `label_maturity`. Both cleared columns of a day are valid only after `days_to_clear` further days. A transaction
    without a merchant belongs to no day.
    """
    transactions = transactions[transactions["merchant_id"] != NO_MERCHANT]
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
    *, transactions: pd.DataFrame, settling: pd.DataFrame, reports: pd.DataFrame, label_maturity: timedelta
) -> pd.DataFrame:
    """The part of merchants' days that becomes final at the end of some days: their volume, and the cleared columns of
    earlier days.

    `transactions` are those of the days, `settling` those of the days `days_to_clear` before each, and `reports` at
    least those from the first of these days to the last. Columns are those of FINAL_MERCHANT_DAYS; values that a row
    does not decide are 0 or NEVER. Rows of each day are in order, its volume first.
    """
    volume = merchant_days(transactions, reports.iloc[:0], label_maturity=label_maturity)
    # A report that is dated before the day of its transaction was not among those of the days after it.
    later = reports[reports["reported_at"] >= reports["event_time"].dt.floor("D")]
    cleared = merchant_days(settling, later, label_maturity=label_maturity)
    settled_on = cleared["day"] + pd.Timedelta(days=days_to_clear(label_maturity))
    rows = pd.concat(
        [
            volume.assign(cleared_count=0, last_cleared_time=NEVER, final_on=volume["day"]),
            cleared.assign(transaction_count=0, amount_sum_cents=0, final_on=settled_on),
        ],
        ignore_index=True,
    )
    rows["final_on"] = rows["final_on"].astype(TIME_DTYPE)
    return rows.sort_values("final_on", kind="stable", ignore_index=True)


def assembled(final: pd.DataFrame) -> pd.DataFrame:
    """Combine rows of `final_on` of consecutive days into rows like those of `merchant_days`.

    A day whose volume is not among `final` has no transactions; a day that has not settled has no cleared ones.
    """
    days = final.groupby(["merchant_id", "day"], as_index=False, sort=False).agg(
        transaction_count=("transaction_count", "sum"),
        amount_sum_cents=("amount_sum_cents", "sum"),
        cleared_count=("cleared_count", "sum"),
        last_cleared_time=("last_cleared_time", "max"),
    )
    return days.sort_values(["day", "merchant_id"], ignore_index=True)
