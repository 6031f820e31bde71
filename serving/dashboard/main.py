"""The program that Streamlit runs: login, then the pages.

Belongs here: the list of pages. Must not be here: their content.
"""

from collections.abc import Callable, Sequence
from typing import Final

import streamlit as st
from streamlit.navigation.page import Page

from fraud_pipeline.database import DatabaseUnavailableError
from serving.dashboard import (
    alerts_page,
    customer_page,
    drift_page,
    merchant_page,
    missed_fraud_page,
    models_page,
    overview_page,
    performance_page,
    search_page,
    stream_page,
    traffic_page,
    transaction_page,
)
from serving.dashboard.formatting import plain
from serving.dashboard.navigation import register
from serving.dashboard.search_page import search_box
from serving.dashboard.session import Session, log_out, require_login

PAGES: Final[dict[str, Callable[[Session], None]]] = {
    "Alerts": alerts_page.show,
    "Overview": overview_page.show,
    "Traffic": traffic_page.show,
    "Drift": drift_page.show,
    "Performance": performance_page.show,
    "Missed fraud": missed_fraud_page.show,
    "Models": models_page.show,
    "Stream": stream_page.show,
}
# Pages that are reached by a search or a link, and not by the menu. (Streamlit shows any text that stands alone here.)
LINKED: Final[dict[str, Callable[[Session], None]]] = {
    search_page.TITLE: search_page.show,
    "Transaction": transaction_page.show,
    "Customer": customer_page.show,
    "Merchant": merchant_page.show,
}


# Six rem above the page leave the verdict below the fold, and no figure is larger than the case. Streamlit's captions
# and names of keys have less contrast than WCAG AA asks for.
_STYLE: Final = """<style>
.stMainBlockContainer { padding-top: 4rem }
[data-testid="stMetricValue"] { font-size: 1.5rem }
kbd { color: inherit !important; opacity: 1 !important }
[data-testid="stCaptionContainer"], [data-testid="stCaptionContainer"] p { color: #5b6672; opacity: 1 !important }
</style>"""


def main() -> None:
    """Show the requested page to a caller who may see it."""
    st.set_page_config(page_title="Fraud detection", layout="wide")
    st.html(_STYLE)
    contents = {**PAGES, **LINKED}
    pages = [st.Page(_empty, title=title, url_path=title.lower().replace(" ", "_")) for title in contents]
    # Before the login, so that the address of a page outlasts it.
    chosen = st.navigation(pages, position="hidden")
    session = require_login()
    if session is None:
        return
    register(pages)
    _menu(session, pages[: len(PAGES)])
    with st.container(horizontal=True, vertical_alignment="center"):
        st.header(chosen.title, width="content")
        search_box()
    try:
        contents[chosen.title](session)
    except DatabaseUnavailableError as error:
        st.error(str(error))


def _empty() -> None:
    """The content of every page is shown by `main`, which knows the session."""


def _menu(session: Session, pages: Sequence[Page]) -> None:
    """Links above the page, which wrap on a phone; a sidebar would lie upon the page there."""
    with st.container(horizontal=True, vertical_alignment="center"):
        for page in pages:
            st.page_link(page)
        st.button(f"Log out {plain(session.caller.subject)}", type="tertiary", on_click=log_out)


main()
