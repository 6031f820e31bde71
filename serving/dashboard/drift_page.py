"""How far the days are from what the champion learned and from the weeks before.

Belongs here: what is shown. Must not be here: what drift is (`fraud_pipeline/drift.py`).
"""

from typing import Final

import pandas as pd
import streamlit as st

from fraud_pipeline.database.drift import newest_drift_day, read_drift
from fraud_pipeline.database.verdicts import newest_reported
from fraud_pipeline.drift import LIMITS
from serving.dashboard.here import Here
from serving.dashboard.looks import drift_map, words
from serving.dashboard.report_page import show_report

DAYS: Final = 42
TOP: Final = 25
_BASELINES: Final = {
    "what the champion learned from": "champion",
    "the same weekday of the weeks before": "weeks_before",
}


def show(here: Here) -> None:
    """The page."""
    last = newest_drift_day(here.database)
    if last is None:
        st.info("No drift report yet: `drift_job` writes one a day; materialize `drift_report` to have one now.")
        return
    end = last + pd.Timedelta(days=1)
    rows = read_drift(here.database, start=end - pd.Timedelta(days=DAYS), end=end)
    baseline = st.segmented_control("Compared with", list(_BASELINES), default=next(iter(_BASELINES)), required=True)
    rows["of_limit"] = rows["size"] / rows["kind"].map(dict(LIMITS))
    newest = rows.loc[(rows["day"] == last) & rows["drifted"], "feature"].unique()
    day = f"{last:%Y-%m-%d}"
    if len(newest):
        st.error(f"{day}: drift in {', '.join(newest)}. Look at the source of these fields first; then retrain.")
    else:
        st.success(f"{day}: no drift that both comparisons find.")
    for verdict in newest_reported(here.database):
        if verdict.report == "drift" and not verdict.judged:
            st.warning(verdict.summary)
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
    show_report(here, "drift")
