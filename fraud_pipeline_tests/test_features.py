"""Every feature against its definition, written out naively over small random worlds, and the rules they all keep."""

import math
import statistics
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud_pipeline.comparisons import distance_km
from fraud_pipeline.feature_definitions import (
    CUSTOMER_WINDOWS,
    FEATURE_NAMES,
    FEATURES,
    MERCHANT_WINDOWS,
    REPORT_WINDOWS,
    features_page,
    features_schema,
)
from fraud_pipeline.features import FeatureEngineer, History
from fraud_pipeline.snapshots import merchant_days
from fraud_pipeline.transactions import FRAUD_REPORTS, TRANSACTIONS, empty

START: Final = pd.Timestamp("2026-03-06", tz="UTC")  # a Friday
MATURITY: Final = timedelta(days=5)
ENGINEER: Final = FeatureEngineer(label_maturity=MATURITY)
DAY: Final = pd.Timedelta(days=1)
SECOND: Final = pd.Timedelta(seconds=1)
PATIENT: Final = settings(deadline=None, max_examples=60)  # the first call compiles

Row = dict[str, Any]


def transaction(number: int, *, at: float = 0, **changes: Any) -> Row:
    """One transaction `at` hours after the start; everything else may be changed."""
    return {
        "transaction_id": f"t{number}",
        "event_time": START + pd.Timedelta(hours=at),
        "customer_id": "c0",
        "merchant_id": "m0",
        "amount_cents": 1000,
        "category": None,
        "channel": None,
        "country": None,
        "latitude": math.nan,
        "longitude": math.nan,
    } | changes


def report(row: Row, *, after: float, is_fraud: bool = True) -> Row:
    """What somebody said about a transaction some days after it."""
    named = ("transaction_id", "event_time", "customer_id", "merchant_id", "amount_cents")
    reported = {"reported_at": row["event_time"] + after * DAY, "is_fraud": is_fraud}
    return {name: row[name] for name in named} | reported


def frame(rows: list[Row], schema: Any = TRANSACTIONS) -> pd.DataFrame:
    """Rows as the pipeline's tables hold them."""
    if not rows:
        return empty(schema)
    types = {name: column.dtype.type for name, column in schema.columns.items() if str(column.dtype) != "str"}
    return pd.DataFrame(rows, columns=list(schema.columns), dtype="object").astype(types)


@dataclass(frozen=True)
class World:
    """Everything that ever happened and was reported."""

    transactions: list[Row]
    reports: list[Row]

    def history(self, known: list[Row]) -> History:
        """All reports and merchants' days, and these transactions."""
        reports = frame(self.reports, FRAUD_REPORTS)
        days = merchant_days(frame(self.transactions), reports, label_maturity=MATURITY)
        return History(transactions=frame(known), reports=reports, merchant_days=days)

    def features(self, new: list[Row], known: list[Row] | None = None) -> pd.DataFrame:
        return ENGINEER.compute(history=self.history(self.transactions if known is None else known), new=frame(new))


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """A few customers and merchants, many ties, missing values, late, double and withdrawn reports."""
    places = st.sampled_from([(math.nan, math.nan), (0.0, 0.0), (1.0, 1.0), (52.5, 13.4)])
    transactions = []
    for number in range(draw(st.integers(1, 9))):
        latitude, longitude = draw(places)
        transactions.append(
            transaction(
                number,
                at=draw(st.sampled_from([0, 0.5, 3, 23, 24, 30, 100, 168, 400, 720, 744, 900])),
                customer_id=draw(st.sampled_from(["c0", "c1"])),
                merchant_id=draw(st.sampled_from(["m0", "m1"])),
                amount_cents=draw(st.sampled_from([1, 900, 1000, 5000, 10**10])),
                category=draw(st.sampled_from([None, "food", "fuel"])),
                channel=draw(st.sampled_from([None, "online", "chip"])),
                country=draw(st.sampled_from([None, "DE", "FR"])),
                latitude=latitude,
                longitude=longitude,
            )
        )
    said = st.tuples(st.sampled_from(transactions), st.sampled_from([0, 1, 5, 5.5, 8, 20]), st.booleans())
    return World(transactions, [report(row, after=a, is_fraud=f) for row, a, f in draw(st.lists(said, max_size=5))])


def mean(values: list[float]) -> float:
    return statistics.fmean(values) if values else math.nan


def ratio(one: float, other: float) -> float:
    return one / other if other > 0 else math.nan


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
    here = [e for e in world.transactions if e["merchant_id"] == row["merchant_id"]]
    age = {e["transaction_id"]: (now.floor("D") - e["event_time"].floor("D")) // DAY for e in here}  # whole days
    prompt = {
        r["transaction_id"] for r in world.reports if r["is_fraud"] and r["reported_at"] <= r["event_time"] + MATURITY
    }
    settled = MATURITY.days
    cleared = [
        e for e in here if settled < age[e["transaction_id"]] <= 30 + settled and e["transaction_id"] not in prompt
    ]
    last_cleared = max((e["event_time"] for e in cleared), default=START - 1000 * DAY)
    of = {
        w: [e for e in here if 0 < age[e["transaction_id"]] <= us // (DAY // timedelta(microseconds=1))]
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


def bits(features: pd.DataFrame) -> Any:
    """The features of a frame as the bits they are stored in."""
    return np.ascontiguousarray(features[list(FEATURE_NAMES)].to_numpy(np.float32)).view(np.int32)


@PATIENT
@given(world=worlds())
def test_every_feature_is_what_its_definition_says(world: World) -> None:
    found = world.features(world.transactions, known=[])
    features_schema().validate(found)
    for row, values in zip(world.transactions, found.to_dict("records"), strict=True):
        expected = definition(row, world)
        for name in FEATURE_NAMES:
            if name in expected:
                np.testing.assert_allclose(values[name], expected[name], rtol=1e-6, atol=1e-6, err_msg=name)


def test_the_definitions_written_out_here_leave_no_feature_out() -> None:
    row = transaction(0)
    assert set(FEATURE_NAMES) <= set(definition(row, World([row], [])))


@PATIENT
@given(world=worlds(), order=st.randoms(use_true_random=False))
def test_neither_redelivery_nor_order_of_arrival_changes_a_bit(world: World, order: Any) -> None:
    rows = world.transactions
    shuffled = World(order.sample(rows, len(rows)), order.sample(world.reports * 2, 2 * len(world.reports)))
    expected = bits(world.features(rows, known=[]))
    np.testing.assert_array_equal(bits(shuffled.features(rows, known=[*rows, *rows])), expected)
    np.testing.assert_array_equal(bits(world.features([*rows, rows[0]])), np.vstack([expected, expected[:1]]))


@PATIENT
@given(world=worlds())
def test_nothing_older_than_the_lookback_matters(world: World) -> None:
    new = max(world.transactions, key=lambda row: row["event_time"])
    since = (new["event_time"] - ENGINEER.lookback).floor("D")
    recent = World(
        [row for row in world.transactions if row["event_time"] >= since],
        [said for said in world.reports if said["reported_at"] >= since],
    )
    np.testing.assert_array_equal(bits(recent.features([new])), bits(world.features([new])))


def test_a_first_transaction_has_counts_of_zero_and_nothing_to_compare_with() -> None:
    row = transaction(0)
    (found,) = World([row], []).features([row]).to_dict("records")
    assert found["customer_transaction_count_30d"] == found["merchant_report_count_60d"] == 0
    assert math.isnan(found["customer_amount_over_mean_30d"])
    assert math.isnan(found["customer_seconds_since_last_30d"])
    assert math.isnan(found["merchant_report_rate_30d"])


def test_what_the_source_does_not_know_is_missing_and_never_zero() -> None:
    rows = [transaction(0), transaction(1, at=1)]
    (found,) = World(rows, []).features(rows[1:]).to_dict("records")
    unknown = [
        name for name in FEATURE_NAMES if any(word in name for word in ("category", "country", "channel", "speed"))
    ]
    assert unknown
    assert all(math.isnan(found[name]) for name in [*unknown, "is_online", "customer_distance_from_centre_30d"])
    assert found["customer_same_merchant_count_30d"] == 1


def test_a_customer_with_many_events_is_compared_with_the_newest_of_them_but_counted_in_full() -> None:
    rows = [transaction(n, at=n / 100, amount_cents=1 if n < 200 else 500) for n in range(400)]
    (found,) = World(rows, []).features([transaction(400, at=10)], known=rows).to_dict("records")
    assert found["customer_transaction_count_30d"] == 400
    assert found["customer_amount_sum_30d"] == 200 + 200 * 500
    assert found["customer_amount_median_30d"] == found["customer_amount_max_30d"] == 500
    assert found["customer_amount_spread_30d"] == 0


@pytest.mark.parametrize(
    ("days_later", "cleared"), [(5, 0), (5.99, 0), (6, 1), (35, 1), (36, 0)], ids="{} days later".format
)
def test_a_day_is_cleared_once_all_of_it_had_time_to_be_reported(days_later: float, cleared: int) -> None:
    row, new = transaction(0, at=23), transaction(1, at=days_later * 24, customer_id="c1")
    (found,) = World([row], []).features([new]).to_dict("records")
    assert found["merchant_cleared_count_30d"] == cleared


def test_a_report_after_the_label_matured_does_not_take_the_clearance_back() -> None:
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


def test_names_are_unique_and_derive_from_what_they_define() -> None:
    assert len(set(FEATURE_NAMES)) == len(FEATURES)
    for feature in FEATURES:
        prefix = "" if feature.entity == "transaction" else feature.entity
        assert feature.name.startswith(prefix)
        assert feature.name.endswith(feature.window)


def test_the_documented_table_of_features_is_up_to_date() -> None:
    page = Path(__file__).parents[1] / "docs" / "features.md"
    assert page.read_text() == features_page(), "run: python -m fraud_pipeline.feature_definitions > docs/features.md"
