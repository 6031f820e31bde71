"""The record of one decision: the answer, and its conversion for the database.

Belongs here: the record, storing it and reading it. Must not be here: making a decision (`decide.py`), the order of
the steps (`scorer.py`), statements (`database/`).
"""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from fraud_pipeline.database import Batch, StoredDecision, Versions
from fraud_pipeline.features.config import FeatureConfig
from fraud_pipeline.modeling.model_directory import FraudModel
from fraud_pipeline.policy.analyst_rules import Action, Effect
from fraud_pipeline.policy.decisions import Decision
from fraud_pipeline.policy.holdout import HOLDOUT
from fraud_pipeline.schema.transactions import TransactionRow
from fraud_pipeline.scoring.reasons import Reason

Mode = Literal["full", "no_history", "rules", "fail_safe"]
DecidedBy = Literal["model", "rules", "fail_safe", "analyst_rule"]


@dataclass(frozen=True, slots=True)
class RuleMatch:
    """A rule of analysts that was true of a transaction, and what that did."""

    name: str
    version: int
    action: Action
    effect: Effect


@dataclass(frozen=True, slots=True)
class ScoringResult:
    """One stored decision; `replayed` when it was stored by an earlier delivery of the same transaction.

    `unused_fields` are the own fields that the deciding model does not declare. `rule` is the rule of analysts that
    decided, and `model_decision` the decision without rules; both are None where no rule decided. Times are
    microseconds since 1970-01-01 UTC.
    """

    transaction_id: str
    decision: Decision
    probability: float | None
    reasons: tuple[Reason, ...]
    decided_by: DecidedBy
    mode: Mode
    missing: tuple[str, ...]
    model_version: str | None
    decided_at: int
    replayed: bool = False
    request_id: str | None = None
    unused_fields: tuple[str, ...] = ()
    rule: str | None = None
    model_decision: Decision | None = None
    rule_matches: tuple[RuleMatch, ...] = ()

    @property
    def decision_without_rules(self) -> Decision:
        """What the model, or the rules that stand in for it, decided."""
        return self.model_decision or self.decision

    @property
    def tags(self) -> tuple[str, ...]:
        """The names of the tag rules that were true."""
        return tuple(match.name for match in self.rule_matches if match.action == "tag" and match.effect == "active")


@dataclass(frozen=True, slots=True)
class Conflict:
    """The id was used before for another transaction; nothing was decided."""

    transaction_id: str


class ScoringModel(Protocol):
    """A verified model with its version and hash."""

    @property
    def model(self) -> FraudModel: ...
    @property
    def version(self) -> str: ...
    @property
    def sha256(self) -> str: ...


def store(
    batch: Batch,
    new: Sequence[TransactionRow],
    scored: Sequence[ScoringResult],
    features: NDArray[np.float32],
    versions: Versions,
    config: FeatureConfig,
    *,
    loaded: ScoringModel | None,
    holdout_share: float,
) -> set[str]:
    """Store decisions on new rows with their features and versions; returns the ids whose decision was stored.

    `config` is the configuration of `features`.
    """
    config_id, days_version = config.id, versions.merchant_days(config.label_maturity).version
    return batch.add_decisions(
        [
            StoredDecision(
                transaction_id=result.transaction_id,
                decided_at=result.decided_at,
                decision=result.decision,
                probability=result.probability,
                decided_by=result.decided_by,
                mode=result.mode,
                missing=" ".join(result.missing),
                reasons=json.dumps([[reason.code, reason.text] for reason in result.reasons])
                if result.reasons
                else "[]",
                model_version=result.model_version,
                model_sha256=loaded.sha256 if loaded else None,
                features=values.tobytes(),
                customer_version=versions.customers[row.customer_id],
                reports_version=versions.reports,
                merchant_days_version=days_version,
                holdout_share=holdout_share if holdout_share and _drawn(result, by_model=loaded is not None) else None,
                feature_config=config_id,
                request_id=result.request_id,
                unused_fields=json.dumps(result.unused_fields) if result.unused_fields else None,
                rule=result.rule,
                model_decision=result.model_decision,
                rule_matches=_matches_json(result.rule_matches) if result.rule_matches else None,
            )
            for row, result, values in zip(new, scored, features, strict=True)
        ]
    )


def from_stored(stored: StoredDecision) -> ScoringResult:
    """The answer to a repeated delivery of a decided transaction."""
    values: dict[str, Any] = {
        name: getattr(stored, name)
        for name in (
            *("transaction_id", "decision", "probability", "decided_by", "mode", "model_version", "decided_at"),
            *("request_id", "rule", "model_decision"),
        )
    }
    return ScoringResult(
        **values,
        reasons=tuple(Reason(code, text) for code, text in json.loads(stored.reasons)),
        missing=tuple(stored.missing.split()),
        unused_fields=tuple(json.loads(stored.unused_fields)) if stored.unused_fields else (),
        rule_matches=tuple(RuleMatch(*match) for match in json.loads(stored.rule_matches or "[]")),
        replayed=True,
    )


def unused_fields(row: TransactionRow, declared: Collection[str]) -> tuple[str, ...]:
    """The own fields of a transaction that are not declared, in alphabetical order."""
    return tuple(name for name in json.loads(row.own_fields or "{}") if name not in declared)


def _drawn(result: ScoringResult, *, by_model: bool) -> bool:
    """Whether a model or a rule of analysts would block, so that the holdout draw was made."""
    by_draw = by_model or result.decided_by == "analyst_rule"
    return by_draw and (result.decision == "block" or (bool(result.reasons) and result.reasons[-1].code == HOLDOUT))


def _matches_json(matches: Sequence[RuleMatch]) -> str:
    return json.dumps([[match.name, match.version, match.action, match.effect] for match in matches])
