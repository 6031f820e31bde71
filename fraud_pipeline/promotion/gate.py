"""May this model decide about customers? The verdict on a challenger, and each reason for it.

Belongs here: the rules of promotion as data and how they are judged. Must not be here: metric definitions
(`modeling/metrics.py`), who is champion and how that is stored (`registry.py`).

Both models score the same fresh rows and are resampled together, for the difference of two models on one sample is
known far better than either of them. Each check can hold a model back in shadow (it scores, nobody acts) or reject it;
the strictest outcome of all checks is the verdict. Two identical models pass: the newer one is as good and fresher.

A champion that cannot be compared stays: it is no reason to judge a model as if there were none.

What the champion blocked and nobody reported has no label. Where enough would-be blocks were held out, those count for
it; else such rows are left out, and a challenger that would let many of them through waits, for they may be frauds.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any, Final, Literal, Self, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fraud_pipeline.modeling.dataset import censored_labels, labels_as_of
from fraud_pipeline.modeling.evaluation import Interval, segment_rows
from fraud_pipeline.modeling.metrics import (
    Floats,
    average_precision,
    budget_shares,
    customer_resamples,
    rank_frauds,
    ratio,
)
from fraud_pipeline.policy.holdout import Holdout
from fraud_pipeline.schema.transactions import DAY, microseconds

Outcome = Literal["promote", "shadow_only", "reject"]
_SEVERITY: Final[tuple[Outcome, ...]] = get_args(Outcome)
_ROUNDING: Final = 1e-9
_ALL: Final = ("", "all")


@dataclass(frozen=True, slots=True)
class GateRules:
    """What a challenger must show. Average precision (AP) and shares are between 0 and 1."""

    min_frauds: int = 30
    min_frauds_without_champion: int = 10
    min_frauds_per_segment: int = 20
    min_lift_without_champion: float = 3.0
    ap_tolerance: float = 0.05
    cost_tolerance: float = 0.02
    segment_ap_tolerance: float = 0.1
    max_miscalibration: float = 1.5
    min_blocked: int = 10
    max_let_through: float = 0.2


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


@dataclass(frozen=True, slots=True, eq=False)
class LiveRows:
    """What both models scored while the champion served.

    `rows` are those with a matured label, in `label`, and how many rows each stands for, in `weight`; `hidden` were
    blocked and never reported, and nobody stands for them.
    """

    rows: pd.DataFrame
    hidden: pd.DataFrame
    held_out: int

    def __str__(self) -> str:
        told = f"{len(self.rows):,} transactions that the challenger scored in shadow, with matured labels"
        if self.held_out:
            return f"{told}; {self.held_out:,} held out count for what was blocked"
        return f"{told}; {len(self.hidden):,} more were blocked and never reported" if len(self.hidden) else told


def live_rows(
    shadowed: pd.DataFrame, reports: pd.DataFrame, *, as_of: pd.Timestamp, label_maturity: timedelta, rules: GateRules
) -> LiveRows | None:
    """What both models scored while the champion served, with matured labels; None while that are too few frauds.

    `shadowed` holds rows of `shadow_rows`.
    """
    rows = shadowed[shadowed["event_time"] < as_of - label_maturity].reset_index(drop=True)
    rows = rows.assign(label=labels_as_of(rows, reports, as_of=as_of, label_maturity=label_maturity))
    blocked = rows["champion_decision"] == "block"
    stopped = rows.loc[blocked | rows["held_out"], ["transaction_id", "held_out", "share"]].assign(by_model=True)
    days = microseconds(rows["event_time"]) // DAY
    holdout = Holdout.of(rows["transaction_id"], stopped, days=days)
    hidden = censored_labels(rows, reports, rows.loc[blocked, "transaction_id"], as_of=as_of) & (not holdout.enough)
    kept = (holdout.weights > 0) & ~hidden
    found = LiveRows(
        rows=rows.assign(weight=holdout.weights)[kept].reset_index(drop=True),
        hidden=rows[hidden].reset_index(drop=True),
        held_out=int((holdout.held_out & kept).sum()) if holdout.enough else 0,
    )
    return found if found.rows["label"].sum() >= rules.min_frauds else None


def gate_verdict(
    challenger: Floats,
    champion: Floats | None,
    labels: Floats,
    *,
    amounts_cents: NDArray[np.int64],
    customers: NDArray[Any],
    days: NDArray[np.int64],
    alert_budget_per_day: float,
    rules: GateRules,
    segments: Mapping[str, NDArray[Any]] | None = None,
    incompatibility: str | None = None,
    champion_incomparable: str | None = None,
    sources: Sources | None = None,
    row_weights: Floats | None = None,
    hidden: NDArray[np.object_] | None = None,
    replicates: int = 200,
    seed: int = 0,
) -> GateVerdict:
    """Judge `challenger` against `champion`, both probabilities of the same rows; every array has shape (n,).

    `row_weights` are how many rows each one stands for, by default itself. `hidden` are the challenger's decisions on
    other rows, of any number, that were blocked and never reported. Without a champion the alternative is rules alone,
    so a model is promoted that ranks several times better than chance beyond doubt. `incompatibility` says why this
    installation cannot compute the challenger's features, if so; `champion_incomparable` why there is a champion
    without probabilities. `sources` are where both learned from.
    Raises ValueError for missing scores and unknown labels.
    """
    scores = challenger if champion is None else np.concatenate([challenger, champion])
    if not (np.isfinite(scores).all() and np.isin(labels, (0, 1)).all()):
        raise ValueError("challenger, champion, labels: judge rows with finite scores and a known label only")
    frauds = int(labels.sum())
    first = champion is None and champion_incomparable is None
    reasons = [_compatible(incompatibility), _enough_frauds(frauds, first=first, rules=rules)]
    reasons += [_incomparable(champion_incomparable)] if champion_incomparable else []
    reasons += [_one_source(sources)] if sources else []
    stands_for = np.ones(len(labels)) if row_weights is None else row_weights
    names, codes = np.unique(customers, return_inverse=True)
    observed, expected = (np.bincount(codes, of * stands_for) for of in (labels, challenger))
    blocks = customer_resamples(len(names), len(names), replicates=replicates, seed=seed)
    miscalibration = [ratio(drawn @ observed, drawn @ expected) for drawn in blocks]
    reasons.append(_calibrated(Interval.of(np.concatenate(miscalibration)), rules=rules))
    resamples = customer_resamples(len(names), len(labels), replicates=replicates, seed=seed)
    if first:
        weighted = (drawn[:, codes] * stands_for for drawn in resamples)
        precision = [average_precision(rank_frauds(challenger, labels, weights)) for weights in weighted]
        base_rate = frauds / max(len(labels), 1)
        reasons.append(_above_floor(Interval.of(np.concatenate(precision)), base_rate=base_rate, rules=rules))
    elif champion is not None:
        groups = {
            key: rows
            for key, rows in segment_rows(segments or {}).items()
            if labels[rows].sum() >= rules.min_frauds_per_segment
        }
        groups[_ALL] = np.ones(len(labels), dtype=bool)
        gains: dict[tuple[str, str], list[Floats]] = {key: [] for key in groups}
        savings = []
        lost = (labels * amounts_cents)[labels == 1]
        for drawn in resamples:
            weights = drawn[:, codes] * stands_for
            for key, rows in groups.items():
                new, old = (rank_frauds(of[rows], labels[rows], weights[:, rows]) for of in (challenger, champion))
                gains[key].append(average_precision(new) - average_precision(old))
            new_share, old_share = (
                budget_shares(of, labels, days, weights, budget=alert_budget_per_day) for of in (challenger, champion)
            )
            at_stake = weights[:, labels == 1] * lost
            total = at_stake.sum(axis=1)
            more = ((new_share - old_share) * at_stake).sum(axis=1)
            savings.append(np.divide(more, total, out=np.full_like(total, np.nan), where=total > 0))
        gain = {key: Interval.of(np.concatenate(blocks)) for key, blocks in gains.items()}
        reasons.append(_not_worse(gain.pop(_ALL), rules=rules))
        reasons.append(_saves_as_much(Interval.of(np.concatenate(savings)), rules=rules))
        reasons.append(_no_segment_worse(gain, rules=rules))
        if hidden is not None and len(hidden):
            reasons.append(_stops_what_was_blocked(hidden, rules=rules))
    decision = max((reason.outcome for reason in reasons), key=_SEVERITY.index)
    return GateVerdict(decision=decision, reasons=tuple(reasons))


def _stops_what_was_blocked(decisions: NDArray[np.object_], *, rules: GateRules) -> GateReason:
    share = float((decisions == "allow").mean())
    figures = {"blocked": float(len(decisions)), "let_through": share, "limit": rules.max_let_through}
    found = (
        f"It would let {share:.0%} of {len(decisions)} transactions through that were blocked and never reported, "
        "so that nobody knows whether they are frauds"
    )
    if share <= rules.max_let_through or len(decisions) < rules.min_blocked:
        return GateReason("blocked", "promote", f"{found}; {rules.max_let_through:.0%} are allowed.", figures)
    detail = (
        f"{found}; more than {rules.max_let_through:.0%}. Resolve alerts of blocks, or hold a few out "
        "(FRAUD_HOLDOUT_SHARE), and judge again."
    )
    return GateReason("blocked", "shadow_only", detail, figures)


def _compatible(incompatibility: str | None) -> GateReason:
    if incompatibility is None:
        return GateReason("compatibility", "promote", "This installation can compute every feature of the model.", {})
    detail = f"{incompatibility} Train the model again with the installed feature code."
    return GateReason("compatibility", "reject", detail, {})


def _incomparable(why: str) -> GateReason:
    detail = (
        f"{why} The champion stays. Judge with the release that trained it, or make the challenger champion by hand: "
        "`fraud-detect promote` and its version."
    )
    return GateReason("champion", "shadow_only", detail, {})


def _one_source(sources: Sources) -> GateReason:
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


def _enough_frauds(frauds: int, *, first: bool, rules: GateRules) -> GateReason:
    needed = rules.min_frauds_without_champion if first else rules.min_frauds
    figures = {"frauds": float(frauds), "needed": float(needed)}
    if frauds >= needed:
        return GateReason(
            "frauds", "promote", f"The window holds {frauds} frauds, at least {needed} are needed.", figures
        )
    detail = f"The window holds {frauds} frauds of {needed} needed; judge again on a longer window."
    return GateReason("frauds", "shadow_only", detail, figures)


def _undefined(check: str, figures: Mapping[str, float]) -> GateReason:
    return GateReason(check, "shadow_only", "Undefined without frauds: judge again on a longer window.", figures)


def _calibrated(miscalibration: Interval, *, rules: GateRules) -> GateReason:
    limit = rules.max_miscalibration
    figures = {
        "observed_over_expected": miscalibration.value,
        "low": miscalibration.low,
        "high": miscalibration.high,
        "limit": limit,
    }
    found = f"Observed over predicted frauds is {miscalibration}"
    # Few frauds make the ratio uncertain; only a model that is beyond doubt off by more than the limit is held back.
    if miscalibration.low <= limit and miscalibration.high >= 1 / limit:
        return GateReason("calibration", "promote", f"{found}; a factor of {limit:g} is allowed.", figures)
    detail = (
        f"{found}, clearly beyond a factor of {limit:g}: thresholds would not mean what they say; "
        "calibrate on newer data."
    )
    return GateReason("calibration", "shadow_only", detail, figures)


def _above_floor(precision: Interval, *, base_rate: float, rules: GateRules) -> GateReason:
    lift, low = (precision.value / base_rate, precision.low / base_rate) if base_rate > 0 else (np.nan, np.nan)
    floor = rules.min_lift_without_champion
    figures = {"average_precision": precision.value, "lift": lift, "lift_low": low, "floor": floor}
    if np.isnan(lift):
        return _undefined("floor", figures)
    found = f"Average precision is {lift:.1f} times that of chance (at least {low:.1f}); the floor is {floor:g} times"
    if low >= floor:
        return GateReason("floor", "promote", f"{found}, and rules alone are the alternative.", figures)
    if lift < floor:
        return GateReason("floor", "reject", f"{found}: check features and labels before training again.", figures)
    return GateReason("floor", "shadow_only", f"{found}: judge again on a longer window.", figures)


def _not_worse(gain: Interval, *, rules: GateRules) -> GateReason:
    figures = {"gain": gain.value, "low": gain.low, "high": gain.high, "tolerance": rules.ap_tolerance}
    if np.isnan(gain.value):
        return _undefined("average_precision", figures)
    found = f"Average precision differs from the champion's by {gain.value:+.3f} ({gain.low:+.3f} to {gain.high:+.3f})"
    if gain.high < -_ROUNDING:
        return GateReason("average_precision", "reject", f"{found}, clearly worse: keep the champion.", figures)
    if gain.value >= -_ROUNDING and gain.low > -rules.ap_tolerance:
        return GateReason("average_precision", "promote", f"{found}: no loss beyond {rules.ap_tolerance:g}.", figures)
    detail = f"{found}, inconclusive: let it score in shadow and judge again on a longer window."
    return GateReason("average_precision", "shadow_only", detail, figures)


def _saves_as_much(more: Interval, *, rules: GateRules) -> GateReason:
    figures = {"more": more.value, "low": more.low, "high": more.high, "tolerance": rules.cost_tolerance}
    if np.isnan(more.value):
        return _undefined("cost_at_budget", figures)
    found = f"Within the alert budget it catches {more.value:+.1%} of the money at stake compared with the champion"
    if more.value >= -rules.cost_tolerance:
        return GateReason("cost_at_budget", "promote", f"{found}: no loss beyond {rules.cost_tolerance:.0%}.", figures)
    detail = f"{found}: look at the large frauds that it ranks lower, or raise their weight in training."
    return GateReason("cost_at_budget", "shadow_only", detail, figures)


def _no_segment_worse(gains: Mapping[tuple[str, str], Interval], *, rules: GateRules) -> GateReason:
    figures = {f"{segment}: {group}": gain.value for (segment, group), gain in gains.items()}
    # A drop counts only when its whole interval is one: of many small segments some always drop by chance.
    worse = [
        f"{segment} {group} ({gain.value:+.3f})"
        for (segment, group), gain in gains.items()
        if gain.value < -rules.segment_ap_tolerance and gain.high < 0
    ]
    if worse:
        detail = f"Average precision drops in {', '.join(worse)}: bring more frauds of these segments and train again."
        return GateReason("segments", "shadow_only", detail, figures)
    enough = f"segments with at least {rules.min_frauds_per_segment} frauds"
    detail = f"None of {len(gains)} {enough} drops clearly by more than {rules.segment_ap_tolerance:g}."
    return GateReason("segments", "promote", detail, figures)
