"""Statements for the daily drift report.

Belongs here: writing and reading its rows. Must not be here: measures and verdicts.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd
import sqlalchemy as sa

from fraud_pipeline.database.engine import Database
from fraud_pipeline.database.statements import replace_day
from fraud_pipeline.database.tables import DRIFT
from fraud_pipeline.schema.transactions import microsecond, times


@dataclass(frozen=True, slots=True)
class DriftRow:
    """One feature of a day against one baseline by one measure; `drifted` when both baselines confirm it."""

    feature: str
    baseline: str
    kind: str
    size: float
    q: float
    drifted: bool
    model_version: str


def replace_drift(database: Database, *, day: pd.Timestamp, rows: Sequence[DriftRow]) -> None:
    """Store a day's figures and replace those of an earlier run for the day."""
    replace_day(database, DRIFT, day=microsecond(day), rows=[asdict(row) for row in rows])


def read_drift(database: Database, *, start: pd.Timestamp, end: pd.Timestamp) -> pd.DataFrame:
    """Figures of the days of [start, end), in order of day: day, feature, baseline, kind, size, q, drifted."""
    names = ("day", "feature", "baseline", "kind", "size", "q", "drifted")
    query = (
        sa.select(*(DRIFT.c[name] for name in names))
        .where(DRIFT.c.day >= microsecond(start), DRIFT.c.day < microsecond(end))
        .order_by(DRIFT.c.day, DRIFT.c.feature, DRIFT.c.baseline, DRIFT.c.kind)
    )
    shifts = database.frame(query)
    return shifts.assign(day=times(shifts["day"].to_numpy(np.int64)))
