"""The checks of a challenger's scores: enough evidence, calibration, and ranking against chance, plain and champion.

Belongs here: one function for each check, from intervals to an outcome and a sentence. Must not be here: resampling
(`gate.py`), what does not depend on scores (`eligibility.py`).
"""

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fraud_pipeline.modeling.comparison import Comparison
from fraud_pipeline.modeling.evaluation import Interval
from fraud_pipeline.policy.block_bound import BlockEvidence
from fraud_pipeline.promotion.verdict import GateReason, GateRules

_ROUNDING: Final = 1e-9
_REMEDY: Final = (
    "See that the columns of customer, merchant and time are the right ones, bring a longer span, or raise --n-trials."
)


def enough_frauds(*, rows: int, customers: int, frauds: int, first: bool, rules: GateRules) -> GateReason:
    """Whether the rows hold enough frauds to judge by; a first model needs fewer."""
    needed = rules.min_frauds_without_champion if first else rules.min_frauds
    figures = {"rows": float(rows), "customers": float(customers), "frauds": float(frauds), "needed": float(needed)}
    window = f"The window holds {rows:,} rows of {customers:,} customers"
    if frauds >= needed:
        return GateReason("frauds", "promote", f"{window} and {frauds} frauds, at least {needed} are needed.", figures)
    detail = f"{window} and {frauds} frauds of {needed} needed; judge again on a longer window."
    return GateReason("frauds", "shadow_only", detail, figures)


def calibrated(miscalibration: Interval, *, of_champion: Interval | None, first: bool, rules: GateRules) -> GateReason:
    """Whether predicted frauds are shown to be as many as observed ones.

    Few frauds leave that open. Then a first model gets an advice, because rules have no probabilities at all, and a
    challenger passes unless its champion is shown to be right, or is closer.
    """
    limit = rules.max_miscalibration
    figures = {
        "observed_over_expected": miscalibration.value,
        "low": miscalibration.low,
        "high": miscalibration.high,
        "limit": limit,
    }
    finding = f"Observed over predicted frauds is {miscalibration}"
    if _shown(miscalibration, limit=limit):
        return GateReason("calibration", "promote", f"{finding}; a factor of {limit:g} is allowed.", figures)
    if not (miscalibration.low <= limit and miscalibration.high >= 1 / limit):
        detail = (
            f"{finding}, clearly beyond a factor of {limit:g}: thresholds would not have their meaning; "
            "calibrate on newer data."
        )
        return GateReason("calibration", "shadow_only", detail, figures)
    finding += f", not shown to lie within a factor of {limit:g}"
    if first:
        detail = f"{finding}: too few customers were defrauded to know; watch it in the performance report."
        return GateReason("calibration", "promote", detail, figures)
    if of_champion is not None and not _shown(of_champion, limit=limit):
        figures |= {"champion": of_champion.value}
        if _factor(miscalibration) <= max(_factor(of_champion), limit):
            detail = f"{finding}, nor is the champion's, which is {of_champion}."
            return GateReason("calibration", "promote", detail, figures)
    return GateReason("calibration", "shadow_only", f"{finding}: judge again on a longer window.", figures)


def blocks_right(precision: Interval, *, blocks: int, proof: BlockEvidence) -> GateReason:
    """Whether the blocks on the judged rows contradict the proof of the training; `precision` is their right share."""
    figures = {"blocks": float(blocks), "precision": precision.value, "low": precision.low, "high": precision.high}
    figures |= {"floor": proof.floor, "proven": proof.lower_bound}
    training = f"By the rows of the training it {proof}."
    if not blocks:
        return GateReason("blocks", "promote", f"It blocks none of these rows. {training}", figures)
    finding = f"Of {blocks} blocks on these rows the share of right ones is {precision}"
    if precision.high < proof.floor:
        detail = f"{finding}, clearly below {proof.floor:g}: train again on newer data. {training}"
        return GateReason("blocks", "shadow_only", detail, figures)
    return GateReason("blocks", "promote", f"{finding}. {training}", figures)


def above_floor(precision: Interval, *, base_rate: float, rules: GateRules) -> GateReason:
    """Whether a first model ranks well above chance, at any base rate.

    The odds that an alert is right must be a multiple of the odds that a random row is a fraud. For rare fraud this is
    the same multiple of the base rate; where fraud is common it stays below 1, so that a good model can pass.
    """
    times = rules.min_odds_without_champion
    floor = times * base_rate / (1 + (times - 1) * base_rate)
    figures = {"average_precision": precision.value, "low": precision.low, "base_rate": base_rate, "floor": floor}
    if np.isnan(precision.value) or np.isnan(precision.low):
        return _undefined("floor", figures)
    finding = (
        f"Average precision is {precision}; with {base_rate:.2%} fraud the floor is {floor:.3f}, where the odds of a "
        f"right alert are {times:g} times those of a random row"
    )
    if precision.low >= floor:
        return GateReason("floor", "promote", f"{finding}, and rules alone are the alternative.", figures)
    if precision.value < floor:
        return GateReason("floor", "reject", f"{finding}: check features and labels before training again.", figures)
    return GateReason("floor", "shadow_only", f"{finding}: judge again on a longer window.", figures)


def level_with_plain(compared: Comparison, *, rules: GateRules) -> GateReason:
    """Whether the model is at least level with plain XGBoost on the row's own columns.

    Rejected: worse beyond doubt (the whole paired interval is below 0), or plainly worse (more than half of what the
    plain model gains over chance is lost). A smaller loss beyond the tolerance that may be chance waits in shadow.
    """
    gain, reach = compared.gain, max(compared.plain.value - compared.base_rate, 0.0)
    figures = {
        "average_precision": compared.model.value,
        "plain": compared.plain.value,
        "gain": gain.value,
        "low": gain.low,
        "high": gain.high,
        "tolerance": rules.plain_tolerance * reach,
    }
    if np.isnan(gain.value):
        return _undefined("plain", figures)
    finding = (
        f"Average precision is {compared.model.value:.3f}; plain XGBoost on the row's own columns has "
        f"{compared.plain.value:.3f} on the same rows. The difference is {gain.value:+.3f} "
        f"({gain.low:+.3f} to {gain.high:+.3f})"
    )
    if gain.low > _ROUNDING:
        return GateReason("plain", "promote", f"{finding}: history and search add that much.", figures)
    surely, plainly = gain.high < -_ROUNDING, gain.value < -rules.max_loss_to_plain * reach - _ROUNDING
    if surely or plainly:
        how = "worse beyond doubt" if surely else f"less than {1 - rules.max_loss_to_plain:.0%} of what plain gains"
        return GateReason("plain", "reject", f"{finding}, {how}. {_REMEDY}", figures)
    if gain.value >= -rules.plain_tolerance * reach - _ROUNDING:
        return GateReason("plain", "promote", f"{finding}: level.", figures)
    return GateReason("plain", "shadow_only", f"{finding}: perhaps worse, perhaps by chance. {_REMEDY}", figures)


def not_worse(gain: Interval, *, rules: GateRules) -> GateReason:
    """Whether average precision is not below the champion's; `gain` is paired."""
    figures = {"gain": gain.value, "low": gain.low, "high": gain.high, "tolerance": rules.ap_tolerance}
    if np.isnan(gain.value):
        return _undefined("average_precision", figures)
    finding = (
        f"Average precision differs from the champion's by {gain.value:+.3f} ({gain.low:+.3f} to {gain.high:+.3f})"
    )
    if gain.high < -_ROUNDING:
        return GateReason("average_precision", "reject", f"{finding}, clearly worse: keep the champion.", figures)
    if gain.value >= -_ROUNDING and gain.low > -rules.ap_tolerance:
        return GateReason("average_precision", "promote", f"{finding}: no loss beyond {rules.ap_tolerance:g}.", figures)
    detail = f"{finding}, inconclusive: let it score in shadow and judge again on a longer window."
    return GateReason("average_precision", "shadow_only", detail, figures)


def saves_as_much(more: Interval, *, rules: GateRules) -> GateReason:
    """Whether as much money is caught within the alert budget as by the champion; `more` is a share of it."""
    figures = {"more": more.value, "low": more.low, "high": more.high, "tolerance": rules.cost_tolerance}
    if np.isnan(more.value):
        return _undefined("cost_at_budget", figures)
    finding = f"Within the alert budget it catches {more.value:+.1%} of the money at stake compared with the champion"
    if more.value >= -rules.cost_tolerance:
        return GateReason(
            "cost_at_budget", "promote", f"{finding}: no loss beyond {rules.cost_tolerance:.0%}.", figures
        )
    detail = f"{finding}: look at the large frauds that it ranks lower, or raise their weight in training."
    return GateReason("cost_at_budget", "shadow_only", detail, figures)


def no_segment_worse(gains: Mapping[tuple[str, str], Interval], *, rules: GateRules) -> GateReason:
    """Whether no segment loses clearly; `gains` are paired, by segment and group."""
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


def stops_what_was_blocked(decisions: NDArray[np.object_], *, rules: GateRules) -> GateReason:
    """Whether the challenger would also stop most transactions that were blocked and never reported."""
    share = float((decisions == "allow").mean())
    figures = {"blocked": float(len(decisions)), "let_through": share, "limit": rules.max_let_through}
    finding = (
        f"It would let {share:.0%} of {len(decisions)} transactions through that were blocked and never reported, "
        "so that nobody knows whether they are frauds"
    )
    if share <= rules.max_let_through or len(decisions) < rules.min_blocked:
        return GateReason("blocked", "promote", f"{finding}; {rules.max_let_through:.0%} are allowed.", figures)
    detail = (
        f"{finding}; more than {rules.max_let_through:.0%}. Resolve alerts of blocks, or hold a few out "
        "(FRAUD_HOLDOUT_SHARE), and judge again."
    )
    return GateReason("blocked", "shadow_only", detail, figures)


def _factor(miscalibration: Interval) -> float:
    """How many times too high or too low the probabilities are."""
    value = max(miscalibration.value, _ROUNDING)
    return max(value, 1 / value)


def _shown(miscalibration: Interval, *, limit: float) -> bool:
    return miscalibration.low >= 1 / limit and miscalibration.high <= limit


def _undefined(check: str, figures: Mapping[str, float]) -> GateReason:
    return GateReason(check, "shadow_only", "Undefined without frauds: judge again on a longer window.", figures)
