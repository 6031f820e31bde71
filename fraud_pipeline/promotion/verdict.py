"""The gate's rules as data, the reason of each check, and the verdict on a challenger.

Belongs here: these records and their spelling for people and JSON. Must not be here: the checks (`eligibility.py`,
`quality_checks.py`), the judged rows (`gate.py`, `live_rows.py`).
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal, get_args

import numpy as np

Outcome = Literal["promote", "shadow_only", "reject"]
SEVERITY: Final[tuple[Outcome, ...]] = get_args(Outcome)


@dataclass(frozen=True, slots=True)
class GateRules:
    """The requirements for a challenger. Average precision (AP) and shares are between 0 and 1.

    `min_odds_without_champion` is how many times better the odds of a right alert must be than those of a random row.
    `plain_tolerance` and `max_loss_to_plain` are shares of what the plain model gains over chance.
    """

    min_frauds: int = 30
    min_frauds_without_champion: int = 10
    min_frauds_per_segment: int = 20
    min_odds_without_champion: float = 3.0
    plain_tolerance: float = 0.05
    max_loss_to_plain: float = 0.5
    ap_tolerance: float = 0.05
    cost_tolerance: float = 0.02
    segment_ap_tolerance: float = 0.1
    max_miscalibration: float = 1.5
    min_blocked: int = 10
    max_let_through: float = 0.2


@dataclass(frozen=True, slots=True)
class GateReason:
    """One check: what it allows, a sentence to act on, and the figures behind it."""

    check: str
    outcome: Outcome
    detail: str
    figures: Mapping[str, float]

    @property
    def passed(self) -> bool:
        """Whether this check alone would promote."""
        return self.outcome == "promote"


@dataclass(frozen=True, slots=True)
class GateVerdict:
    """The strictest outcome of all checks, and all of them."""

    decision: Outcome
    reasons: tuple[GateReason, ...]

    @property
    def finding(self) -> str:
        """Each check that did not pass, one line each; empty for a promotion."""
        return "\n".join(f"{reason.check}: {reason.detail}" for reason in self.reasons if not reason.passed)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; undefined figures are None."""
        values = asdict(self)
        for reason in values["reasons"]:
            reason["figures"] = {name: None if np.isnan(x) else float(x) for name, x in reason["figures"].items()}
        return {**values, "reasons": list(values["reasons"])}

    def to_markdown(self) -> str:
        """The verdict and a table of its reasons for people."""
        rows = [f"| {reason.check} | {reason.outcome} | {reason.detail} |" for reason in self.reasons]
        return "\n".join([f"**{self.decision}**", "", "| check | outcome | why |", "|---|---|---|", *rows])
