"""The feature list as data: name, unit, entity and meaning of every model input.

Belongs here: definitions and what derives from them (schema, documentation). Must not be here: how they are computed.
Names derive from definitions: entity, statistic, window. A new feature is a new line here and a value in `features.py`.
"""

from dataclasses import dataclass
from typing import Final, Literal

import pandera.pandas as pa

from fraud_pipeline.transactions import DAY, HOUR, TRANSACTIONS

Entity = Literal["transaction", "customer", "merchant"]
Unit = Literal["cents", "count", "seconds", "days", "ratio", "share", "km", "km/h", "flag", "hour", "weekday", "sigma"]
Window = Literal["", "1h", "24h", "1d", "7d", "30d", "60d"]

CUSTOMER_WINDOWS: Final[dict[Window, int]] = {"1h": HOUR, "24h": DAY, "7d": 7 * DAY, "30d": 30 * DAY}
MERCHANT_WINDOWS: Final[dict[Window, int]] = {"1d": DAY, "7d": 7 * DAY, "30d": 30 * DAY}
REPORT_WINDOWS: Final[dict[Window, int]] = {"7d": 7 * DAY, "30d": 30 * DAY, "60d": 60 * DAY}
LONGEST_WINDOW: Final = 60 * DAY


@dataclass(frozen=True, slots=True)
class FeatureDefinition:
    """One model input. A value that cannot be known, for want of history or of an optional column, is missing."""

    name: str
    entity: Entity
    window: Window
    unit: Unit
    description: str
    dtype: str = "float32"


def _define(entity: Entity, statistic: str, unit: Unit, description: str, window: Window = "") -> FeatureDefinition:
    prefix = "" if entity == "transaction" else entity
    name = "_".join(part for part in (prefix, statistic, window) if part)
    text = description if not window else f"{description}, last {window}"
    return FeatureDefinition(name=name, entity=entity, window=window, unit=unit, description=text)


def _definitions() -> tuple[FeatureDefinition, ...]:
    features = [
        _define("transaction", "amount", "cents", "amount of the transaction"),
        _define("transaction", "hour_of_day", "hour", "time of day in UTC, with fraction"),
        _define("transaction", "day_of_week", "weekday", "day of the week, Monday is 0"),
        _define("transaction", "is_weekend", "flag", "Saturday or Sunday"),
        _define("transaction", "is_night", "flag", "between 0 and 6 o'clock UTC"),
        _define("transaction", "is_online", "flag", "channel is online"),
        _define("transaction", "is_contactless", "flag", "channel is contactless"),
        _define("transaction", "is_atm", "flag", "channel is a cash machine"),
        _define("transaction", "is_transfer", "flag", "channel is a transfer"),
    ]
    for window in CUSTOMER_WINDOWS:
        features += [
            _define("customer", "transaction_count", "count", "transactions of the customer", window),
            _define("customer", "amount_sum", "cents", "amount spent by the customer", window),
            _define("customer", "amount_mean", "cents", "mean amount of the customer", window),
        ]
    features += [
        _define("customer", "amount_min", "cents", "smallest amount of the customer", "24h"),
        _define("customer", "amount_max", "cents", "largest amount of the customer", "24h"),
        _define("customer", "amount_max", "cents", "largest amount of the customer", "30d"),
        _define("customer", "amount_spread", "cents", "standard deviation of the customer's amounts", "30d"),
        _define("customer", "amount_z_score", "sigma", "amount minus the customer's mean, over the spread", "30d"),
        _define("customer", "amount_over_mean", "ratio", "amount over the customer's mean", "30d"),
        _define("customer", "amount_over_max", "ratio", "amount over the customer's largest", "30d"),
        _define("customer", "amount_median", "cents", "median amount of the customer", "30d"),
        _define("customer", "amount_over_median", "ratio", "amount over the customer's median", "30d"),
        _define("customer", "amount_over_typical", "ratio", "amount over the customer's typical one", "30d"),
        _define("customer", "high_amount_count", "count", "customer's amounts above 2.5 typical ones", "7d"),
        _define("customer", "high_amount_count", "count", "customer's amounts above 2.5 typical ones", "30d"),
        _define("customer", "amount_peak", "ratio", "largest of the customer's amounts over the typical one", "7d"),
        _define("customer", "seconds_since_last", "seconds", "since the customer's last transaction", "30d"),
        _define("customer", "seconds_since_first", "seconds", "since the customer's first transaction", "30d"),
        _define("customer", "distinct_merchants", "count", "different merchants of the customer", "24h"),
        _define(
            "customer", "habit_hour_share", "share", "customer's transactions within 2 hours of this time of day", "30d"
        ),
        _define("customer", "same_merchant_count", "count", "customer's transactions at this merchant", "30d"),
        _define(
            "customer", "same_merchant_seconds_since_last", "seconds", "since the customer was at this merchant", "30d"
        ),
        _define("customer", "same_category_count", "count", "customer's transactions in this category", "30d"),
        _define(
            "customer", "same_category_seconds_since_last", "seconds", "since the customer was in this category", "30d"
        ),
        _define(
            "customer", "amount_over_category_mean", "ratio", "amount over the customer's mean in this category", "30d"
        ),
        _define("customer", "same_country_count", "count", "customer's transactions in this country", "30d"),
        _define(
            "customer", "same_country_seconds_since_last", "seconds", "since the customer was in this country", "30d"
        ),
        _define("customer", "same_channel_share", "share", "customer's transactions by this channel", "30d"),
        _define("customer", "distance_from_last", "km", "from the place of the customer's last transaction", "30d"),
        _define("customer", "speed_from_last", "km/h", "needed to come from that place", "30d"),
        _define("customer", "distance_from_centre", "km", "from the customer's mean place", "30d"),
        _define("customer", "report_count", "count", "fraud reports of the customer", "60d"),
        _define("customer", "seconds_since_last_report", "seconds", "since the customer's last fraud report", "60d"),
    ]
    features += [
        _define(
            "merchant", "transaction_count", "count", "transactions at the merchant, whole days before today", window
        )
        for window in MERCHANT_WINDOWS
    ]
    features += [
        _define("merchant", "amount_mean", "cents", "mean amount at the merchant, whole days before today", "30d"),
        _define("merchant", "amount_over_mean", "ratio", "amount over that mean", "30d"),
    ]
    features += [
        _define("merchant", "report_count", "count", "fraud reports at the merchant", window)
        for window in REPORT_WINDOWS
    ]
    features += [
        _define("merchant", "report_rate", "share", "fraud reports over transactions at the merchant", "30d"),
        _define(
            "merchant", "seconds_since_last_report", "seconds", "since the last fraud report at the merchant", "60d"
        ),
        _define(
            "merchant",
            "days_since_first_reported_fraud",
            "days",
            "since the first fraud reported at the merchant",
            "60d",
        ),
        _define(
            "merchant", "days_since_last_reported_fraud", "days", "since the last fraud reported at the merchant", "60d"
        ),
        _define(
            "merchant",
            "cleared_count",
            "count",
            "transactions at the merchant that stayed unreported until mature",
            "30d",
        ),
        _define("merchant", "days_since_last_cleared", "days", "since the last of those", "30d"),
        _define(
            "merchant", "fraud_run_length", "count", "frauds reported at the merchant since the last of those", "60d"
        ),
        _define("merchant", "fraud_run_days", "days", "since the first fraud of that run", "60d"),
        _define("merchant", "fraud_run_smallest_amount", "cents", "smallest amount of that run", "60d"),
    ]
    return tuple(features)


FEATURES: Final = _definitions()
FEATURE_NAMES: Final = tuple(definition.name for definition in FEATURES)


def features_schema() -> pa.DataFrameSchema:
    """Pandera schema of the feature table: whose row it is, when, and every feature."""
    whose = {name: TRANSACTIONS.columns[name] for name in ("transaction_id", "event_time")}
    values = {definition.name: pa.Column(definition.dtype, nullable=True) for definition in FEATURES}
    return pa.DataFrameSchema({**whose, **values}, strict=True, ordered=True, name="features")


def features_markdown() -> str:
    """The table of all features for docs/features.md."""
    rows = [f"| `{f.name}` | {f.entity} | {f.window or '-'} | {f.unit} | {f.description} |" for f in FEATURES]
    return "\n".join(["| feature | entity | window | unit | meaning |", "|---|---|---|---|---|", *rows])
