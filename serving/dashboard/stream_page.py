"""Stream page: lag, live consumers and dead letters.

Belongs here: content of the page. Must not be here: requests to the broker (`serving/stream/topic_inspection.py`).
"""

from typing import Final

import pandas as pd
import streamlit as st

from fraud_pipeline.database import Positions
from fraud_pipeline.messaging.topics import BrokerUnavailableError, KafkaSettings, load_kafka_settings
from serving.dashboard.formatting import show_figures
from serving.dashboard.session import Session, live
from serving.stream.dead_letters import dead_letters, summary
from serving.stream.topic_inspection import extents, live_members

REFRESH_SECONDS: Final = 10


def show(session: Session) -> None:
    """The page."""
    kafka = load_kafka_settings()
    live(_live, every=REFRESH_SECONDS)(session, kafka)
    if st.button("Read the dead letters"):
        _letters(kafka)


def _live(session: Session, kafka: KafkaSettings) -> None:
    try:
        bounds = extents(kafka, kafka.topics)
        consumers = live_members(kafka, kafka.group)
    except BrokerUnavailableError as error:
        st.warning(str(error))
        return
    read = (kafka.transactions_topic, kafka.reports_topic)
    with session.database.transaction(read_only=True) as connection:
        positions = {topic: Positions(connection).all(topic) for topic in read}
    rows = pd.DataFrame(
        [
            (*at, position.next_offset if position else extent.beginning, extent.end, position.epoch if position else 0)
            for at, extent in bounds.items()
            if at.topic in read
            for position in (positions[at.topic].get(at.partition),)
        ],
        columns=["topic", "partition", "read to", "end", "readers so far"],
    )
    # The ends were asked for a moment before the positions.
    rows["lag"] = (rows["end"] - rows["read to"]).clip(lower=0)
    letters = sum(
        of_partition.end - of_partition.beginning
        for at, of_partition in bounds.items()
        if at.topic == kafka.dead_letter_topic
    )
    figures = {
        "Lag": f"{rows['lag'].sum():,}",
        "Live consumers": f"{consumers}",
        "Dead letters": f"{letters:,}",
    }
    show_figures(figures)
    if rows.empty:
        st.info("There is no topic yet: `fraud-detect produce` and `fraud-detect consume` make it.")
    else:
        st.dataframe(rows, hide_index=True)


def _letters(kafka: KafkaSettings) -> None:
    try:
        lines = summary(dead_letters(kafka))
    except BrokerUnavailableError as error:
        st.warning(str(error))
        return
    st.text("\n".join(lines) or "There are no dead letters.")
    if lines:
        st.caption("`fraud-detect dead-letters --replay` sends them again after their cause is repaired.")
