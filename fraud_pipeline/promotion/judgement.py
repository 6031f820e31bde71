"""One judgement: challenger and champion on the same rows, those scored in shadow or else the test part.

Belongs here: which rows are judged, and the probabilities of both models on them.
Must not be here: the rules of promotion (`gate.py`), versions and aliases (`registry.py`), SQL.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fraud_pipeline.modeling.model_directory import FraudModel, IncompatibleModelError, read_manifest
from fraud_pipeline.modeling.training import days, segments
from fraud_pipeline.policy.block_bound import BlockEvidence
from fraud_pipeline.policy.decisions import CostModel, decide
from fraud_pipeline.promotion.eligibility import Source, Sources
from fraud_pipeline.promotion.gate import gate_verdict
from fraud_pipeline.promotion.live_rows import LiveRows
from fraud_pipeline.promotion.registry import RegisteredModel, Registry, RegistryError
from fraud_pipeline.promotion.verdict import GateRules, GateVerdict

logger = logging.getLogger(__name__)

FeaturesFor = Callable[[FraudModel, pd.DataFrame], pd.DataFrame]
"""Rows of the feature table as a model sees them."""


@dataclass(frozen=True, slots=True, eq=False)
class Contender:
    """A version that is judged; without a `model`, `problem` says why this code cannot rebuild it.

    `plain` is the plain model that was trained beside it; versions of earlier releases have none.
    """

    version: int
    source: Source
    model: FraudModel | None
    problem: str | None
    plain: FraudModel | None = None

    @classmethod
    def load(cls, models: Registry, registered: RegisteredModel) -> Self:
        """Load a version once, as far as it can be read."""
        source, model, problem, plain = Source.of({}), None, None, None
        try:
            directory = models.download(registered)
            source = Source.of(read_manifest(directory)["lineage"])
            model = FraudModel.load(directory, expected_sha256=registered.sha256)
            plain = models.plain_model(registered)
        except (IncompatibleModelError, RegistryError) as error:
            logger.warning("version %d cannot be scored: %s", registered.version, error)
            problem = f"Version {registered.version} cannot be rebuilt: {error}."
        return cls(version=registered.version, source=source, model=model, problem=problem, plain=plain)

    @property
    def block_proof(self) -> BlockEvidence | None:
        """What its training proved about blocks; None for a version of an earlier release."""
        proof = self.model.lineage.get("blocks") if self.model else None
        return None if proof is None else BlockEvidence.from_dict(proof)

    def probabilities(self, rows: pd.DataFrame, features_for: FeaturesFor) -> NDArray[np.float64] | None:
        """Fraud probabilities, shape (n,), or None for a model that cannot be rebuilt."""
        return None if self.model is None else self.model.predict(features_for(self.model, rows))


@dataclass(frozen=True, slots=True, eq=False)
class Judgement:
    """The verdict on a challenger, and the judged rows in words."""

    verdict: GateVerdict
    basis: str
    blocked_and_never_reported: int

    @property
    def reasons(self) -> list[str]:
        """Each check with its finding, and the basis, as the registry records them."""
        return [f"{reason.check}: {reason.detail}" for reason in self.verdict.reasons] + [f"basis: {self.basis}"]


def judge_live(
    challenger: Contender,
    champion: Contender,
    live: LiveRows,
    *,
    costs: CostModel,
    alert_budget_per_day: float,
    accept_other_source: bool,
) -> Judgement:
    """Judge by the rows that both models scored while the champion served."""
    rows, hidden = live.rows, live.hidden["challenger_decision"].to_numpy(object)
    verdict = gate_verdict(
        rows["challenger_probability"].to_numpy(np.float64),
        rows["champion_probability"].to_numpy(np.float64),
        sources=_sources(challenger, champion, accept_other_source=accept_other_source),
        row_weights=rows["weight"].to_numpy(np.float64),
        hidden=hidden,
        decided=rows["challenger_decision"].to_numpy(object),
        block_proof=challenger.block_proof,
        **_about(rows, costs=costs, alert_budget_per_day=alert_budget_per_day),
    )
    return Judgement(verdict, basis=str(live), blocked_and_never_reported=len(hidden))


def judge_by_test_part(
    challenger: Contender,
    champion: Contender | None,
    rows: pd.DataFrame,
    *,
    hidden_rows: pd.DataFrame,
    features_for: FeaturesFor,
    costs: CostModel,
    alert_budget_per_day: float,
    accept_other_source: bool,
) -> Judgement:
    """Judge by the test part of the training set; `hidden_rows` were blocked and never reported."""
    basis = f"{len(rows):,} rows of the test part: too few frauds were scored in shadow and have matured"
    scores, hidden, decided = challenger.probabilities(rows, features_for), None, None
    if challenger.model is not None and scores is not None:
        decided = decide(scores, challenger.model.policy, amounts_cents=rows["amount_cents"].to_numpy(np.int64))
        beside = hidden_rows[hidden_rows["event_time"].between(rows["event_time"].min(), rows["event_time"].max())]
        hidden_scores = challenger.model.predict(features_for(challenger.model, beside))
        amounts = beside["amount"].to_numpy(np.float32)
        hidden = decide(hidden_scores, challenger.model.policy, amounts_cents=amounts)
        basis += f"; {len(hidden):,} more were blocked and never reported" if len(hidden) else ""
        basis += "" if challenger.plain else "; no plain model was trained beside this version"
    verdict = gate_verdict(
        np.zeros(len(rows)) if scores is None else scores,
        champion.probabilities(rows, features_for) if champion else None,
        plain=challenger.plain.predict(rows) if challenger.plain else None,
        incompatibility=challenger.problem,
        champion_incomparable=champion.problem if champion else None,
        sources=_sources(challenger, champion, accept_other_source=accept_other_source) if champion else None,
        hidden=hidden,
        decided=decided,
        block_proof=challenger.block_proof,
        **_about(rows, costs=costs, alert_budget_per_day=alert_budget_per_day),
    )
    return Judgement(verdict, basis=basis, blocked_and_never_reported=0 if hidden is None else len(hidden))


def _about(rows: pd.DataFrame, *, costs: CostModel, alert_budget_per_day: float) -> dict[str, Any]:
    return {
        "labels": rows["label"].to_numpy(np.float64),
        "at_stake": costs.at_stake(rows["amount_cents"].to_numpy(np.int64)),
        "customers": rows["customer_id"].to_numpy(),
        "days": days(rows),
        "alert_budget_per_day": alert_budget_per_day,
        "rules": GateRules(),
        "segments": segments(rows),
    }


def _sources(challenger: Contender, champion: Contender, *, accept_other_source: bool) -> Sources:
    return Sources(champion=champion.source, challenger=challenger.source, other_accepted=accept_other_source)
