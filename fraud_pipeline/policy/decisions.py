"""Decisions from a score: costs, the choice of thresholds, and the rules that decide without a model.

Belongs here: policies, costs of decisions, rules as data. Must not be here: models, metrics, storage of decisions.
"""

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Literal, Self, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Decision = Literal["allow", "review", "block"]
DECISIONS: Final[tuple[Decision, ...]] = get_args(Decision)
Rows = pd.DataFrame | Mapping[str, NDArray[Any]]  # features by name, as a frame or as arrays of equal length
Comparison = Literal[">", ">=", "<", "<=", "=="]
_COMPARE: Final[Mapping[Comparison, Callable[[Any, float], NDArray[np.bool_]]]] = MappingProxyType(
    {">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le, "==": operator.eq}
)


@dataclass(frozen=True, slots=True)
class Policy:
    """Probabilities from which a transaction is reviewed and blocked; infinity means never."""

    review_threshold: float
    block_threshold: float

    def __post_init__(self) -> None:
        if not 0 <= self.review_threshold <= self.block_threshold:
            raise ValueError("review_threshold: must lie between 0 and block_threshold; lower it or raise the other")

    def to_dict(self) -> dict[str, float | None]:
        """Plain values for JSON, which has no infinity: None means never."""
        return {
            "review_threshold": _finite(self.review_threshold),
            "block_threshold": _finite(self.block_threshold),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, float | None]) -> Self:
        """The policy that `to_dict` wrote."""
        return cls(
            review_threshold=_or_never(values["review_threshold"]), block_threshold=_or_never(values["block_threshold"])
        )


@dataclass(frozen=True, slots=True)
class CostModel:
    """The cost of each decision for the bank, in cents, and the share of a fraud's amount that it recovers.

    A fraud whose amount is 0 costs `zero_amount_fraud_cost_cents`: in a file without amounts every one is such a fraud,
    and a card check is followed by others. At no cost nothing would ever be reviewed.
    """

    review_cost_cents: float = 300.0
    false_block_cost_cents: float = 2_500.0
    zero_amount_fraud_cost_cents: float = 10_000.0
    recovered_on_review: float = 0.9
    recovered_on_block: float = 1.0

    def cost(
        self, decision: Decision, *, labels: NDArray[np.float64], amounts_cents: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """The cost of `decision` on every row in cents, shape (n,); labels are 0 or 1."""
        lost = labels * self.at_stake(amounts_cents)
        match decision:
            case "allow":
                return lost
            case "review":
                return self.review_cost_cents + lost * (1 - self.recovered_on_review)
            case "block":
                return lost * (1 - self.recovered_on_block) + (1 - labels) * self.false_block_cost_cents

    def at_stake(self, amounts_cents: NDArray[np.int64]) -> NDArray[np.float64]:
        """What is lost on each row if it is fraud and allowed, in cents, shape (n,); a refund counts as a payment."""
        return np.where(amounts_cents == 0, self.zero_amount_fraud_cost_cents, np.abs(amounts_cents).astype(np.float64))


@dataclass(frozen=True, slots=True, eq=False)
class PolicyReport:
    """The choice of a policy: expected cost, load and precision by threshold, thresholds descending, shape (k,).

    `cost_cents_per_day` is the cost of reviewing from each threshold on, while blocking as the chosen policy does.
    """

    thresholds: NDArray[np.float64]
    cost_cents_per_day: NDArray[np.float64]
    alerts_per_day: NDArray[np.float64]
    precision: NDArray[np.float64]
    do_nothing_cents_per_day: float
    chosen_cents_per_day: float
    alert_budget_per_day: float
    precision_floor: float


def choose_policy(
    probability: NDArray[np.float64],
    labels: NDArray[np.float64],
    amounts_cents: NDArray[np.int64],
    days: NDArray[np.int64],
    *,
    costs: CostModel,
    alert_budget_per_day: float,
    precision_floor: float = 0.85,
    min_alerts: int = 20,
) -> tuple[Policy, PolicyReport]:
    """Choose the thresholds of least expected cost within the alert budget; arrays have shape (n,), `days` numbers the
    days.

    Blocking starts at the lowest threshold whose alerts reach `precision_floor`, counted on at least `min_alerts` of
    them; if there is none, nothing is ever blocked. Reviewing starts where the expected cost is least while reviews and
    blocks together stay within the budget on an average day. If blocks alone exceed it, nothing is reviewed.
    Raises ValueError for missing values and for no rows.
    """
    if len(probability) == 0 or np.isnan(probability).any() or np.isnan(labels).any():
        raise ValueError("probability, labels: give at least one row, each with a score and a known label")
    order = np.argsort(-probability, kind="stable")
    scores, fraud, amounts = probability[order], labels[order], amounts_cents[order]
    last = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)
    thresholds, alerts = scores[last], last + 1
    precision = np.cumsum(fraud)[last] / alerts

    trusted = (precision >= precision_floor) & (alerts >= min_alerts)
    block_threshold = float(thresholds[trusted][-1]) if trusted.any() else np.inf
    blocked = scores >= block_threshold
    allow, review, block = (costs.cost(choice, labels=fraud, amounts_cents=amounts) for choice in DECISIONS)
    number_of_days = len(np.unique(days))
    cost = (allow.sum() + np.cumsum(np.where(blocked, block, review) - allow)[last]) / number_of_days
    alerts_per_day = alerts / number_of_days

    no_review = float((allow.sum() + (block - allow)[blocked].sum()) / number_of_days)
    affordable = (thresholds < block_threshold) & (alerts_per_day <= alert_budget_per_day) & (cost < no_review)
    best = int(np.argmin(np.where(affordable, cost, np.inf)))
    review_threshold = float(thresholds[best]) if affordable.any() else block_threshold
    report = PolicyReport(
        thresholds=thresholds,
        cost_cents_per_day=cost,
        alerts_per_day=alerts_per_day,
        precision=precision,
        do_nothing_cents_per_day=float(allow.sum() / number_of_days),
        chosen_cents_per_day=float(cost[best]) if affordable.any() else no_review,
        alert_budget_per_day=alert_budget_per_day,
        precision_floor=precision_floor,
    )
    return Policy(review_threshold=review_threshold, block_threshold=block_threshold), report


def decide(probability: NDArray[np.float64], policy: Policy) -> NDArray[np.object_]:
    """One decision per probability, shape (n,). Raises ValueError for NaN, which would otherwise pass as allow."""
    if np.isnan(probability).any():
        raise ValueError("probability: NaN cannot be decided on; score again or decide by rules")
    level = (probability >= policy.review_threshold).astype(np.intp) + (probability >= policy.block_threshold)
    return np.array(DECISIONS, dtype=object)[level]


@dataclass(frozen=True, slots=True)
class Condition:
    """A comparison of one feature with a constant; a missing feature never satisfies it."""

    feature: str
    comparison: Comparison
    value: float


@dataclass(frozen=True, slots=True)
class Rule:
    """A named reason to distrust a transaction; it fires when all its conditions hold."""

    name: str
    description: str
    decision: Decision
    conditions: tuple[Condition, ...]


_KNOWN_CUSTOMER: Final = Condition("customer_transaction_count_30d", ">=", 5)
_NEW_MERCHANT: Final = Condition("customer_same_merchant_count_30d", "==", 0)

RULES: Final[tuple[Rule, ...]] = (
    Rule(
        "amount_far_above_habit",
        "More than 8 times the customer's usual amount and 1.5 times the largest, at a merchant new to the customer",
        "review",
        (
            _KNOWN_CUSTOMER,
            _NEW_MERCHANT,
            Condition("customer_amount_over_median_30d", ">", 8),
            Condition("customer_amount_over_max_30d", ">", 1.5),
        ),
    ),
    Rule(
        "many_transactions",
        "At least 5 other transactions of the customer within the last hour",
        "review",
        (Condition("customer_transaction_count_1h", ">=", 5),),
    ),
    Rule(
        "impossible_speed",
        "Farther from the last transaction than a plane could have flown since",
        "review",
        (Condition("customer_speed_from_last_30d", ">", 1_000), Condition("customer_distance_from_last_30d", ">", 200)),
    ),
    Rule(
        "large_amount_in_new_country",
        "More than 4 times the customer's usual amount, in a country new to the customer",
        "review",
        (
            _KNOWN_CUSTOMER,
            Condition("customer_same_country_count_30d", "==", 0),
            Condition("customer_amount_over_median_30d", ">", 4),
        ),
    ),
    Rule(
        "reported_merchant",
        "At least 3 frauds reported at the merchant within 7 days, and on 5 % or more of its transactions",
        "review",
        (Condition("merchant_report_count_7d", ">=", 3), Condition("merchant_report_rate_30d", ">=", 0.05)),
    ),
    Rule(
        "reported_customer_at_new_merchant",
        "The customer reported a fraud within 2 days and the merchant is new to the customer",
        "review",
        (_NEW_MERCHANT, Condition("customer_seconds_since_last_report_60d", "<", 2 * 86_400)),
    ),
    Rule(
        "small_tests_then_large",
        "At least 3 transactions within an hour, one of them tiny, then more than twice the largest in 30 days",
        "block",
        (
            _KNOWN_CUSTOMER,
            _NEW_MERCHANT,
            Condition("customer_transaction_count_1h", ">=", 3),
            Condition("customer_amount_min_24h", "<", 3_00),
            Condition("customer_amount_over_max_30d", ">", 2),
        ),
    ),
)


FAIL_SAFE_AMOUNT_CENTS: Final = 500_00
FAIL_SAFE_RULES: Final[tuple[Rule, ...]] = (
    Rule(
        "large_amount",
        f"More than {FAIL_SAFE_AMOUNT_CENTS // 100} while neither history nor model is available",
        "review",
        (Condition("amount", ">", FAIL_SAFE_AMOUNT_CENTS),),
    ),
)


def rules_decide(features: Rows, *, rules: tuple[Rule, ...] = RULES) -> tuple[NDArray[np.object_], NDArray[np.object_]]:
    """The strictest decision of the rules that fire, allow if none does, and their names; each of shape (n,).

    Raises KeyError when a feature that a rule needs is not a column.
    """
    fired = _fired(features, rules=rules)
    strictness = np.array([DECISIONS.index(rule.decision) for rule in rules], dtype=np.intp)
    level = (fired * strictness).max(axis=1, initial=0)
    return np.array(DECISIONS, dtype=object)[level], _names_by_pattern(fired, rules=rules)


def _fired(features: Rows, *, rules: tuple[Rule, ...]) -> NDArray[np.bool_]:
    """Whether each rule fires on each row, shape (rows, rules)."""
    n_rows = len(features) if isinstance(features, pd.DataFrame) else len(next(iter(features.values())))
    fired = np.ones((n_rows, len(rules)), dtype=bool)
    for position, rule in enumerate(rules):
        for condition in rule.conditions:
            column = np.asarray(features[condition.feature])
            fired[:, position] &= _COMPARE[condition.comparison](column, condition.value)
    return fired


def _names_by_pattern(fired: NDArray[np.bool_], *, rules: tuple[Rule, ...]) -> NDArray[np.object_]:
    # Rows share few patterns of fired rules, so names are joined once per pattern instead of once per row.
    patterns, position = np.unique(fired, axis=0, return_inverse=True)
    names = np.empty(len(patterns), dtype=object)
    for index, pattern in enumerate(patterns):
        names[index] = tuple(rule.name for rule, fires in zip(rules, pattern, strict=True) if fires)
    return names[position]


def _finite(threshold: float) -> float | None:
    return float(threshold) if np.isfinite(threshold) else None


def _or_never(threshold: float | None) -> float:
    return float("inf") if threshold is None else threshold
