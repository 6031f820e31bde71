"""Models page: the champion, earlier versions, and the rollback.

Belongs here: content and buttons. Must not be here: the registry (`registry.py`).
"""

from pathlib import Path
from typing import Any, Final

import pandas as pd
import streamlit as st

from serving.dashboard.formatting import words
from serving.dashboard.registry import RegistryCommandError, read_models, roll_back
from serving.dashboard.session import Session

PROMOTION: Final = ["decided_at", "action", "version", "champion", "reasons", "confirmed"]
VERSION: Final = ["version", "created_at", "aliases", "average_precision"]


def show(session: Session) -> None:
    """The page."""
    if st.button("Refresh"):
        _models.clear()
    try:
        with st.spinner("Reading the registry ..."):
            registry = _models(session.settings.home)
    except RegistryCommandError as error:
        st.error(str(error))
        return
    if not registry["versions"]:
        st.info("No model is registered yet: `fraud-detect train` makes the first champion.")
        return
    champion = next((version for version in registry["versions"] if "champion" in version["aliases"]), None)
    st.metric("Champion", f"v{champion['version']}" if champion else "none")
    before = registry["previous_champion"]
    if before is not None and session.may("admin"):
        if st.button(f"Roll back to v{before}", type="primary"):
            _confirm(session, before)
    elif before is not None:
        st.caption("A token with the scope admin may roll back.")
    st.subheader("Promotions")
    _table(pd.DataFrame(registry["promotions"], columns=PROMOTION), moment="decided_at")
    st.subheader("Versions")
    versions = [{**version, **version["tags"]} for version in registry["versions"]]
    _table(pd.DataFrame(versions, columns=VERSION), moment="created_at")


@st.dialog("Roll back?")
def _confirm(session: Session, version: int) -> None:
    st.write(f"Version {version} becomes champion again; services and consumers follow within seconds.")
    reason = st.text_input("Why", max_chars=500)
    if not st.button(f"Make v{version} champion again", type="primary", disabled=not reason.strip()):
        return
    try:
        with st.spinner("Rolling back ..."):
            message = roll_back(session.settings.home, reason=f"{reason.strip()} ({session.caller.subject})")
    except RegistryCommandError as error:
        st.error(str(error))
        return
    _models.clear()
    st.toast(message)
    st.rerun()


@st.cache_data(ttl="60s", show_spinner=False)
def _models(home: Path) -> dict[str, Any]:
    return read_models(home)


def _table(frame: pd.DataFrame, *, moment: str) -> None:
    frame[moment] = pd.to_datetime(frame[moment], utc=True)
    shown = st.column_config.DatetimeColumn(f"{words(moment)} (UTC)", format="YYYY-MM-DD HH:mm:ss", timezone="UTC")
    names = {name: words(name) for name in frame.columns}
    st.dataframe(frame, hide_index=True, column_config={**names, moment: shown})
