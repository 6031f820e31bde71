"""Missed fraud page: whether reports of fraud that the champion had allowed are more frequent than usual.

Belongs here: content of the page. Must not be here: what a surge is (`fraud_pipeline/monitoring/surge_test.py`).
"""

from serving.dashboard.report_page import show_days_not_judged, show_report, show_verdict
from serving.dashboard.session import Session


def show(session: Session) -> None:
    """The page."""
    newest = show_verdict(session, "missed_fraud")
    if newest is None:
        return
    show_days_not_judged(session, "missed_fraud", newest=newest.day)
    show_report(session, "missed_fraud", opened=True)
