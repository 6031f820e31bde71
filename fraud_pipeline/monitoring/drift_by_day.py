"""Drift over many days: the state of each feature on each day, from stored shifts.

Belongs here: shifts as the cells of a heat map. Must not be here: when a feature has drifted (`drift.py`), plots.
"""

from typing import get_args

import numpy as np
import pandas as pd

from fraud_pipeline.monitoring.drift import LIMITS, Baseline


def daily_states(rows: pd.DataFrame) -> pd.DataFrame:
    """The state of each feature on each day, and the measure that decides it.

    Args:
        rows: day, feature, baseline, kind, size, drifted.

    Returns: day, feature, kind, state, and the size by baseline, where 1 is the limit: champion, weeks_before; largest.

    """
    keys = ["day", "feature", "kind"]
    rows = rows.assign(of_limit=rows["size"] / rows["kind"].map(dict(LIMITS)).astype(float))
    sizes = rows.pivot_table(index=keys, columns="baseline", values="of_limit").reindex(
        columns=list(get_args(Baseline))
    )
    drifted = rows.groupby(keys)["drifted"].any().astype(bool)
    measures = sizes.assign(largest=sizes.max(axis=1), drifted=drifted).reset_index()
    worst = measures.sort_values(["drifted", "largest"]).drop_duplicates(["day", "feature"], keep="last")
    state = np.select([worst["drifted"], worst["largest"] >= 1], ["drift", "beyond"], "within")
    return worst.assign(state=state).drop(columns="drifted").sort_values(["day", "feature"], ignore_index=True)
