"""What is decided now: how much, how, by whom, with which scores and how fast.

Belongs here: what is shown. Must not be here: SQL, histograms (`service_metrics.py`).
"""

from collections import deque
from typing import Final

import pandas as pd
import streamlit as st

from fraud_pipeline.database.overview import read_probabilities, read_traffic
from serving.dashboard.here import Here, live
from serving.dashboard.looks import decisions_per_minute, score_distribution, share, show_figures
from serving.dashboard.service_metrics import Buckets, ServiceAwayError, quantile, read_stage_times, since

REFRESH_SECONDS: Final = 5
SCORES: Final = 20_000
_SPANS: Final = {"15 minutes": 15, "1 hour": 60, "1 day": 1_440}
_SAMPLES: Final = 60 // REFRESH_SECONDS + 1


def show(here: Here) -> None:
    """The page."""
    span = st.segmented_control("Show the last", list(_SPANS), default="15 minutes", required=True)
    live(_live, every=REFRESH_SECONDS)(here, _SPANS[span])


def _live(here: Here, minutes: int) -> None:
    now = pd.Timestamp.now(tz="UTC")
    start = now - pd.Timedelta(minutes=minutes)
    traffic = read_traffic(here.database, start=start)
    total = int(traffic["decisions"].sum())
    by_decision = traffic.groupby("decision")["decisions"].sum()
    degraded = int(traffic.loc[traffic["mode"] != "full", "decisions"].sum())
    times = _stage_times(here)
    latency = times.get("total", {})
    figures = {
        "Decisions": f"{total:,}",
        "Allowed": share(by_decision.get("allow", 0), total),
        "To review": share(by_decision.get("review", 0), total),
        "Blocked": share(by_decision.get("block", 0), total),
        "Degraded": share(degraded, total),
        "p50 (last minute)": _milliseconds(quantile(latency, 0.5)),
        "p99 (last minute)": _milliseconds(quantile(latency, 0.99)),
    }
    show_figures(figures)
    if not total:
        st.info(
            "Nothing was decided in this time. `fraud-detect produce --rate 20` sends transactions for "
            "`fraud-detect consume` to score; `fraud-detect serve` answers over HTTP."
        )
        return
    left, right = st.columns(2, gap="large")
    left.altair_chart(decisions_per_minute(traffic), width="stretch")
    right.altair_chart(
        score_distribution(read_probabilities(here.database, start=start, limit=SCORES)), width="stretch"
    )
    mix = traffic.groupby(["decision", "decided_by", "mode"])["decisions"].sum().sort_values(ascending=False)
    left.dataframe(mix.reset_index(), hide_index=True)
    if times:
        rows = [
            {"stage": stage, "p50": _milliseconds(quantile(of, 0.5)), "p99": _milliseconds(quantile(of, 0.99))}
            for stage, of in times.items()
        ]
        right.dataframe(pd.DataFrame(rows), hide_index=True)


def _stage_times(here: Here) -> dict[str, Buckets]:
    """Buckets of each stage in about the last minute, or since the service started when the page is new."""
    samples: deque[dict[str, Buckets]] = st.session_state.setdefault("stage_times", deque(maxlen=_SAMPLES))
    try:
        newest = read_stage_times(here.settings)
    except ServiceAwayError as error:
        samples.clear()
        st.caption(f"Latency: {error}.")
        return {}
    samples.append(newest)
    before = samples[0] if len(samples) > 1 else {}
    return {stage: since(of, before.get(stage)) for stage, of in newest.items()}


def _milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{1_000 * seconds:.1f} ms"
