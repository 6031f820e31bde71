"""The gate: the verdict on a challenger, with a reason for each check.

Belongs here: the order of the checks, and the resamples that they share. Must not be here: the checks
(`eligibility.py`, `quality_checks.py`), metric definitions (`modeling/metrics.py`), who is champion (`registry.py`).

All models score the same rows and are resampled together, because a paired difference is more precise than either
figure. Each check can keep a model in shadow (it scores, and its decisions are not used) or reject it. The strictest
outcome is the verdict. Two identical models pass: the newer one is as good and fresher.

Too few frauds reject no model; the model waits in shadow. A champion that cannot be compared stays.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fraud_pipeline.modeling.comparison import compare
from fraud_pipeline.modeling.evaluation import Interval, segment_rows
from fraud_pipeline.modeling.metrics import (
    Floats,
    average_precision,
    budget_shares,
    customer_resamples,
    rank_frauds,
    ratio,
)
from fraud_pipeline.policy.block_bound import BlockEvidence
from fraud_pipeline.promotion.eligibility import Sources, compatible, incomparable, one_source
from fraud_pipeline.promotion.quality_checks import (
    above_floor,
    blocks_right,
    calibrated,
    enough_frauds,
    level_with_plain,
    no_segment_worse,
    not_worse,
    saves_as_much,
    stops_what_was_blocked,
)
from fraud_pipeline.promotion.verdict import SEVERITY, GateRules, GateVerdict

_ALL: Final = ("", "all")


def gate_verdict(
    challenger: Floats,
    champion: Floats | None,
    labels: Floats,
    *,
    at_stake: Floats,
    customers: NDArray[Any],
    days: NDArray[np.int64],
    alert_budget_per_day: float,
    rules: GateRules,
    plain: Floats | None = None,
    segments: Mapping[str, NDArray[Any]] | None = None,
    incompatibility: str | None = None,
    champion_incomparable: str | None = None,
    sources: Sources | None = None,
    row_weights: Floats | None = None,
    hidden: NDArray[np.object_] | None = None,
    decided: NDArray[np.object_] | None = None,
    block_proof: BlockEvidence | None = None,
    replicates: int = 200,
    seed: int = 0,
) -> GateVerdict:
    """Judge `challenger` against `champion` and `plain`, probabilities of the same rows; every array has shape (n,).

    `plain` holds scores of the plain model that was trained beside the challenger, if any. `row_weights` is the number
    of rows that each row represents, by default 1. `hidden` holds the challenger's decisions on other rows, of any
    number, that were blocked and never reported; `decided` are those on the judged rows, and `block_proof` is what its
    training proved about blocks. `incompatibility` is the reason why this installation cannot compute
    the challenger's features; `champion_incomparable` the reason why a champion has no probabilities. Raises ValueError
    for missing scores and unknown labels.
    """
    scores = np.concatenate([of for of in (challenger, champion, plain) if of is not None])
    if not (np.isfinite(scores).all() and np.isin(labels, (0, 1)).all()):
        raise ValueError("challenger, champion, labels: judge rows with finite scores and a known label only")
    first = champion is None and champion_incomparable is None
    stands_for = np.ones(len(labels)) if row_weights is None else row_weights
    names, codes = np.unique(customers, return_inverse=True)
    standing = [compatible(incompatibility)]
    standing += [incomparable(champion_incomparable)] if champion_incomparable else []
    standing += [one_source(sources)] if sources else []
    evidence = enough_frauds(rows=len(labels), customers=len(names), frauds=int(labels.sum()), first=first, rules=rules)
    ranking = _Ranking(labels=labels, codes=codes, stands_for=stands_for, replicates=replicates, seed=seed)
    of_champion = None if champion is None else ranking.observed_over_expected(champion)
    reasons = [
        calibrated(ranking.observed_over_expected(challenger), of_champion=of_champion, first=first, rules=rules)
    ]
    if decided is not None and block_proof is not None:
        blocked = decided == "block"
        reasons.append(blocks_right(ranking.right(blocked), blocks=int(blocked.sum()), proof=block_proof))
    if plain is not None:
        compared = compare(challenger, plain, labels, customers=codes, replicates=replicates, seed=seed)
        reasons.append(level_with_plain(compared, rules=rules))
    if first:
        base_rate = float(labels.mean()) if len(labels) else np.nan
        reasons.append(above_floor(ranking.precision(challenger), base_rate=base_rate, rules=rules))
    elif champion is not None:
        groups = {
            key: rows
            for key, rows in segment_rows(segments or {}).items()
            if labels[rows].sum() >= rules.min_frauds_per_segment
        }
        gain = ranking.gains(challenger, champion, groups=groups)
        more = ranking.more_saved(challenger, champion, at_stake, days, budget=alert_budget_per_day)
        reasons.append(not_worse(gain.pop(_ALL), rules=rules))
        reasons.append(saves_as_much(more, rules=rules))
        reasons.append(no_segment_worse(gain, rules=rules))
        if hidden is not None and len(hidden):
            reasons.append(stops_what_was_blocked(hidden, rules=rules))
    if not evidence.passed:
        reasons = [replace(each, outcome="shadow_only") if each.outcome == "reject" else each for each in reasons]
    every = (*standing, evidence, *reasons)
    return GateVerdict(decision=max((reason.outcome for reason in every), key=SEVERITY.index), reasons=every)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Ranking:
    """Labelled rows (n,) with the position of each row's customer, and the same resamples for every figure."""

    labels: Floats
    codes: NDArray[np.intp]
    stands_for: Floats
    replicates: int
    seed: int

    def _resamples(self, rows: int) -> Iterator[Floats]:
        customers = int(self.codes.max(initial=-1)) + 1
        return customer_resamples(customers, rows, replicates=self.replicates, seed=self.seed)

    def _weights(self) -> Iterator[Floats]:
        return (drawn[:, self.codes] * self.stands_for for drawn in self._resamples(len(self.labels)))

    def observed_over_expected(self, scores: Floats) -> Interval:
        """Observed frauds per predicted fraud."""
        customers = int(self.codes.max(initial=-1)) + 1
        observed, expected = (
            np.bincount(self.codes, of * self.stands_for, minlength=customers) for of in (self.labels, scores)
        )
        blocks = [ratio(drawn @ observed, drawn @ expected) for drawn in self._resamples(customers)]
        return Interval.of(np.concatenate(blocks))

    def right(self, rows: NDArray[np.bool_]) -> Interval:
        """The share of frauds among these rows."""
        customers = int(self.codes.max(initial=-1)) + 1
        frauds, all_rows = (
            np.bincount(self.codes, of * rows * self.stands_for, minlength=customers)
            for of in (self.labels, np.ones(len(rows)))
        )
        return Interval.of(np.concatenate([ratio(d @ frauds, d @ all_rows) for d in self._resamples(customers)]))

    def precision(self, scores: Floats) -> Interval:
        """Average precision."""
        blocks = [average_precision(rank_frauds(scores, self.labels, weights)) for weights in self._weights()]
        return Interval.of(np.concatenate(blocks))

    def gains(
        self, new: Floats, old: Floats, *, groups: Mapping[tuple[str, str], NDArray[np.bool_]]
    ) -> dict[tuple[str, str], Interval]:
        """Average precision of `new` minus that of `old`, of all rows and of each group of rows."""
        groups = {**groups, _ALL: np.ones(len(self.labels), dtype=bool)}
        blocks: dict[tuple[str, str], list[Floats]] = {key: [] for key in groups}
        for weights in self._weights():
            for key, rows in groups.items():
                of_new, of_old = (
                    average_precision(rank_frauds(of[rows], self.labels[rows], weights[:, rows])) for of in (new, old)
                )
                blocks[key].append(of_new - of_old)
        return {key: Interval.of(np.concatenate(of)) for key, of in blocks.items()}

    def more_saved(self, new: Floats, old: Floats, lost: Floats, days: NDArray[np.int64], *, budget: float) -> Interval:
        """The money that `new` catches within the alert budget beyond `old`, as a share of all fraud losses."""
        fraud = self.labels == 1
        blocks = []
        for weights in self._weights():
            of_new, of_old = (budget_shares(of, self.labels, days, weights, budget=budget) for of in (new, old))
            at_stake = weights[:, fraud] * lost[fraud]
            blocks.append(ratio(((of_new - of_old) * at_stake).sum(axis=1), at_stake.sum(axis=1)))
        return Interval.of(np.concatenate(blocks))
