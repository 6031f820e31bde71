"""Addresses of pages: which page shows what, by query parameters.

Belongs here: links between pages, the parameters of an address. Must not be here: content of pages.

No address holds a customer's id: a customer's page is addressed by one of their transactions. Search terms are kept in
the session for the same reason. An alert is addressed by its number.
"""

from collections.abc import Mapping, Sequence
from typing import Final

import streamlit as st
from streamlit.navigation.page import Page

_PAGES: Final = "pages"  # a name in the session


def register(pages: Sequence[Page]) -> None:
    """Make pages known to `link` and `go`."""
    st.session_state[_PAGES] = {page.title: page for page in pages}


def link(title: str, label: str, **address: str) -> None:
    """A link to a page with query parameters; plain text where there are no pages."""
    page = _page(title)
    if page is None:
        st.markdown(label)
    else:
        st.page_link(page, label=label, icon=":material/arrow_forward:", query_params=address)


def go(title: str, **address: str) -> None:
    """Show another page now."""
    page = _page(title)
    if page is not None:
        st.switch_page(page, query_params=address)


def parameter(name: str) -> str | None:
    """A query parameter of the current address."""
    return st.query_params.get(name)


def _page(title: str) -> Page | None:
    pages: Mapping[str, Page] = st.session_state.get(_PAGES, {})
    return pages.get(title)
