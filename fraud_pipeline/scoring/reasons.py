"""Why a transaction was doubted: from the model's contributions and the rules that fired to reasons.

Belongs here: which features are reasons, and in which order. Must not be here: how contributions are computed
(`modeling/model_directory.py`), what is decided (`policy/decisions.py`), how a feature is said (`reason_texts.py`).
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fraud_pipeline.features.definitions import FEATURES
from fraud_pipeline.policy.decisions import FAIL_SAFE_RULES, RULES
from fraud_pipeline.scoring.reason_texts import sentence, topic

_RULE_TEXTS: Final = {rule.name: rule.description for rule in (*RULES, *FAIL_SAFE_RULES)}
_ENTITY: Final = {definition.name: definition.entity for definition in FEATURES}


@dataclass(frozen=True, slots=True)
class Reason:
    """One reason: a code for programs (`rule.<name>` or `feature.<name>`) and a text for people."""

    code: str
    text: str


def explain(
    *,
    contributions: NDArray[np.float32],
    values: NDArray[np.float32],
    features: tuple[str, ...],
    rules_fired: tuple[str, ...],
    top: int = 3,
    without_history: bool = False,
) -> tuple[Reason, ...]:
    """The rules that fired, then what raised the score most, strongest first; all arrays of shape (features,).

    At most `top` features, each about another topic: that an amount is high is said once, by its strongest feature,
    not by each of the ten that compare amounts. What lowered the score is no reason. `without_history` only the
    transaction's own features are: a count of 0 would say that nothing happened where nothing is known.
    """
    reasons = [Reason(f"rule.{name}", _RULE_TEXTS[name]) for name in rules_fired]
    texts: dict[str, str] = {}
    for position in np.argsort(-contributions, kind="stable"):
        name = features[position]
        if len(texts) == top or not contributions[position] > 0:
            break
        about, text = topic(name), sentence(name, float(values[position]))
        known = not without_history or _ENTITY[name] == "transaction"
        if known and about not in texts and text not in texts.values():
            texts[about] = text
            reasons.append(Reason(f"feature.{name}", text))
    return tuple(reasons)
