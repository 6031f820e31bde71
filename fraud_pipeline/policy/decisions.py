"""Decisions from a score and an amount, by a policy and costs, and the rules that decide without a model.

Belongs here: policies, costs of decisions, rules as data. Must not be here: the choice of a policy (`choice.py`),
models, metrics, storage of decisions.
"""

import operator
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any, Final, Literal, Self, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Decision = Literal["allow", "review", "block"]
DECISIONS: Final[tuple[Decision, ...]] = get_args(Decision)
PolicyKind = Literal["expected_cost", "thresholds"]
Amounts = NDArray[np.int64] | NDArray[np.float32]  # whole cents, or those of feature rows; NaN where missing
Rows = pd.DataFrame | Mapping[str, NDArray[Any]]  # features by name, as a frame or as arrays of equal length
Comparison = Literal[">", ">=", "<", "<=", "=="]
_COMPARE: Final[Mapping[Comparison, Callable[[Any, float], NDArray[np.bool_]]]] = MappingProxyType(
    {">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le, "==": operator.eq}
)


@dataclass(frozen=True, slots=True)
class CostModel:
    """The cost of each decision for the bank, in cents, and the share of a fraud's amount that it recovers.

    A fraud whose amount is 0 costs `zero_amount_fraud_cost_cents`: in a file without amounts every one is such a fraud,
    and a card check is followed by others. At no cost nothing would ever be reviewed. `review_friction_cents` is what a
    good customer's wait for a review costs.
    """

    review_cost_cents: float = 300.0
    false_block_cost_cents: float = 2_500.0
    zero_amount_fraud_cost_cents: float = 10_000.0
    recovered_on_review: float = 0.9
    recovered_on_block: float = 1.0
    review_friction_cents: float = 0.0

    def cost(self, decision: Decision, *, labels: NDArray[np.float64], amounts_cents: Amounts) -> NDArray[np.float64]:
        """The cost of `decision` on every row in cents, shape (n,).

        Labels are 0 or 1; with probabilities in their place the cost is the expected one.
        """
        lost = labels * self.at_stake(amounts_cents)
        match decision:
            case "allow":
                return lost
            case "review":
                waiting = (1 - labels) * self.review_friction_cents
                return self.review_cost_cents + waiting + lost * (1 - self.recovered_on_review)
            case "block":
                return lost * (1 - self.recovered_on_block) + (1 - labels) * self.false_block_cost_cents

    def savings_cents(self, probability: NDArray[np.float64], amounts_cents: Amounts) -> NDArray[np.float64]:
        """What allow, review and block are expected to save over allow on each row, shape (3, n)."""
        allow, review, block = (
            self.cost(choice, labels=probability, amounts_cents=amounts_cents) for choice in DECISIONS
        )
        return np.stack([np.zeros_like(allow), allow - review, allow - block])

    def at_stake(self, amounts_cents: Amounts) -> NDArray[np.float64]:
        """What is lost on each row if it is fraud and allowed, in cents, shape (n,); a refund counts as a payment.

        Tables hold whole cents and feature rows float32. Both are rounded to float32 here, so that they decide equally.
        """
        amounts = np.abs(np.asarray(amounts_cents, np.float32)).astype(np.float64)
        return np.where(amounts > 0, amounts, self.zero_amount_fraud_cost_cents)  # a missing amount is not above 0


@dataclass(frozen=True, slots=True)
class Policy:
    """Which probabilities permit a review and a block, infinity means never, and which permitted action is taken.

    Without `costs` it is the strictest, with `costs` that of least expected cost: probability times the amount at
    stake, against the costs of review and false block. `review_price_cents` is added to the cost of each review, so
    that no more reviews pay than people can look at: the shadow price of their time.
    """

    review_threshold: float
    block_threshold: float
    costs: CostModel | None = None
    review_price_cents: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.review_threshold <= self.block_threshold:
            raise ValueError("review_threshold: must lie between 0 and block_threshold; lower it or raise the other")
        if not 0 <= self.review_price_cents < np.inf:
            raise ValueError("review_price_cents: must be 0 or more and finite; retrain to choose it anew")

    @property
    def decides_by(self) -> PolicyKind:
        """The kind of the policy."""
        return "thresholds" if self.costs is None else "expected_cost"

    @property
    def review_loss_cents(self) -> float:
        """The expected loss from which a review pays, for a row that is probably legitimate; infinity without costs."""
        if self.costs is None or self.costs.recovered_on_review == 0:
            return np.inf
        price = self.costs.review_cost_cents + self.costs.review_friction_cents + self.review_price_cents
        return price / self.costs.recovered_on_review

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, which has no infinity: None means never."""
        thresholds = {
            "review_threshold": _finite(self.review_threshold),
            "block_threshold": _finite(self.block_threshold),
        }
        if self.costs is None:
            return thresholds
        return {**thresholds, "costs": asdict(self.costs), "review_price_cents": self.review_price_cents}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The policy that `to_dict` wrote; without costs it is one of thresholds, as in earlier releases."""
        return cls(
            review_threshold=_or_never(values["review_threshold"]),
            block_threshold=_or_never(values["block_threshold"]),
            costs=CostModel(**values["costs"]) if "costs" in values else None,
            review_price_cents=values.get("review_price_cents", 0.0),
        )

    def __str__(self) -> str:
        block = f"block from probability {self.block_threshold:.3f}" if np.isfinite(self.block_threshold) else ""
        if self.costs is None:
            seldom = np.isinf(self.review_threshold)
            review = "review never" if seldom else f"review from probability {self.review_threshold:.4f}"
            return f"{review}; {block or 'block never'}"
        review = f"review from an expected loss (probability x amount) of {self.review_loss_cents / 100:.2f}"
        return f"{review}; {block}, where that costs less" if block else f"{review}; block never"


def decide(probability: NDArray[np.float64], policy: Policy, *, amounts_cents: Amounts) -> NDArray[np.object_]:
    """One decision per probability and amount, shape (n,): the only place where a score becomes a decision.

    Of two actions with the same expected cost the milder one is taken. Raises ValueError for a probability of NaN,
    which would otherwise pass as allow.
    """
    if np.isnan(probability).any():
        raise ValueError("probability: NaN cannot be decided on; score again or decide by rules")
    level = (probability >= policy.review_threshold).astype(np.intp) + (probability >= policy.block_threshold)
    if policy.costs is not None:
        saved = policy.costs.savings_cents(probability, amounts_cents)
        saved[1] -= policy.review_price_cents
        saved[np.arange(len(DECISIONS))[:, None] > level] = -np.inf
        level = saved.argmax(axis=0)
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
