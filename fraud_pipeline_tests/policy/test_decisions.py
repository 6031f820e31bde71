"""Thresholds have the least permitted cost, decisions follow them, and rules decide without a model."""

import json
import time
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fraud_pipeline.features.definitions import FEATURE_NAMES
from fraud_pipeline.policy.decisions import (
    FAIL_SAFE_AMOUNT_CENTS,
    FAIL_SAFE_RULES,
    RULES,
    Condition,
    CostModel,
    Policy,
    PolicyReport,
    Rule,
    choose_policy,
    decide,
    rules_decide,
)

COSTS = CostModel(review_cost_cents=500, false_block_cost_cents=3_000, recovered_on_review=0.8, recovered_on_block=1)
NEVER = float("inf")


@dataclass(frozen=True)
class Rows:
    probability: NDArray[np.float64]
    labels: NDArray[np.float64]
    amounts_cents: NDArray[np.int64]
    days: NDArray[np.int64]

    def choose(self, *, budget: float = 1e9, floor: float = 0.85, min_alerts: int = 20) -> tuple[Policy, PolicyReport]:
        return choose_policy(
            self.probability,
            self.labels,
            self.amounts_cents,
            self.days,
            costs=COSTS,
            alert_budget_per_day=budget,
            precision_floor=floor,
            min_alerts=min_alerts,
        )


@st.composite
def scored_rows(draw: st.DrawFn) -> Rows:
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    size = draw(st.integers(1, 80))
    levels = draw(st.sampled_from([3, 10, 1_000]))
    probability = generator.integers(0, levels + 1, size) / levels
    return Rows(
        probability=probability,
        labels=(generator.random(size) < probability * draw(st.sampled_from([0.0, 0.3, 1.0]))).astype(np.float64),
        amounts_cents=generator.integers(1, 50_000, size),
        days=generator.integers(0, 4, size),
    )


def total_cost(rows: Rows, policy: Policy) -> float:
    """The cost of a policy, decision by decision."""
    cost = 0.0
    for decision, fraud, amount in zip(decide(rows.probability, policy), rows.labels, rows.amounts_cents, strict=True):
        match decision:
            case "allow":
                cost += amount if fraud else 0
            case "review":
                cost += 500 + (0.2 * amount if fraud else 0)
            case "block":
                cost += 0 if fraud else 3_000
    return cost


class TestChoice:
    @given(scored_rows(), st.integers(1, 30), st.sampled_from([0.5, 0.85, 1.0]), st.integers(1, 10))
    def test_no_allowed_review_threshold_is_cheaper(
        self, rows: Rows, budget: int, floor: float, min_alerts: int
    ) -> None:
        policy, report = rows.choose(budget=budget, floor=floor, min_alerts=min_alerts)
        number_of_days = len(set(rows.days.tolist()))
        allowed = [
            Policy(threshold, policy.block_threshold)
            for threshold in {*rows.probability.tolist()}
            if threshold < policy.block_threshold and (rows.probability >= threshold).sum() / number_of_days <= budget
        ]
        cheapest = min(
            total_cost(rows, policy_) for policy_ in [*allowed, Policy(policy.block_threshold, policy.block_threshold)]
        )
        assert total_cost(rows, policy) == pytest.approx(cheapest)
        assert report.chosen_cents_per_day * number_of_days == pytest.approx(cheapest)
        assert report.do_nothing_cents_per_day * number_of_days == pytest.approx(total_cost(rows, Policy(NEVER, NEVER)))

    @given(scored_rows(), st.sampled_from([0.5, 0.85, 1.0]), st.integers(1, 10))
    def test_blocking_starts_at_the_lowest_threshold_that_is_precise_enough(
        self, rows: Rows, floor: float, min_alerts: int
    ) -> None:
        policy, _ = rows.choose(floor=floor, min_alerts=min_alerts)
        precise = [
            threshold
            for threshold in {*rows.probability.tolist()}
            if (alerts := rows.probability >= threshold).sum() >= min_alerts and rows.labels[alerts].mean() >= floor
        ]
        assert policy.block_threshold == min(precise, default=NEVER)

    @given(scored_rows(), st.integers(0, 30))
    def test_reviews_stay_within_the_budget(self, rows: Rows, budget: int) -> None:
        policy, _ = rows.choose(budget=budget)
        alerts = (rows.probability >= policy.review_threshold).sum()
        reviews = alerts - (rows.probability >= policy.block_threshold).sum()
        assert reviews == 0 or alerts <= budget * len(set(rows.days.tolist()))

    def test_few_lucky_alerts_do_not_allow_blocking(self) -> None:
        top_ten = np.repeat([0.0, 1.0], [90, 10])
        rows = Rows(np.linspace(0, 1, 100), top_ten, np.full(100, 100), np.zeros(100, np.int64))
        assert rows.choose(min_alerts=10)[0].block_threshold < 1
        assert rows.choose(min_alerts=50)[0].block_threshold == NEVER

    def test_without_fraud_nothing_is_reviewed_or_blocked(self) -> None:
        rows = Rows(np.linspace(0, 1, 100), np.zeros(100), np.full(100, 10_000), np.zeros(100, np.int64))
        policy, report = rows.choose()
        assert policy == Policy(NEVER, NEVER)
        assert report.chosen_cents_per_day == report.do_nothing_cents_per_day == 0

    def test_the_report_follows_the_thresholds_down(self) -> None:
        rows = Rows(np.repeat([0.9, 0.5, 0.1], 4), np.repeat([1.0, 0, 0], 4), np.full(12, 10_000), np.arange(12) % 2)
        policy, report = rows.choose(min_alerts=100)
        assert policy.review_threshold == 0.9
        np.testing.assert_allclose(report.thresholds, [0.9, 0.5, 0.1])
        np.testing.assert_allclose(report.alerts_per_day, [2, 4, 6])
        np.testing.assert_allclose(report.precision, [1, 1 / 2, 1 / 3])
        np.testing.assert_allclose(report.cost_cents_per_day, [2 * 2_500, 2 * 2_500 + 1_000, 2 * 2_500 + 2_000])

    @pytest.mark.parametrize("bad", ["probability", "labels"])
    def test_missing_values_are_refused(self, bad: str) -> None:
        values = {"probability": np.full(3, 0.5), "labels": np.zeros(3), bad: np.array([0.1, np.nan, 0.2])}
        rows = Rows(amounts_cents=np.ones(3, np.int64), days=np.zeros(3, np.int64), **values)
        with pytest.raises(ValueError, match="each with a score and a known label"):
            rows.choose()


class TestPolicy:
    def test_thresholds_are_inclusive(self) -> None:
        policy = Policy(review_threshold=0.2, block_threshold=0.8)
        probability = np.array([0.0, np.nextafter(0.2, 0), 0.2, np.nextafter(0.8, 0), 0.8, 1.0])
        assert decide(probability, policy).tolist() == ["allow", "allow", "review", "review", "block", "block"]

    def test_infinity_means_never(self) -> None:
        assert decide(np.array([0.5, 1.0]), Policy(0.9, NEVER)).tolist() == ["allow", "review"]
        assert decide(np.array([1.0]), Policy(NEVER, NEVER)).tolist() == ["allow"]

    def test_a_missing_score_is_refused(self) -> None:
        with pytest.raises(ValueError, match="NaN cannot be decided on"):
            decide(np.array([0.5, np.nan]), Policy(0.2, 0.8))

    @pytest.mark.parametrize(("review", "block"), [(0.9, 0.8), (-0.1, 0.8), (np.nan, 0.8), (0.2, np.nan)])
    def test_thresholds_out_of_order_are_refused(self, review: float, block: float) -> None:
        with pytest.raises(ValueError, match="review_threshold"):
            Policy(review, block)

    @pytest.mark.parametrize("policy", [Policy(0.1, 0.9), Policy(0.1, NEVER), Policy(NEVER, NEVER)])
    def test_survives_strict_json(self, policy: Policy) -> None:
        assert Policy.from_dict(json.loads(json.dumps(policy.to_dict(), allow_nan=False))) == policy


FAST = Rule("fast", "many at once", "review", (Condition("count_1h", ">", 3),))
FAR = Rule(
    "far", "impossible speed and a new country", "block", (Condition("speed", ">=", 900), Condition("new", "==", 1))
)
TWO = (FAST, FAR)


class TestRules:
    def test_all_conditions_must_hold_and_the_strictest_rule_decides(self) -> None:
        features = pd.DataFrame(
            {"count_1h": [9, 9, 0, 0], "speed": [900, 900, 900, 899.0], "new": [1, 0, 1, 1]}, dtype="float32"
        )
        decisions, codes = rules_decide(features, rules=TWO)
        assert decisions.tolist() == ["block", "review", "block", "allow"]
        assert codes.tolist() == [("fast", "far"), ("fast",), ("far",), ()]

    def test_a_missing_feature_is_no_evidence(self) -> None:
        features = pd.DataFrame({"count_1h": [np.nan], "speed": [2_000], "new": [np.nan]}, dtype="float32")
        assert rules_decide(features, rules=TWO)[0].tolist() == ["allow"]

    def test_an_absent_column_is_an_error(self) -> None:
        with pytest.raises(KeyError, match="speed"):
            rules_decide(pd.DataFrame({"count_1h": [1.0]}), rules=TWO)

    def test_no_rows_give_no_answers(self) -> None:
        decisions, codes = rules_decide(pd.DataFrame({"count_1h": [], "speed": [], "new": []}), rules=TWO)
        assert len(decisions) == len(codes) == 0

    @given(st.lists(st.tuples(st.integers(0, 6), st.integers(898, 902), st.integers(0, 1)), min_size=1, max_size=30))
    def test_a_row_gets_the_same_decision_alone_and_in_a_batch(self, rows: list[tuple[int, int, int]]) -> None:
        features = pd.DataFrame(rows, columns=["count_1h", "speed", "new"], dtype="float32")
        decisions, codes = rules_decide(features, rules=TWO)
        for i in range(len(rows)):
            decision, code = rules_decide(features.iloc[[i]], rules=TWO)
            assert (decision[0], code[0]) == (decisions[i], codes[i])

    @given(st.lists(st.tuples(st.integers(0, 6), st.integers(898, 902), st.integers(0, 1)), max_size=30))
    def test_arrays_and_frames_give_the_same_decisions(self, rows: list[tuple[int, int, int]]) -> None:
        frame = pd.DataFrame(rows, columns=["count_1h", "speed", "new"], dtype="float32")
        arrays = {str(name): frame[name].to_numpy() for name in frame}
        for of_arrays, of_frame in zip(rules_decide(arrays, rules=TWO), rules_decide(frame, rules=TWO), strict=True):
            assert of_arrays.tolist() == of_frame.tolist()


def shipped(**features: float) -> pd.DataFrame:
    """One row of all features, missing unless given."""
    return pd.DataFrame([dict.fromkeys(FEATURE_NAMES, np.nan) | features], dtype="float32")


class TestShippedRules:
    def test_names_are_unique_and_each_rule_explains_itself(self) -> None:
        assert len({rule.name for rule in RULES}) == len(RULES)
        assert all(rule.decision != "allow" and rule.conditions and len(rule.description) > 20 for rule in RULES)

    def test_every_condition_uses_an_existing_feature(self) -> None:
        assert {condition.feature for rule in RULES for condition in rule.conditions} <= set(FEATURE_NAMES)

    @pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
    def test_every_rule_can_fire_and_needs_each_of_its_conditions(self, rule: Rule) -> None:
        beyond = {">": 1, ">=": 0, "<": -1, "<=": 0, "==": 0}
        met = {condition.feature: condition.value + beyond[condition.comparison] for condition in rule.conditions}
        decisions, codes = rules_decide(shipped(**met))
        assert rule.name in codes[0]
        assert decisions[0] == ("block" if "small_tests_then_large" in codes[0] else "review")
        for feature in met:
            assert rule.name not in rules_decide(shipped(**{**met, feature: np.nan}))[1][0]

    def test_an_everyday_purchase_and_an_unknown_customer_are_allowed(self) -> None:
        everyday = shipped(
            customer_transaction_count_30d=40,
            customer_transaction_count_1h=1,
            customer_same_merchant_count_30d=0,
            customer_same_country_count_30d=40,
            customer_amount_over_median_30d=1.4,
            customer_amount_over_max_30d=0.4,
            customer_amount_min_24h=2_50,
            customer_speed_from_last_30d=30,
            customer_distance_from_last_30d=4,
            merchant_report_count_7d=1,
            merchant_report_rate_30d=0.001,
        )
        for row in (everyday, shipped()):
            decisions, codes = rules_decide(row)
            assert (decisions[0], codes[0]) == ("allow", ())

    def test_fail_safe_rules_need_nothing_but_the_transaction(self) -> None:
        needed = {condition.feature for rule in FAIL_SAFE_RULES for condition in rule.conditions}
        assert needed <= set(FEATURE_NAMES)
        assert not {name for name in needed if name.startswith(("customer_", "merchant_"))}
        assert not {rule.name for rule in FAIL_SAFE_RULES} & {rule.name for rule in RULES}

    def test_without_history_and_model_only_large_amounts_are_reviewed(self) -> None:
        amounts = [1, FAIL_SAFE_AMOUNT_CENTS, FAIL_SAFE_AMOUNT_CENTS + 1, 10_000_000]
        rows = pd.concat([shipped(amount=amount) for amount in amounts])
        decisions, codes = rules_decide(rows, rules=FAIL_SAFE_RULES)
        assert decisions.tolist() == ["allow", "allow", "review", "review"]
        assert codes.tolist() == [(), (), ("large_amount",), ("large_amount",)]

    def test_a_hundred_thousand_rows_take_well_under_a_second(self) -> None:
        generator = np.random.default_rng(0)
        columns = {name: generator.exponential(4, 100_000).astype("float32") for name in FEATURE_NAMES}
        features = pd.DataFrame(columns)
        started = time.process_time()
        decisions, codes = rules_decide(features)
        assert time.process_time() - started < 1
        assert len(decisions) == len(codes) == 100_000


@pytest.mark.parametrize("amounts", [np.zeros(400, np.int64), np.full(400, 100_00)], ids=["none", "100 each"])
def test_frauds_without_an_amount_are_worth_a_review(amounts: NDArray[np.int64]) -> None:
    """A file without amounts has amount 0 everywhere; its frauds must not look free."""
    labels = np.repeat([1.0, 0.0], [40, 360])
    rows = Rows(np.repeat([0.9, 0.2], [40, 360]), labels, amounts, np.arange(400) % 20)

    policy, report = rows.choose(floor=0.999999, min_alerts=1_000)

    assert policy == Policy(review_threshold=0.9, block_threshold=NEVER)
    assert report.do_nothing_cents_per_day == 40 * 100_00 / 20


def test_a_refund_is_at_stake_like_a_payment() -> None:
    at_stake = COSTS.at_stake(np.array([-250, 0, 250]))

    assert at_stake.tolist() == [250.0, COSTS.zero_amount_fraud_cost_cents, 250.0]
