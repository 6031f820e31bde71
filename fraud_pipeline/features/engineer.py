"""FeatureEngineer: the only feature code. Training, HTTP and stream call the same function.

Belongs here: the interface, and the transaction's own features. Must not be here: features from history
(`customer_features.py`, `merchant_features.py`), the list of features (`definitions.py`), reading or storing.

A feature sees only events strictly before its transaction. Events are a set: repeated delivery and order of arrival do
not matter.
"""

from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fraud_pipeline.features import customer_features, merchant_features
from fraud_pipeline.features.code_version import code_hash
from fraud_pipeline.features.definitions import FEATURE_NAMES, FEATURES, LONGEST_WINDOW, FeatureDefinition
from fraud_pipeline.features.kernels.columns import MISSING_CODE, Columns, Table, first_of_each, positions_in, table
from fraud_pipeline.features.kernels.windows import Ints
from fraud_pipeline.features.merchant_days import assembled, days_to_clear, final_on, merchant_days
from fraud_pipeline.schema.local_time import MINUTE, MINUTES_OF_A_DAY, UTC_OFFSET
from fraud_pipeline.schema.transactions import CHANNELS, DAY, HOUR

__all__ = [
    "FEATURES",
    "FEATURE_NAMES",
    "FeatureDefinition",
    "FeatureEngineer",
    "History",
    "HistoryTables",
    "merchant_days",
]

EPOCH_WEEKDAY: Final = 3  # 1970-01-01 was a Thursday


@dataclass(frozen=True, slots=True)
class History:
    """History before a transaction: customers' events, fraud reports, merchants' days (see `merchant_days`)."""

    transactions: pd.DataFrame
    reports: pd.DataFrame
    merchant_days: pd.DataFrame


@dataclass(frozen=True, slots=True)
class HistoryTables:
    """`History` as arrays (see `columns.table`), for callers without frames.

    `known` marks the new rows that are among `transactions`; give it only if every event and report is there once.
    Without it, transaction ids are compared. Channels may be positions in CHANNELS. `customer_tiles` (see `tiles.py`)
    represent events that are not among `transactions`.
    """

    transactions: Table
    reports: Table
    merchant_days: Table
    known: NDArray[np.bool_] | None = None
    customer_tiles: Table | None = None


@dataclass(frozen=True, slots=True)
class FeatureEngineer:
    """Computes every feature; a transaction without a report for `label_maturity` counts as matured legitimate.

    With `local_time`, hour and weekday are those of the local clock: new rows have a column UTC_OFFSET.
    """

    label_maturity: timedelta
    local_time: bool = False

    @property
    def lookback(self) -> timedelta:
        """The longest time before a transaction that any feature uses."""
        cleared = 30 * DAY + days_to_clear(self.label_maturity) * DAY
        return timedelta(microseconds=max(LONGEST_WINDOW, cleared) + DAY)

    def compute(self, *, history: History, new: pd.DataFrame) -> pd.DataFrame:
        """Features of each row of `new`, in its order: transaction_id, event_time, then float32 columns, NaN missing.

        A row sees only strictly earlier rows of `new` and `history`. So its features do not depend on other rows, nor
        on whether it comes alone, in a micro-batch or in a year.
        """
        tables = HistoryTables(
            transactions=table(history.transactions),
            reports=table(history.reports),
            merchant_days=table(history.merchant_days),
        )
        values = self.values(history=tables, new=table(new))
        rows = pd.DataFrame(values, columns=pd.Index(FEATURE_NAMES), copy=False)
        rows.insert(0, "transaction_id", new["transaction_id"].to_numpy())
        rows.insert(1, "event_time", new["event_time"].array)
        return rows

    def values(self, *, history: HistoryTables, new: Table) -> NDArray[np.float32]:
        """`compute` on arrays: returns shape (rows of `new`, features), in the order of `FEATURE_NAMES`."""
        reports = _frauds(history.reports, distinct=history.known is not None)
        columns = _transaction(new, clock=_local_clock(new) if self.local_time else new["event_time"])
        columns |= customer_features.customer_columns(
            customer_features.customer_events(
                history.transactions, new, known=history.known, tiles=history.customer_tiles
            )
        )
        columns |= customer_features.customer_report_columns(reports, new)
        columns |= merchant_features.merchant_columns(
            history.merchant_days, reports, new, days_to_clear=days_to_clear(self.label_maturity)
        )
        # XGBoost and the stored table use float32; converting here gives both the same bits.
        out = np.empty((len(FEATURE_NAMES), len(new["event_time"])), np.float32)
        for row, name in zip(out, FEATURE_NAMES, strict=True):
            row[:] = columns[name]
        return out.T

    @staticmethod
    def code_version() -> str:
        """SHA-256 of the code that decides features' values, without comments and annotations."""
        return _code_version()


@lru_cache(maxsize=1)
def _code_version() -> str:
    lookback = vars(FeatureEngineer)["lookback"].fget
    days = (merchant_days, final_on, assembled)
    return code_hash(FeatureEngineer.compute, FeatureEngineer.values, lookback, *days)


def _local_clock(new: Table) -> Ints:
    """What the local clock shows, in microseconds as if it were UTC; UTC itself where no offset is known."""
    now: Ints = new["event_time"]
    if UTC_OFFSET not in new:
        return now
    offset = new[UTC_OFFSET].astype(np.float64)
    known = np.abs(offset) < MINUTES_OF_A_DAY
    return now + np.where(known, offset, 0).astype(np.int64) * MINUTE


def _transaction(new: Table, *, clock: Ints) -> Columns:
    channel = positions_in(new["channel"], CHANNELS)
    weekday = (clock // DAY + EPOCH_WEEKDAY) % 7
    known = channel != MISSING_CODE
    flags = {
        f"is_{name}": np.where(known, channel == CHANNELS.index(name), np.nan)
        for name in ("online", "contactless", "atm", "transfer")
    }
    return flags | {
        "amount": new["amount_cents"],
        "hour_of_day": (clock % DAY) / HOUR,
        "day_of_week": weekday,
        "is_weekend": weekday >= 5,
        "is_night": clock % DAY < 6 * HOUR,
    }


def _frauds(reports: Table, *, distinct: bool) -> Table:
    """Fraud reports, each once. A second report on the same transaction is another event and counts."""
    frauds = {name: values[reports["is_fraud"]] for name, values in reports.items()}
    if distinct:
        return frauds
    once = first_of_each(frauds["transaction_id"], frauds["reported_at"])
    return {name: values[once] for name, values in frauds.items()}
