"""Whether more fraud is reported that the champion had allowed than is usual.

Belongs here: what is shown. Must not be here: what a surge is (`fraud_pipeline/surges.py`).
"""

import streamlit as st

from fraud_pipeline.database.verdicts import newest_reported
from serving.dashboard.here import Here
from serving.dashboard.report_page import show_report


def show(here: Here) -> None:
    """The page."""
    newest = next((one for one in newest_reported(here.database) if one.report == "missed_fraud"), None)
    if newest is None:
        st.info("No report yet: `drift_job` writes one a day; materialize `missed_fraud_report` to have one now.")
        return
    tell = st.warning if not newest.judged else st.error if newest.red else st.success
    tell(newest.summary)
    show_report(here, "missed_fraud", opened=True)
