"""The answers of the service as JSON, and the models that describe them to callers.

Belongs here: shapes of answers. Must not be here: what is decided, HTTP routing.
Answers are plain dictionaries for speed; the models are what /openapi.json promises, and a test holds them together.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import to_json
from starlette.responses import Response

from fraud_pipeline.policy.decisions import Decision, Policy, PolicyKind
from fraud_pipeline.scoring.decision_record import Conflict, DecidedBy, Mode, ScoringResult
from fraud_pipeline.scoring.reasons import Reason
from serving.errors import FieldProblem

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid", protected_namespaces=())


class ReasonOut(_Answer):
    """Why a transaction is distrusted: a stable code, and a sentence for a person."""

    code: str
    text: str


class DecisionOut(_Answer):
    """One stored decision and everything it rests on."""

    transaction_id: str
    decision: Decision
    probability: float | None = Field(ge=0, le=1, description="calibrated; null when no model decided")
    reasons: list[ReasonOut]
    model_version: str | None
    decided_by: DecidedBy
    mode: Mode = Field(description="what was at hand: full, no_history, rules (no model), fail_safe (neither)")
    missing: list[str] = Field(description="what the decision had to do without")
    decided_at: datetime
    replayed: bool = Field(description="true: this transaction was decided on before, and this is that decision")
    latency_ms: float
    request_id: str | None = Field(description="X-Request-Id of the request that was decided on; null when unknown")
    unused_fields: list[str] = Field(
        description="own fields that the model does not declare: stored, and not used for this decision"
    )
    rule: str | None = Field(description="the analysts' rule that decided, as name@version; null when none did")
    model_decision: Decision | None = Field(
        description="what the model, or the rules that stand in for it, would have decided; null when no rule decided"
    )
    tags: list[str] = Field(description="analysts' tag rules that were true")


class FieldOut(_Answer):
    """One field to mend."""

    path: str
    problem: str
    remedy: str


class ErrorDetail(_Answer):
    """Why a request was not answered."""

    code: str
    message: str
    fields: list[FieldOut]


class ProvisionalOut(_Answer):
    """What to do until the decision can be stored; it is not, so ask again."""

    decision: Decision
    decided_by: Literal["fail_safe"]
    reasons: list[ReasonOut]


class ErrorOut(_Answer):
    """Any answer that is no success."""

    error: ErrorDetail
    provisional: ProvisionalOut | None = None
    provisional_decisions: list[ProvisionalOut] | None = Field(
        default=None, description="of a batch: one for each transaction, in the order they were sent"
    )


class UndecidedOut(_Answer):
    """A transaction of a batch whose id was used before for another transaction."""

    transaction_id: str
    error: ErrorDetail


class BatchOut(_Answer):
    """One entry per transaction, in the order they were sent."""

    decisions: list[DecisionOut | UndecidedOut]


class FeedbackOut(_Answer):
    """The report as it is remembered; said again, it keeps its first time."""

    transaction_id: str
    reported_at: datetime


class ShadowOut(_Answer):
    """How often the challenger would have decided otherwise, since either model changed."""

    challenger: str
    compared: int
    disagreements: int
    mean_probability_difference: float
    decisions: dict[str, int] = Field(description="champion's -> challenger's decision, and how often")
    dropped: int = Field(description="decisions that were too many at once to compare")
    refused: str | None = Field(description="why the challenger is not compared at all, if so")


class ModelOut(_Answer):
    """The model that decides now."""

    version: str
    sha256: str
    loaded_at: datetime
    features: list[str]
    label_maturity_days: float = Field(description="of its features: after so long an unreported transaction is clear")
    decides_by: PolicyKind = Field(description="expected_cost: probability and amount; thresholds: probability alone")
    review_threshold: float | None = Field(description="probability from which a review is permitted; null: never")
    block_threshold: float | None = Field(description="probability from which a block is permitted; null: never")
    review_price_cents: float | None = Field(
        description="what a review must save beyond its cost, so that people can keep up; null without expected cost"
    )
    shadow: ShadowOut | None


def answer(body: Mapping[str, Any], *, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A JSON response."""
    return Response(to_json(body), status_code=status, headers=headers, media_type="application/json")


def error_body(*, code: str, message: str, fields: Sequence[FieldProblem] = ()) -> dict[str, Any]:
    """What an ErrorOut describes."""
    shown = [{"path": field.path, "problem": field.problem, "remedy": field.remedy} for field in fields]
    return {"error": {"code": code, "message": message, "fields": shown}}


def policy_body(policy: Policy) -> dict[str, Any]:
    """What a ModelOut describes of a policy."""
    return {
        "decides_by": policy.decides_by,
        **{name: policy.to_dict()[name] for name in ("review_threshold", "block_threshold")},
        "review_price_cents": policy.review_price_cents if policy.costs else None,
    }


def decision_body(scored: ScoringResult, *, latency_ms: float) -> dict[str, Any]:
    """What a DecisionOut describes."""
    return {
        "transaction_id": scored.transaction_id,
        "decision": scored.decision,
        "probability": scored.probability,
        "reasons": reasons_body(scored.reasons),
        "model_version": scored.model_version,
        "decided_by": scored.decided_by,
        "mode": scored.mode,
        "missing": scored.missing,
        "decided_at": time_of(scored.decided_at),
        "replayed": scored.replayed,
        "latency_ms": latency_ms,
        "request_id": scored.request_id,
        "unused_fields": scored.unused_fields,
        "rule": scored.rule,
        "model_decision": scored.model_decision,
        "tags": scored.tags,
    }


def batch_body(outcomes: Sequence[ScoringResult | Conflict], *, latency_ms: float) -> dict[str, Any]:
    """What a BatchOut describes."""
    return {
        "decisions": [
            {"transaction_id": outcome.transaction_id, **conflict_body()}
            if isinstance(outcome, Conflict)
            else decision_body(outcome, latency_ms=latency_ms)
            for outcome in outcomes
        ]
    }


def conflict_body() -> dict[str, Any]:
    """The error of an id that was used before for another transaction."""
    return error_body(
        code="conflict",
        message="The transaction_id was used before for another transaction; nothing was decided. Send a new id.",
    )


def reasons_body(reasons: Sequence[Reason]) -> list[dict[str, str]]:
    """Reasons as JSON."""
    return [{"code": reason.code, "text": reason.text} for reason in reasons]


def time_of(microseconds: int) -> datetime:
    """The instant of microseconds since 1970-01-01 UTC."""
    return _EPOCH + timedelta(microseconds=microseconds)
