"""Decisions with reasons from feature rows: by the model, by rules, or from the transaction alone.

Belongs here: the combination of model, policy, rules and explanations. Must not be here: their implementation, history,
storage.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fraud_pipeline.features.config import DEFAULT_FEATURE_CONFIG
from fraud_pipeline.features.engineer import FEATURE_NAMES, HistoryTables
from fraud_pipeline.modeling.model_directory import FraudModel
from fraud_pipeline.policy.decisions import FAIL_SAFE_RULES, Decision, Rule, decide, rules_decide
from fraud_pipeline.schema.transactions import TRANSACTION_COLUMNS, TransactionRow
from fraud_pipeline.scoring.history_cache import NO_MERCHANT_DAYS, NO_REPORTS, NO_TRANSACTIONS, rows_to_table
from fraud_pipeline.scoring.reasons import Reason, explain

_AMOUNT: Final = FEATURE_NAMES.index("amount")


@dataclass(frozen=True, slots=True)
class Features:
    """Rows (n, features and own inputs) in the order of the configuration, and what was missing for all of them."""

    values: NDArray[np.float32]
    missing: tuple[str, ...]


def no_history(rows: int) -> HistoryTables:
    """Empty history for a number of new rows."""
    return HistoryTables(
        transactions=NO_TRANSACTIONS,
        reports=NO_REPORTS,
        merchant_days=NO_MERCHANT_DAYS,
        known=np.zeros(rows, np.bool_),
    )


def decide_with_model(
    values: NDArray[np.float32], model: FraudModel, *, without_history: bool = False
) -> tuple[NDArray[np.object_], list[float], list[tuple[Reason, ...]]]:
    """Decide rows (n, features and own inputs) by the model's policy; returns decisions, probabilities and reasons.

    Only reviews and blocks get reasons, because contributions cost many times a prediction.
    """
    names = model.feature_config.feature_names
    rows = values if model.features == names else values[:, [names.index(name) for name in model.features]]
    probabilities = model.probabilities(rows)
    decisions = decide(probabilities, model.policy, amounts_cents=values[:, _AMOUNT])
    reasons: list[tuple[Reason, ...]] = [()] * len(decisions)
    doubted = np.flatnonzero(decisions != "allow")
    if len(doubted):
        contributions = model.contributions_of(rows[doubted])
        _, fired = rules_decide(_named(values[doubted]))
        for position, contribution, names in zip(doubted, contributions, fired, strict=True):
            reasons[position] = explain(
                contributions=contribution[:-1],
                values=rows[position],
                features=model.features,
                rules_fired=names,
                own_inputs=model.feature_config.own_inputs,
                without_history=without_history,
            )
    return decisions, probabilities.tolist(), reasons


def decide_with_rules(
    values: NDArray[np.float32], *, rules: tuple[Rule, ...]
) -> tuple[NDArray[np.object_], list[tuple[Reason, ...]]]:
    """Decide rows (n, features and own inputs) by rules; returns decisions and the rules that fired."""
    decisions, fired = rules_decide(_named(values), rules=rules)
    descriptions = {rule.name: rule.description for rule in rules}
    return decisions, [tuple(Reason(f"rule.{name}", descriptions[name]) for name in names) for names in fired]


def provisional_decisions(rows: Sequence[TransactionRow]) -> list[tuple[Decision, tuple[Reason, ...]]]:
    """One decision for each transaction that cannot be stored now, from its own fields alone."""
    table = rows_to_table(rows, TRANSACTION_COLUMNS)
    values = DEFAULT_FEATURE_CONFIG.engineer().values(history=no_history(len(rows)), new=table)
    decisions, reasons = decide_with_rules(values, rules=FAIL_SAFE_RULES)
    return list(zip(decisions, reasons, strict=True))


def _named(values: NDArray[np.float32]) -> Mapping[str, NDArray[np.float32]]:
    """The features by name; rules see no own inputs, which follow them."""
    return dict(zip(FEATURE_NAMES, values.T, strict=False))
