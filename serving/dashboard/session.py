"""Session of a page: settings, database and caller.

Belongs here: opening what pages read, login. Must not be here: content of pages.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Concatenate, Final, ParamSpec

import streamlit as st

from fraud_pipeline.database import Database, DatabaseUnavailableError, DatabaseUnsuitableError
from fraud_pipeline.database.urls import read_url
from fraud_pipeline.host.logs import configure_logging
from fraud_pipeline.settings import Settings, in_one_line, load_settings
from serving.auth.keys import open_keys
from serving.auth.tokens import Caller, Scope, TokenVerifier, UnauthorizedError
from serving.dashboard.formatting import plain

MAY_LOOK: Final[frozenset[Scope]] = frozenset({"feedback", "admin"})
_TOKEN: Final = "token"  # noqa: S105 - a name in the session

Arguments = ParamSpec("Arguments")


@dataclass(frozen=True, slots=True)
class Session:
    """The resources and the caller of a page."""

    settings: Settings
    database: Database
    caller: Caller

    def may(self, scope: Scope) -> bool:
        """Whether the caller has this scope."""
        return scope in self.caller.scopes


def require_login() -> Session | None:
    """The session, or None after showing the login form. The token is verified each time, so a removed key ends it."""
    try:
        settings = load_settings()
        read_url(settings.database)
    except ValueError as error:
        st.error(plain(f"Nothing can be shown: {in_one_line(error)}"))
        return None
    configure_logging(settings.log_format, settings.log_level)
    token = st.session_state.get(_TOKEN)
    if token is not None:
        try:
            caller = _caller(settings, token)
            return Session(settings=settings, database=_database(settings.database), caller=caller)
        except UnauthorizedError as error:
            del st.session_state[_TOKEN]
            st.warning(str(error))
        except (DatabaseUnsuitableError, DatabaseUnavailableError) as error:
            st.error(f"Nothing can be shown: {error}.")
            return None
    _ask(settings)
    return None


def log_out() -> None:
    """Drop the token of this browser session."""
    st.session_state.clear()


def live(
    draw: Callable[Concatenate[Session, Arguments], None], *, every: float
) -> Callable[Concatenate[Session, Arguments], None]:
    """A part of a page that refreshes by itself. It verifies the token each time, because nobody clicks."""

    def drawn(session: Session, /, *arguments: Arguments.args, **named: Arguments.kwargs) -> None:
        try:
            caller = _caller(session.settings, st.session_state.get(_TOKEN, ""))
        except UnauthorizedError:
            caller = None
        if caller != session.caller:
            st.rerun()  # the whole page, which says why and asks for a token
        draw(session, *arguments, **named)

    again: Callable[Concatenate[Session, Arguments], None] = st.fragment(drawn, run_every=every)
    return again


def _ask(settings: Settings) -> None:
    st.title("Fraud detection")
    with st.form("login", width=560):
        token = st.text_input("Token", type="password", autocomplete="off")
        st.caption(
            "`fraud-detect token --subject YOUR_NAME --scopes feedback` prints one; with `feedback,admin` it may also "
            "roll models back."
        )
        sent = st.form_submit_button("Log in", type="primary")
    if not sent:
        return
    try:
        caller = _caller(settings, token.strip())
    except UnauthorizedError as error:
        st.error(str(error))
        return
    if MAY_LOOK.isdisjoint(caller.scopes):
        st.error(f"This needs the scope {' or '.join(sorted(MAY_LOOK))}; get a token that has it.")
        return
    st.session_state[_TOKEN] = token.strip()
    st.rerun()


def _caller(settings: Settings, token: str) -> Caller:
    verifier = TokenVerifier(open_keys(settings), issuer=settings.jwt_issuer, audience=settings.jwt_audience)
    return verifier.verify(b"Bearer " + token.encode("ascii", "replace"))


@st.cache_resource
def _database(url: str) -> Database:
    # A person waits longer than a transaction does.
    database = Database(url, statement_timeout=timedelta(seconds=10))
    try:
        database.prepare()
    except (DatabaseUnsuitableError, DatabaseUnavailableError):
        database.close()
        raise
    return database
