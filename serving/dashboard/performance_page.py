"""Performance page: metrics of the champion on matured and on provisional labels.

Belongs here: content of the page. Must not be here: metrics (`fraud_pipeline/monitoring/performance.py`).
"""

import pandas as pd
import streamlit as st

from fraud_pipeline.database.performance import read_performance
from fraud_pipeline.reporting.daily_charts import metric_over_time
from serving.dashboard.formatting import words
from serving.dashboard.report_page import show_days_not_judged, show_verdict
from serving.dashboard.session import Session


def show(session: Session) -> None:
    """The page."""
    newest_report = show_verdict(session, "performance")
    if newest_report is not None:
        show_days_not_judged(session, "performance", newest=newest_report.day)
    tomorrow = pd.Timestamp.now(tz="UTC").floor("D") + pd.Timedelta(days=1)
    figures = read_performance(session.database, start=pd.Timestamp(0, tz="UTC"), end=tomorrow)
    if figures.empty:
        return
    metrics = list(figures["metric"].unique())
    name = st.selectbox("Metric", metrics, format_func=words, width=360)
    shown = figures[(figures["metric"] == name) & figures["value"].notna()]
    st.altair_chart(metric_over_time(shown, name=name).properties(height=300), width="stretch")
    st.caption(
        "A line for each champion, by its version. Matured: old enough that what nobody reported counts as legitimate; "
        "a few frauds are reported later still, some never, and those of blocked payments only through a holdout. "
        "Provisional: more frauds will be reported, and precision will rise with them. Bars are 95 % intervals."
    )
    newest = figures[figures["day"] == figures.groupby("kind")["day"].transform("max")]
    st.dataframe(
        newest.assign(metric=newest["metric"].map(words)),
        hide_index=True,
        column_config={"day": st.column_config.DateColumn()},
    )
