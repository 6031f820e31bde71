"""Each leakage check passes honest features and catches its kind of planted leak."""

from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from fraud_pipeline.features.engineer import FeatureEngineer, History, merchant_days
from fraud_pipeline.features.merchant_days import NEVER
from fraud_pipeline.generator import SyntheticWorld, WorldConfig
from fraud_pipeline.ingest.validation import validate
from fraud_pipeline.modeling.leakage import (
    MIN_GROUP_ROWS,
    auc,
    future_invariance,
    null_pattern_auc,
    segment_base_rate,
    single_feature_auc,
)

ROWS = 4_000
MATURITY = timedelta(days=3)


@pytest.fixture(scope="module")
def labels() -> NDArray[np.float64]:
    """About 2 % fraud, in order of time."""
    return (np.random.default_rng(1).random(ROWS) < 0.02).astype(np.float64)


@pytest.fixture(scope="module")
def honest() -> pd.DataFrame:
    """Random features, one of them often missing."""
    generator = np.random.default_rng(2)
    frame = pd.DataFrame(generator.random((ROWS, 3)), columns=["one", "two", "three"])
    return frame.assign(three=frame["three"].where(generator.random(ROWS) < 0.5))


class TestSingleFeature:
    def test_honest_features_pass(self, honest: pd.DataFrame, labels: NDArray[np.float64]) -> None:
        verdict = single_feature_auc(honest, labels)
        assert verdict.passed
        assert verdict.figures["auc"] < 0.65

    @pytest.mark.parametrize("sign", [1, -1])
    def test_a_feature_made_of_the_label_is_named(
        self, honest: pd.DataFrame, labels: NDArray[np.float64], sign: int
    ) -> None:
        noise = np.random.default_rng(3).normal(scale=0.2, size=ROWS)
        verdict = single_feature_auc(honest.assign(chargeback=sign * (labels + noise)), labels)
        assert not verdict.passed
        assert "chargeback" in verdict.detail
        assert "after the fact" in verdict.detail
        assert verdict.figures["auc"] > 0.99

    def test_a_feature_known_for_frauds_only_is_named(self, honest: pd.DataFrame, labels: NDArray[np.float64]) -> None:
        filled_in = honest["one"].where(labels == 1)
        assert "case_number" in single_feature_auc(honest.assign(case_number=filled_in), labels).detail

    def test_a_few_frauds_prove_nothing(self, honest: pd.DataFrame) -> None:
        labels = np.zeros(ROWS)
        labels[:5] = 1
        verdict = single_feature_auc(honest.assign(leak=labels), labels)
        assert verdict.passed
        assert "too few" in verdict.detail


class TestNullPattern:
    def test_values_missing_at_random_pass(self, honest: pd.DataFrame, labels: NDArray[np.float64]) -> None:
        verdict = null_pattern_auc(honest, labels)
        assert verdict.passed
        assert 0.4 < verdict.figures["auc"] < 0.6

    @pytest.mark.parametrize("missing_when", [0.0, 1.0])
    def test_a_column_filled_in_after_the_verdict_is_caught(
        self, honest: pd.DataFrame, labels: NDArray[np.float64], missing_when: float
    ) -> None:
        mostly = (labels == missing_when) & (np.random.default_rng(4).random(ROWS) < 0.8)
        verdict = null_pattern_auc(honest.assign(one=honest["one"].mask(mostly)), labels)
        assert not verdict.passed
        assert verdict.figures["auc"] > 0.85

    def test_many_patterns_do_not_look_like_a_leak(self, labels: NDArray[np.float64]) -> None:
        """Scored on the rows they were learnt from, 2^10 patterns of pure chance would reach an AUC above .9."""
        generator = np.random.default_rng(5)
        noise = pd.DataFrame(np.where(generator.random((ROWS, 10)) < 0.5, np.nan, 1.0))
        assert null_pattern_auc(noise, labels).passed

    def test_a_few_frauds_prove_nothing(self, honest: pd.DataFrame) -> None:
        labels = np.zeros(ROWS)
        labels[-30:] = 1  # none of them in the half to learn from
        assert "too few" in null_pattern_auc(honest, labels).detail


class TestSegments:
    def test_a_group_of_usual_fraud_passes(self, labels: NDArray[np.float64]) -> None:
        verdict = segment_base_rate(labels, {"channel": np.where(np.arange(ROWS) % 2, "chip", "online")})
        assert verdict.passed
        assert verdict.figures["rate"] < 0.05

    @pytest.mark.parametrize("group", ["disputes", None])
    def test_a_group_that_is_the_label_is_named(self, labels: NDArray[np.float64], group: str | None) -> None:
        origin = np.full(ROWS, "core", dtype=object)
        origin[labels == 1] = group
        verdict = segment_base_rate(labels, {"origin": origin})
        assert not verdict.passed
        assert "origin" in verdict.detail
        assert verdict.figures["rate"] == 1.0

    def test_a_small_group_proves_nothing(self, labels: NDArray[np.float64]) -> None:
        few = np.flatnonzero(labels)[: MIN_GROUP_ROWS - 1]
        origin = np.full(ROWS, "core", dtype=object)
        origin[few] = "disputes"
        assert segment_base_rate(labels, {"origin": origin}).passed


@pytest.fixture(scope="module")
def world() -> tuple[History, pd.DataFrame]:
    """Twelve days of a small world, the rows to compute among the history."""
    source = SyntheticWorld(WorldConfig(customers=200, fraud_rate=0.01))
    start, end = pd.Timestamp("2026-01-01", tz="UTC"), pd.Timestamp("2026-01-13", tz="UTC")
    transactions = validate(source.transactions(start=start, end=end), now=end).accepted
    reports = source.reports(start=start, end=end)
    days = merchant_days(transactions, reports, label_maturity=MATURITY)
    return History(transactions=transactions, reports=reports, merchant_days=days), transactions


@dataclass(frozen=True)
class Leaking:
    """The feature code with one feature replaced by a leak."""

    kind: str
    label_maturity: timedelta = MATURITY

    def compute(self, *, history: History, new: pd.DataFrame) -> pd.DataFrame:
        """The honest features, then the leak in place of one of them."""
        features = FeatureEngineer(label_maturity=self.label_maturity).compute(history=history, new=new)
        feature = "customer_seconds_since_last_30d"
        return features.assign(**{feature: getattr(self, self.kind)(history, new).astype("float32").to_numpy()})

    @staticmethod
    def next_transaction(_: History, new: pd.DataFrame) -> pd.Series:
        """How long until the customer comes again, instead of how long since."""
        in_order = new.sort_values("event_time")
        following = in_order.groupby("customer_id")["event_time"].shift(-1)
        return (following - in_order["event_time"]).dt.total_seconds().reindex(new.index)

    @staticmethod
    def own_report(history: History, new: pd.DataFrame) -> pd.Series:
        """Whether this transaction was ever reported."""
        return new["transaction_id"].isin(history.reports["transaction_id"])

    @staticmethod
    def whole_day(history: History, new: pd.DataFrame) -> pd.Series:
        """The merchant's volume of today, which is known at midnight."""
        return _of_day(history, new, column="transaction_count")

    @staticmethod
    def unsettled_day(history: History, new: pd.DataFrame) -> pd.Series:
        """The merchant's cleared transactions of today, which are known days later."""
        last = _of_day(history, new, column="last_cleared_time")
        return last.where(last > NEVER)

    @staticmethod
    def average_of_all(_: History, new: pd.DataFrame) -> pd.Series:
        """An amount scaled by the batch it came in."""
        return new["amount_cents"] / new["amount_cents"].mean()


def _of_day(history: History, new: pd.DataFrame, *, column: str) -> pd.Series:
    today = new[["merchant_id"]].assign(day=new["event_time"].dt.floor("D"))
    return today.merge(history.merchant_days, how="left", on=["merchant_id", "day"])[column]


class TestFuture:
    NOON = pd.Timestamp("2026-01-07 12:00", tz="UTC")

    def test_the_feature_code_does_not_see_the_future(self, world: tuple[History, pd.DataFrame]) -> None:
        history, new = world
        verdict = future_invariance(FeatureEngineer(label_maturity=MATURITY), history=history, new=new, cut=self.NOON)
        assert verdict.passed, verdict.detail
        assert verdict.figures == {"features": 0, "rows": int((new["event_time"] < self.NOON).sum())}

    @pytest.mark.parametrize("kind", ["next_transaction", "own_report", "whole_day", "unsettled_day", "average_of_all"])
    def test_a_feature_that_sees_the_future_is_named(self, world: tuple[History, pd.DataFrame], kind: str) -> None:
        history, new = world
        verdict = future_invariance(Leaking(kind), history=history, new=new, cut=self.NOON)
        assert not verdict.passed
        assert "customer_seconds_since_last_30d" in verdict.detail
        assert verdict.figures["features"] == 1

    def test_nothing_before_the_cut_is_no_leak(self, world: tuple[History, pd.DataFrame]) -> None:
        history, new = world
        verdict = future_invariance(Leaking("own_report"), history=history, new=new.iloc[:0], cut=self.NOON)
        assert verdict.passed
        assert verdict.figures["rows"] == 0


class TestAuc:
    def test_is_the_share_of_pairs_in_order(self) -> None:
        assert auc(np.array([1.0, 2.0, 2.0, 3.0]), np.array([0.0, 0.0, 1.0, 1.0])) == 3.5 / 4

    def test_is_undefined_without_both_kinds(self) -> None:
        assert np.isnan(auc(np.arange(3.0), np.zeros(3)))
