"""A day's report as the pipeline made it, to read and to have.

Belongs here: what pages with reports share. Must not be here: what a report finds.
"""

import base64

import streamlit as st

from fraud_pipeline.database.verdicts import Report, days_with_page, read_page
from serving.dashboard.here import Here


def show_report(here: Here, report: Report, *, opened: bool = False) -> None:
    """The page of a day, chosen among those that are kept."""
    days = days_with_page(here.database, report)
    if not days:
        return
    st.subheader("Reports")
    day = st.selectbox("Day", days, format_func=lambda one: f"{one:%Y-%m-%d}", width=360)
    page = read_page(here.database, report, day)
    if page is None:  # it was made anew just now
        return
    st.download_button("Download", page, file_name=f"{report}-{day:%Y-%m-%d}.html", mime="text/html")
    with st.expander("Show", expanded=opened):
        # As data it has an origin of its own: whatever were in it, it could not reach the dashboard.
        st.iframe(f"data:text/html;base64,{base64.b64encode(page.encode()).decode()}", height=900)
