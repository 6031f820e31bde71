"""Rules of all features: visible events, invariances, missing values."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_pipeline.features.definitions import FEATURE_NAMES, features_schema
from fraud_pipeline.features.merchant_days import merchant_days
from fraud_pipeline.schema.transactions import FRAUD_REPORTS
from fraud_pipeline_tests.support.feature_worlds import (
    ENGINEER,
    EXAMPLES,
    MATURITY,
    World,
    bits,
    frame,
    report,
    transaction,
    worlds,
)


@EXAMPLES
@given(world=worlds(), order=st.randoms(use_true_random=False))
def test_neither_redelivery_nor_order_of_arrival_changes_a_bit(world: World, order: Any) -> None:
    rows = world.transactions
    shuffled = World(order.sample(rows, len(rows)), order.sample(world.reports * 2, 2 * len(world.reports)))
    expected = bits(world.features(rows, known=[]))
    np.testing.assert_array_equal(bits(shuffled.features(rows, known=[*rows, *rows])), expected)
    np.testing.assert_array_equal(bits(world.features([*rows, rows[0]])), np.vstack([expected, expected[:1]]))


@EXAMPLES
@given(world=worlds())
def test_nothing_older_than_the_lookback_matters(world: World) -> None:
    new = max(world.transactions, key=lambda row: row["event_time"])
    since = (new["event_time"] - ENGINEER.lookback).floor("D")
    recent = World(
        [row for row in world.transactions if row["event_time"] >= since],
        [report for report in world.reports if report["reported_at"] >= since],
    )
    np.testing.assert_array_equal(bits(recent.features([new])), bits(world.features([new])))


def test_a_first_transaction_has_counts_of_zero_and_nothing_to_compare_with() -> None:
    row = transaction(0)
    (values,) = World([row], []).features([row]).to_dict("records")
    assert values["customer_transaction_count_30d"] == values["merchant_report_count_60d"] == 0
    assert math.isnan(values["customer_amount_over_mean_30d"])
    assert math.isnan(values["customer_seconds_since_last_30d"])
    assert math.isnan(values["merchant_report_rate_30d"])


def test_unknown_values_are_missing_and_never_zero() -> None:
    rows = [transaction(0), transaction(1, at=1)]
    (values,) = World(rows, []).features(rows[1:]).to_dict("records")
    unknown = [
        name for name in FEATURE_NAMES if any(word in name for word in ("category", "country", "channel", "speed"))
    ]
    assert unknown
    assert all(math.isnan(values[name]) for name in [*unknown, "is_online", "customer_distance_from_centre_30d"])
    assert values["customer_same_merchant_count_30d"] == 1


def test_a_customer_with_many_events_is_compared_with_the_newest_of_them_but_counted_in_full() -> None:
    rows = [transaction(n, at=n / 100, amount_cents=1 if n < 200 else 500) for n in range(400)]
    (values,) = World(rows, []).features([transaction(400, at=10)], known=rows).to_dict("records")
    assert values["customer_transaction_count_30d"] == 400
    assert values["customer_amount_sum_30d"] == 200 + 200 * 500
    assert values["customer_amount_median_30d"] == values["customer_amount_max_30d"] == 500
    assert values["customer_amount_spread_30d"] == 0


@pytest.mark.parametrize(
    ("days_later", "cleared"), [(5, 0), (5.99, 0), (6, 1), (35, 1), (36, 0)], ids="{} days later".format
)
def test_a_day_is_cleared_once_all_of_it_had_time_to_be_reported(days_later: float, cleared: int) -> None:
    row, new = transaction(0, at=23), transaction(1, at=days_later * 24, customer_id="c1")
    (values,) = World([row], []).features([new]).to_dict("records")
    assert values["merchant_cleared_count_30d"] == cleared


def test_a_report_after_the_label_maturity_leaves_the_transaction_cleared() -> None:
    row = transaction(0)
    days = [
        merchant_days(frame([row]), frame([report(row, after=a)], FRAUD_REPORTS), label_maturity=MATURITY)
        for a in (5, 5.1)
    ]
    assert [list(of["cleared_count"]) for of in days] == [[0], [1]]


def test_merchant_days_of_nothing_are_empty() -> None:
    assert merchant_days(frame([]), frame([], FRAUD_REPORTS), label_maturity=MATURITY).empty


def test_features_of_no_rows_are_an_empty_table() -> None:
    features_schema().validate(World([], []).features([]))
