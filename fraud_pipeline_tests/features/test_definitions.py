"""Every feature equals a naive definition over small random worlds; the list equals its page in docs."""

import math
import statistics
from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given

from fraud_pipeline.features.definitions import (
    CUSTOMER_WINDOWS,
    FEATURE_NAMES,
    FEATURES,
    MERCHANT_WINDOWS,
    REPORT_WINDOWS,
    features_schema,
)
from fraud_pipeline.features.kernels.comparisons import distance_km
from fraud_pipeline_tests.support.feature_worlds import (
    DAY,
    EXAMPLES,
    MATURITY,
    SECOND,
    START,
    Row,
    World,
    transaction,
    worlds,
)


def mean(values: list[float]) -> float:
    return statistics.fmean(values) if values else math.nan


def ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator > 0 else math.nan


def least(values: Any) -> float:
    return float(min(values, default=math.nan))


def most(values: Any) -> float:
    return float(max(values, default=math.nan))


def customer_definition(row: Row, events: list[Row]) -> dict[str, float]:
    """The customer's features by their definitions."""
    now, amount = row["event_time"], row["amount_cents"]
    past = sorted((e for e in events if e["event_time"] < now), key=lambda e: e["event_time"])
    of = {w: [e for e in past if now - e["event_time"] <= pd.Timedelta(us, "us")] for w, us in CUSTOMER_WINDOWS.items()}
    cents = {window: [float(e["amount_cents"]) for e in rows] for window, rows in of.items()}
    month = of["30d"]
    median = statistics.median(cents["30d"]) if month else math.nan
    typical = mean([c for c in cents["30d"] if c <= 2.5 * median])
    spread = statistics.stdev(cents["30d"]) if len(month) > 1 else math.nan
    hours = [abs((now - e["event_time"]) % DAY / SECOND) for e in month]
    out = {
        "amount_min_24h": least(cents["24h"]),
        "amount_max_24h": most(cents["24h"]),
        "amount_max_30d": most(cents["30d"]),
        "amount_spread_30d": spread,
        "amount_z_score_30d": ratio(amount - mean(cents["30d"]), spread),
        "amount_over_mean_30d": ratio(amount, mean(cents["30d"])),
        "amount_over_max_30d": ratio(amount, most(cents["30d"])),
        "amount_median_30d": median,
        "amount_over_median_30d": ratio(amount, median),
        "amount_over_typical_30d": ratio(amount, typical),
        "high_amount_count_7d": sum(c > 2.5 * typical for c in cents["7d"]),
        "high_amount_count_30d": sum(c > 2.5 * typical for c in cents["30d"]),
        "amount_peak_7d": ratio(most(cents["7d"]), typical),
        "seconds_since_last_30d": least((now - e["event_time"]) / SECOND for e in month),
        "seconds_since_first_30d": most((now - e["event_time"]) / SECOND for e in month),
        "distinct_merchants_24h": len({e["merchant_id"] for e in of["24h"]}),
        "habit_hour_share_30d": ratio(sum(min(h, 86400 - h) <= 7200 for h in hours), len(month)),
    }
    for window, values in cents.items():
        out[f"transaction_count_{window}"] = len(values)
        out[f"amount_sum_{window}"] = sum(values)
        out[f"amount_mean_{window}"] = mean(values)
    for kind in ("merchant_id", "category", "country", "channel"):
        alike = [e for e in month if e[kind] == row[kind]] if row[kind] else []
        name = f"same_{kind.removesuffix('_id')}"
        out[f"{name}_count_30d"] = len(alike) if row[kind] else math.nan
        out[f"{name}_seconds_since_last_30d"] = least((now - e["event_time"]) / SECOND for e in alike)
        out[f"{name}_share_30d"] = ratio(len(alike), len(month)) if row[kind] else math.nan
        out[f"{name}_amount_over_mean_30d"] = ratio(amount, mean([e["amount_cents"] for e in alike]))
    placed = [e for e in month if e["latitude"] == e["latitude"]] if row["latitude"] == row["latitude"] else []
    where = (row["latitude"], row["longitude"])
    last_time = max((e["event_time"] for e in placed), default=now)
    last = [e for e in placed if e["event_time"] == last_time]
    if len({e["latitude"] for e in last}) < 2:  # several places at one instant: any order is right
        km = distance_km(*where, last[0]["latitude"], last[0]["longitude"]) if last else math.nan
        out["distance_from_last_30d"] = km
        out["speed_from_last_30d"] = ratio(km, (now - last_time) / pd.Timedelta(hours=1))
    centre = (mean([e["latitude"] for e in placed]), mean([e["longitude"] for e in placed]))
    out["distance_from_centre_30d"] = distance_km(*where, *centre) if placed else math.nan
    return {f"customer_{name}": value for name, value in out.items()}


def known_frauds(row: Row, reports: list[Row], entity: str, *, days: float) -> list[Row]:
    """Fraud reports about this entity strictly before the transaction, each once."""
    since = {
        (r["transaction_id"], r["reported_at"]): r
        for r in reports
        if r["is_fraud"]
        and r[entity] == row[entity]
        and timedelta() < row["event_time"] - r["reported_at"] <= days * DAY
    }
    return list(since.values())


def merchant_definition(row: Row, world: World) -> dict[str, float]:
    """The merchant's features by their definitions."""
    now, amount = row["event_time"], row["amount_cents"]
    at_merchant = [e for e in world.transactions if e["merchant_id"] == row["merchant_id"]]
    age = {e["transaction_id"]: (now.floor("D") - e["event_time"].floor("D")) // DAY for e in at_merchant}  # whole days
    prompt = {
        r["transaction_id"] for r in world.reports if r["is_fraud"] and r["reported_at"] <= r["event_time"] + MATURITY
    }
    settled = MATURITY.days
    cleared = [
        e
        for e in at_merchant
        if settled < age[e["transaction_id"]] <= 30 + settled and e["transaction_id"] not in prompt
    ]
    last_cleared = max((e["event_time"] for e in cleared), default=START - 1000 * DAY)
    of = {
        w: [e for e in at_merchant if 0 < age[e["transaction_id"]] <= us // (DAY // timedelta(microseconds=1))]
        for w, us in MERCHANT_WINDOWS.items()
    }
    average = mean([e["amount_cents"] for e in of["30d"]])
    frauds = known_frauds(row, world.reports, "merchant_id", days=60)
    run = [r for r in frauds if r["event_time"] > last_cleared]
    out = {
        "amount_mean_30d": average,
        "amount_over_mean_30d": ratio(amount, average),
        "report_rate_30d": ratio(len(known_frauds(row, world.reports, "merchant_id", days=30)), len(of["30d"])),
        "seconds_since_last_report_60d": least((now - r["reported_at"]) / SECOND for r in frauds),
        "days_since_first_reported_fraud_60d": most((now - r["event_time"]) / DAY for r in frauds),
        "days_since_last_reported_fraud_60d": least((now - r["event_time"]) / DAY for r in frauds),
        "cleared_count_30d": len(cleared),
        "days_since_last_cleared_30d": (now - last_cleared) / DAY if cleared else math.nan,
        "fraud_run_length_60d": len(run),
        "fraud_run_days_60d": most((now - r["event_time"]) / DAY for r in run),
        "fraud_run_smallest_amount_60d": least(r["amount_cents"] for r in run),
    }
    out |= {f"transaction_count_{window}": len(rows) for window, rows in of.items()}
    for window, us in REPORT_WINDOWS.items():
        out[f"report_count_{window}"] = len(known_frauds(row, world.reports, "merchant_id", days=us / 86400e6))
    return {f"merchant_{name}": value for name, value in out.items()}


def definition(row: Row, world: World) -> dict[str, float]:
    """Every feature of one row by its definition."""
    now, channel = row["event_time"], row["channel"]
    reported = known_frauds(row, world.reports, "customer_id", days=60)
    flags = {
        f"is_{c}": float(channel == c) if channel else math.nan for c in ("online", "contactless", "atm", "transfer")
    }
    return {
        "amount": row["amount_cents"],
        "hour_of_day": now.hour + now.minute / 60,
        "day_of_week": now.weekday(),
        "is_weekend": now.weekday() >= 5,
        "is_night": now.hour < 6,
        "customer_report_count_60d": len(reported),
        "customer_seconds_since_last_report_60d": least((now - r["reported_at"]) / SECOND for r in reported),
        **flags,
        **customer_definition(row, [e for e in world.transactions if e["customer_id"] == row["customer_id"]]),
        **merchant_definition(row, world),
    }


@pytest.mark.slow
@EXAMPLES
@given(world=worlds())
def test_every_feature_is_what_its_definition_says(world: World) -> None:
    computed = world.features(world.transactions, known=[])
    features_schema().validate(computed)
    for row, values in zip(world.transactions, computed.to_dict("records"), strict=True):
        expected = definition(row, world)
        for name in FEATURE_NAMES:
            if name in expected:
                np.testing.assert_allclose(values[name], expected[name], rtol=1e-6, atol=1e-6, err_msg=name)


def test_every_feature_has_an_independent_definition() -> None:
    row = transaction(0)
    assert set(FEATURE_NAMES) <= set(definition(row, World([row], [])))


def test_names_are_unique_and_derive_from_their_definition() -> None:
    assert len(set(FEATURE_NAMES)) == len(FEATURES)
    for feature in FEATURES:
        prefix = "" if feature.entity == "transaction" else feature.entity
        assert feature.name.startswith(prefix)
        assert feature.name.endswith(feature.window)
