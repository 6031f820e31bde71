"""The merchant page: volume, reported fraud, open alerts, and customers in common with fraud elsewhere.

Belongs here: content of the page. Must not be here: SQL (`fraud_pipeline/database/merchants.py`).
"""

from typing import Final

import pandas as pd
import streamlit as st

from fraud_pipeline.database.alert_queue import AlertFilter, count_queue, read_queue
from fraud_pipeline.database.merchants import read_common_customers, read_frauds, read_volume
from fraud_pipeline.database.timeline import read_merchant
from fraud_pipeline.reporting.desk_charts import payments_per_day
from fraud_pipeline.schema.transactions import now_microseconds
from serving.dashboard.customer_view import table
from serving.dashboard.formatting import money, plain, share, show_figures
from serving.dashboard.navigation import link, parameter
from serving.dashboard.session import Session

DAYS: Final = 30
NEWEST: Final = 100
COUNTED: Final = 1_000
LISTED: Final = 10


def show(session: Session) -> None:
    """The page of the merchant that the address names."""
    merchant_id = parameter("merchant")
    if merchant_id is None:
        st.info("Search for a merchant, or open one from a transaction.")
        return
    database = session.database
    newest = read_merchant(database, merchant_id, limit=NEWEST)
    if newest.empty:
        st.warning(f"No transaction of merchant {plain(merchant_id)} is in history. Ids are compared whole.")
        return
    st.subheader(plain(merchant_id))
    start = pd.Timestamp.now(tz="UTC").floor("D") - pd.Timedelta(days=DAYS)
    volume, frauds = (read(database, merchant_id, start=start) for read in (read_volume, read_frauds))
    waiting = AlertFilter(state="open", now=now_microseconds(), merchant_id=merchant_id)
    payments = int(volume["transactions"].sum())
    show_figures(
        {
            f"Payments, {DAYS} days": f"{payments:,}" if payments else "-",
            "Amount": money(int(volume["amount_cents"].sum())) if payments else "-",
            "Reported fraud": f"{len(frauds):,}",
            "Share of payments": share(len(frauds), payments),
            "Open alerts": f"{count_queue(database, waiting, up_to=COUNTED):,}",
        }
    )
    if volume.empty:
        st.info("Volume is counted in whole days, which the asset `online_history` makes each night.")
    else:
        st.altair_chart(payments_per_day(volume, frauds).properties(height=200), width="stretch")
    _common(session, merchant_id, start=start)
    for row in read_queue(database, waiting, limit=LISTED):
        label = f"Alert {row.alert.number}: expected loss {money(row.alert.expected_loss_cents or 0)}"
        link("Alerts", label, alert=str(row.alert.number))
    st.caption(f"The newest {len(newest)} payments here")
    table(newest, key=f"merchant-{merchant_id}", with_customer=True)


def _common(session: Session, merchant_id: str, *, start: pd.Timestamp) -> None:
    common = read_common_customers(session.database, merchant_id, start=start)
    if not common.defrauded:
        st.caption(f"No fraud was reported at another merchant in {DAYS} days, so there is no common customer.")
        return
    count = len(common.customers)
    names = ", ".join(map(plain, common.customers[:LISTED])) + (" ..." if count > LISTED else "")
    st.markdown(
        f"**{count} of {common.defrauded} customers** with a fraud reported elsewhere in {DAYS} days paid here before "
        f"it{': ' if count else '.'}{names}"
    )
