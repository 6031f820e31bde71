"""The choice of a policy from scored rows with labels: what may be blocked, and what a review must save.

Belongs here: the choice and its report. Must not be here: what a policy does (`decisions.py`), the proof of blocks
(`block_bound.py`), charts.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fraud_pipeline.policy.block_bound import BlockEvidence, prove_blocks, rows_needed
from fraud_pipeline.policy.decisions import DECISIONS, CostModel, Policy, PolicyKind, decide

Floats = NDArray[np.float64]
_CANDIDATES: Final = 20
_STEP: Final = 1.3
"""Each candidate blocks this many times the rows of the one before: 20 of them reach from 37 rows to 5,000."""


@dataclass(frozen=True, slots=True, eq=False)
class PolicyReport:
    """The choice of a policy: cost, load and precision of reviewing from each threshold on, while blocking as chosen.

    Thresholds descend, shape (k,): probabilities, or for a policy by expected cost the expected loss in cents.
    """

    decides_by: PolicyKind
    thresholds: Floats
    cost_cents_per_day: Floats
    alerts_per_day: Floats
    precision: Floats
    do_nothing_cents_per_day: float
    chosen_cents_per_day: float
    chosen_alerts_per_day: float
    alert_budget_per_day: float
    blocks: BlockEvidence


@dataclass(frozen=True, slots=True, eq=False)
class PolicyRows:
    """Rows on which a policy is chosen; each array has shape (n,), scores are calibrated and labels are known.

    `rows_per_day` is the traffic that the alert budget is meant for.
    """

    probability: Floats
    labels: Floats
    amounts_cents: NDArray[np.int64]
    customers: NDArray[Any]
    rows_per_day: float

    def __post_init__(self) -> None:
        if len(self.probability) == 0 or np.isnan(self.probability).any() or np.isnan(self.labels).any():
            raise ValueError("probability, labels: give at least one row, each with a score and a known label")

    @property
    def days(self) -> float:
        """How many days of traffic the rows are."""
        return len(self.probability) / self.rows_per_day


def choose_policy(
    rows: PolicyRows,
    *,
    costs: CostModel,
    alert_budget_per_day: float,
    precision_floor: float = 0.85,
    decides_by: PolicyKind = "expected_cost",
) -> tuple[Policy, PolicyReport]:
    """Choose the policy of least expected cost whose reviews and blocks stay within the alert budget.

    Blocks are permitted from the lowest threshold that is proven to be right in `precision_floor` of all cases; if none
    is, nothing is blocked. If blocks alone exceed the budget, nothing is reviewed. By expected cost a review has the
    least price at which the alerts fit in the budget; thresholds review from the probability of least observed cost.
    """
    capacity = int(alert_budget_per_day * rows.days + 1e-9)
    candidates = []
    for threshold in _block_thresholds(rows, costs=costs, decides_by=decides_by, floor=precision_floor):
        policy = _candidate(rows, threshold, costs=costs, capacity=capacity, decides_by=decides_by)
        candidates.append((threshold, _decided(rows, policy) == "block"))
    evidence = prove_blocks(candidates, rows.labels, rows.customers, floor=precision_floor)
    block_threshold = np.inf if evidence.threshold is None else evidence.threshold
    policy = _candidate(rows, block_threshold, costs=costs, capacity=capacity, decides_by=decides_by)
    return _with_report(rows, policy, evidence, costs=costs, alert_budget_per_day=alert_budget_per_day)


def _block_thresholds(rows: PolicyRows, *, costs: CostModel, decides_by: PolicyKind, floor: float) -> list[float]:
    """Thresholds that block ever more of the rows worth a block; labels have no part in them."""
    worth = rows.probability
    if decides_by == "expected_cost":
        worth = worth[costs.savings_cents(rows.probability, rows.amounts_cents)[2] > 0]
    descending = np.sort(worth)[::-1]
    smallest = rows_needed(floor, looked_at=_CANDIDATES)
    sizes = (smallest * _STEP ** np.arange(_CANDIDATES)).astype(np.intp)
    return sorted({float(descending[size - 1]) for size in sizes if size <= len(descending)}, reverse=True)


def _candidate(
    rows: PolicyRows, block_threshold: float, *, costs: CostModel, capacity: int, decides_by: PolicyKind
) -> Policy:
    """The policy that blocks from this threshold on; one of thresholds does not review yet."""
    if decides_by == "thresholds":
        return Policy(block_threshold, block_threshold)
    _, by_review, by_block = costs.savings_cents(rows.probability, rows.amounts_cents)
    blockable = (rows.probability >= block_threshold) & (by_block > 0)  # an alert at any price of a review
    left = capacity - int(blockable.sum())
    waiting = np.sort(by_review[~blockable] if left >= 0 else by_review)[::-1]
    # A review must save more than its price, so the first row that does not fit is the one that sets it.
    price = 0.0 if left >= len(waiting) else max(0.0, float(waiting[max(left, 0)]))
    return Policy(0.0, block_threshold, costs, review_price_cents=price)


def _with_report(
    rows: PolicyRows, policy: Policy, evidence: BlockEvidence, *, costs: CostModel, alert_budget_per_day: float
) -> tuple[Policy, PolicyReport]:
    """The cost of each review threshold; the choice of one for a policy of thresholds."""
    amounts, blocked = rows.amounts_cents, _decided(rows, policy) == "block"
    ranking = rows.probability * (costs.at_stake(amounts) if policy.costs else 1.0)
    order = np.argsort(-ranking, kind="stable")
    scores, fraud = ranking[order], rows.labels[order]
    blocked, at_stake = blocked[order], amounts[order]
    last = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)
    thresholds, alerted = scores[last], blocked.sum() + np.cumsum(~blocked)[last]
    right = (fraud * blocked).sum() + np.cumsum(fraud * ~blocked)[last]
    allow, review, block = (costs.cost(choice, labels=fraud, amounts_cents=at_stake) for choice in DECISIONS)
    no_review = float(np.where(blocked, block, allow).sum() / rows.days)
    cost = no_review + np.cumsum(np.where(blocked, 0.0, review - allow))[last] / rows.days
    alerts_per_day = alerted / rows.days

    chosen_cost = no_review
    if policy.costs is None:
        affordable = (
            (thresholds < policy.block_threshold) & (alerts_per_day <= alert_budget_per_day) & (cost < no_review)
        )
        if affordable.any():
            best = int(np.argmin(np.where(affordable, cost, np.inf)))
            policy, chosen_cost = Policy(float(thresholds[best]), policy.block_threshold), float(cost[best])
    else:
        decided = _decided(rows, policy)[order]
        chosen_cost = float(np.select([decided == "review", decided == "block"], [review, block], allow).sum())
        chosen_cost /= rows.days
    report = PolicyReport(
        decides_by=policy.decides_by,
        thresholds=thresholds,
        cost_cents_per_day=cost,
        alerts_per_day=alerts_per_day,
        precision=np.divide(right, alerted),
        do_nothing_cents_per_day=float(allow.sum() / rows.days),
        chosen_cents_per_day=chosen_cost,
        chosen_alerts_per_day=float((_decided(rows, policy) != "allow").sum() / rows.days),
        alert_budget_per_day=alert_budget_per_day,
        blocks=evidence,
    )
    return policy, report


def _decided(rows: PolicyRows, policy: Policy) -> NDArray[np.object_]:
    return decide(rows.probability, policy, amounts_cents=rows.amounts_cents)
