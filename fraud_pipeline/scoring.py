"""Scorer."""
from dataclasses import dataclass
from typing import Literal
from fraud_pipeline.decisions import Decision

Mode = Literal["full", "no_history", "rules", "fail_safe"]
DecidedBy = Literal["model", "rules", "fail_safe"]


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a transaction is distrusted: a stable code, and a sentence for a person."""

    code: str
    text: str


@dataclass(frozen=True, slots=True)
class Scored:
    """One stored decision; `replayed` when it was stored by an earlier delivery of the same transaction."""

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


@dataclass(frozen=True, slots=True)
class Conflict:
    """The id was used before for another transaction; nothing was decided."""

    transaction_id: str


class HistoryUnavailableError(RuntimeError):
    """History cannot be read now; score without it."""


class ModelUnavailableError(RuntimeError):
    """The model cannot answer now; decide by rules."""


class StorageUnavailableError(RuntimeError):
    """Decisions cannot be stored now; nothing was decided, ask again later."""
