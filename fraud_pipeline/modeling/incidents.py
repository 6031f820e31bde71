"""Incidents: the frauds of one customer that belong together, and whether they were caught.

Belongs here: which frauds are one incident, and its metrics. Must not be here: metrics of rows (`metrics.py`).

A customer and an analyst count incidents: five payments with one stolen card are one case, and what matters is whether
it was noticed, and at which payment.
"""

from dataclasses import dataclass
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from fraud_pipeline.modeling.metrics import Floats, ratio
from fraud_pipeline.schema.transactions import DAY

QUIET: Final = 3 * DAY
"""A fraud this long after the customer's last one begins another incident."""


@dataclass(frozen=True, slots=True, eq=False)
class Incidents:
    """Incidents (k,): the position of their customer, and whether any fraud and the first one raised an alert."""

    owners: NDArray[np.intp]
    caught: NDArray[np.bool_]
    caught_at_once: NDArray[np.bool_]

    @classmethod
    def of(
        cls, frauds: NDArray[np.bool_], alerts: NDArray[np.bool_], customers: NDArray[np.intp], times: NDArray[np.int64]
    ) -> Self:
        """The incidents of rows (n,) with their customers' positions and times in microseconds.

        Frauds at the same time are equally first.
        """
        rows = np.flatnonzero(frauds)
        rows = rows[np.lexsort((times[rows], customers[rows]))]
        owner, at = customers[rows], times[rows]
        begins = np.ones(len(rows), np.bool_)
        begins[1:] = (owner[1:] != owner[:-1]) | (at[1:] - at[:-1] > QUIET)
        starts = np.flatnonzero(begins)
        if not len(rows):
            return cls(owner, begins, begins)
        first = at == at[starts][np.cumsum(begins) - 1]
        return cls(
            owners=owner[starts],
            caught=np.logical_or.reduceat(alerts[rows], starts),
            caught_at_once=np.logical_or.reduceat(alerts[rows] & first, starts),
        )

    def metrics(self, drawn: Floats) -> dict[str, Floats]:
        """Shares of incidents and of defrauded customers, for customers drawn (replicates, customers) times."""
        weights = drawn[:, self.owners]
        defrauded = np.zeros(drawn.shape[1])
        defrauded[self.owners] = 1
        noticed = np.zeros(drawn.shape[1])
        noticed[self.owners[self.caught]] = 1
        total = weights.sum(axis=1)
        return {
            "incident_recall": ratio(weights @ self.caught, total),
            "incident_recall_at_once": ratio(weights @ self.caught_at_once, total),
            "customer_recall": ratio(drawn @ noticed, drawn @ defrauded),
        }
