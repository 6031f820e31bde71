"""The overview of the desk: caught, missed, saved, precision of reviews, workload, by day.

Belongs here: content of the page. Must not be here: SQL (`fraud_pipeline/database/desk_overview.py`), charts.
"""

from typing import Final

import pandas as pd
import streamlit as st

from fraud_pipeline.database.desk_overview import read_alert_outcomes, read_frauds_by_decision
from fraud_pipeline.reporting.desk_charts import alerts_per_day, frauds_per_day
from serving.dashboard.formatting import money, share, show_figures
from serving.dashboard.session import Session

SPANS: Final = {"7 days": 7, "30 days": 30, "90 days": 90}
_WAITING: Final = ("open", "in_review")


def show(session: Session) -> None:
    """The page."""
    span = st.segmented_control("Show the last", list(SPANS), default="30 days", required=True)
    start = pd.Timestamp.now(tz="UTC").floor("D") - pd.Timedelta(days=SPANS[span] - 1)
    frauds = read_frauds_by_decision(session.database, start=start)
    alerts = read_alert_outcomes(session.database, start=start)
    if frauds.empty and alerts.empty:
        st.info("No alert was opened and no fraud reported in this time: choose a longer one, or take the next alert.")
        return
    caught = frauds[frauds["decision"] != "allow"]
    counts = alerts.groupby("status")["alerts"].sum()
    confirmed, legitimate = (int(counts.get(status, 0)) for status in ("confirmed_fraud", "legitimate"))
    waiting = sum(int(counts.get(status, 0)) for status in _WAITING)
    show_figures(
        {
            "Caught": f"{len(caught):,} of {len(frauds):,}",
            "Missed": f"{len(frauds) - len(caught):,}",
            "Saved": money(int(caught["amount_cents"].sum())),
            "Lost": money(int(frauds["amount_cents"].sum() - caught["amount_cents"].sum())),
            "Precision of reviews": share(confirmed, confirmed + legitimate),
            "Alerts a day": f"{alerts['alerts'].sum() / SPANS[span]:,.1f}",
            "Waiting": f"{waiting:,}",
        }
    )
    st.caption(
        "Frauds are transactions of this time that are reported as fraud by now; newer ones are still to be reported. "
        "Caught means blocked or sent to review, and saved is their amount. Precision is the share of fraud among the "
        "verdicts on alerts that opened in this time."
    )
    left, right = st.columns(2, gap="large")
    if not frauds.empty:
        left.altair_chart(frauds_per_day(frauds).properties(height=260), width="stretch")
    if not alerts.empty:
        right.altair_chart(alerts_per_day(alerts).properties(height=260), width="stretch")
    _table(frauds, alerts)


def _table(frauds: pd.DataFrame, alerts: pd.DataFrame) -> None:
    """The same figures by day, the newest first."""
    is_caught = frauds["decision"] != "allow"
    by_day = {
        "caught": frauds[is_caught].groupby("day").size(),
        "missed": frauds[~is_caught].groupby("day").size(),
        "saved": frauds[is_caught].groupby("day")["amount_cents"].sum() / 100,
        "alerts": alerts.groupby("day")["alerts"].sum(),
        "fraud": alerts[alerts["status"] == "confirmed_fraud"].groupby("day")["alerts"].sum(),
        "legitimate": alerts[alerts["status"] == "legitimate"].groupby("day")["alerts"].sum(),
        "waiting": alerts[alerts["status"].isin(_WAITING)].groupby("day")["alerts"].sum(),
    }
    days = pd.DataFrame(by_day).fillna(0).sort_index(ascending=False).reset_index(names="day")
    st.dataframe(
        days,
        hide_index=True,
        column_config={
            "day": st.column_config.DateColumn(format="YYYY-MM-DD"),
            "saved": st.column_config.NumberColumn(format="%.2f"),
        },
    )
