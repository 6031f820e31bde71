"""The list of features as data: name, unit, entity and meaning of every model input.

Belongs here: definitions, and the schema and documentation derived from them. Must not be here: their computation.
Names derive from definitions: entity, statistic, window. A new feature is a new line here and a value in
`engineer.py`, `customer_features.py` or `merchant_features.py`; `docs/reference.py` makes a page of them.
"""

from dataclasses import dataclass, replace
from typing import Final, Literal

import pandera.pandas as pa

from fraud_pipeline.schema.transactions import DAY, HOUR, TRANSACTIONS

Entity = Literal["transaction", "customer", "merchant"]
Unit = Literal[
    "cents",
    "count",
    "seconds",
    "days",
    "ratio",
    "share",
    "km",
    "km/h",
    "flag",
    "hour",
    "weekday",
    "sigma",
    "number",
    "category",
]
WindowName = Literal["", "1h", "24h", "1d", "7d", "30d", "60d"]

CUSTOMER_WINDOWS: Final[dict[WindowName, int]] = {"1h": HOUR, "24h": DAY, "7d": 7 * DAY, "30d": 30 * DAY}
MERCHANT_WINDOWS: Final[dict[WindowName, int]] = {"1d": DAY, "7d": 7 * DAY, "30d": 30 * DAY}
REPORT_WINDOWS: Final[dict[WindowName, int]] = {"7d": 7 * DAY, "30d": 30 * DAY, "60d": 60 * DAY}
LONGEST_WINDOW: Final = 60 * DAY
NEWEST_EVENTS: Final = 128


@dataclass(frozen=True, slots=True)
class FeatureDefinition:
    """One model input. A value is missing when history or an optional column is missing."""

    name: str
    entity: Entity
    window: WindowName
    unit: Unit
    description: str
    dtype: str = "float32"


def _name(entity: Entity, statistic: str, window: WindowName) -> str:
    return "_".join(part for part in ("" if entity == "transaction" else entity, statistic, window) if part)


_NONE: Final[tuple[WindowName, ...]] = ("",)
_CUSTOMER: Final = tuple(CUSTOMER_WINDOWS)
_MERCHANT: Final = tuple(MERCHANT_WINDOWS)
_REPORTS: Final = tuple(REPORT_WINDOWS)

_TABLE: Final[tuple[tuple[Entity, str, tuple[WindowName, ...], Unit, str], ...]] = (
    ("transaction", "amount", _NONE, "cents", "amount"),
    ("transaction", "hour_of_day", _NONE, "hour", "time of day in UTC, with fraction"),
    ("transaction", "day_of_week", _NONE, "weekday", "day of the week in UTC, Monday is 0"),
    ("transaction", "is_weekend", _NONE, "flag", "Saturday or Sunday"),
    ("transaction", "is_night", _NONE, "flag", "between 0 and 6 o'clock UTC"),
    ("transaction", "is_online", _NONE, "flag", "channel is online"),
    ("transaction", "is_contactless", _NONE, "flag", "channel is contactless"),
    ("transaction", "is_atm", _NONE, "flag", "channel is a cash machine"),
    ("transaction", "is_transfer", _NONE, "flag", "channel is a transfer"),
    ("customer", "transaction_count", _CUSTOMER, "count", "transactions"),
    ("customer", "amount_sum", _CUSTOMER, "cents", "amount spent"),
    ("customer", "amount_mean", _CUSTOMER, "cents", "mean amount"),
    ("customer", "amount_min", ("24h",), "cents", "smallest amount"),
    ("customer", "amount_max", ("24h", "30d"), "cents", "largest amount"),
    ("customer", "amount_spread", ("30d",), "cents", "standard deviation of the amounts"),
    ("customer", "amount_z_score", ("30d",), "sigma", "this amount minus the mean, over the standard deviation"),
    ("customer", "amount_over_mean", ("30d",), "ratio", "this amount over the mean"),
    ("customer", "amount_over_max", ("30d",), "ratio", "this amount over the largest"),
    ("customer", "amount_median", ("30d",), "cents", "median amount"),
    ("customer", "amount_over_median", ("30d",), "ratio", "this amount over the median"),
    ("customer", "amount_over_typical", ("30d",), "ratio", "this amount over the mean of those up to 2.5 medians"),
    ("customer", "high_amount_count", ("7d", "30d"), "count", "amounts above 2.5 typical ones"),
    ("customer", "amount_peak", ("7d",), "ratio", "largest amount over the typical one of 30 days"),
    ("customer", "seconds_since_last", ("30d",), "seconds", "since the last transaction"),
    ("customer", "seconds_since_first", ("30d",), "seconds", "since the first transaction: how much past there is"),
    ("customer", "distinct_merchants", ("24h",), "count", "different merchants"),
    ("customer", "habit_hour_share", ("30d",), "share", "transactions within 2 hours of this time of day"),
    ("customer", "same_merchant_count", ("30d",), "count", "transactions at this merchant"),
    ("customer", "same_merchant_seconds_since_last", ("30d",), "seconds", "since the last one at this merchant"),
    ("customer", "same_category_count", ("30d",), "count", "transactions in this category"),
    ("customer", "same_category_seconds_since_last", ("30d",), "seconds", "since the last one in this category"),
    ("customer", "same_category_amount_over_mean", ("30d",), "ratio", "this amount over the mean in this category"),
    ("customer", "same_country_count", ("30d",), "count", "transactions in this country"),
    ("customer", "same_country_seconds_since_last", ("30d",), "seconds", "since the last one in this country"),
    ("customer", "same_channel_share", ("30d",), "share", "transactions by this channel"),
    ("customer", "distance_from_last", ("30d",), "km", "from the place of the last transaction that has one"),
    ("customer", "speed_from_last", ("30d",), "km/h", "needed to come from that place"),
    ("customer", "distance_from_centre", ("30d",), "km", "from the mean place"),
    ("customer", "report_count", ("60d",), "count", "fraud reports about the customer's transactions"),
    ("customer", "seconds_since_last_report", ("60d",), "seconds", "since the last fraud report"),
    ("merchant", "transaction_count", _MERCHANT, "count", "transactions, whole days before today"),
    ("merchant", "amount_mean", ("30d",), "cents", "mean amount, whole days before today"),
    ("merchant", "amount_over_mean", ("30d",), "ratio", "this amount over that mean"),
    ("merchant", "report_count", _REPORTS, "count", "fraud reports"),
    ("merchant", "report_rate", ("30d",), "share", "fraud reports over transactions"),
    ("merchant", "seconds_since_last_report", ("60d",), "seconds", "since the last fraud report"),
    (
        "merchant",
        "days_since_first_reported_fraud",
        ("60d",),
        "days",
        "since the first of the reported frauds happened",
    ),
    ("merchant", "days_since_last_reported_fraud", ("60d",), "days", "since the last of the reported frauds happened"),
    ("merchant", "cleared_count", ("30d",), "count", "transactions nobody reported until their label was mature"),
    ("merchant", "days_since_last_cleared", ("30d",), "days", "since the last transaction of that kind"),
    ("merchant", "fraud_run_length", ("60d",), "count", "reported frauds that happened after the last cleared one"),
    ("merchant", "fraud_run_days", ("60d",), "days", "since the first fraud of that run happened"),
    ("merchant", "fraud_run_smallest_amount", ("60d",), "cents", "smallest amount of that run"),
)

FEATURES: Final = tuple(
    FeatureDefinition(_name(entity, statistic, window), entity, window, unit, description)
    for entity, statistic, windows, unit, description in _TABLE
    for window in windows
)
FEATURE_NAMES: Final = tuple(definition.name for definition in FEATURES)


def described_features(*, local_time: bool) -> tuple[FeatureDefinition, ...]:
    """FEATURES, whose descriptions name the clock that a model's hours and weekdays are of."""
    if not local_time:
        return FEATURES
    return tuple(replace(each, description=each.description.replace("UTC", "local time")) for each in FEATURES)


def features_schema() -> pa.DataFrameSchema:
    """Pandera schema of the feature table: transaction id, event time, and every feature."""
    whose = {name: TRANSACTIONS.columns[name] for name in ("transaction_id", "event_time")}
    values = {definition.name: pa.Column(definition.dtype, nullable=True) for definition in FEATURES}
    return pa.DataFrameSchema({**whose, **values}, strict=True, ordered=True, name="features")
