"""A policy has the least permitted cost, keeps to the budget, and blocks only what is proven."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fraud_pipeline.policy.choice import PolicyReport, PolicyRows, choose_policy
from fraud_pipeline.policy.decisions import CostModel, Policy, PolicyKind, decide

COSTS = CostModel(review_cost_cents=500, false_block_cost_cents=3_000, recovered_on_review=0.8, recovered_on_block=1)
NEVER = float("inf")


@dataclass(frozen=True)
class Rows:
    probability: NDArray[np.float64]
    labels: NDArray[np.float64]
    amounts_cents: NDArray[np.int64]
    days: int

    def choose(
        self, *, budget: float = 1e9, floor: float = 0.85, by: PolicyKind = "thresholds"
    ) -> tuple[Policy, PolicyReport]:
        rows = PolicyRows(
            probability=self.probability,
            labels=self.labels,
            amounts_cents=self.amounts_cents,
            customers=np.arange(len(self.labels)),
            rows_per_day=len(self.labels) / self.days,
        )
        return choose_policy(rows, costs=COSTS, alert_budget_per_day=budget, precision_floor=floor, decides_by=by)

    def decided(self, policy: Policy) -> NDArray[np.object_]:
        return decide(self.probability, policy, amounts_cents=self.amounts_cents)


@st.composite
def scored_rows(draw: st.DrawFn, least: int = 1) -> Rows:
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    size = draw(st.integers(least, 200))
    levels = draw(st.sampled_from([3, 10, 1_000]))
    probability = generator.integers(0, levels + 1, size) / levels
    return Rows(
        probability=probability,
        labels=(generator.random(size) < probability * draw(st.sampled_from([0.0, 0.3, 1.0]))).astype(np.float64),
        amounts_cents=generator.integers(1, 50_000, size),
        days=draw(st.integers(1, 4)),
    )


def total_cost(rows: Rows, policy: Policy) -> float:
    """The cost of a policy, decision by decision."""
    cost = 0.0
    for decision, fraud, amount in zip(rows.decided(policy), rows.labels, rows.amounts_cents, strict=True):
        match decision:
            case "allow":
                cost += amount if fraud else 0
            case "review":
                cost += 500 + (0.2 * amount if fraud else 0)
            case "block":
                cost += 0 if fraud else 3_000
    return cost


class TestThresholds:
    @given(scored_rows(), st.integers(1, 30), st.sampled_from([0.3, 0.85]))
    def test_no_allowed_review_threshold_is_cheaper(self, rows: Rows, budget: int, floor: float) -> None:
        policy, report = rows.choose(budget=budget, floor=floor)
        allowed = [
            Policy(threshold, policy.block_threshold)
            for threshold in {*rows.probability.tolist()}
            if threshold < policy.block_threshold and (rows.probability >= threshold).sum() / rows.days <= budget
        ]
        cheapest = min(
            total_cost(rows, policy_) for policy_ in [*allowed, Policy(policy.block_threshold, policy.block_threshold)]
        )
        assert total_cost(rows, policy) == pytest.approx(cheapest)
        assert report.chosen_cents_per_day * rows.days == pytest.approx(cheapest)
        assert report.do_nothing_cents_per_day * rows.days == pytest.approx(total_cost(rows, Policy(NEVER, NEVER)))

    @given(scored_rows(), st.integers(0, 30))
    def test_reviews_stay_within_the_budget(self, rows: Rows, budget: int) -> None:
        policy, _ = rows.choose(budget=budget)
        alerts = (rows.probability >= policy.review_threshold).sum()
        reviews = alerts - (rows.probability >= policy.block_threshold).sum()
        assert reviews == 0 or alerts <= budget * rows.days

    def test_without_fraud_nothing_is_reviewed_or_blocked(self) -> None:
        rows = Rows(np.linspace(0, 1, 100), np.zeros(100), np.full(100, 10_000), 1)
        policy, report = rows.choose()
        assert policy == Policy(NEVER, NEVER)
        assert report.chosen_cents_per_day == report.do_nothing_cents_per_day == 0

    def test_the_report_follows_the_thresholds_down(self) -> None:
        rows = Rows(np.repeat([0.9, 0.5, 0.1], 4), np.repeat([1.0, 0, 0], 4), np.full(12, 10_000), 2)
        policy, report = rows.choose()
        assert policy.review_threshold == 0.9
        np.testing.assert_allclose(report.thresholds, [0.9, 0.5, 0.1])
        np.testing.assert_allclose(report.alerts_per_day, [2, 4, 6])
        np.testing.assert_allclose(report.precision, [1, 1 / 2, 1 / 3])
        np.testing.assert_allclose(report.cost_cents_per_day, [2 * 2_500, 2 * 2_500 + 1_000, 2 * 2_500 + 2_000])


class TestExpectedCost:
    @given(scored_rows(), st.integers(0, 30), st.sampled_from([0.3, 0.85]))
    def test_alerts_stay_within_the_budget_and_use_it(self, rows: Rows, budget: int, floor: float) -> None:
        policy, report = rows.choose(budget=budget, floor=floor, by="expected_cost")
        decided = rows.decided(policy)
        capacity = budget * rows.days
        assert (decided == "review").sum() == 0 or (decided != "allow").sum() <= capacity
        assert report.chosen_cents_per_day * rows.days == pytest.approx(total_cost(rows, policy))
        assert report.chosen_alerts_per_day * rows.days == pytest.approx((decided != "allow").sum())
        free = rows.decided(Policy(0.0, policy.block_threshold, COSTS))
        if policy.review_price_cents == 0:
            assert decided.tolist() == free.tolist()
        else:  # the next cheaper price lets in too many
            below = Policy(0.0, policy.block_threshold, COSTS, policy.review_price_cents * (1 - 1e-9))
            assert (rows.decided(below) != "allow").sum() > capacity

    @given(scored_rows(least=60))
    def test_as_many_alerts_cannot_be_expected_to_save_more(self, rows: Rows) -> None:
        policy, _ = rows.choose(budget=10, floor=0.999999, by="expected_cost")
        saved = COSTS.savings_cents(rows.probability, rows.amounts_cents)[1]
        reviewed = rows.decided(policy) == "review"
        assert saved[reviewed].sum() == pytest.approx(np.sort(saved)[::-1][: reviewed.sum()].sum())

    def test_a_budget_is_for_the_traffic_of_a_day(self) -> None:
        generator = np.random.default_rng(1)
        probability = generator.beta(0.2, 5, 4_000)
        labels = (generator.random(4_000) < probability).astype(np.float64)
        rows = Rows(probability, labels, generator.integers(1, 50_000, 4_000), days=20)
        alerts = [(rows.decided(rows.choose(budget=n, by="expected_cost")[0]) != "allow").sum() for n in (2, 4)]
        assert alerts == [40, 80]


@pytest.mark.parametrize("by", ["thresholds", "expected_cost"])
class TestBlocks:
    def test_many_right_ones_are_proven(self, by: PolicyKind) -> None:
        rows = Rows(np.repeat([0.01, 0.97], [900, 100]), np.repeat([0.0, 1], [900, 100]), np.full(1_000, 50_000), 10)
        policy, report = rows.choose(by=by)
        assert policy.block_threshold == report.blocks.threshold == 0.97
        assert (rows.decided(policy) == "block").sum() == 100
        assert str(report.blocks).startswith("blocks from probability 0.970: 100 of 100 would-be blocks (100 indep")

    def test_few_lucky_ones_are_not(self, by: PolicyKind) -> None:
        rows = Rows(np.repeat([0.01, 0.97], [980, 20]), np.repeat([0.0, 1], [980, 20]), np.full(1_000, 50_000), 10)
        policy, report = rows.choose(by=by)
        assert policy.block_threshold == NEVER
        assert str(report.blocks).startswith("blocks nothing, because ")

    def test_one_customer_proves_nothing(self, by: PolicyKind) -> None:
        labels = np.repeat([0.0, 1], [900, 100])
        rows = PolicyRows(
            probability=np.repeat([0.01, 0.97], [900, 100]),
            labels=labels,
            amounts_cents=np.full(1_000, 50_000),
            customers=np.where(labels == 1, -1, np.arange(1_000)),
            rows_per_day=100,
        )
        policy, report = choose_policy(rows, costs=COSTS, alert_budget_per_day=1e9, decides_by=by)
        assert policy.block_threshold == NEVER
        assert report.blocks.lower_bound < 0.85


@pytest.mark.parametrize("bad", ["probability", "labels"])
def test_missing_values_are_refused(bad: str) -> None:
    values = {"probability": np.full(3, 0.5), "labels": np.zeros(3), bad: np.array([0.1, np.nan, 0.2])}
    rows = Rows(amounts_cents=np.ones(3, np.int64), days=1, **values)
    with pytest.raises(ValueError, match="each with a score and a known label"):
        rows.choose()


@pytest.mark.parametrize("amounts", [np.zeros(400, np.int64), np.full(400, 100_00)], ids=["none", "100 each"])
def test_frauds_without_an_amount_are_worth_a_review(amounts: NDArray[np.int64]) -> None:
    """A file without amounts has amount 0 everywhere; its frauds must not look free."""
    labels = np.repeat([1.0, 0.0], [40, 360])
    rows = Rows(np.repeat([0.9, 0.02], [40, 360]), labels, amounts, 20)

    policy, report = rows.choose(floor=0.999999)

    assert policy == Policy(review_threshold=0.9, block_threshold=NEVER)
    assert report.do_nothing_cents_per_day == 40 * 100_00 / 20
    by_cost, _ = rows.choose(floor=0.999999, by="expected_cost")
    assert rows.decided(by_cost).tolist() == rows.decided(policy).tolist()
