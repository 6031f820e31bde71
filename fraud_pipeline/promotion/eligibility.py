"""Whether a challenger can be judged beside the champion: compatibility and source, not ranking.

Belongs here: whether both models can be rebuilt and learned from one source. Must not be here: figures of their scores
(`quality_checks.py`), loading models (`judgement.py`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from fraud_pipeline.promotion.verdict import GateReason


@dataclass(frozen=True, slots=True)
class Source:
    """The source of a model's data: its identity (empty where the model records none) and its name for people."""

    id: str
    words: str

    @classmethod
    def of(cls, lineage: Mapping[str, Any]) -> Self:
        """The source that a model's lineage records."""
        return cls(id=str(lineage.get("source_id") or ""), words=str(lineage.get("source") or "an unknown source"))

    def __str__(self) -> str:
        return f"{self.words} ({self.id})" if self.id else self.words


@dataclass(frozen=True, slots=True)
class Sources:
    """The sources of champion and challenger, and whether a person accepts a difference."""

    champion: Source
    challenger: Source
    other_accepted: bool = False


def compatible(incompatibility: str | None) -> GateReason:
    """Whether this installation can compute the features; `incompatibility` is the reason if it cannot."""
    if incompatibility is None:
        return GateReason("compatibility", "promote", "This installation can compute every feature of the model.", {})
    detail = f"{incompatibility} Train the model again with the installed feature code."
    return GateReason("compatibility", "reject", detail, {})


def incomparable(why: str) -> GateReason:
    """The champion stays, because it cannot be compared; `why` is the cause."""
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
        return GateReason("source", "promote", f"The {unsaid} records no source of its training data.", {})
    if champion != challenger if not champion.id else champion.id != challenger.id:
        both = f"The challenger learned from {challenger}, the champion from {champion}"
        if sources.other_accepted:
            return GateReason("source", "promote", f"{both}; this run accepts that.", {})
        detail = (
            f"{both}: the models have different sources. Train on the champion's source, or accept the difference: "
            "`fraud-detect train --accept-other-source`, or `accept_other_source` of `champion` in the launchpad."
        )
        return GateReason("source", "shadow_only", detail, {})
    return GateReason("source", "promote", f"The challenger learned from {challenger}, as the champion did.", {})
