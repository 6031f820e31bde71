"""One alert: its decision, its customer's history, what analysts did, and what they may do now.

Belongs here: content and buttons of the alert. Must not be here: the rules of alerts
(`fraud_pipeline/alerts/queue.py`), verdicts and what comes after them (`verdicts.py`).
"""

import time
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import pandas as pd
import streamlit as st

from fraud_pipeline.alerts.queue import Alert, add_note, assign, history, release, snooze, take
from fraud_pipeline.database.alert_queue import QueueRow, read_assignees
from fraud_pipeline.database.overview import Case, read_case
from fraud_pipeline.database.related_alerts import read_related
from fraud_pipeline.schema.fields import NO_MERCHANT
from fraud_pipeline.schema.transactions import DAY, HOUR, now_microseconds
from serving.dashboard.customer_view import show_customer
from serving.dashboard.formatting import age, clock, money, original_amount, plain, words
from serving.dashboard.navigation import link
from serving.dashboard.session import Session
from serving.dashboard.verdicts import (
    attempt,
    next_by_itself,
    show_alert,
    show_queue,
    take_next_button,
    verdict_buttons,
)

IDENTIFYING: Final = ("identifier", "ip", "email")
"""Types of declared own fields whose value two payments of one attack share."""
SNOOZES: Final = {"1 hour": HOUR, "4 hours": 4 * HOUR, "1 day": DAY, "1 week": 7 * DAY}


def show(session: Session, alert: Alert, *, mine: Sequence[QueueRow]) -> None:
    """The alert, with the way back to the queue and the analyst's other alerts."""
    _bar(session, alert, mine=mine)
    case = read_case(session.database, alert.transaction_id)
    left, right = st.columns([3, 5], gap="large")
    with right:
        st.subheader(f"Customer {plain(alert.customer_id)}")
        _links(alert)
        ticked = _related(session, alert)
        show_customer(
            session,
            alert.customer_id,
            transaction_id=alert.transaction_id,
            event_time=case.event_time if case else None,
        )
        _steps(session, alert)
    with left:
        if case is None:
            st.warning("The decision behind this alert is no longer there.")
        else:
            show_case(case)
        if session.may("feedback"):
            _work(session, alert, ticked=ticked)


def show_case(case: Case) -> None:
    """A decision and its transaction."""
    odds = "" if case.probability is None else f" at {case.probability:.1%}"
    amount = "" if case.amount_cents is None else f"{money(case.amount_cents)} · "
    st.subheader(f"{amount}{case.decision if amount else case.decision.capitalize()}{odds}")
    original = original_amount(case.own_fields)
    if original:
        st.markdown(f"Paid as {original}")
    if case.event_time is not None:
        merchant = "" if case.merchant_id == NO_MERCHANT else case.merchant_id
        about = ", ".join(fact for fact in (merchant, case.category, case.channel, case.country) if fact)
        place = f" at {plain(about)}" if about else ""
        st.markdown(f"{clock(case.event_time, case.own_fields)}{place}")
    for reason in case.reasons:
        st.markdown(f"- {plain(reason)}")
    if case.own_fields:
        _own_fields(case)
    without = f", without {', '.join(map(words, case.missing))}" if case.missing else ""
    alone = f" Without rule {plain(case.rule)}: {case.model_decision}." if case.rule else ""
    request = f" Request {plain(case.request_id)}." if case.request_id else ""
    st.caption(
        f"{plain(case.transaction_id)}: decided by {words(case.decided_by)}, version {case.model_version}{without}."
        f"{alone}{request}"
    )


def _bar(session: Session, alert: Alert, *, mine: Sequence[QueueRow]) -> None:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.button("Back to the queue", on_click=show_queue, shortcut="Q")
        if session.may("feedback"):
            take_next_button(session)
        numbers = [row.alert.number for row in mine]
        if len(numbers) > 1:
            chosen = st.pills(
                "In your review",
                numbers,
                default=alert.number if alert.number in numbers else None,
                key=f"mine-{alert.number}",
                label_visibility="collapsed",
            )
            if chosen is not None and chosen != alert.number:
                show_alert(chosen)
                st.rerun()


def _own_fields(case: Case) -> None:
    rows = [
        {"field": name, "value": str(value), "used": name not in case.unused_fields}
        for name, value in case.own_fields.items()
    ]
    with st.expander(f"{len(rows)} own fields"):
        st.dataframe(pd.DataFrame(rows), hide_index=True)


def _work(session: Session, alert: Alert, *, ticked: Sequence[str]) -> None:
    """Verdicts, notes and hands, as far as the state of the alert allows them."""
    database, who, id_ = session.database, session.caller.subject, alert.transaction_id
    # A change clears the note, because it changes the version.
    note = st.text_input("Note", key=f"note-{alert.number}-{alert.version}", max_chars=1_000)
    if alert.resolved_at is not None:
        st.markdown(f"**{words(alert.fraud_kind or alert.status).capitalize()}**, by {plain(alert.assignee or '')}")
    elif alert.assignee in (None, who):
        if ticked:
            st.markdown(f"A verdict closes this alert and **{len(ticked)} ticked**.")
        verdict_buttons(session, [id_, *ticked], key=str(alert.number), note=note)
    else:
        st.markdown(f"In review by **{plain(alert.assignee or '')}**")
    with st.container(horizontal=True):
        if st.button("Add note", disabled=not note.strip()):
            attempt(partial(add_note, database, id_, who=who, note=note))
        if alert.resolved_at is not None:
            return
        if alert.assignee != who:
            label = "Take it" if alert.assignee is None else "Take it over"
            if st.button(label, shortcut="T"):
                attempt(partial(take, database, id_, who=who, version=alert.version, note=note))
        elif st.button("Release"):
            attempt(partial(release, database, id_, who=who, note=note), then=show_queue)
        if alert.assignee in (None, who):
            _snooze(session, alert, note=note)
        _assign(session, alert)
    next_by_itself()


def _snooze(session: Session, alert: Alert, *, note: str) -> None:
    database, who, id_ = session.database, session.caller.subject, alert.transaction_id
    with st.popover("Snooze"):
        for label, length in SNOOZES.items():
            if st.button(label, key=f"snooze-{label}"):
                until = now_microseconds() + length
                attempt(partial(snooze, database, id_, who=who, until=until, note=note), then=show_queue)


def _assign(session: Session, alert: Alert) -> None:
    database, who, id_ = session.database, session.caller.subject, alert.transaction_id
    with st.popover("Assign"):
        others = [name for name in read_assignees(database) if name != alert.assignee]
        colleague = st.selectbox(
            "Colleague", others, index=None, accept_new_options=True, key=f"colleague-{alert.number}"
        )
        if st.button("Assign", key="assign", disabled=not colleague) and colleague:
            change = partial(assign, database, id_, who=who, assignee=colleague, version=alert.version)
            attempt(change, then=show_queue)


def _links(alert: Alert) -> None:
    with st.container(horizontal=True):
        link("Customer", "All of this customer", transaction=alert.transaction_id)
        if alert.merchant_id not in (None, NO_MERCHANT):
            link("Merchant", f"Merchant {plain(alert.merchant_id or '')}", merchant=alert.merchant_id or "")


def _related(session: Session, alert: Alert) -> list[str]:
    """Show the alerts that may be of the same attack; returns the transaction ids of the ticked ones."""
    declared = session.settings.declaration.own_fields if session.settings.declaration else ()
    names = [own.name for own in declared if own.type in IDENTIFYING]
    related = read_related(session.database, alert, identifiers=names)
    if not related:
        return []
    st.markdown(
        f"**{len(related)} other open alert{'s' if len(related) > 1 else ''}** may belong to it: tick them to "
        "give all one verdict."
    )
    rows = [
        {
            "alert": other.alert.number,
            "in common": ", ".join(other.in_common),
            "expected loss": None if other.alert.expected_loss_cents is None else other.alert.expected_loss_cents / 100,
            "customer": other.alert.customer_id,
            "merchant": other.alert.merchant_id or "",
            "age": age(time.time() - other.alert.created_at / 1e6),
            "assignee": other.alert.assignee or "",
        }
        for other in related
    ]
    shown: Any = st.dataframe(
        pd.DataFrame(rows),
        hide_index=True,
        on_select="rerun",
        selection_mode="multi-row",
        key=f"related-{alert.number}-{alert.version}",
        height=min(38 + 35 * len(rows), 250),
        column_config={"expected loss": st.column_config.NumberColumn(format="%.2f")},
        alt="Alerts with something in common, most in common first",
    )
    return [related[index].alert.transaction_id for index in shown["selection"]["rows"] if index < len(related)]


def _steps(session: Session, alert: Alert) -> None:
    events = history(session.database, alert.transaction_id)
    st.text(
        "\n".join(f"{pd.Timestamp(e.at, unit='us'):%Y-%m-%d %H:%M} {e.who}: {words(e.what)} {e.note}" for e in events)
    )
