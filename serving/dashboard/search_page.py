"""The search page: what the searched term is, with a link to each.

Belongs here: content of the page, and the search box above every page. Must not be here: look-ups
(`fraud_pipeline/database/search.py`).
"""

from typing import Final

import pandas as pd
import streamlit as st

from fraud_pipeline.database.search import find
from serving.dashboard.formatting import plain
from serving.dashboard.navigation import go, link
from serving.dashboard.session import Session

TITLE: Final = "Search"
_TERM: Final = "search_term"  # names in the session
_BOX: Final = "search_box"
_ASKED: Final = "search_asked"
_HELP: Final = "A transaction, customer or merchant id, the number of an alert, or a value of an own field"


def search_box() -> None:
    """The search box; a term leads to the search page. It stays out of the address, because it may be personal."""
    st.text_input("Search", key=_BOX, placeholder=_HELP, label_visibility="collapsed", on_change=_ask, type="search")
    if st.session_state.pop(_ASKED, False):
        go(TITLE)


def show(session: Session) -> None:
    """The page."""
    term = st.session_state.get(_TERM, "")
    if not term:
        st.info(f"{_HELP}: write it into the box above, whole and as it is stored, and press Enter.")
        return
    st.markdown(f"**{plain(term)}**")
    found = find(session.database, term, now=pd.Timestamp.now(tz="UTC"))
    if found.is_empty:
        st.info(
            "Nothing has this id. Ids are compared whole, and letter case counts. Own fields are searched in the "
            "transactions of the last day and in those with an alert."
        )
        return
    if found.alert is not None:
        link("Alerts", f"Alert {found.alert}", alert=str(found.alert))
    if found.transaction is not None:
        link("Transaction", f"Transaction {plain(term)}", transaction=found.transaction)
    if found.customer is not None:
        link("Customer", f"Customer {plain(term)}", transaction=found.customer)
    if found.merchant is not None:
        link("Merchant", f"Merchant {plain(term)}", merchant=term)
    for hit in found.own_fields:
        label = f"{plain(hit.field)} of transaction {plain(hit.transaction_id)}, {hit.event_time:%Y-%m-%d %H:%M} UTC"
        link("Transaction", label, transaction=hit.transaction_id)


def _ask() -> None:
    st.session_state[_TERM] = st.session_state[_BOX].strip()
    st.session_state[_ASKED] = bool(st.session_state[_TERM])
