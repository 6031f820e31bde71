"""Decisions follow a policy of thresholds or of expected cost, and rules decide without a model."""

import json
import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_pipeline.features.definitions import FEATURE_NAMES
from fraud_pipeline.policy.decisions import (
    FAIL_SAFE_AMOUNT_CENTS,
    FAIL_SAFE_RULES,
    RULES,
    Condition,
    CostModel,
    Policy,
    Rule,
    decide,
    rules_decide,
)

COSTS = CostModel(review_cost_cents=500, false_block_cost_cents=3_000, recovered_on_review=0.8, recovered_on_block=1)
NEVER = float("inf")
NO_AMOUNTS = np.zeros(6, np.int64)
BY_COST = Policy(0.0, 0.9, COSTS, review_price_cents=700.0)


class TestPolicy:
    def test_thresholds_are_inclusive(self) -> None:
        policy = Policy(review_threshold=0.2, block_threshold=0.8)
        probability = np.array([0.0, np.nextafter(0.2, 0), 0.2, np.nextafter(0.8, 0), 0.8, 1.0])
        assert decide(probability, policy, amounts_cents=NO_AMOUNTS[:6]).tolist() == [
            "allow",
            "allow",
            "review",
            "review",
            "block",
            "block",
        ]

    def test_infinity_means_never(self) -> None:
        assert decide(np.array([0.5, 1.0]), Policy(0.9, NEVER), amounts_cents=NO_AMOUNTS[:2]).tolist() == [
            "allow",
            "review",
        ]
        assert decide(np.array([1.0]), Policy(NEVER, NEVER), amounts_cents=NO_AMOUNTS[:1]).tolist() == ["allow"]

    def test_a_missing_score_is_refused(self) -> None:
        with pytest.raises(ValueError, match="NaN cannot be decided on"):
            decide(np.array([0.5, np.nan]), Policy(0.2, 0.8), amounts_cents=NO_AMOUNTS[:2])

    @pytest.mark.parametrize(("review", "block"), [(0.9, 0.8), (-0.1, 0.8), (np.nan, 0.8), (0.2, np.nan)])
    def test_thresholds_out_of_order_are_refused(self, review: float, block: float) -> None:
        with pytest.raises(ValueError, match="review_threshold"):
            Policy(review, block)

    @pytest.mark.parametrize("policy", [Policy(0.1, 0.9), Policy(0.1, NEVER), Policy(NEVER, NEVER), BY_COST])
    def test_survives_strict_json(self, policy: Policy) -> None:
        assert Policy.from_dict(json.loads(json.dumps(policy.to_dict(), allow_nan=False))) == policy

    def test_a_policy_of_an_earlier_release_decides_as_before(self) -> None:
        policy = Policy.from_dict({"review_threshold": 0.2, "block_threshold": None})
        amounts = np.array([1, 10**9, 0], np.int64)
        assert decide(np.array([0.3, 0.1, 1.0]), policy, amounts_cents=amounts).tolist() == [
            "review",
            "allow",
            "review",
        ]

    @pytest.mark.parametrize("price", [-1.0, np.nan, np.inf])
    def test_a_price_that_cannot_be_paid_is_refused(self, price: float) -> None:
        with pytest.raises(ValueError, match="review_price_cents"):
            Policy(0.0, 0.9, COSTS, review_price_cents=price)


class TestExpectedCost:
    @given(st.integers(0, 2**32), st.sampled_from([0.0, 0.5, NEVER]), st.sampled_from([0.0, 40.0, 3_000.0]))
    def test_no_permitted_action_is_expected_to_cost_less(self, seed: int, block_from: float, price: float) -> None:
        generator = np.random.default_rng(seed)
        probability, amounts = generator.beta(0.3, 2, 50), generator.integers(-50_000, 50_000, 50)
        policy = Policy(0.0, block_from, COSTS, review_price_cents=price)
        for p, amount, decision in zip(
            probability, amounts, decide(probability, policy, amounts_cents=amounts), strict=True
        ):
            lost = p * (abs(amount) or COSTS.zero_amount_fraud_cost_cents)
            cost = {"allow": lost, "review": 500 + price + 0.2 * lost, "block": (1 - p) * 3_000}
            if p < block_from:
                del cost["block"]
            assert cost[decision] <= min(cost.values()) + 1e-6

    def test_the_amount_decides_at_the_same_probability(self) -> None:
        amounts = np.array([1_000, 100_000, -100_000, 0], np.int64)
        decided = decide(np.full(4, 0.08), Policy(0.0, NEVER, COSTS), amounts_cents=amounts)
        assert decided.tolist() == ["allow", "review", "review", "review"]

    def test_a_missing_amount_costs_what_an_amount_of_zero_costs(self) -> None:
        amounts = np.array([0, np.nan], np.float32)
        for probability in (0.01, 0.08):
            assert len(set(decide(np.full(2, probability), BY_COST, amounts_cents=amounts))) == 1

    @given(st.integers(0, 2**32))
    def test_whole_cents_and_feature_rows_decide_equally(self, seed: int) -> None:
        generator = np.random.default_rng(seed)
        cents = generator.integers(0, 10**11, 300)
        probability = 500 / 0.8 / np.maximum(cents, 1)  # where a review begins to pay
        rows = decide(probability, Policy(0.0, 0.9, COSTS), amounts_cents=cents.astype(np.float32))
        assert decide(probability, Policy(0.0, 0.9, COSTS), amounts_cents=cents).tolist() == rows.tolist()

    def test_friction_makes_reviews_of_good_customers_dearer(self) -> None:
        patient, impatient = CostModel(), CostModel(review_friction_cents=600)
        amounts = np.full(1, 100_00, np.int64)
        decided = [
            decide(np.array([0.05]), Policy(0.0, NEVER, costs), amounts_cents=amounts)[0]
            for costs in (patient, impatient)
        ]
        assert decided == ["review", "allow"]

    def test_it_says_from_which_loss_a_review_pays(self) -> None:
        loss = BY_COST.review_loss_cents
        amounts = np.full(2, 100_000_00, np.int64)
        around = np.array([0.999, 1.001]) * loss / 100_000_00
        assert decide(around, BY_COST, amounts_cents=amounts).tolist() == ["allow", "review"]
        assert str(BY_COST) == (
            "review from an expected loss (probability x amount) of 15.00; block from probability 0.900, "
            "where that costs less"
        )


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


def test_a_refund_is_at_stake_like_a_payment() -> None:
    at_stake = COSTS.at_stake(np.array([-250, 0, 250]))

    assert at_stake.tolist() == [250.0, COSTS.zero_amount_fraud_cost_cents, 250.0]
