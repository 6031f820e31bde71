"""Drift over many days: what each feature's stored shifts say about each day.

Belongs here: from shifts to the cells of a map. Must not be here: when a feature has drifted (`drift.py`), drawing.
"""

from typing import get_args

import numpy as np
import pandas as pd

from fraud_pipeline.monitoring.drift import LIMITS, Baseline


def daily_states(rows: pd.DataFrame) -> pd.DataFrame:
    """The state of each feature on each day, and the measure that shows it, from the shifts of many days.

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
