"""FeatureEngineer: the only feature code. Training, HTTP and stream call the same function.

Belongs here: which statistic of which events each feature is. Must not be here: loops (`windows.py`), the list of
features (`feature_definitions.py`), reading or storing.

A feature sees events strictly before its transaction. Events are a set keyed by transaction id: a second delivery or
another order of arrival changes nothing. Merchants are seen as day-level snapshots, for a popular merchant's raw
history does not fit in a request; fraud reports are few and exact.
"""

import hashlib
import inspect
import math
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fraud_pipeline import feature_definitions, snapshots, windows
from fraud_pipeline.feature_definitions import (
    CUSTOMER_WINDOWS,
    FEATURE_NAMES,
    FEATURES,
    LONGEST_WINDOW,
    MERCHANT_WINDOWS,
    REPORT_WINDOWS,
    FeatureDefinition,
)
from fraud_pipeline.snapshots import merchant_days
from fraud_pipeline.transactions import DAY, HOUR, SECOND, microseconds
from fraud_pipeline.windows import Bounds, Floats, Groups, Ints, group, window_bounds

__all__ = ["FEATURES", "FEATURE_NAMES", "FeatureDefinition", "FeatureEngineer", "History", "merchant_days"]

Columns = dict[str, NDArray[Any]]
HABIT_REACH: Final = 2 * HOUR
HIGH_AMOUNT: Final = 2.5  # times the typical amount: what a customer rarely spends
EPOCH_WEEKDAY: Final = 3  # 1970-01-01 was a Thursday


@dataclass(frozen=True, slots=True)
class History:
    """What is known before a transaction: customers' events, fraud reports, merchants' days (see `merchant_days`)."""

    transactions: pd.DataFrame
    reports: pd.DataFrame
    merchant_days: pd.DataFrame


@dataclass(frozen=True, slots=True)
class FeatureEngineer:
    """Computes every feature; `label_maturity` is how long a transaction must stay unreported to count as cleared."""

    label_maturity: timedelta

    @property
    def lookback(self) -> timedelta:
        """How far back any feature can look."""
        cleared = 30 * DAY + snapshots.days_to_clear(self.label_maturity) * DAY
        return timedelta(microseconds=max(LONGEST_WINDOW, cleared) + DAY)

    def compute(self, *, history: History, new: pd.DataFrame) -> pd.DataFrame:
        """Features of each row of `new`, in its order: transaction_id, event_time, then float32 columns, NaN missing.

        Rows of `new` see each other and all of `history` only where strictly earlier, so it does not matter what
        else is in either frame, nor whether a row comes alone, in a micro-batch or in a year.
        """
        events = _events(history.transactions, new)
        now = microseconds(new["event_time"])
        reports = _first_reports(history.reports)
        columns = _transaction(new, now)
        columns |= _customer(events, now, amount=columns["amount"])
        columns |= _customer_reports(reports, new, now)
        columns |= self._merchant(history.merchant_days, reports, new, now, amount=columns["amount"])
        # XGBoost and the stored table hold float32; converting here makes both the same bits.
        values = {name: np.asarray(columns[name], dtype=np.float32) for name in FEATURE_NAMES}
        whose = new[["transaction_id", "event_time"]].reset_index(drop=True)
        return pd.concat([whose, pd.DataFrame(values)], axis=1)

    def _merchant(
        self, days: pd.DataFrame, reports: pd.DataFrame, new: pd.DataFrame, now: Ints, *, amount: Floats
    ) -> Columns:
        codes, days_codes, report_codes, entities = _shared_codes(
            new["merchant_id"], days["merchant_id"], reports["merchant_id"]
        )
        columns, cleared = _merchant_days(
            days,
            days_codes,
            codes,
            now,
            entities=entities,
            to_clear=snapshots.days_to_clear(self.label_maturity),
        )
        columns["merchant_amount_over_mean_30d"] = _ratio(amount, columns["merchant_amount_mean_30d"])
        columns |= _merchant_reports(reports, report_codes, codes, now, cleared=cleared, entities=entities)
        columns["merchant_report_rate_30d"] = _ratio(
            columns["merchant_report_count_30d"], columns["merchant_transaction_count_30d"]
        )
        return columns

    @staticmethod
    def code_version() -> str:
        """SHA-256 of everything that decides what a feature is."""
        return _code_version()


@lru_cache(maxsize=1)
def _code_version() -> str:
    rooms = (feature_definitions, snapshots, windows, inspect.getmodule(FeatureEngineer))
    return hashlib.sha256("".join(inspect.getsource(room) for room in rooms if room).encode()).hexdigest()


def _transaction(new: pd.DataFrame, now: Ints) -> Columns:
    weekday = (now // DAY + EPOCH_WEEKDAY) % 7
    columns: Columns = {
        "amount": new["amount_cents"].to_numpy(np.float64),
        "hour_of_day": (now % DAY) / HOUR,
        "day_of_week": weekday.astype(np.float64),
        "is_weekend": (weekday >= 5).astype(np.float64),
        "is_night": (now % DAY < 6 * HOUR).astype(np.float64),
    }
    channel = new["channel"].to_numpy(dtype=object)
    known = ~pd.isna(channel)
    for name in ("online", "contactless", "atm", "transfer"):
        columns[f"is_{name}"] = np.where(known, channel == name, np.nan)
    return columns


@dataclass(frozen=True, slots=True)
class _Events:
    """Everything the customers did; the new rows come first."""

    frame: pd.DataFrame
    times: Ints
    ties: Ints
    customers: Ints
    entities: int


def _events(history: pd.DataFrame, new: pd.DataFrame) -> _Events:
    frame = new
    if len(history):
        frame = pd.concat([new, history[~history["transaction_id"].isin(new["transaction_id"])]], ignore_index=True)
        frame = frame.drop_duplicates("transaction_id", ignore_index=True)
    customers, names = pd.factorize(frame["customer_id"].to_numpy(dtype=object))
    return _Events(
        frame=frame,
        times=microseconds(frame["event_time"]),
        ties=_ties(frame),
        customers=customers.astype(np.int64),
        entities=len(names),
    )


def _customer(events: _Events, now: Ints, *, amount: Floats) -> Columns:
    n = len(now)
    grouped = group(events.customers, events.times, entities=events.entities, ties=events.ties)
    queries = group(events.customers[:n], now, entities=events.entities)
    bounds = window_bounds(grouped, queries, np.array(list(CUSTOMER_WINDOWS.values()), np.int64))
    low = dict(zip(CUSTOMER_WINDOWS, bounds.low, strict=True))
    high, order, times = bounds.high, grouped.order, grouped.times
    cents = events.frame["amount_cents"].to_numpy(np.int64)

    columns: Columns = {}
    for window in CUSTOMER_WINDOWS:
        count = (high - low[window]).astype(np.float64)
        total = windows.window_sum(order, cents, low[window], high).astype(np.float64)
        columns[f"customer_transaction_count_{window}"] = count
        columns[f"customer_amount_sum_{window}"] = total
        columns[f"customer_amount_mean_{window}"] = _ratio(total, count)
    day, month = low["24h"], low["30d"]
    columns["customer_amount_min_24h"], columns["customer_amount_max_24h"] = windows.window_extremes(
        order, cents, day, high
    )
    _, columns["customer_amount_max_30d"] = windows.window_extremes(order, cents, month, high)
    mean, spread = windows.window_spread(order, cents, month, high)
    median = windows.window_median(order, cents, month, high)
    typical = windows.window_typical(order, cents, median, month, high, HIGH_AMOUNT)
    high_7d, peak_7d = windows.count_above(order, cents, HIGH_AMOUNT * typical, low["7d"], high)
    high_30d, _ = windows.count_above(order, cents, HIGH_AMOUNT * typical, month, high)
    columns |= {
        "customer_amount_spread_30d": spread,
        "customer_amount_z_score_30d": _ratio(amount - mean, spread),
        "customer_amount_over_mean_30d": _ratio(amount, mean),
        "customer_amount_over_max_30d": _ratio(amount, columns["customer_amount_max_30d"]),
        "customer_amount_median_30d": median,
        "customer_amount_over_median_30d": _ratio(amount, median),
        "customer_amount_over_typical_30d": _ratio(amount, typical),
        "customer_high_amount_count_7d": high_7d,
        "customer_high_amount_count_30d": high_30d,
        "customer_amount_peak_7d": _ratio(peak_7d, typical),
        "customer_seconds_since_last_30d": _age(times, high - 1, now, high > month) / SECOND,
        "customer_seconds_since_first_30d": _age(times, month, now, high > month) / SECOND,
        "customer_habit_hour_share_30d": windows.hour_share(times, now, month, high, HABIT_REACH, DAY),
    }
    columns |= _same_kind(events, grouped, Bounds(month, high), now, cents=cents, amount=amount)
    merchants = _codes(events.frame["merchant_id"])
    columns["customer_distinct_merchants_24h"] = windows.window_distinct(order, merchants, day, high)
    return columns | _places(events.frame, grouped, Bounds(month, high), now)


def _same_kind(events: _Events, grouped: Groups, month: Bounds, now: Ints, *, cents: Ints, amount: Floats) -> Columns:
    columns: Columns = {}
    n = len(now)
    for kind in ("merchant_id", "category", "country", "channel"):
        codes = _codes(events.frame[kind])
        count, since, mean = windows.same_kind(
            grouped.order, grouped.times, codes, cents, codes[:n], now, month.low, month.high
        )
        name = f"customer_same_{kind.removesuffix('_id')}"
        columns[f"{name}_count_30d"] = count
        columns[f"{name}_seconds_since_last_30d"] = since / SECOND
        columns[f"{name}_share_30d"] = _ratio(count, (month.high - month.low).astype(np.float64))
        if kind == "category":
            columns["customer_amount_over_category_mean_30d"] = _ratio(amount, mean)
    return columns


def _places(frame: pd.DataFrame, grouped: Groups, month: Bounds, now: Ints) -> Columns:
    from_last, since, from_centre = windows.places(
        grouped.order,
        grouped.times,
        frame["latitude"].to_numpy(np.float64),
        frame["longitude"].to_numpy(np.float64),
        np.arange(len(now)),
        now,
        month.low,
        month.high,
    )
    return {
        "customer_distance_from_last_30d": from_last,
        "customer_speed_from_last_30d": _ratio(from_last, since / HOUR),
        "customer_distance_from_centre_30d": from_centre,
    }


def _customer_reports(reports: pd.DataFrame, new: pd.DataFrame, now: Ints) -> Columns:
    codes, report_codes, entities = _shared_codes(new["customer_id"], reports["customer_id"])
    grouped = _by_report_time(reports, report_codes, entities=entities)
    queries = group(codes, now, entities=entities)
    bounds = window_bounds(grouped, queries, np.array([LONGEST_WINDOW]))
    count = bounds.high - bounds.low[0]
    return {
        "customer_report_count_60d": count,
        "customer_seconds_since_last_report_60d": _age(grouped.times, bounds.high - 1, now, count > 0) / SECOND,
    }


def _merchant_reports(
    reports: pd.DataFrame, report_codes: Ints, codes: Ints, now: Ints, *, cleared: Floats, entities: int
) -> Columns:
    grouped = _by_report_time(reports, report_codes, entities=entities)
    happened = microseconds(reports["event_time"])
    queries = group(codes, now, entities=entities)
    bounds = window_bounds(grouped, queries, np.array(list(REPORT_WINDOWS.values()), np.int64))
    columns: Columns = {
        f"merchant_report_count_{window}": bounds.high - low
        for window, low in zip(REPORT_WINDOWS, bounds.low, strict=True)
    }
    longest = bounds.low[-1]
    earliest, latest = windows.window_extremes(grouped.order, happened, longest, bounds.high)
    age = _age(grouped.times, bounds.high - 1, now, bounds.high > longest)
    amounts = reports["amount_cents"].to_numpy(np.int64)
    run, first, smallest = windows.run_after(grouped.order, happened, amounts, cleared, longest, bounds.high)
    return columns | {
        "merchant_fraud_run_length_60d": run,
        "merchant_fraud_run_days_60d": (now - first) / DAY,
        "merchant_fraud_run_smallest_amount_60d": smallest,
        "merchant_seconds_since_last_report_60d": age / SECOND,
        "merchant_days_since_first_reported_fraud_60d": (now - earliest) / DAY,
        "merchant_days_since_last_reported_fraud_60d": (now - latest) / DAY,
    }


def _merchant_days(
    days: pd.DataFrame, days_codes: Ints, codes: Ints, now: Ints, *, entities: int, to_clear: int
) -> tuple[Columns, Floats]:
    """Volume and cleared features, and when each query's merchant was last cleared (-inf: never)."""
    midnight = now // DAY * DAY
    grouped = group(days_codes, microseconds(days["day"]), entities=entities)
    widths = np.array(list(MERCHANT_WINDOWS.values()), np.int64)
    bounds = window_bounds(grouped, group(codes, midnight, entities=entities), widths)
    columns: Columns = {}
    count = days["transaction_count"].to_numpy(np.int64)
    for window, low in zip(MERCHANT_WINDOWS, bounds.low, strict=True):
        total = windows.window_sum(grouped.order, count, low, bounds.high)
        columns[f"merchant_transaction_count_{window}"] = total.astype(np.float64)
    cents = windows.window_sum(grouped.order, days["amount_sum_cents"].to_numpy(np.int64), bounds.low[-1], bounds.high)
    columns["merchant_amount_mean_30d"] = _ratio(cents.astype(np.float64), columns["merchant_transaction_count_30d"])

    # A day's cleared transactions are known only once the whole day has had time to be reported.
    known = window_bounds(grouped, group(codes, midnight - to_clear * DAY, entities=entities), widths[-1:])
    cleared = days["cleared_count"].to_numpy(np.int64)
    columns["merchant_cleared_count_30d"] = windows.window_sum(grouped.order, cleared, known.low[0], known.high)
    last = days["last_cleared_time"].to_numpy(np.int64)
    _, latest = windows.window_extremes(grouped.order, last, known.low[0], known.high)
    columns["merchant_days_since_last_cleared_30d"] = np.where(latest > snapshots.NEVER, (now - latest) / DAY, np.nan)
    return columns, np.where(latest > snapshots.NEVER, latest, -np.inf)


def _first_reports(reports: pd.DataFrame) -> pd.DataFrame:
    """The first fraud report of each transaction: a second one, or a retraction, changes no window."""
    frauds = reports[reports["is_fraud"].to_numpy(bool)]
    return frauds.sort_values("reported_at").drop_duplicates("transaction_id", ignore_index=True)


def _by_report_time(reports: pd.DataFrame, codes: Ints, *, entities: int) -> Groups:
    return group(codes, microseconds(reports["reported_at"]), entities=entities, ties=_ties(reports))


def _ties(frame: pd.DataFrame) -> Ints:
    """A number per transaction id that orders what happened at one instant, the same in every process."""
    ids = frame["transaction_id"].to_numpy(dtype=object)
    return np.asarray(pd.util.hash_array(ids, categorize=False).view(np.int64))


def _codes(values: pd.Series) -> Ints:
    """Whole numbers for equal values; missing is MISSING_CODE."""
    return np.asarray(pd.factorize(values.to_numpy(dtype=object))[0], dtype=np.int64)


def _shared_codes(*columns: pd.Series) -> tuple[Any, ...]:
    """Codes of several columns under one numbering, then how many there are."""
    codes, names = pd.factorize(np.concatenate([column.to_numpy(dtype=object) for column in columns]))
    edges = np.cumsum([len(column) for column in columns])[:-1]
    return (*(part.astype(np.int64) for part in np.split(codes, edges)), len(names))


def _age(times: Ints, positions: Ints, now: Ints, exists: NDArray[np.bool_]) -> Floats:
    """Microseconds from the event at each position to now, NaN where there is none."""
    out = np.full(len(now), math.nan)
    out[exists] = now[exists] - times[positions[exists]]
    return out


def _ratio(numerator: NDArray[Any], denominator: NDArray[Any]) -> Floats:
    """Quotient, NaN where the denominator is 0 or missing."""
    out = np.full(len(numerator), np.nan)
    np.divide(numerator, denominator, out=out, where=denominator > 0)
    return out
