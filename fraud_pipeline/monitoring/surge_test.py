"""Surges: have there been more incidents of late than the days before let expect, as far as they are reported by now?

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
"""Days up to the last one in which a surge may have begun."""
MIN_DAYS: Final = 14
"""Days before a surge, and days whose labels have matured, that it takes to know what is usual."""
LIMIT: Final = 1.25
"""The least that counts: incidents as a multiple of the expected ones."""
FALSE_ALARMS: Final = 0.01
"""How often a day may be red by chance, over all that is looked at."""


@dataclass(frozen=True, slots=True)
class Surge:
    """Incidents from day `since` on that are reported by now, beside what the days before let expect.

    `p` is the chance of so many without any change, corrected for all that was looked at.
    """

    since: int
    incidents: int
    expected: float
    p: float

    @property
    def large(self) -> bool:
        """Whether it would matter."""
        return self.incidents > LIMIT * self.expected

    @property
    def found(self) -> bool:
        """Large, and beyond chance."""
        return self.large and self.p <= FALSE_ALARMS


def most_significant_excess(
    event: Ints, reported: Ints, exposed: Ints, *, matured: int, comparisons: int
) -> Surge | None:
    """The last days that are the least likely to be chance; large surges come first. None where too few are known.

    event, reported: as in `expected_incidents`; exposed: customers by day (days,), the last one being the day of the
    report; matured: of them, how many have all their reports; looks: how many such questions are asked at once.
    """
    if matured < MIN_DAYS:
        return None
    overdispersion = _dispersion(event, exposed, matured=matured)
    found = []
    for since in (len(exposed) - span for span in SPANS):
        if since < MIN_DAYS or not exposed[:since].sum() or not exposed[since:].sum():
            continue
        one = compared(event, reported, exposed, since=since, overdispersion=overdispersion)
        found.append(replace(one, p=min(1.0, one.p * comparisons * len(SPANS))))
    return min(found, key=lambda one: (not one.large, one.p, one.since), default=None)


def compared(event: Ints, reported: Ints, exposed: Ints, *, since: int, overdispersion: float = 1.0) -> Surge:
    """Incidents from one day on beside the days before, with the chance of so many as if nothing else were looked at.

    event, reported, exposed: as in `expected_incidents`; clumped: for how many incidents one piece of evidence stands.
    """
    incidents = int((event >= since).sum())
    expected = float(expected_incidents(event, reported, exposed, since=since)[since:].sum())
    exposure = float(exposed[since:].sum() / exposed[:since].sum())
    p = chance_of_more(incidents / overdispersion, expected=expected / overdispersion, exposure=exposure)
    return Surge(since, incidents, expected, p)


def expected_incidents(event: Ints, reported: Ints, exposed: Ints, *, since: int) -> Floats:
    """Incidents of each day that would be reported by now if nothing had changed since a day, shape (days,).

    event, reported: day of each incident and of its report (n,), as an index of exposed, customers by day (days,).
    From `since` on a day counts with the share of earlier incidents that were reported as soon as it could have been.
    """
    before = event < since
    delay = np.bincount(np.minimum((reported - event)[before], len(exposed)), minlength=len(exposed) + 1)
    rate = np.cumsum(delay) / max(exposed[:since].sum(), 1)
    age = len(exposed) - 1 - np.arange(len(exposed))
    return np.asarray(exposed * np.where(np.arange(len(exposed)) < since, rate[-1], rate[age]))


def chance_of_more(incidents: float, *, expected: float, exposure: float) -> float:
    """Chance of so many incidents or more where the days before let expect `expected`.

    exposure: customers of the last days as a multiple of those of the days before; the smaller, the better is known
    what to expect. Source: Przyborowski and Wilenski, "Homogeneity of results in testing samples from Poisson series",
    Biometrika 1940.
    """
    if not incidents:
        return 1.0
    return float(special.betainc(incidents, expected / exposure + 1, exposure / (1 + exposure)))


def _dispersion(event: Ints, exposed: Ints, *, matured: int) -> float:
    """How many times as much as chance alone the incidents of a day vary, at least 1 (Pearson's statistic).

    One compromised shop makes several incidents; then each counts for less.
    """
    counts = np.bincount(event, minlength=len(exposed))[:matured]
    expected = exposed[:matured] * counts.sum() / max(exposed[:matured].sum(), 1)
    there = expected > 0
    if there.sum() < 2:
        return 1.0
    statistic = ((counts[there] - expected[there]) ** 2 / expected[there]).sum() / (there.sum() - 1)
    return float(max(1.0, statistic))
