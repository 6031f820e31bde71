"""Parts about one customer that several pages show: the history around a payment, and what is usual.

Belongs here: tables and sentences. Must not be here: comparisons (`fraud_pipeline/alerts/usual.py`), SQL.
"""

from typing import Any, Final

import pandas as pd
import streamlit as st

from fraud_pipeline.alerts.usual import compare
from fraud_pipeline.database.timeline import read_before, read_from
from fraud_pipeline.schema.fields import NO_MERCHANT
from fraud_pipeline.schema.transactions import microsecond, now_microseconds
from serving.dashboard.formatting import plain
from serving.dashboard.navigation import go
from serving.dashboard.session import Session

BEFORE: Final = 50
AFTER: Final = 25
MOST_BEFORE: Final = 500
_MARK: Final = "▶"
_LABELS: Final = {1: "fraud", 0: "legitimate"}


def show_customer(session: Session, customer_id: str, *, transaction_id: str, event_time: pd.Timestamp | None) -> None:
    """What is usual for the customer against this transaction, and the history around it.

    A transaction that has left history, without a time, is compared with nothing.
    """
    moment = now_microseconds() if event_time is None else microsecond(event_time)
    shown = f"earlier-{transaction_id}"
    limit = st.session_state.get(shown, BEFORE)
    later = read_from(session.database, customer_id, start=moment, limit=AFTER)
    earlier = read_before(session.database, customer_id, before=moment, limit=limit)
    row = later[later["transaction_id"] == transaction_id]
    if not row.empty:
        _usual(row.iloc[0], earlier.head(BEFORE))
    timeline = pd.concat([part for part in (later, earlier) if not part.empty] or [later])
    table(timeline, marked=transaction_id, key=f"timeline-{transaction_id}")
    if len(earlier) == limit < MOST_BEFORE and st.button("Show earlier payments"):
        st.session_state[shown] = MOST_BEFORE
        st.rerun()


def table(rows: pd.DataFrame, *, marked: str = "", key: str, with_customer: bool = False) -> None:
    """Transactions as `timeline.py` reads them, one of them marked; a click into a row opens its page."""
    count = st.session_state.get(key, 0)
    shown: Any = st.dataframe(
        _cells(rows, marked=marked, with_customer=with_customer),
        hide_index=True,
        on_select="rerun",
        selection_mode="single-cell",
        key=f"{key}-{count}",
        height=min(38 + 35 * max(len(rows), 1), 600),
        column_config={
            "this": st.column_config.TextColumn("", width=30),
            "time (UTC)": st.column_config.DatetimeColumn(format="YYYY-MM-DD HH:mm:ss", timezone="UTC", width=150),
            "amount": st.column_config.NumberColumn(format="%.2f"),
            "score": st.column_config.NumberColumn(format="percent"),
        },
        alt="Transactions, the newest first",
    )
    cells = shown["selection"]["cells"]
    if cells and cells[0][0] < len(rows):
        # Another key, so that the row is not selected when the analyst comes back.
        st.session_state[key] = count + 1
        go("Transaction", transaction=rows["transaction_id"].iloc[cells[0][0]])


def _cells(rows: pd.DataFrame, *, marked: str, with_customer: bool) -> pd.DataFrame:
    columns = {
        **({"this": [_MARK if id_ == marked else "" for id_ in rows["transaction_id"]]} if marked else {}),
        "time (UTC)": rows["event_time"],
        "amount": rows["amount_cents"] / 100,
        **({"customer": rows["customer_id"]} if with_customer else {}),
        "merchant": rows["merchant_id"].replace(NO_MERCHANT, ""),
        "category": rows["category"],
        "channel": rows["channel"],
        "country": rows["country"],
        "decision": rows["decision"],
        "score": rows["probability"],
        "reported": rows["is_fraud"].map(_LABELS).fillna(""),
    }
    return pd.DataFrame(columns)


def _usual(now: pd.Series, earlier: pd.DataFrame) -> None:
    facts = compare(now, earlier)
    for fact in facts:
        if fact.unusual:
            st.markdown(f"- **{plain(fact.text)}**")
    usual = [plain(fact.text) for fact in facts if not fact.unusual]
    if usual:
        st.caption(f"As usual: {'; '.join(usual)}.")
