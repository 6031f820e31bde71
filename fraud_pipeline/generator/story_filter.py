"""A forward filter for the oracle: it follows possible episodes from row to row of one customer.

Belongs here: the recursion over rows. Must not be here: densities of single rows (`oracle.py`).
"""

import math
from typing import Final

import numba
import numpy as np
from numpy.typing import NDArray

from fraud_pipeline.generator.behaviour import OVERDISPERSION
from fraud_pipeline.generator.episodes import GAP_SPREAD, MAX_DURATION_DAYS, NOTICED
from fraud_pipeline.generator.population import Floats, Ints
from fraud_pipeline.generator.story import Stages

_SURVIVES_NOTICE: Final = 1 - 0.8 * NOTICED
_SAME_PLACE: Final = 0.9  # the rest allows for a zone that was misread because the merchant lies at its edge
_NEGLIGIBLE: Final = 1e-9
_SHORTEST_WAIT_HOURS: Final = 1e-6


def fraud_chance(
    *,
    customer: Ints,
    hours: Floats,
    day: Ints,
    ordinary: Floats,
    expected_so_far: Floats,
    first: Floats,
    marks: Floats,
    anywhere: Floats,
    place: Floats,
    zone: Ints,
    stages: Stages,
) -> Floats:
    """Probability that each row is fraud given the rows before it, shape (n,); rows in order of customer, then time."""
    log_gap = stages.log_gap - math.log(60)
    step = np.zeros((*stages.more.shape, stages.more.shape[1]))
    for s, a in np.argwhere(stages.exists):
        survives = _SURVIVES_NOTICE if stages.fraud[s] else 1.0
        step[s, a, a] = survives * stages.more[s, a]
        if a + 1 < stages.exists.shape[1] and stages.exists[s, a + 1]:
            step[s, a, a + 1] = survives * (1 - stages.more[s, a])
    scores: Floats = _filtered(
        customer, hours, day, ordinary, expected_so_far, first, marks, anywhere, place, zone,
        step, log_gap, stages.own, stages.fraud,
    )  # fmt: skip
    return scores


@numba.njit(cache=True)
def _filtered(  # noqa: C901, PLR0912  # one recursion: compiled code reads best in one piece
    customer: Ints,
    hours: Floats,
    day: Ints,
    ordinary: Floats,
    expected_so_far: Floats,
    first: Floats,
    marks: Floats,
    anywhere: Floats,
    place: Floats,
    zone: Ints,
    step: Floats,
    log_gap: Floats,
    own: NDArray[np.bool_],
    fraud: NDArray[np.bool_],
) -> Floats:
    """A row is ordinary, starts an episode, or follows an earlier row of one; Bayes' rule weighs the three.

    `latest[i, s, a]` is the probability that row i is the latest row so far of an episode in scenario s, stage a. A
    following row takes that probability over, so each row has at most one follower.
    """
    rows, scenarios, stages = marks.shape
    scores, honest = np.zeros(rows), np.zeros(rows)
    latest = np.zeros((rows, scenarios, stages))
    follows = np.zeros((rows, scenarios, stages))
    now = np.zeros((scenarios, stages))
    begin = 0
    for r in range(rows):
        if r == 0 or customer[r] != customer[r - 1]:
            begin = r
        while hours[r] - hours[begin] > 24.0 * MAX_DURATION_DAYS:
            begin += 1
        now[:] = 0.0
        now[:, 0] = first[r]
        bought_today = 0.0
        for i in range(begin, r):
            if day[i] == day[r]:
                bought_today += honest[i]
            wait = max(hours[r] - hours[i], _SHORTEST_WAIT_HOURS)
            for s in range(scenarios):
                near = 0.0 if own[s] else _SAME_PLACE
                where = near * place[r, zone[i]] + (1 - near) * anywhere[r, s]
                for a in range(stages):
                    follows[i, s, a] = 0.0
                    if latest[i, s, a] < _NEGLIGIBLE:
                        continue
                    none_before = 1.0
                    for b in range(a, stages):
                        none_before -= step[s, a, b] * _gap_passed(wait, log_gap[s, b])
                    for b in range(a, stages):
                        rate = step[s, a, b] * _gap_density(wait, log_gap[s, b]) / max(none_before, 1e-6)
                        weight = latest[i, s, a] * rate * marks[r, s, b] * where
                        now[s, b] += weight
                        follows[i, s, a] += weight
        mood = (OVERDISPERSION + bought_today) / (OVERDISPERSION + expected_so_far[r])
        total = ordinary[r] * mood + now.sum()
        if total <= 0.0:
            continue
        for i in range(begin, r):
            latest[i] = np.maximum(latest[i] - follows[i] / total, 0.0)
        latest[r] = now / total
        honest[r] = ordinary[r] * mood / total
        for s in range(scenarios):
            if fraud[s]:
                scores[r] += latest[r, s].sum()
    return scores


@numba.njit(cache=True)
def _gap_density(wait: float, log_median: float) -> float:
    z = (math.log(wait) - log_median) / GAP_SPREAD
    return math.exp(-0.5 * z * z) / (GAP_SPREAD * math.sqrt(2.0 * math.pi) * wait)


@numba.njit(cache=True)
def _gap_passed(wait: float, log_median: float) -> float:
    return 0.5 * math.erfc((log_median - math.log(wait)) / (GAP_SPREAD * math.sqrt(2.0)))
