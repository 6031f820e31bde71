"""The alert queue: take an alert, see its reasons and its customer's history, record the verdict.

Belongs here: content and buttons of the page. Must not be here: the rules of alerts
(`fraud_pipeline/alerts/queue.py`).
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Final, get_args

import pandas as pd
import streamlit as st

from fraud_pipeline.alerts.queue import Alert, AlertError, history, listed, resolve, take, take_next
from fraud_pipeline.database.alerts import AnalystVerdict
from fraud_pipeline.database.overview import Case, count_alerts, read_case, read_customer
from serving.dashboard.formatting import age, money, original_amount, plain, show_figures, words
from serving.dashboard.session import Session

SHOWN: Final = 50
_CHOSEN: Final = "chosen_alert"  # a name in the session
_VERDICTS: Final[tuple[AnalystVerdict, ...]] = get_args(AnalystVerdict)
_BUTTONS: Final = {"confirmed_fraud": "Fraud", "legitimate": "Legitimate", "duplicate": "Duplicate"}


def show(session: Session) -> None:
    """The page."""
    me = session.caller.subject
    my_alerts = listed(session.database, status="in_review", assignee=me, limit=SHOWN)
    waiting = listed(session.database, status="open", limit=SHOWN)
    _heads(session, my_alerts=my_alerts, waiting=waiting)
    if session.may("feedback"):
        if st.button("Take next alert", type="primary", disabled=not waiting):
            taken = take_next(session.database, who=me)
            if taken is not None:
                st.session_state[_CHOSEN] = taken.number
            st.rerun()
    else:
        st.info("A token with the scope feedback may take and resolve alerts.")
    if my_alerts:
        numbers = {alert.number: alert for alert in my_alerts}
        if st.session_state.get(_CHOSEN) not in numbers:
            st.session_state[_CHOSEN] = my_alerts[0].number
        st.pills("In your review", list(numbers), key=_CHOSEN, required=True)
        _review(session, numbers[st.session_state[_CHOSEN]])
    elif waiting:
        st.info("Nothing is in your review: take the next alert.")
    else:
        st.success("No alert is open.")
    _other_alerts(session, waiting=waiting)


def _heads(session: Session, *, my_alerts: list[Alert], waiting: list[Alert]) -> None:
    counts = count_alerts(session.database)
    oldest = age(time.time() - waiting[0].created_at / 1e6) if waiting else "-"
    figures = {
        "Open": f"{counts.get('open', 0):,}",
        "Oldest open": oldest,
        "In your review": f"{len(my_alerts):,}",
        "In review (team)": f"{counts.get('in_review', 0):,}",
        "Confirmed fraud": f"{counts.get('confirmed_fraud', 0):,}",
        "Legitimate": f"{counts.get('legitimate', 0):,}",
    }
    show_figures(figures)


def _review(session: Session, alert: Alert) -> None:
    case = read_case(session.database, alert.transaction_id)
    left, right = st.columns([2, 5], gap="large")
    with left:
        if case is None:
            st.warning("The decision behind this alert is no longer there.")
        else:
            _case(case)
        _verdict(session, alert)
    with right:
        st.subheader(f"Customer {plain(alert.customer_id)}")
        _customer(session, alert)
        events = history(session.database, alert.transaction_id)
        st.text(
            "\n".join(
                f"{pd.Timestamp(e.at, unit='us'):%Y-%m-%d %H:%M} {e.who}: {words(e.what)} {e.note}" for e in events
            )
        )


def _case(case: Case) -> None:
    odds = "" if case.probability is None else f" at {case.probability:.1%}"
    st.subheader(f"{case.decision.capitalize()}{odds}")
    if case.amount_cents is not None and case.event_time is not None:
        about = ", ".join(fact for fact in (case.merchant_id, case.category, case.channel, case.country) if fact)
        original = original_amount(case.own_fields)
        paid = f"**{money(case.amount_cents)}**" + (f" ({original})" if original else "")
        st.markdown(f"{paid} on {case.event_time:%Y-%m-%d %H:%M:%S} UTC at {plain(about)}")
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


def _own_fields(case: Case) -> None:
    rows = [
        {"field": name, "value": str(value), "used": name not in case.unused_fields}
        for name, value in case.own_fields.items()
    ]
    with st.expander(f"{len(rows)} own fields"):
        st.dataframe(pd.DataFrame(rows), hide_index=True)


def _verdict(session: Session, alert: Alert) -> None:
    if not session.may("feedback"):
        return
    note = st.text_input("Note", key=f"note-{alert.number}", max_chars=1_000)
    buttons = st.container(horizontal=True)
    for verdict in _VERDICTS:
        pressed = buttons.button(
            _BUTTONS[verdict],
            key=f"{verdict}-{alert.number}",
            type="primary" if verdict == "confirmed_fraud" else "secondary",
        )
        if pressed:
            database, who = session.database, session.caller.subject
            _try(partial(resolve, database, alert.transaction_id, who=who, verdict=verdict, note=note))


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


def _other_alerts(session: Session, *, waiting: list[Alert]) -> None:
    database, who = session.database, session.caller.subject
    in_review = listed(database, status="in_review", limit=SHOWN)
    queue = [*(alert for alert in in_review if alert.assignee != who), *waiting]
    with st.expander(f"The queue ({SHOWN} oldest)"):
        rows = [
            {
                "alert": alert.number,
                "opened": pd.Timestamp(alert.created_at, unit="us", tz="UTC"),
                "customer": alert.customer_id,
                "decision": alert.decision,
                "status": words(alert.status),
                "assignee": alert.assignee or "",
            }
            for alert in queue
        ]
        st.dataframe(pd.DataFrame(rows), hide_index=True)
        by_number = {alert.number: alert for alert in queue}
        if session.may("feedback") and by_number:
            number = st.selectbox("Take a specific alert, also from a colleague", list(by_number), index=None)
            if st.button("Take it", disabled=number is None) and number is not None:
                chosen = by_number[number]
                _try(partial(take, database, chosen.transaction_id, who=who, version=chosen.version))


def _try(change: Callable[[], object]) -> None:
    try:
        change()
    except AlertError as error:
        st.error(str(error))
    else:
        st.rerun()
