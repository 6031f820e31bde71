"""The transaction page: one decision, allowed ones too, with its customer's history around it.

Belongs here: content of the page. Must not be here: verdicts (`verdicts.py`), SQL.
"""

import streamlit as st

from fraud_pipeline.database.alert_queue import read_alert_of
from fraud_pipeline.database.overview import read_case
from fraud_pipeline.database.timeline import read_transaction
from fraud_pipeline.schema.fields import NO_MERCHANT
from serving.dashboard.case_view import show_case
from serving.dashboard.customer_view import show_customer
from serving.dashboard.formatting import plain
from serving.dashboard.navigation import link, parameter
from serving.dashboard.session import Session


def show(session: Session) -> None:
    """The page of the transaction that the address names."""
    transaction_id = parameter("transaction")
    if transaction_id is None:
        st.info("Search for a transaction, or click a row of a customer's history.")
        return
    case, row = read_case(session.database, transaction_id), read_transaction(session.database, transaction_id)
    if case is None and row is None:
        st.warning(f"There is no transaction {plain(transaction_id)}. Search for its customer instead.")
        return
    left, right = st.columns([3, 5], gap="large")
    with left:
        if case is None:
            st.info("This transaction was loaded as history and never decided on.")
        else:
            show_case(case)
        _links(session, transaction_id, merchant_id=row.merchant_id if row else None)
    with right:
        if row is None:
            st.info("The transaction itself has left history, as FRAUD_HISTORY_RETENTION says.")
            return
        st.subheader(f"Customer {plain(row.customer_id)}")
        link("Customer", "All of this customer", transaction=transaction_id)
        show_customer(session, row.customer_id, transaction_id=transaction_id, event_time=row.event_time)


def _links(session: Session, transaction_id: str, *, merchant_id: str | None) -> None:
    alert = read_alert_of(session.database, transaction_id)
    if alert is None:
        st.caption("No alert was raised for it.")
    else:
        link("Alerts", f"Alert {alert.number}", alert=str(alert.number))
    if merchant_id not in (None, NO_MERCHANT):
        link("Merchant", f"Merchant {plain(merchant_id)}", merchant=merchant_id)
