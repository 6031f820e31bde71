"""A statistical test for surges: more incidents reported in the last days than earlier days predict.

Belongs here: statistics over day numbers. Must not be here: which incidents count, tables, dates, words.
"""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import special

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

SPANS: Final = (1, 2, 3, 5, 7, 10, 14, 21, 28)
"""Lengths in days of the possible surges, which all end on the last day."""
MIN_DAYS: Final = 14
"""The least number of days before a surge, and of days with matured labels, to estimate the usual rate."""
LIMIT: Final = 1.25
"""The smallest relevant surge: incidents as a multiple of the expected ones."""
FALSE_ALARMS: Final = 0.01
"""The probability that a day is red by chance, over all comparisons together."""


@dataclass(frozen=True, slots=True)
class Surge:
    """Incidents from day `since` on that are reported by now, and the expected number.

    `p` is the probability of at least so many incidents without a change, corrected for all comparisons.
    """

    since: int
    incidents: int
    expected: float
    p: float

    @property
    def large(self) -> bool:
        """Whether the surge is large enough to matter."""
        return self.incidents > LIMIT * self.expected

    @property
    def significant(self) -> bool:
        """Large, and beyond chance."""
        return self.large and self.p <= FALSE_ALARMS


def most_significant_excess(
    event: Ints, reported: Ints, exposed: Ints, *, matured: int, comparisons: int
) -> Surge | None:
    """The most significant surge; large ones come first. None with too few days.

    event, reported: as in `expected_incidents`; exposed: customers by day (days,), the last one being the day of the
    report; matured: the number of days whose labels have matured; comparisons: the number of groups that are tested.
    """
    if matured < MIN_DAYS:
        return None
    overdispersion = _dispersion(event, exposed, matured=matured)
    surges = []
    for since in (len(exposed) - span for span in SPANS):
        if since < MIN_DAYS or not exposed[:since].sum() or not exposed[since:].sum():
            continue
        surge = compare_since(event, reported, exposed, since=since, overdispersion=overdispersion)
        surges.append(replace(surge, p=min(1.0, surge.p * comparisons * len(SPANS))))
    return min(surges, key=lambda excess: (not excess.large, excess.p, excess.since), default=None)


def compare_since(event: Ints, reported: Ints, exposed: Ints, *, since: int, overdispersion: float = 1.0) -> Surge:
    """Incidents from one day on against the days before, with the p-value of this one comparison.

    event, reported, exposed: as in `expected_incidents`; overdispersion: the number of incidents that count as one.
    """
    incidents = int((event >= since).sum())
    expected = float(expected_incidents(event, reported, exposed, since=since)[since:].sum())
    exposure = float(exposed[since:].sum() / exposed[:since].sum())
    p = chance_of_more(incidents / overdispersion, expected=expected / overdispersion, exposure=exposure)
    return Surge(since, incidents, expected, p)


def expected_incidents(event: Ints, reported: Ints, exposed: Ints, *, since: int) -> Floats:
    """The expected number of incidents of each day that are reported by now, shape (days,).

    event, reported: day of each incident and of its report (n,), as an index of exposed, customers by day (days,). The
    rate of the days before `since` is used, and for later days only incidents with a report delay that is possible by
    now.
    """
    before = event < since
    delay = np.bincount(np.minimum((reported - event)[before], len(exposed)), minlength=len(exposed) + 1)
    rate = np.cumsum(delay) / max(exposed[:since].sum(), 1)
    age = len(exposed) - 1 - np.arange(len(exposed))
    return np.asarray(exposed * np.where(np.arange(len(exposed)) < since, rate[-1], rate[age]))


def chance_of_more(incidents: float, *, expected: float, exposure: float) -> float:
    """The probability of at least so many incidents when `expected` are expected.

    exposure: customers of the last days as a multiple of those of the days before; a small one makes `expected` more
    certain. Source: Przyborowski and Wilenski, "Homogeneity of results in testing samples from Poisson series",
    Biometrika 1940.
    """
    if not incidents:
        return 1.0
    return float(special.betainc(incidents, expected / exposure + 1, exposure / (1 + exposure)))


def _dispersion(event: Ints, exposed: Ints, *, matured: int) -> float:
    """The variance of daily incidents as a multiple of a Poisson variance, at least 1 (Pearson's statistic).

    One compromised shop makes several incidents, so each of them counts for less.
    """
    counts = np.bincount(event, minlength=len(exposed))[:matured]
    expected = exposed[:matured] * counts.sum() / max(exposed[:matured].sum(), 1)
    judged = expected > 0
    if judged.sum() < 2:
        return 1.0
    statistic = ((counts[judged] - expected[judged]) ** 2 / expected[judged]).sum() / (judged.sum() - 1)
    return float(max(1.0, statistic))
