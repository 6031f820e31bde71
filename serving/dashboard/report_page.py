"""The verdict of a daily report and its page, to read and to download.

Belongs here: elements that all report pages share. Must not be here: the judgement of a report.
"""

import base64
from collections.abc import Sequence
from typing import Final

import pandas as pd
import streamlit as st

from fraud_pipeline.database.verdicts import (
    ReportName,
    ReportVerdict,
    days_with_page,
    newest_reported,
    newest_verdicts,
    not_judged_days,
    read_page,
)
from serving.dashboard.formatting import plain, words
from serving.dashboard.session import Session

SHOWN_DAYS: Final = 42


def show_verdict(session: Session, report: ReportName) -> ReportVerdict | None:
    """The newest report's day and verdict, and the last one that judged where that is older; None without a report."""
    newest = _of(report, newest_reported(session.database))
    if newest is None:
        st.info(
            f"No {words(report)} report yet. `drift_job` makes one every night. To make one now, open the Dagster UI "
            f"(`fraud-detect ui`) and materialize the newest day of the asset `{report}_report`."
        )
        return None
    st.caption(f"Newest report: {newest.day:%A, %Y-%m-%d}")
    _banner(newest)
    judged = _of(report, newest_verdicts(session.database))
    if judged is not None and judged.day < newest.day:
        st.caption(
            f"Newest report that judged its day: {judged.day:%A, %Y-%m-%d}. It decides whether the alarm is red."
        )
        _banner(judged)
    return newest


def show_days_not_judged(session: Session, report: ReportName, *, newest: pd.Timestamp) -> None:
    """The days of the last weeks that the report could not judge, with the reasons."""
    verdicts = not_judged_days(session.database, report, start=newest - pd.Timedelta(days=SHOWN_DAYS - 1))
    if not verdicts:
        return
    with st.expander(f"Days that were not judged: {len(verdicts)} of the last {SHOWN_DAYS}"):
        rows = [{"day": f"{verdict.day:%Y-%m-%d}", "reason": verdict.summary} for verdict in verdicts]
        st.table(pd.DataFrame(rows).set_index("day"))


def show_report(session: Session, report: ReportName, *, opened: bool = False) -> None:
    """The page of a day, chosen among those that are kept."""
    days = days_with_page(session.database, report)
    if not days:
        return
    st.subheader("Reports")
    day = st.selectbox("Day", days, format_func=lambda date: f"{date:%Y-%m-%d}", width=360)
    page = read_page(session.database, report, day)
    if page is None:  # the page was replaced a moment ago
        return
    st.download_button("Download", page, file_name=f"{report}-{day:%Y-%m-%d}.html", mime="text/html")
    with st.expander("Show", expanded=opened):
        # As data it has an origin of its own: whatever were in it, it could not reach the dashboard.
        st.iframe(f"data:text/html;base64,{base64.b64encode(page.encode()).decode()}", height=900)


def _of(report: ReportName, verdicts: Sequence[ReportVerdict]) -> ReportVerdict | None:
    return next((verdict for verdict in verdicts if verdict.report == report), None)


def _banner(verdict: ReportVerdict) -> None:
    show = st.warning if not verdict.judged else st.error if verdict.red else st.success
    show(plain(verdict.summary))
