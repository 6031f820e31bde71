"""The reasons of a decision, from the model's contributions and the rules that fired.

Belongs here: the choice of features and their order. Must not be here: contributions (`modeling/model_directory.py`),
decisions (`policy/decisions.py`), texts (`reason_texts.py`).
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fraud_pipeline.features.definitions import FEATURES
from fraud_pipeline.features.own_inputs import NO_OWN_INPUTS, OwnInputs
from fraud_pipeline.policy.decisions import FAIL_SAFE_RULES, RULES
from fraud_pipeline.schema.local_time import OFFSET_FIELD
from fraud_pipeline.scoring.reason_texts import own_sentence, sentence, topic

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
    own_inputs: OwnInputs = NO_OWN_INPUTS,
    without_history: bool = False,
) -> tuple[Reason, ...]:
    """The rules that fired, then the features that raised the score most; arrays have shape (features,).

    At most `top` features, the strongest of each topic: ten features compare amounts, and one of them is enough.
    Features that lowered the score are no reasons. Each own input is a topic. `without_history` permits only own inputs
    and the transaction's own features, because a count of 0 would then be wrong.
    """
    reasons = [Reason(f"rule.{name}", _RULE_TEXTS[name]) for name in rules_fired]
    own = {own_input.name: own_input for own_input in own_inputs.inputs}
    texts: dict[str, str] = {}
    for position in np.argsort(-contributions, kind="stable"):
        name = features[position]
        if len(texts) == top or not contributions[position] > 0:
            break
        value = float(values[position])
        if name in own:
            about, text = name, own_sentence(own[name], value)
        else:
            about, text = topic(name), sentence(name, value, local_time=OFFSET_FIELD in own_inputs.fields)
        known = not without_history or name in own or _ENTITY[name] == "transaction"
        if known and about not in texts and text not in texts.values():
            texts[about] = text
            reasons.append(Reason(f"feature.{name}", text))
    return tuple(reasons)
