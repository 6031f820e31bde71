"""What analysts' rules say about the transactions of a micro-batch.

Belongs here: rules applied to rows, and what happens when that fails. Must not be here: the order of rules
(`policy/analyst_rules.py`), the record of a decision (`decision_record.py`).
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fraud_pipeline.policy.analyst_rules import RULE_REASON, RuleSet, Verdict
from fraud_pipeline.policy.decisions import Decision
from fraud_pipeline.schema.transactions import TransactionRow
from fraud_pipeline.scoring.decide import Features
from fraud_pipeline.scoring.decision_record import RuleMatch, ScoringResult
from fraud_pipeline.scoring.reasons import Reason
from fraud_pipeline.scoring.rule_columns import column_reader

log: Final = logging.getLogger(__name__)
MISSING_RULES: Final = "rules"
"""What a decision had to do without when a rule could not be evaluated."""


@dataclass(frozen=True, slots=True)
class RuleVerdicts:
    """The verdict by row, for rows that any rule matches; `complete` is false when a rule could not be evaluated."""

    by_row: Mapping[int, Verdict] = field(default_factory=dict)
    complete: bool = True

    def decide(self, row: int) -> bool:
        """Whether a rule decides on this row."""
        return row in self.by_row and self.by_row[row].decider is not None

    def overrule(self, decisions: NDArray[np.object_]) -> NDArray[np.object_]:
        """The decisions after the rules; the argument is not changed."""
        if not self.by_row:
            return decisions
        overruled = decisions.copy()
        for row, verdict in self.by_row.items():
            overruled[row] = verdict.decision
        return overruled


def apply_rules(
    rules: RuleSet | None,
    rows: Sequence[TransactionRow],
    features: Features,
    *,
    decisions: NDArray[np.object_],
    probabilities: Sequence[float | None],
) -> RuleVerdicts:
    """The verdicts of the rules in force on rows with these features and these decisions of the model alone.

    A rule that raises leaves the decisions as they are: a fault of a rule never stops the service.
    """
    if rules is None or not rules.rules:
        return RuleVerdicts(complete=rules is None or not rules.broken)
    try:
        read = column_reader(
            lambda name: [getattr(row, name) for row in rows],
            features=features.values,
            probability=probabilities,
            without_history="history" in features.missing,
        )
        by_row = rules.verdicts(
            read,
            customers=[row.customer_id for row in rows],
            at=np.array([row.event_time for row in rows], np.int64),
            decisions=decisions.tolist(),
        )
    except Exception as error:  # noqa: BLE001 - whatever a rule raises, the model can answer
        log.error("analysts' rules could not be evaluated (%s): the model decides alone", type(error).__name__)  # noqa: TRY400 - values could be in the trace
        return RuleVerdicts(complete=False)
    return RuleVerdicts(by_row, complete=not rules.broken)


def with_verdict(result: ScoringResult, verdict: Verdict, *, without_rules: Decision) -> ScoringResult:
    """The result with the rules that were true, and with the one that decided."""
    matches = tuple(
        RuleMatch(match.rule.name, match.rule.version, match.rule.action, match.effect) for match in verdict.matches
    )
    rule = verdict.decider
    if rule is None:
        return replace(result, rule_matches=matches)
    return replace(
        result,
        decided_by="analyst_rule",
        reasons=(Reason(f"{RULE_REASON}.{rule.name}", rule.text), *result.reasons),
        rule=rule.label,
        model_decision=without_rules,
        rule_matches=matches,
    )
