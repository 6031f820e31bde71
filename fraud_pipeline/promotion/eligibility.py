"""May this challenger be judged at all, and beside this champion? Checks of what they are, not of how well they rank.

Belongs here: whether both can be rebuilt and learned from one source. Must not be here: figures of their scores
(`quality_checks.py`), loading models (`judgement.py`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from fraud_pipeline.promotion.verdict import GateReason


@dataclass(frozen=True, slots=True)
class Source:
    """Where a model's data came from: its identity, empty for models that do not say it, and words for people."""

    id: str
    words: str

    @classmethod
    def of(cls, lineage: Mapping[str, Any]) -> Self:
        """What a model's lineage says."""
        return cls(id=str(lineage.get("source_id") or ""), words=str(lineage.get("source") or "an unknown source"))

    def __str__(self) -> str:
        return f"{self.words} ({self.id})" if self.id else self.words


@dataclass(frozen=True, slots=True)
class Sources:
    """Where champion and challenger learned from, and whether a person accepts that they differ."""

    champion: Source
    challenger: Source
    other_accepted: bool = False


def compatible(incompatibility: str | None) -> GateReason:
    """Whether this installation can compute the features; `incompatibility` says why not."""
    if incompatibility is None:
        return GateReason("compatibility", "promote", "This installation can compute every feature of the model.", {})
    detail = f"{incompatibility} Train the model again with the installed feature code."
    return GateReason("compatibility", "reject", detail, {})


def incomparable(why: str) -> GateReason:
    """The reason that a champion stays which nobody can compare."""
    detail = (
        f"{why} The champion stays. Judge with the release that trained it, or make the challenger champion by hand: "
        "`fraud-detect promote` and its version."
    )
    return GateReason("champion", "shadow_only", detail, {})


def one_source(sources: Sources) -> GateReason:
    """Whether both learned from one source, unless a person accepts that they did not."""
    champion, challenger = sources.champion, sources.challenger
    if bool(champion.id) != bool(challenger.id):
        unsaid = "champion" if challenger.id else "challenger"
        return GateReason("source", "promote", f"The {unsaid} does not say which data it learned from.", {})
    if champion != challenger if not champion.id else champion.id != challenger.id:
        both = f"The challenger learned from {challenger}, the champion from {champion}"
        if sources.other_accepted:
            return GateReason("source", "promote", f"{both}; the run was told to accept that.", {})
        detail = (
            f"{both}: they are models of two worlds. Train on the champion's source, or say that it is meant: "
            "`fraud-detect train --accept-other-source`, or `accept_other_source` of `champion` in the launchpad."
        )
        return GateReason("source", "shadow_only", detail, {})
    return GateReason("source", "promote", f"The challenger learned from {challenger}, as the champion did.", {})
