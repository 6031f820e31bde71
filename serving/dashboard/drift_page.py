"""Drift page: the distance of each day from the champion's training data and from the weeks before.

Belongs here: content of the page. Must not be here: the definition of drift (`fraud_pipeline/monitoring/drift.py`).
"""

from typing import Final

import pandas as pd
import streamlit as st

from fraud_pipeline.database.drift import read_drift
from fraud_pipeline.database.verdicts import not_judged_days
from fraud_pipeline.monitoring.drift import LIMITS
from fraud_pipeline.monitoring.drift_by_day import daily_states
from fraud_pipeline.reporting.daily_charts import drift_map
from serving.dashboard.formatting import drift_legend
from serving.dashboard.report_page import SHOWN_DAYS, show_days_not_judged, show_report, show_verdict
from serving.dashboard.session import Session

TOP: Final = 25


def show(session: Session) -> None:
    """The page."""
    newest = show_verdict(session, "drift")
    if newest is None:
        return
    end = newest.day + pd.Timedelta(days=1)
    start = end - pd.Timedelta(days=SHOWN_DAYS)
    states = daily_states(read_drift(session.database, start=start, end=end))
    if not states.empty:
        not_judged = [verdict.day for verdict in not_judged_days(session.database, "drift", start=start)]
        drift_legend()
        st.altair_chart(drift_map(states, not_judged=not_judged, top=TOP), width="stretch")
        st.caption(
            f"The {TOP} features that moved most. Each day is compared with what the champion learned from and with "
            "the same weekday of the weeks before. A day is red only where both comparisons find the same shift large "
            f"and beyond chance. The limits are PSI {LIMITS['psi']:g}, KS {LIMITS['ks']:g} and missing "
            f"{LIMITS['missing']:g}; a cell's tooltip shows both sizes, where 1 is the limit."
        )
    show_days_not_judged(session, "drift", newest=newest.day)
    show_report(session, "drift")
