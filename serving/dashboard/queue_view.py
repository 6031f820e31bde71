"""The queue of alerts: filters, a page of the table, verdicts on several alerts at once, the export.

Belongs here: content of the table and its controls. Must not be here: the order of the queue
(`fraud_pipeline/alerts/urgency.py`), SQL (`fraud_pipeline/database/alert_queue.py`), one alert (`case_view.py`).
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

import pandas as pd
import streamlit as st

from fraud_pipeline.alerts.export import as_csv
from fraud_pipeline.alerts.queue import Alert, listed
from fraud_pipeline.database import Database
from fraud_pipeline.database.alert_queue import (
    AlertFilter,
    QueueRow,
    QueueState,
    count_queue,
    read_queue,
    read_whole_queue,
)
from fraud_pipeline.database.overview import count_alerts
from fraud_pipeline.schema.fields import NO_MERCHANT
from fraud_pipeline.schema.transactions import HOUR, now_microseconds
from serving.dashboard.formatting import age, show_figures, words
from serving.dashboard.session import Session
from serving.dashboard.verdicts import my_alerts, show_alert, take_next_button, verdict_buttons

PAGE: Final = 50
COUNTED: Final = 10_000
STATES: Final[dict[str, QueueState]] = {
    "Open": "open",
    "Mine": "in_review",
    "In review (team)": "in_review",
    "Snoozed": "snoozed",
    "Resolved": "resolved",
}
EMPTY: Final = {
    "Open": "No alert is open. A transaction that was allowed can be found by its id in the search above.",
    "Mine": "Nothing is in your review: take the next alert.",
    "In review (team)": "Nobody has an alert in review.",
    "Snoozed": "No alert is snoozed.",
    "Resolved": "No alert is resolved yet.",
}
_CURSORS: Final = "queue_cursors"  # names in the session
_SHOWN: Final = "queue_shown"
_TABLE: Final = "queue_table"


def show(session: Session) -> None:
    """The queue."""
    mine = my_alerts(session)
    _figures(session.database, mine=len(mine))
    with st.container(horizontal=True, vertical_alignment="bottom"):
        if session.may("feedback"):
            take_next_button(session)
        state = st.segmented_control(
            "Alerts", list(STATES), default="Open", required=True, key="queue_state", label_visibility="collapsed"
        )
        with st.popover("Filter"):
            chosen = _filter(AlertFilter(state=STATES[state], now=now_microseconds()))
    if state == "Mine":
        chosen = replace(chosen, assignee=session.caller.subject)
    if not session.may("feedback"):
        st.info("A token with the scope feedback may take and resolve alerts.")
    cursors = _cursors(chosen)
    rows = read_queue(session.database, chosen, limit=PAGE + 1, after=cursors[-1])
    if not rows:
        st.info(EMPTY[state] if chosen == AlertFilter(state=chosen.state, now=chosen.now) else _NARROW)
        return
    page = rows[:PAGE]
    selected = _table(page)
    _turn(cursors, page=page, is_last=len(rows) <= PAGE)
    _export(session.database, chosen)
    if selected:
        _bulk(session, selected)


_NARROW: Final = "No alert is in this filter: choose another state, or clear a field under Filter."


def _figures(database: Database, *, mine: int) -> None:
    counts, oldest = count_alerts(database), listed(database, status="open", limit=1)
    show_figures(
        {
            "Open": f"{counts.get('open', 0):,}",
            "Oldest open": age(time.time() - oldest[0].created_at / 1e6) if oldest else "-",
            "In your review": f"{mine:,}",
            "In review (team)": f"{counts.get('in_review', 0):,}",
            "Confirmed fraud": f"{counts.get('confirmed_fraud', 0):,}",
            "Legitimate": f"{counts.get('legitimate', 0):,}",
        }
    )


def _filter(every: AlertFilter) -> AlertFilter:
    decision = st.selectbox("Decision", ["review", "block"], index=None, key="queue_decision")
    customer = st.text_input("Customer", key="queue_customer").strip()
    merchant = st.text_input("Merchant", key="queue_merchant").strip()
    amount = st.number_input("Amount from", min_value=0.0, value=None, key="queue_amount")
    score = st.number_input("Score from, in percent", 0.0, 100.0, value=None, key="queue_score")
    hours = st.number_input("Older than, in hours", min_value=0, value=None, key="queue_hours")
    return replace(
        every,
        decision=decision,
        customer_id=customer or None,
        merchant_id=merchant or None,
        min_amount_cents=None if amount is None else round(100 * amount),
        min_probability=None if score is None else score / 100,
        created_before=None if hours is None else every.now - hours * HOUR,
    )


def _cursors(chosen: AlertFilter) -> list[Alert | None]:
    """The alerts after which the pages up to the current one begin; another filter begins anew."""
    shown = replace(chosen, now=0, created_before=None), st.session_state.get("queue_hours")
    if st.session_state.get(_SHOWN) != shown:
        st.session_state[_SHOWN], st.session_state[_CURSORS] = shown, [None]
    cursors: list[Alert | None] = st.session_state[_CURSORS]
    return cursors


def _table(page: Sequence[QueueRow]) -> list[QueueRow]:
    """Show a page; a click into a row opens its alert, and ticked rows are returned."""
    shown: Any = st.dataframe(
        pd.DataFrame(list(map(_cells, page))),
        hide_index=True,
        on_select="rerun",
        selection_mode=["multi-row", "single-cell"],
        key=f"{_TABLE}-{page[0].alert.number}-{st.session_state.get(_TABLE, 0)}",
        height=min(38 + 35 * len(page), 600),
        column_config={
            "alert": st.column_config.NumberColumn("alert", format="%d", width=60),
            "amount": st.column_config.NumberColumn("amount", format="%.2f", width=95),
            "score": st.column_config.NumberColumn("score", format="percent", width=75),
            "expected loss": st.column_config.NumberColumn(
                format="%.2f", width=110, help="Score times amount; the whole amount where no model scored."
            ),
            "age": st.column_config.TextColumn(width=65),
            "reasons": st.column_config.TextColumn(width=380),
        },
        alt="Alerts of the queue, the most urgent first",
    )
    cells = shown["selection"]["cells"]
    if cells and cells[0][0] < len(page):
        # Another key, so that the row is not selected when the analyst comes back.
        st.session_state[_TABLE] = st.session_state.get(_TABLE, 0) + 1
        show_alert(page[cells[0][0]].alert.number)
        st.rerun()
    return [page[index] for index in shown["selection"]["rows"] if index < len(page)]


def _cells(row: QueueRow) -> dict[str, Any]:
    alert = row.alert
    merchant = "" if alert.merchant_id == NO_MERCHANT else alert.merchant_id or ""
    status = "" if alert.status in ("open", "in_review") else words(alert.fraud_kind or alert.status)
    return {
        "alert": alert.number,
        "expected loss": _units(alert.expected_loss_cents),
        "amount": _units(alert.amount_cents),
        "score": alert.probability,
        "decision": alert.decision,
        "customer": alert.customer_id,
        "merchant": merchant,
        "reasons": "; ".join(row.reasons),
        "age": age(time.time() - alert.created_at / 1e6),
        "assignee": alert.assignee or "",
        **({"verdict": status} if status else {}),
    }


def _units(cents: int | None) -> float | None:
    return None if cents is None else cents / 100


def _turn(cursors: list[Alert | None], *, page: Sequence[QueueRow], is_last: bool) -> None:
    """Buttons to the page before and after."""
    if is_last and len(cursors) == 1:
        return
    with st.container(horizontal=True):
        if st.button(f"Previous {PAGE}", disabled=len(cursors) == 1, shortcut="Alt+Left"):
            cursors.pop()
            st.rerun()
        if st.button(f"Next {PAGE}", disabled=is_last, shortcut="Alt+Right"):
            cursors.append(page[-1].alert)
            st.rerun()


def _export(database: Database, chosen: AlertFilter) -> None:
    count = count_queue(database, chosen, up_to=COUNTED)
    st.download_button(
        f"Export {'more than ' if count == COUNTED else ''}{count:,} alert{'s' if count > 1 else ''} as CSV",
        data=partial(_csv, database, chosen),
        file_name="alerts.csv",
        mime="text/csv",
        on_click="ignore",
        type="tertiary",
    )


def _csv(database: Database, chosen: AlertFilter) -> str:
    return as_csv(read_whole_queue(database, chosen))


def _bulk(session: Session, selected: Sequence[QueueRow]) -> None:
    total = sum(row.alert.expected_loss_cents or 0 for row in selected)
    count = len(selected)
    st.markdown(f"**{count} alert{'s' if count > 1 else ''} selected**, expected loss {total / 100:,.2f}")
    if session.may("feedback"):
        note = st.text_input("Note on all of them", key="bulk_note", max_chars=1_000)
        ids = [row.alert.transaction_id for row in selected]
        verdict_buttons(session, ids, key="bulk", note=note, next_opens=False)
