"""Verdicts on alerts: their buttons, what happens after one, and taking one back.

Belongs here: buttons and the order of alerts in front of an analyst. Must not be here: the rules of alerts
(`fraud_pipeline/alerts/queue.py`).

The alert in front of the analyst is a parameter of the address, so that it can be sent to a colleague.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import streamlit as st

from fraud_pipeline.alerts.queue import AlertError, Resolution, resolve_all, take_next, undo
from fraud_pipeline.database.alert_queue import AlertFilter, QueueRow, read_queue
from fraud_pipeline.database.alerts import AnalystVerdict, FraudKind
from fraud_pipeline.schema.transactions import now_microseconds
from serving.dashboard.formatting import plain
from serving.dashboard.session import Session

MINE: Final = 50
_ALERT: Final = "alert"  # a parameter of the address
_IN_QUEUE: Final = "in_queue"  # names in the session
_LAST: Final = "last_verdict"
_NOTICES: Final = "notices"
_BY_ITSELF: Final = "next_by_itself"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A verdict as people choose it: a label, a key, and what is stored."""

    label: str
    shortcut: str
    verdict: AnalystVerdict
    kind: FraudKind | None = None


VERDICTS: Final = (
    Verdict("Fraud", "F", "confirmed_fraud"),
    Verdict("Card lost or stolen", "S", "confirmed_fraud", "lost_or_stolen"),
    Verdict("Account takeover", "A", "confirmed_fraud", "account_takeover"),
    Verdict("Friendly fraud", "Y", "confirmed_fraud", "friendly_fraud"),
    Verdict("Legitimate", "L", "legitimate"),
    Verdict("Duplicate", "D", "duplicate"),
)


@dataclass(frozen=True, slots=True)
class LastVerdict:
    """The verdict that can be taken back, and the ids of its transactions."""

    label: str
    transaction_ids: tuple[str, ...]


def my_alerts(session: Session) -> list[QueueRow]:
    """What the analyst has in review and not snoozed, the most urgent first."""
    mine = AlertFilter(state="in_review", now=now_microseconds(), assignee=session.caller.subject)
    return read_queue(session.database, mine, limit=MINE)


def current_number(mine: Sequence[QueueRow]) -> int | None:
    """The alert to show: that of the address, or the first in the analyst's review; None shows the queue."""
    address = st.query_params.get(_ALERT, "")
    if address.isdecimal():
        return int(address)
    return mine[0].alert.number if mine and not st.session_state.get(_IN_QUEUE) else None


def show_alert(number: int) -> None:
    """Show an alert from now on."""
    st.session_state[_IN_QUEUE] = False
    st.query_params[_ALERT] = str(number)


def show_queue() -> None:
    """Show the queue from now on."""
    st.session_state[_IN_QUEUE] = True
    st.query_params.pop(_ALERT, None)


def take_next_button(session: Session, *, disabled: bool = False) -> None:
    """The button that takes the most urgent open alert and shows it."""
    if st.button("Take next alert", type="primary", shortcut="N", disabled=disabled):
        attempt(partial(_take_next, session))


def next_by_itself() -> None:
    """The switch that decides whether a verdict takes the next alert."""
    st.session_state[_BY_ITSELF] = st.toggle(
        "Take the next alert by itself", value=st.session_state.get(_BY_ITSELF, True)
    )


def verdict_buttons(
    session: Session, transaction_ids: Sequence[str], *, key: str, note: str, next_opens: bool = True
) -> None:
    """One button for each verdict, which closes these alerts; then the next alert opens, or the queue."""
    with st.container(horizontal=True):
        for verdict in VERDICTS:
            is_main = verdict.label == "Fraud"
            if st.button(
                verdict.label,
                key=f"{verdict.label}-{key}",
                type="primary" if is_main else "secondary",
                # One key too many would close a whole selection.
                shortcut=verdict.shortcut if next_opens else None,
                wrap=True,
            ):
                attempt(partial(_resolve, session, transaction_ids, verdict, note=note, next_opens=next_opens))


def notices(session: Session) -> None:
    """What the last action did, with the button that takes a verdict back."""
    for text in st.session_state.pop(_NOTICES, ()):
        st.warning(plain(text))
    last: LastVerdict | None = st.session_state.get(_LAST)
    if last is None:
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        count = len(last.transaction_ids)
        st.caption(f"{last.label}: {count} alert{'s' if count > 1 else ''}")
        if st.button("Undo", type="tertiary", shortcut="U"):
            attempt(partial(_undo, session, last))


def attempt(change: Callable[[], object], *, then: Callable[[], None] = lambda: None) -> None:
    """Make a change, and draw the page again after `then`; a refusal is shown."""
    try:
        change()
    except AlertError as error:
        st.error(plain(str(error)))
    else:
        then()
        st.rerun()


def _take_next(session: Session) -> None:
    taken = take_next(session.database, who=session.caller.subject)
    if taken is not None:
        show_alert(taken.number)


def _resolve(session: Session, transaction_ids: Sequence[str], chosen: Verdict, *, note: str, next_opens: bool) -> None:
    who = session.caller.subject
    result: Resolution = resolve_all(
        session.database, transaction_ids, who=who, verdict=chosen.verdict, kind=chosen.kind, note=note
    )
    st.session_state[_NOTICES] = result.refusals
    if not result.resolved:
        return
    st.session_state[_LAST] = LastVerdict(chosen.label, result.resolved)
    show_queue()
    if not next_opens:
        return
    if left := my_alerts(session):
        show_alert(left[0].alert.number)
    elif st.session_state.get(_BY_ITSELF, True):
        _take_next(session)


def _undo(session: Session, last: LastVerdict) -> None:
    st.session_state.pop(_LAST)
    for transaction_id in last.transaction_ids:
        reopened = undo(session.database, transaction_id, who=session.caller.subject)
        show_alert(reopened.number)
