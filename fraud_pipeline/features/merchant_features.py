"""Features of a merchant: its volume, its fraud reports, and its last matured legitimate transaction.

Belongs here: the statistic of days and reports of each feature. Must not be here: how days are made
(`merchant_days.py`), loops (`features/kernels/windows.py`, `features/kernels/comparisons.py`), frames.

Merchants are represented by daily aggregates, because a popular merchant's raw history does not fit in a request. Fraud
reports are few and exact; statistics other than counts use the newest `NEWEST_EVENTS` of the window.
"""

import numpy as np

from fraud_pipeline.features.definitions import MERCHANT_WINDOWS, NEWEST_EVENTS, REPORT_WINDOWS
from fraud_pipeline.features.kernels import comparisons, windows
from fraud_pipeline.features.kernels.columns import (
    Columns,
    Table,
    elapsed,
    lacks_merchant,
    ratio,
    shared_codes,
    tie_breakers,
)
from fraud_pipeline.features.kernels.windows import Floats, Ints
from fraud_pipeline.features.merchant_days import NEVER
from fraud_pipeline.schema.transactions import DAY, SECOND


def merchant_columns(days: Table, reports: Table, new: Table, *, days_to_clear: int) -> Columns:
    """Every feature of the merchant; `days` are its merchant days, `reports` are fraud reports, each once."""
    (merchants, of_days, of_reports), entities = shared_codes(
        new["merchant_id"], days["merchant_id"], reports["merchant_id"]
    )
    now, amount = new["event_time"], new["amount_cents"]
    columns, cleared = _days(days, of_days, merchants, now, entities=entities, days_to_clear=days_to_clear)
    columns |= _reports(reports, of_reports, merchants, now, cleared=cleared, entities=entities)
    columns["merchant_amount_over_mean_30d"] = ratio(amount, columns["merchant_amount_mean_30d"])
    columns["merchant_report_rate_30d"] = ratio(
        columns["merchant_report_count_30d"], columns["merchant_transaction_count_30d"]
    )
    nobody = lacks_merchant(new["merchant_id"])
    return {name: np.where(nobody, np.nan, values) for name, values in columns.items()} if nobody.any() else columns


def _days(
    days: Table, of_days: Ints, merchants: Ints, now: Ints, *, entities: int, days_to_clear: int
) -> tuple[Columns, Floats]:
    """Features of whole days, and the time of each merchant's last matured legitimate transaction (-inf: never)."""
    midnight = now // DAY * DAY
    grouped = windows.group(of_days, days["day"], entities=entities)
    widths = np.array(list(MERCHANT_WINDOWS.values()), np.int64)
    bounds = windows.window_bounds(grouped, windows.group(merchants, midnight, entities=entities), widths)
    columns: Columns = {}
    for window, low in zip(MERCHANT_WINDOWS, bounds.low, strict=True):
        total = windows.window_sum(grouped.order, days["transaction_count"], low, bounds.high)
        columns[f"merchant_transaction_count_{window}"] = total.astype(np.float64)
    cents = windows.window_sum(grouped.order, days["amount_sum_cents"], bounds.low[-1], bounds.high)
    columns["merchant_amount_mean_30d"] = ratio(cents.astype(np.float64), columns["merchant_transaction_count_30d"])

    # A day's matured legitimate transactions are known only when the labels of the whole day have matured.
    settled = windows.group(merchants, midnight - days_to_clear * DAY, entities=entities)
    known = windows.window_bounds(grouped, settled, widths[-1:])
    low, high = known.low[0], known.high
    columns["merchant_cleared_count_30d"] = windows.window_sum(grouped.order, days["cleared_count"], low, high)
    _, last = windows.window_extremes(grouped.order, days["last_cleared_time"], low, high)
    clean = last > NEVER
    columns["merchant_days_since_last_cleared_30d"] = np.where(clean, (now - last) / DAY, np.nan)
    return columns, np.where(clean, last, -np.inf)


def _reports(
    reports: Table, of_reports: Ints, merchants: Ints, now: Ints, *, cleared: Floats, entities: int
) -> Columns:
    grouped = windows.group(
        of_reports,
        reports["reported_at"],
        entities=entities,
        ties=lambda tied: tie_breakers(reports["transaction_id"][tied]),
    )
    queries = windows.group(merchants, now, entities=entities)
    bounds = windows.window_bounds(grouped, queries, np.array(list(REPORT_WINDOWS.values()), np.int64))
    columns: Columns = {
        f"merchant_report_count_{window}": bounds.high - low
        for window, low in zip(REPORT_WINDOWS, bounds.low, strict=True)
    }
    order, high = grouped.order, bounds.high
    low = np.maximum(bounds.low[-1], high - NEWEST_EVENTS)
    happened, amounts = reports["event_time"], reports["amount_cents"]
    earliest, latest = windows.window_extremes(order, happened, low, high)
    run, first, smallest = comparisons.frauds_since_last_cleared(order, happened, amounts, cleared, low, high)
    return columns | {
        "merchant_seconds_since_last_report_60d": elapsed(grouped.times, high - 1, now, high > low) / SECOND,
        "merchant_days_since_first_reported_fraud_60d": (now - earliest) / DAY,
        "merchant_days_since_last_reported_fraud_60d": (now - latest) / DAY,
        "merchant_fraud_run_length_60d": run,
        "merchant_fraud_run_days_60d": (now - first) / DAY,
        "merchant_fraud_run_smallest_amount_60d": smallest,
    }
