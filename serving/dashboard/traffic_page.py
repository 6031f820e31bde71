"""Traffic page: live decisions by kind and mode, with their scores and latencies.

Belongs here: content of the page. Must not be here: SQL, histograms (`service_metrics.py`).
"""

import time
from typing import Final

import pandas as pd
import streamlit as st

from fraud_pipeline.database.overview import read_probabilities, read_traffic
from fraud_pipeline.reporting.daily_charts import decisions_per_minute
from fraud_pipeline.reporting.model_charts import score_distribution
from serving.dashboard.formatting import share, show_figures
from serving.dashboard.service_metrics import (
    Sample,
    ServiceAwayError,
    StageTimes,
    keep_samples,
    quantile,
    read_stage_times,
    stage_times,
)
from serving.dashboard.session import Session, live

REFRESH_SECONDS: Final = 5
SCORES: Final = 20_000
_LATENCIES: Final = (("p50", 0.5), ("p99", 0.99))
_SPANS: Final = {"15 minutes": 15, "1 hour": 60, "1 day": 1_440}
_SAMPLES: Final = "samples"


def show(session: Session) -> None:
    """The page."""
    span = st.segmented_control("Show the last", list(_SPANS), default="15 minutes", required=True)
    live(_live, every=REFRESH_SECONDS)(session, _SPANS[span])


def _live(session: Session, minutes: int) -> None:
    now = pd.Timestamp.now(tz="UTC")
    start = now - pd.Timedelta(minutes=minutes)
    traffic = read_traffic(session.database, start=start)
    total = int(traffic["decisions"].sum())
    by_decision = traffic.groupby("decision")["decisions"].sum()
    degraded = int(traffic.loc[traffic["mode"] != "full", "decisions"].sum())
    times = _stage_times(session)
    period = times.period if times else "service away"
    latency = times.stages.get("total", {}) if times else {}
    figures = {
        "Decisions": f"{total:,}",
        "Allowed": share(by_decision.get("allow", 0), total),
        "To review": share(by_decision.get("review", 0), total),
        "Blocked": share(by_decision.get("block", 0), total),
        "Degraded": share(degraded, total),
    }
    show_figures(figures)
    show_figures({f"HTTP {name}, {period}": _milliseconds(quantile(latency, share)) for name, share in _LATENCIES})
    if not total:
        st.info(
            "Nothing was decided in this time. `fraud-detect produce --rate 20` sends transactions for "
            "`fraud-detect consume` to score; `fraud-detect serve` answers over HTTP."
        )
        return
    left, right = st.columns(2, gap="large")
    probabilities = read_probabilities(session.database, start=start, limit=SCORES)
    left.altair_chart(decisions_per_minute(traffic).properties(height=260), width="stretch")
    right.altair_chart(score_distribution(probabilities, smallest=1e-4).properties(height=260), width="stretch")
    mix = traffic.groupby(["decision", "decided_by", "mode"])["decisions"].sum().sort_values(ascending=False)
    left.dataframe(mix.reset_index(), hide_index=True)
    if times:
        rows = [
            {"stage": stage, **{name: _milliseconds(quantile(counts, share)) for name, share in _LATENCIES}}
            for stage, counts in times.stages.items()
        ]
        right.caption(f"HTTP requests by stage, {period}")
        right.dataframe(pd.DataFrame(rows), hide_index=True)


def _stage_times(session: Session) -> StageTimes | None:
    """Latencies of the last minute, as far as this page sampled it; None after a notice that the service is away."""
    try:
        newest = Sample(time.monotonic(), read_stage_times(session.settings))
    except ServiceAwayError as error:
        st.session_state.pop(_SAMPLES, None)
        st.warning(f"The HTTP service is away, so there is no latency: {error}.")
        return None
    samples = keep_samples(st.session_state.get(_SAMPLES, ()), newest)
    st.session_state[_SAMPLES] = samples
    return stage_times(samples)


def _milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{1_000 * seconds:.1f} ms"
