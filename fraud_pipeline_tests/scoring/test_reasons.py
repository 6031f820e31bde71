"""Reasons are readable sentences for any value, and only features that raised the score are reasons."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fraud_pipeline.features.definitions import FEATURE_NAMES, FEATURES, FeatureDefinition
from fraud_pipeline.policy.decisions import FAIL_SAFE_RULES, RULES
from fraud_pipeline.scoring.reason_texts import sentence
from fraud_pipeline.scoring.reasons import Reason, explain

NAN = float("nan")
ANY_FLOAT32 = st.floats(width=32, allow_nan=True, allow_infinity=True)
RULE_NAMES = [rule.name for rule in (*RULES, *FAIL_SAFE_RULES)]


def arrays(given: dict[str, float], *, otherwise: float) -> NDArray[np.float32]:
    """One float32 per feature."""
    return np.array([given.get(name, otherwise) for name in FEATURE_NAMES], np.float32)


def reasons(
    contributions: dict[str, float],
    values: dict[str, float] | None = None,
    *,
    rules_fired: tuple[str, ...] = (),
    **options: int,
) -> tuple[Reason, ...]:
    return explain(
        contributions=arrays(contributions, otherwise=-0.1),
        values=arrays(values or {}, otherwise=1),
        features=FEATURE_NAMES,
        rules_fired=rules_fired,
        **options,  # type: ignore[arg-type]  # top and without_history
    )


@pytest.mark.parametrize(
    ("feature", "value", "text"),
    [
        ("amount", 123_456.0, "amount of 1,234.56"),
        ("hour_of_day", 3 + 40 / 60, "time of day 03:40 UTC"),
        ("hour_of_day", 23.9999, "time of day 00:00 UTC"),
        ("day_of_week", 6, "on a Sunday (UTC)"),
        ("is_night", 0, "not between 0 and 6 o'clock UTC"),
        ("is_atm", NAN, "channel not given"),
        ("customer_amount_over_mean_30d", 8.23, "amount 8.2x this customer's 30-day mean"),
        ("customer_amount_over_mean_30d", NAN, "no history of this customer in 30 days"),
        ("customer_amount_z_score_30d", -1.04, "amount 1 standard deviation below this customer's 30-day mean"),
        ("customer_same_merchant_count_30d", 0, "first transaction at this merchant in 30 days"),
        ("customer_same_merchant_seconds_since_last_30d", NAN, "first transaction at this merchant in 30 days"),
        ("customer_transaction_count_1h", 3, "3 transactions in the last hour"),
        ("customer_transaction_count_7d", 1, "1 transaction in the last 7 days"),
        ("customer_transaction_count_24h", 0, "no other transaction in the last 24 hours"),
        ("customer_seconds_since_last_30d", 119, "119 seconds since this customer's last transaction"),
        ("customer_seconds_since_last_30d", 120, "2 minutes since this customer's last transaction"),
        ("customer_seconds_since_last_30d", 1, "1 second since this customer's last transaction"),
        ("customer_speed_from_last_30d", 940.2, "940 km/h needed from the place of the last transaction"),
        ("customer_distance_from_last_30d", NAN, "no place to compare with in 30 days"),
        ("merchant_report_count_7d", 4, "merchant has 4 fraud reports in 7 days"),
        ("merchant_report_rate_30d", 0.071, "merchant's fraud reports are 7.1 % of its transactions in 30 days"),
        ("merchant_report_rate_30d", 1e-9, "merchant's fraud reports are under 0.01 % of its transactions in 30 days"),
        ("merchant_transaction_count_1d", 12_345, "merchant had 12,345 transactions in the last day before today"),
        ("merchant_fraud_run_days_60d", 3.5, "frauds in a row at this merchant began 3 days ago"),
        ("customer_amount_peak_7d", float("inf"), "over 1,000,000,000x"),
    ],
)
def test_a_value_becomes_a_sentence(feature: str, value: float, text: str) -> None:
    assert text in sentence(feature, value)


def assert_readable(text: str) -> None:
    assert 0 < len(text) <= 120
    assert not re.search(r"nan|inf|none|[{}_\n]|e[+-]?\d|  |^ | $", text, re.IGNORECASE)


@given(st.sampled_from(FEATURE_NAMES), ANY_FLOAT32)
def test_any_value_of_any_feature_is_a_short_readable_sentence(feature: str, value: float) -> None:
    assert_readable(sentence(feature, value))


@pytest.mark.parametrize("value", [NAN, np.inf, -np.inf, 3.4e38, -3.4e38, 1e-45, -0.0, 0.0, 1e9, 1e11])
def test_extreme_values_become_readable_sentences(value: float) -> None:
    for feature in FEATURE_NAMES:
        assert_readable(sentence(feature, value))


@pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: feature.name)
def test_a_missing_value_has_a_sentence_without_a_number(feature: FeatureDefinition) -> None:
    assert {*re.findall(r"\d+", sentence(feature.name, NAN))} <= {*re.findall(r"\d+", feature.window)}


@pytest.mark.slow
@given(
    contributions=st.lists(ANY_FLOAT32, min_size=len(FEATURE_NAMES), max_size=len(FEATURE_NAMES)),
    values=st.lists(st.just(NAN) | ANY_FLOAT32, min_size=len(FEATURE_NAMES), max_size=len(FEATURE_NAMES)),
    rules_fired=st.lists(st.sampled_from(RULE_NAMES), unique=True).map(tuple),
    top=st.integers(0, 10),
)
def test_reasons_are_the_rules_and_then_what_raised_the_score_strongest_first(
    contributions: list[float], values: list[float], rules_fired: tuple[str, ...], top: int
) -> None:
    reasons = explain(
        contributions=np.array(contributions, np.float32),
        values=np.array(values, np.float32),
        features=FEATURE_NAMES,
        rules_fired=rules_fired,
        top=top,
    )
    codes = [reason.code for reason in reasons]
    assert codes[: len(rules_fired)] == [f"rule.{name}" for name in rules_fired]
    features = [code.removeprefix("feature.") for code in codes[len(rules_fired) :]]
    strength = [contributions[FEATURE_NAMES.index(name)] for name in features]
    assert all(value > 0 for value in strength)
    assert strength == sorted(strength, reverse=True)
    assert len(features) <= top
    assert bool(features) == (top > 0 and any(value > 0 for value in contributions))
    assert all(len(reason.text) <= 120 for reason in reasons)
    assert len({reason.text for reason in reasons}) == len(reasons)


class TestExplain:
    def test_each_topic_shows_its_strongest_feature(self) -> None:
        result = reasons(
            {
                "customer_amount_over_mean_30d": 0.5,
                "customer_amount_over_median_30d": 0.9,
                "customer_amount_z_score_30d": 0.8,
                "customer_same_merchant_count_30d": 0.4,
                "is_night": 0.3,
                "is_online": 0.2,
            },
            {"customer_amount_over_median_30d": 8.2, "customer_same_merchant_count_30d": 0},
        )
        assert [(reason.code, reason.text) for reason in result] == [
            ("feature.customer_amount_over_median_30d", "amount 8.2x this customer's 30-day median"),
            ("feature.customer_same_merchant_count_30d", "first transaction at this merchant in 30 days"),
            ("feature.is_night", "between 0 and 6 o'clock UTC"),
        ]

    def test_no_sentence_is_repeated_for_a_new_customer(self) -> None:
        raised = {"customer_amount_over_mean_30d": 0.9, "customer_seconds_since_last_30d": 0.8, "is_online": 0.1}
        result = reasons(raised, {name: NAN for name in raised if name != "is_online"})
        assert [reason.text for reason in result] == ["no history of this customer in 30 days", "online"]

    def test_a_rule_shows_its_description(self) -> None:
        assert reasons({}, rules_fired=("many_transactions",)) == (
            Reason("rule.many_transactions", "At least 5 other transactions of the customer within the last hour"),
        )

    def test_without_history_only_the_transaction_s_own_features_are_reasons(self) -> None:
        raised = {"customer_transaction_count_1h": 0.9, "merchant_report_count_7d": 0.8, "amount": 0.1}
        assert [reason.code for reason in reasons(raised, without_history=True)] == ["feature.amount"]

    def test_a_model_of_fewer_features_is_explained_by_those(self) -> None:
        result = explain(
            contributions=np.array([0.1, 0.2], np.float32),
            values=np.array([5_00, 1], np.float32),
            features=("amount", "is_online"),
            rules_fired=(),
        )
        assert [reason.text for reason in result] == ["online", "amount of 5.00"]
