"""How far the days are from what the champion learned and from the weeks before.

Belongs here: what is shown. Must not be here: what drift is (`fraud_pipeline/drift.py`).
"""

from typing import Final

import pandas as pd
import streamlit as st

from fraud_pipeline.database.drift import read_drift
from fraud_pipeline.drift import LIMITS
from serving.dashboard.here import Here
from serving.dashboard.looks import drift_map, words

DAYS: Final = 42
TOP: Final = 25
_BASELINES: Final = {
    "what the champion learned from": "champion",
    "the same weekday of the weeks before": "weeks_before",
}


def show(here: Here) -> None:
    """The page."""
    today = pd.Timestamp.now(tz="UTC").floor("D")
    rows = _newest_days(read_drift(here.database, start=pd.Timestamp(0, tz="UTC"), end=today + pd.Timedelta(days=1)))
    if rows.empty:
        st.info("No drift report yet: `drift_job` writes one a day; materialize `drift_report` to have one now.")
        return
    baseline = st.segmented_control("Compared with", list(_BASELINES), default=next(iter(_BASELINES)), required=True)
    rows["of_limit"] = rows["size"] / rows["kind"].map(dict(LIMITS))
    newest = rows.loc[(rows["day"] == rows["day"].max()) & rows["drifted"], "feature"].unique()
    day = f"{rows['day'].max():%Y-%m-%d}"
    if len(newest):
        st.error(f"{day}: drift in {', '.join(newest)}. Look at the source of these fields first; then retrain.")
    else:
        st.success(f"{day}: no drift that both comparisons find.")
    of_baseline = rows[rows["baseline"] == _BASELINES[baseline]]
    worst = of_baseline.sort_values("of_limit").drop_duplicates(["day", "feature"], keep="last")
    largest = worst.groupby("feature")["of_limit"].max().nlargest(TOP).index
    shown = worst[worst["feature"].isin(largest)].assign(measure=lambda frame: frame["kind"].map(words))
    st.altair_chart(drift_map(shown[["day", "feature", "of_limit", "measure", "drifted"]]), width="stretch")
    st.caption(
        f"The {TOP} features that moved most in {rows['day'].nunique()} days. 1 is the limit: PSI {LIMITS['psi']:g}, "
        f"KS {LIMITS['ks']:g}, missing {LIMITS['missing']:g}. A dot: both comparisons find the shift large and beyond "
        "chance."
    )


def _newest_days(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[rows["day"].isin(rows["day"].drop_duplicates().nlargest(DAYS))]
