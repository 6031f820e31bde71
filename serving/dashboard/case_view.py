"""One alert: its decision, its customer's history, what analysts did, and what they may do now.

Belongs here: content and buttons of the alert. Must not be here: the rules of alerts
(`fraud_pipeline/alerts/queue.py`), verdicts and what comes after them (`verdicts.py`).
"""

from collections.abc import Sequence
from functools import partial
from typing import Final

import pandas as pd
import streamlit as st

from fraud_pipeline.alerts.queue import Alert, add_note, assign, history, release, snooze, take
from fraud_pipeline.database.alert_queue import QueueRow, read_assignees
from fraud_pipeline.database.overview import Case, read_case, read_customer
from fraud_pipeline.schema.fields import NO_MERCHANT
from fraud_pipeline.schema.transactions import DAY, HOUR, now_microseconds
from serving.dashboard.formatting import clock, money, original_amount, plain, words
from serving.dashboard.session import Session
from serving.dashboard.verdicts import (
    attempt,
    next_by_itself,
    show_alert,
    show_queue,
    take_next_button,
    verdict_buttons,
)

SHOWN: Final = 50
SNOOZES: Final = {"1 hour": HOUR, "4 hours": 4 * HOUR, "1 day": DAY, "1 week": 7 * DAY}


def show(session: Session, alert: Alert, *, mine: Sequence[QueueRow]) -> None:
    """The alert, with the way back to the queue and the analyst's other alerts."""
    _bar(session, alert, mine=mine)
    case = read_case(session.database, alert.transaction_id)
    left, right = st.columns([3, 5], gap="large")
    with left:
        if case is None:
            st.warning("The decision behind this alert is no longer there.")
        else:
            show_case(case)
        if session.may("feedback"):
            _work(session, alert)
    with right:
        st.subheader(f"Customer {plain(alert.customer_id)}")
        _customer(session, alert)
        _steps(session, alert)


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
    request = f" Request {plain(case.request_id)}." if case.request_id else ""
    st.caption(
        f"{plain(case.transaction_id)}: decided by {words(case.decided_by)}, version {case.model_version}{without}."
        f"{request}"
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


def _work(session: Session, alert: Alert) -> None:
    """Verdicts, notes and hands, as far as the state of the alert allows them."""
    database, who, id_ = session.database, session.caller.subject, alert.transaction_id
    # A change clears the note, because it changes the version.
    note = st.text_input("Note", key=f"note-{alert.number}-{alert.version}", max_chars=1_000)
    if alert.resolved_at is not None:
        st.markdown(f"**{words(alert.fraud_kind or alert.status).capitalize()}**, by {plain(alert.assignee or '')}")
    elif alert.assignee in (None, who):
        verdict_buttons(session, [id_], key=str(alert.number), note=note)
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


def _customer(session: Session, alert: Alert) -> None:
    rows = read_customer(session.database, alert.customer_id, limit=SHOWN)
    rows["reported_fraud"] = rows["reported_fraud"].map({1: "fraud", 0: "legitimate"}).fillna("")
    rows["amount_cents"] /= 100
    rows.insert(0, "this", rows.pop("transaction_id") == alert.transaction_id)
    st.dataframe(
        rows,
        hide_index=True,
        column_config={
            "this": st.column_config.CheckboxColumn("", width=30),
            "event_time": st.column_config.DatetimeColumn("time (UTC)", format="MM-DD HH:mm:ss", timezone="UTC"),
            "amount_cents": st.column_config.NumberColumn("amount", format="%.2f"),
            "merchant_id": "merchant",
            "probability": st.column_config.NumberColumn("probability", format="percent"),
            "reported_fraud": "reported",
        },
    )


def _steps(session: Session, alert: Alert) -> None:
    events = history(session.database, alert.transaction_id)
    st.text(
        "\n".join(f"{pd.Timestamp(e.at, unit='us'):%Y-%m-%d %H:%M} {e.who}: {words(e.what)} {e.note}" for e in events)
    )
