"""The expected loss of an alert, and its place in the queue.

Belongs here: both formulas. Must not be here: statements (`database/alert_queue.py`), the analysts' work (`queue.py`).

Sorted by loss alone, an alert of little value would wait for ever; first in, first out would let the valuable ones
wait. A week of waiting therefore counts like twice the expected loss. That order does not change while time passes, so
it is stored and read from an index, and it needs no currency.
"""

from math import log2
from typing import Final

from fraud_pipeline.schema.transactions import DAY

DOUBLING: Final = 7 * DAY
"""The waiting time that counts like twice the expected loss."""


def expected_loss_cents(amount_cents: int, probability: float | None) -> int:
    """Probability times amount, in cents; a refund counts as a payment.

    Rules give no probability, and then the whole amount is at risk.
    """
    return round(abs(amount_cents) * (1.0 if probability is None else probability))


def queue_order(created_at: int, loss_cents: int) -> float:
    """The place in the queue, the smallest first: the week of the alert, less one for each doubling of its loss.

    An alert whose loss is 2^k times another's passes it only if it came at most k weeks later. `created_at` is in
    microseconds since 1970-01-01 UTC.
    """
    return created_at / DOUBLING - log2(max(loss_cents, 1))
