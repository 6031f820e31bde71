"""The alerts page: the queue, or the alert in front of the analyst.

Belongs here: which of the two is shown. Must not be here: their content (`queue_view.py`, `case_view.py`).
"""

import streamlit as st

from fraud_pipeline.database.alert_queue import read_alert
from serving.dashboard import case_view, queue_view
from serving.dashboard.session import Session
from serving.dashboard.verdicts import current_number, my_alerts, notices, show_queue


def show(session: Session) -> None:
    """The page."""
    notices(session)
    number = current_number(mine := my_alerts(session))
    if number is None:
        queue_view.show(session)
        return
    alert = read_alert(session.database, number)
    if alert is None:
        st.warning(f"There is no alert {number}. Its retention may have ended; look for its transaction instead.")
        st.button("Back to the queue", on_click=show_queue)
        return
    case_view.show(session, alert, mine=mine)
