"""Examples of each kind of feature, small enough to compute by hand.

Rules of all features are in `test_engineer.py`, definitions in `test_definitions.py`.
"""

from datetime import timedelta
from typing import Any, Final

import numpy as np
import pandas as pd
import pytest

from fraud_pipeline.features.definitions import features_schema
from fraud_pipeline.features.engineer import FEATURE_NAMES, FEATURES, FeatureEngineer, History, merchant_days
from fraud_pipeline.schema.transactions import FRAUD_REPORTS, OPTIONAL_COLUMNS, TRANSACTIONS, empty

MATURITY: Final = timedelta(days=7)


def transactions(*rows: dict[str, Any]) -> pd.DataFrame:
    """Valid transactions t0, t1, ... of customer c at merchant m over 10.00, with the given changes.

    `at` is the time; optional columns are absent.
    """
    given = pd.DataFrame([{"customer_id": "c", "merchant_id": "m", "amount_cents": 1_000, **row} for row in rows])
    given["transaction_id"] = [f"t{number}" for number in range(len(given))]
    given["event_time"] = pd.to_datetime(given.pop("at"), utc=True, format="ISO8601").astype("datetime64[us, UTC]")
    for name in OPTIONAL_COLUMNS:
        kind = str(TRANSACTIONS.columns[name].dtype)
        given[name] = given.get(name, pd.Series(None, index=given.index)).astype(kind if kind == "float64" else object)
    return TRANSACTIONS.validate(given[list(TRANSACTIONS.columns)])


def reports(of: pd.DataFrame, *known: tuple[int, str]) -> pd.DataFrame:
    """Fraud reports (row number, reported at) about transactions."""
    if not known:
        return empty(FRAUD_REPORTS)
    rows = of.iloc[[row for row, _ in known]].reset_index(drop=True)
    reported_at = pd.to_datetime([at for _, at in known], utc=True, format="ISO8601").astype("datetime64[us, UTC]")
    return FRAUD_REPORTS.validate(rows.assign(reported_at=reported_at, is_fraud=True)[list(FRAUD_REPORTS.columns)])


def features(rows: pd.DataFrame, known: pd.DataFrame | None = None) -> pd.DataFrame:
    """All features of all rows in one batch."""
    known = reports(rows) if known is None else known
    days = merchant_days(rows, known, label_maturity=MATURITY)
    history = History(transactions=rows.iloc[:0], reports=known, merchant_days=days)
    return FeatureEngineer(label_maturity=MATURITY).compute(history=history, new=rows)


def last(rows: pd.DataFrame, known: pd.DataFrame | None = None) -> dict[str, float]:
    """The features of the last row."""
    return {str(name): float(value) for name, value in features(rows, known)[list(FEATURE_NAMES)].iloc[-1].items()}


class TestTable:
    def test_has_one_row_per_transaction_in_the_given_order(self) -> None:
        rows = transactions({"at": "2026-01-05"}, {"at": "2026-01-03"}, {"at": "2026-01-04"})
        frame = features_schema().validate(features(rows))
        assert list(frame["transaction_id"]) == ["t0", "t1", "t2"]
        assert (frame["event_time"] == rows["event_time"]).all()
        assert list(frame.columns[2:]) == [definition.name for definition in FEATURES]

    def test_code_version_is_that_of_the_code(self) -> None:
        assert FeatureEngineer.code_version() == FeatureEngineer(label_maturity=MATURITY).code_version()
        assert len(FeatureEngineer.code_version()) == 64

    def test_the_lookback_covers_the_oldest_unsettled_day(self) -> None:
        assert FeatureEngineer(label_maturity=timedelta(days=7)).lookback == timedelta(days=61)
        assert FeatureEngineer(label_maturity=timedelta(days=45)).lookback == timedelta(days=76)


class TestFirstTransaction:
    def test_counts_are_zero_and_other_features_missing(self) -> None:
        """Without history counts and sums are 0, and other features are missing."""
        values = last(transactions({"at": "2026-01-05 12:00"}))
        past = [feature for feature in FEATURES if feature.entity != "transaction"]
        known = [feature for feature in past if not np.isnan(values[feature.name])]
        assert {values[feature.name] for feature in known} == {0.0}
        assert all(feature.unit == "count" or "_sum_" in feature.name for feature in known)

    def test_absent_columns_are_missing_and_never_zero(self) -> None:
        values = last(transactions({"at": "2026-01-04"}, {"at": "2026-01-05"}))
        needed = ("is_online", "is_contactless", "is_atm", "is_transfer", "category", "country", "channel", "place")
        from_optional = [
            name
            for name in FEATURE_NAMES
            if any(column in name for column in needed) or name.startswith(("customer_distance", "customer_speed"))
        ]
        assert len(from_optional) >= 10
        assert all(np.isnan(values[name]) for name in from_optional)

    def test_an_unknown_category_is_not_the_same_as_another_unknown_one(self) -> None:
        values = last(transactions({"at": "2026-01-04", "category": None}, {"at": "2026-01-05", "category": "food"}))
        assert values["customer_same_category_count_30d"] == 0


class TestTransaction:
    def test_calendar_is_utc(self) -> None:
        values = last(transactions({"at": "2026-01-03T05:30:00", "amount_cents": 1_234, "channel": "online"}))
        assert values["amount"] == 1_234
        assert values["hour_of_day"] == 5.5
        assert (values["day_of_week"], values["is_weekend"], values["is_night"]) == (5, 1, 1)
        assert (values["is_online"], values["is_atm"]) == (1, 0)

    def test_night_ends_at_six(self) -> None:
        assert last(transactions({"at": "2026-01-05T06:00"}))["is_night"] == 0


class TestCustomer:
    def test_windows_begin_inclusive_and_end_exclusive(self) -> None:
        """An event one day before counts; one microsecond earlier, or at the same instant, does not."""
        rows = transactions(
            {"at": "2026-01-04 11:59:59.999999", "amount_cents": 1},
            {"at": "2026-01-04 12:00", "amount_cents": 20},
            {"at": "2026-01-05 11:30", "amount_cents": 300},
            {"at": "2026-01-05 12:00", "amount_cents": 4_000},
            {"at": "2026-01-05 12:00", "amount_cents": 50_000},
        )
        values = last(rows)
        assert values["customer_transaction_count_1h"] == 1
        assert values["customer_transaction_count_24h"] == 2
        assert values["customer_amount_sum_24h"] == 320
        assert values["customer_amount_mean_24h"] == 160
        assert (values["customer_amount_min_24h"], values["customer_amount_max_24h"]) == (20, 300)
        assert values["customer_amount_sum_7d"] == 321

    def test_other_customers_do_not_count(self) -> None:
        rows = transactions({"at": "2026-01-04", "customer_id": "somebody"}, {"at": "2026-01-05"})
        assert last(rows)["customer_transaction_count_30d"] == 0

    def test_amount_against_the_customers_own(self) -> None:
        rows = transactions(*({"at": f"2026-01-0{day}", "amount_cents": day * 100} for day in (1, 2, 3, 9)))
        values = last(rows)
        assert values["customer_amount_over_mean_30d"] == 4.5
        assert values["customer_amount_over_max_30d"] == 3
        assert values["customer_amount_over_median_30d"] == 4.5
        assert values["customer_amount_spread_30d"] == 100
        assert values["customer_amount_z_score_30d"] == 7

    def test_same_merchant_and_category(self) -> None:
        rows = transactions(
            {"at": "2026-01-05 10:00", "merchant_id": "here", "category": "food", "amount_cents": 500},
            {"at": "2026-01-05 11:00", "merchant_id": "there", "category": "food", "amount_cents": 1_500},
            {"at": "2026-01-05 11:30", "merchant_id": "there", "category": "fuel"},
            {"at": "2026-01-05 12:00", "merchant_id": "here", "category": "food", "amount_cents": 2_000},
        )
        values = last(rows)
        assert values["customer_same_merchant_count_30d"] == 1
        assert values["customer_same_merchant_seconds_since_last_30d"] == 2 * 3_600
        assert values["customer_same_category_count_30d"] == 2
        assert values["customer_same_category_seconds_since_last_30d"] == 3_600
        assert values["customer_same_category_amount_over_mean_30d"] == 2
        assert values["customer_distinct_merchants_24h"] == 2
        assert values["customer_seconds_since_last_30d"] == 1_800

    def test_speed_from_the_last_place(self) -> None:
        """One degree of latitude is 111.2 km, here in half an hour."""
        rows = transactions(
            {"at": "2026-01-05 11:30", "latitude": 50.0, "longitude": 8.0},
            {"at": "2026-01-05 12:00", "latitude": 51.0, "longitude": 8.0},
        )
        values = last(rows)
        assert values["customer_distance_from_last_30d"] == pytest.approx(111.195, abs=1e-3)
        assert values["customer_speed_from_last_30d"] == pytest.approx(222.39, abs=1e-2)

    def test_reports_count_from_the_day_they_are_made(self) -> None:
        rows = transactions({"at": "2026-01-01"}, {"at": "2026-01-05"}, {"at": "2026-01-06"})
        frame = features(rows, reports(rows, (0, "2026-01-05 12:00")))
        assert list(frame["customer_report_count_60d"]) == [0, 0, 1]
        assert frame["customer_seconds_since_last_report_60d"].iloc[-1] == 12 * 3_600


class TestMerchant:
    def test_volume_is_known_as_of_last_midnight(self) -> None:
        rows = transactions(
            {"at": "2026-01-04 09:00", "customer_id": "a", "amount_cents": 100},
            {"at": "2026-01-04 23:59", "customer_id": "b", "amount_cents": 300},
            {"at": "2026-01-05 00:00", "customer_id": "d"},  # today: not known before tomorrow
            {"at": "2026-01-05 23:00", "amount_cents": 800},
        )
        values = last(rows)
        assert values["merchant_transaction_count_1d"] == 2
        assert values["merchant_amount_mean_30d"] == 200
        assert values["merchant_amount_over_mean_30d"] == 4

    def test_transactions_are_cleared_once_their_whole_day_has_had_time_to_be_reported(self) -> None:
        """The day of January 1 ends at the 2nd and, with 7 days of maturity, is settled on the 9th."""
        rows = transactions({"at": "2026-01-01 06:00"}, {"at": "2026-01-08 23:59"}, {"at": "2026-01-09 00:00"})
        frame = features(rows)
        assert list(frame["merchant_cleared_count_30d"]) == [0, 0, 1]
        assert frame["merchant_days_since_last_cleared_30d"].iloc[-1] == 7.75
        assert np.isnan(frame["merchant_days_since_last_cleared_30d"].iloc[1])

    def test_a_reported_transaction_is_never_cleared(self) -> None:
        rows = transactions({"at": "2026-01-01 06:00"}, {"at": "2026-01-09"})
        assert last(rows, reports(rows, (0, "2026-01-03")))["merchant_cleared_count_30d"] == 0

    def test_a_late_report_does_not_change_earlier_features(self) -> None:
        """Reported after 7 days: the transaction was cleared on the 9th, and it stays cleared."""
        rows = transactions({"at": "2026-01-01 06:00"}, {"at": "2026-01-09"})
        assert last(rows, reports(rows, (0, "2026-01-20")))["merchant_cleared_count_30d"] == 1

    def test_reports_count_by_the_time_they_are_made_and_their_frauds_by_their_own(self) -> None:
        rows = transactions({"at": "2026-01-01"}, {"at": "2026-01-02"}, {"at": "2026-01-20"}, {"at": "2026-01-20"})
        values = last(rows, reports(rows, (0, "2026-01-03"), (1, "2026-01-19"), (2, "2026-01-20")))
        assert values["merchant_report_count_7d"] == 1
        assert values["merchant_report_count_30d"] == 2
        assert values["merchant_report_rate_30d"] == 1
        assert values["merchant_seconds_since_last_report_60d"] == 24 * 3_600
        assert values["merchant_days_since_first_reported_fraud_60d"] == 19
        assert values["merchant_days_since_last_reported_fraud_60d"] == 18

    def test_a_fraud_run_begins_after_the_last_cleared_transaction(self) -> None:
        rows = transactions(
            {"at": "2026-01-01", "amount_cents": 50},  # fraud, before the merchant was last clean
            {"at": "2026-01-02"},  # cleared, known from the 10th on
            {"at": "2026-01-03", "amount_cents": 900},  # fraud
            {"at": "2026-01-04", "amount_cents": 700},  # fraud
            {"at": "2026-01-10"},
        )
        values = last(rows, reports(rows, (0, "2026-01-05"), (2, "2026-01-05"), (3, "2026-01-05")))
        assert values["merchant_fraud_run_length_60d"] == 2
        assert values["merchant_fraud_run_days_60d"] == 7
        assert values["merchant_fraud_run_smallest_amount_60d"] == 700

    def test_withdrawals_are_no_reports(self) -> None:
        rows = transactions({"at": "2026-01-01"}, {"at": "2026-01-05"})
        withdrawn = reports(rows, (0, "2026-01-02")).assign(is_fraud=False)
        assert last(rows, withdrawn)["merchant_report_count_30d"] == 0
