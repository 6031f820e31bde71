"""The customer page: every alert of one customer together, and the whole history.

Belongs here: content of the page. Must not be here: verdicts (`verdicts.py`), SQL.

The address names a transaction of the customer and not the customer, because a customer's id may be personal.
"""

import time
from collections.abc import Sequence
from typing import Final

import streamlit as st

from fraud_pipeline.alerts.queue import Alert
from fraud_pipeline.database.alert_queue import read_alerts_of_customer
from fraud_pipeline.database.timeline import read_before, read_transaction
from fraud_pipeline.schema.transactions import now_microseconds
from serving.dashboard.customer_view import MOST_BEFORE, table
from serving.dashboard.formatting import age, money, plain, show_figures, words
from serving.dashboard.navigation import link, parameter
from serving.dashboard.session import Session
from serving.dashboard.verdicts import notices, verdict_buttons

MOST: Final = 200


def show(session: Session) -> None:
    """The page of the customer of the transaction that the address names."""
    notices(session)
    transaction_id = parameter("transaction")
    row = None if transaction_id is None else read_transaction(session.database, transaction_id)
    if row is None:
        st.info("Search for a customer, or open one from an alert. The address names one of their transactions.")
        return
    st.subheader(plain(row.customer_id))
    alerts = read_alerts_of_customer(session.database, row.customer_id, limit=MOST)
    history = read_before(session.database, row.customer_id, before=now_microseconds() + 1, limit=MOST_BEFORE)
    frauds = int((history["is_fraud"] == 1).sum())
    newest = f", the newest {MOST_BEFORE}" if len(history) == MOST_BEFORE else ""
    show_figures(
        {
            "Alerts": f"{len(alerts)}",
            "Reported fraud": f"{frauds}",
            f"Payments{newest}": f"{len(history)}",
            "Their amount": money(int(history["amount_cents"].sum())),
        }
    )
    if alerts:
        _alerts(session, alerts)
    else:
        st.info("No alert was raised for this customer. A click into a payment opens it.")
    table(history, marked=row.transaction_id, key="history")


def _alerts(session: Session, alerts: Sequence[Alert]) -> None:
    for alert in alerts[:10]:
        label = f"Alert {alert.number}, {age(time.time() - alert.created_at / 1e6)} old: "
        amount = "" if alert.amount_cents is None else f"{money(alert.amount_cents)}, "
        link("Alerts", f"{label}{amount}{words(alert.fraud_kind or alert.status)}", alert=str(alert.number))
    mine = (None, session.caller.subject)
    open_ids = [alert.transaction_id for alert in alerts if alert.resolved_at is None and alert.assignee in mine]
    if session.may("feedback") and len(open_ids) > 1:
        st.markdown(f"**Resolve all {len(open_ids)} open alerts of this customer**")
        note = st.text_input("Note on all of them", max_chars=1_000)
        verdict_buttons(session, open_ids, key="customer", note=note, next_opens=False)
