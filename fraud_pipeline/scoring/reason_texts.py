"""Texts of reasons: a sentence for every feature value.

Belongs here: the sentence of every feature and of its missing value. Must not be here: the choice of features
(`reasons.py`), numbers in readable form (`readable_numbers.py`).

A sentence compares the transaction with the history of its customer or merchant. Amounts are in currency units. Only
numbers, weekdays, times of day and frequent categories are filled in, so no sentence can hold an id.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from fraud_pipeline.features.definitions import FEATURES, FeatureDefinition, WindowName
from fraud_pipeline.features.own_inputs import OwnInput
from fraud_pipeline.scoring.readable_numbers import BEYOND, SHOW, plain_number

_LONGEST: Final = 120


def topic(feature: str) -> str:
    """The topic of a feature. Several features compare amounts, and one reason per topic is enough."""
    return _WORDS[feature].topic


def sentence(feature: str, value: float, *, local_time: bool = False) -> str:
    """The sentence for a value of a feature, in at most 120 characters; `local_time` as in FeatureConfig."""
    words, definition = _WORDS[feature], _DEFINITIONS[feature]
    days = _DAYS.get(definition.window, "")
    if math.isnan(value):
        shown, text = "", words.missing or f"no history of this {definition.entity} in {{days}}"
    else:
        shown = SHOW[definition.unit](max(-BEYOND, min(value, BEYOND)))
        text = words.zero if words.zero and value == 0 else words.text
    if local_time:
        text = text.replace(" (UTC)", "").replace(" UTC", "")
    return text.format(
        value=shown,
        s="" if shown == "1" else "s",
        days=days,
        last=f"the last {days.removeprefix('1 ')}",
        span=days.removesuffix("s").replace(" ", "-"),
    )


def own_sentence(own: OwnInput, value: float) -> str:
    """The sentence for a value of an own input, in at most 120 characters."""
    if math.isnan(value):
        text = f"{own.name} not given" + (", or rarely seen in training" if own.kind == "category" else "")
    elif own.kind == "category":
        text = f"{own.name} is {own.categories[int(value)]}"
    elif own.kind == "flag":
        text = f"{own.name} is {'true' if value else 'false'}"
    elif own.kind == "age":
        text = f"{own.name} is {SHOW['days'](abs(value))} {'ahead' if value < 0 else 'ago'}"
    else:
        text = f"{own.name} is {plain_number(value)}"
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


@dataclass(frozen=True, slots=True)
class _Words:
    """Templates of a statistic; `zero` and `missing` replace the text for these values."""

    topic: str
    text: str
    zero: str = ""
    missing: str = ""


_DEFINITIONS: Final = {definition.name: definition for definition in FEATURES}
_DAYS: Final[Mapping[WindowName, str]] = MappingProxyType(
    {"1h": "1 hour", "24h": "24 hours", "1d": "1 day", "7d": "7 days", "30d": "30 days", "60d": "60 days"}
)

_NO_CHANNEL: Final = "channel not given"
_NO_CATEGORY: Final = "category not given"
_NO_PLACE: Final = "no place to compare with in {days}"
_FIRST_CATEGORY: Final = "category not given, or the customer's first transaction in it in {days}"
_NOT_REPORTED: Final = "no fraud reported at this merchant in {days}"
_NOT_CLEARED: Final = "no transaction of this merchant in {days} is known to be good"

# The key is the name of a feature without its window.
_STATISTICS: Final[Mapping[str, _Words]] = MappingProxyType(
    {
        "amount": _Words("amount", "amount of {value}", missing="amount not given"),
        "hour_of_day": _Words("time", "time of day {value} UTC", missing="time not given"),
        "day_of_week": _Words("time", "on a {value} (UTC)", missing="time not given"),
        "is_weekend": _Words("time", "on a weekend", "not on a weekend", "time not given"),
        "is_night": _Words("time", "between 0 and 6 o'clock UTC", "not between 0 and 6 o'clock UTC", "time not given"),
        "is_online": _Words("channel", "online", "not online", _NO_CHANNEL),
        "is_contactless": _Words("channel", "contactless", "not contactless", _NO_CHANNEL),
        "is_atm": _Words("channel", "at a cash machine", "not at a cash machine", _NO_CHANNEL),
        "is_transfer": _Words("channel", "a transfer", "not a transfer", _NO_CHANNEL),
        "customer_transaction_count": _Words(
            "frequency", "{value} transaction{s} in {last}", "no other transaction in {last}"
        ),
        "customer_amount_sum": _Words("spending", "{value} spent in {last}", "nothing spent in {last}"),
        "customer_amount_mean": _Words(
            "spending", "mean amount of {value} in {last}", missing="no other transaction in {last}"
        ),
        "customer_amount_min": _Words(
            "spending", "smallest amount {value} in {last}", missing="no other transaction in {last}"
        ),
        "customer_amount_max": _Words(
            "spending", "largest amount {value} in {last}", missing="no other transaction in {last}"
        ),
        "customer_amount_spread": _Words(
            "spending",
            "this customer's amounts vary by {value} (standard deviation) in {days}",
            missing="fewer than two transactions of this customer in {days}",
        ),
        "customer_amount_z_score": _Words(
            "amount",
            "amount {value} this customer's {span} mean",
            missing="too few different amounts of this customer in {days} to compare with",
        ),
        "customer_amount_over_mean": _Words("amount", "amount {value} this customer's {span} mean"),
        "customer_amount_over_max": _Words("amount", "amount {value} this customer's largest in {days}"),
        "customer_amount_median": _Words("spending", "this customer's median amount is {value} in {days}"),
        "customer_amount_over_median": _Words("amount", "amount {value} this customer's {span} median"),
        "customer_amount_over_typical": _Words("amount", "amount {value} this customer's usual one in {days}"),
        "customer_high_amount_count": _Words(
            "spending", "{value} unusually high amount{s} in {last}", "no unusually high amount in {last}"
        ),
        "customer_amount_peak": _Words("spending", "largest amount in {days} is {value} this customer's usual one"),
        "customer_seconds_since_last": _Words("frequency", "{value} since this customer's last transaction"),
        "customer_seconds_since_first": _Words(
            "acquaintance", "first transaction of this customer in {days} was {value} ago"
        ),
        "customer_distinct_merchants": _Words(
            "frequency", "{value} different merchant{s} in {last}", "no other merchant in {last}"
        ),
        "customer_habit_hour_share": _Words(
            "time",
            "{value} of this customer's transactions in {days} are at this time of day",
            "first transaction at this time of day in {days}",
        ),
        "customer_same_merchant_count": _Words(
            "merchant",
            "{value} transaction{s} of this customer at this merchant in {days}",
            "first transaction at this merchant in {days}",
        ),
        "customer_same_merchant_seconds_since_last": _Words(
            "merchant",
            "{value} since the last transaction at this merchant",
            missing="first transaction at this merchant in {days}",
        ),
        "customer_same_category_count": _Words(
            "category",
            "{value} transaction{s} of this customer in this category in {days}",
            "first transaction in this category in {days}",
            _NO_CATEGORY,
        ),
        "customer_same_category_seconds_since_last": _Words(
            "category", "{value} since the last transaction in this category", missing=_FIRST_CATEGORY
        ),
        "customer_same_category_amount_over_mean": _Words(
            "amount", "amount {value} this customer's {span} mean in this category", missing=_FIRST_CATEGORY
        ),
        "customer_same_country_count": _Words(
            "country",
            "{value} transaction{s} of this customer in this country in {days}",
            "first transaction in this country in {days}",
            "country not given",
        ),
        "customer_same_country_seconds_since_last": _Words(
            "country",
            "{value} since the last transaction in this country",
            missing="country not given, or the customer's first transaction in it in {days}",
        ),
        "customer_same_channel_share": _Words(
            "channel",
            "{value} of this customer's transactions in {days} are by this channel",
            "first transaction by this channel in {days}",
            "channel not given, or no history of this customer in {days}",
        ),
        "customer_distance_from_last": _Words(
            "place", "{value} from the place of the last transaction", missing=_NO_PLACE
        ),
        "customer_speed_from_last": _Words(
            "speed", "{value} needed from the place of the last transaction", missing=_NO_PLACE
        ),
        "customer_distance_from_centre": _Words(
            "place", "{value} from the middle of this customer's places in {days}", missing=_NO_PLACE
        ),
        "customer_report_count": _Words(
            "customer's reports",
            "{value} fraud report{s} on this customer's transactions in {days}",
            "no fraud report on this customer's transactions in {days}",
        ),
        "customer_seconds_since_last_report": _Words(
            "customer's reports",
            "{value} since the last fraud report on this customer's transactions",
            missing="no fraud report on this customer's transactions in {days}",
        ),
        "merchant_transaction_count": _Words(
            "merchant's volume",
            "merchant had {value} transaction{s} in {last} before today",
            "merchant had no transaction in {last} before today",
        ),
        "merchant_amount_mean": _Words("merchant's amounts", "merchant's mean amount is {value} in {days}"),
        "merchant_amount_over_mean": _Words("merchant's amounts", "amount {value} this merchant's {span} mean"),
        "merchant_report_count": _Words(
            "merchant's reports",
            "merchant has {value} fraud report{s} in {days}",
            "merchant has no fraud report in {days}",
        ),
        "merchant_report_rate": _Words(
            "merchant's reports",
            "merchant's fraud reports are {value} of its transactions in {days}",
            "merchant has no fraud report in {days}",
        ),
        "merchant_seconds_since_last_report": _Words(
            "merchant's reports", "{value} since the last fraud report at this merchant", missing=_NOT_REPORTED
        ),
        "merchant_days_since_first_reported_fraud": _Words(
            "merchant's reports",
            "the first fraud reported at this merchant in {days} happened {value} ago",
            missing=_NOT_REPORTED,
        ),
        "merchant_days_since_last_reported_fraud": _Words(
            "merchant's reports",
            "the last fraud reported at this merchant in {days} happened {value} ago",
            missing=_NOT_REPORTED,
        ),
        "merchant_cleared_count": _Words(
            "merchant's good transactions",
            "{value} transaction{s} of this merchant in {days} known to be good",
            _NOT_CLEARED,
        ),
        "merchant_days_since_last_cleared": _Words(
            "merchant's good transactions",
            "{value} since a transaction of this merchant that is known to be good",
            missing=_NOT_CLEARED,
        ),
        "merchant_fraud_run_length": _Words(
            "merchant's reports",
            "{value} fraud{s} in a row at this merchant",
            "no fraud at this merchant since one known to be good",
        ),
        "merchant_fraud_run_days": _Words(
            "merchant's reports",
            "frauds in a row at this merchant began {value} ago",
            missing="no frauds in a row at this merchant in {days}",
        ),
        "merchant_fraud_run_smallest_amount": _Words(
            "merchant's reports",
            "smallest amount of the frauds in a row at this merchant is {value}",
            missing="no frauds in a row at this merchant in {days}",
        ),
    }
)


def _words(definition: FeatureDefinition) -> _Words:
    return _STATISTICS[definition.name.removesuffix(f"_{definition.window}")]


_WORDS: Final = {definition.name: _words(definition) for definition in FEATURES}
