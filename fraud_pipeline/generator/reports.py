"""Fraud reports as events.

Belongs here: late, missing and wrong reports, made from (seed, day) alone, so that any span of time gives the same
reports. Must not be here: when a victim notices a row of an episode (`episodes.py`).
"""

from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fraud_pipeline.generator import chance
from fraud_pipeline.generator.episodes import MAX_REPORT_DAYS
from fraud_pipeline.generator.population import Ints
from fraud_pipeline.generator.rows import Rows, World, transaction_ids
from fraud_pipeline.schema.transactions import times

_WRONG: Final = 0.01  # share of all reports that accuse an honest transaction
_LATE_MEDIAN_DAYS: Final = 4.0
_LATE_SPREAD: Final = 1.2


def wrong_reports(world: World, day: int) -> tuple[NDArray[np.float64], Ints]:
    """Which of a day's ordinary rows are reported in error: positions in the day (0 to 1), delays in microseconds.

    No row of the day is needed, so that a later reader can see cheaply that a day has no wrong report.
    """
    rng = chance.batch_generator(world.config.seed, "wrong reports", day)
    expected = world.config.fraud_rate * world.customers.activity.sum() * _WRONG / (1 - _WRONG)
    count = rng.poisson(expected)
    delay = chance.late_microseconds(
        rng, count, median_days=_LATE_MEDIAN_DAYS, spread=_LATE_SPREAD, longest_days=MAX_REPORT_DAYS
    )
    return rng.random(count), delay


def report_frame(world: World, rows: Rows, *, reported_at: Ints) -> pd.DataFrame:
    """Reports of rows, in order of `reported_at`; all of them report fraud."""
    order = np.lexsort((rows.key, reported_at))
    return (
        pd.DataFrame(
            {
                "transaction_id": transaction_ids(rows),
                "reported_at": times(reported_at),
                "is_fraud": np.ones(len(order), dtype=bool),
                "event_time": times(rows.time),
                "customer_id": world.customer_ids[rows.customer],
                "merchant_id": world.merchant_ids[rows.merchant],
                "amount_cents": rows.cents,
            }
        )
        .iloc[order]
        .reset_index(drop=True)
    )
