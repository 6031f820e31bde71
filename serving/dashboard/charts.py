"""How things look on every page: colours, charts, amounts and ages in words.

Belongs here: turning frames into charts. Must not be here: reading, pages.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import altair as alt
import numpy as np
import pandas as pd
import streamlit as st
from numpy.typing import NDArray

from fraud_pipeline.monitoring.drift import STATES

Chart = Any  # every step of Altair's gives another type
COLOURS: Final = {"allow": "#2f6ea5", "review": "#c27a12", "block": "#c8402f"}
_NOT_JUDGED: Final = "not judged"
_STATE_COLOURS: Final = ["#e6eaee", "#e9b15c", COLOURS["block"], "#ffffff"]
_FLOOR: Final = 1e-4
_MARKUP: Final = re.compile(r"([\\`*_{}\[\]()#+\-.!|<>~:$&^=])")
_TIME: Final = alt.Scale(type="utc")
# One legend for line and marker: the outline of a symbol is dashed as its line is.
_KINDS: Final = alt.Legend(
    orient="bottom", symbolSize=180, symbolFillColor="white", symbolStrokeColor="#24303c", symbolStrokeWidth=2
)


def decisions_per_minute(traffic: pd.DataFrame) -> Chart:
    """Bars of decisions by minute (UTC), by decision; `traffic` as `read_traffic` gives it."""
    rows = traffic.groupby(["minute", "decision"], as_index=False)["decisions"].sum()
    return (
        alt.Chart(rows, height=260)
        .mark_bar()
        .encode(
            x=alt.X("utcyearmonthdatehoursminutes(minute):T", title="UTC", scale=_TIME),
            y=alt.Y("decisions:Q", title="decisions a minute"),
            color=alt.Color(
                "decision:N", title=None, scale=alt.Scale(domain=list(COLOURS), range=list(COLOURS.values()))
            ),
            order=alt.Order("decision:N"),
            tooltip=["utcyearmonthdatehoursminutes(minute):T", "decision:N", "decisions:Q"],
        )
    )


def score_distribution(probabilities: NDArray[np.float64], *, bins: int = 32) -> Chart:
    """Share of decisions by probability on a log axis; smaller ones than 1 in 10,000 are in the first bar."""
    edges = np.geomspace(_FLOOR, 1, bins + 1)
    counts, _ = np.histogram(np.clip(probabilities, _FLOOR, 1), edges)
    rows = pd.DataFrame({"low": edges[:-1], "high": edges[1:], "share": counts / max(counts.sum(), 1)})
    axis = alt.Axis(format="~%", values=[0.0001, 0.001, 0.01, 0.1, 1])
    return (
        alt.Chart(rows, height=260)
        .mark_bar(color=COLOURS["allow"])
        .encode(
            x=alt.X("low:Q", title="fraud probability", scale=alt.Scale(type="log", domain=[_FLOOR, 1]), axis=axis),
            x2="high:Q",
            y=alt.Y("share:Q", title="share of decisions", axis=alt.Axis(format="~%")),
            y2=alt.datum(0),
            tooltip=[alt.Tooltip("low:Q", format=".3%"), alt.Tooltip("share:Q", format=".1%")],
        )
    )


def drift_map(states: pd.DataFrame, *, not_judged: Sequence[pd.Timestamp], top: int) -> Chart:
    """The state of each feature on each day, the `top` features that moved most; a dot, too, is drift.

    Args:
        states: of `daily_states`; a day without a row and not in `not_judged` has no report.
        not_judged: days that the report could not judge.
        top: how many features.

    """
    moved = list(states.groupby("feature")["largest"].max().nlargest(top).index)
    judged = states[states["feature"].isin(moved)].assign(state=states["state"].map(dict(STATES)))
    days = sorted({*states["day"], *not_judged})
    blank = pd.MultiIndex.from_product([list(not_judged), moved], names=["day", "feature"]).to_frame(index=False)
    cells = pd.concat([judged, blank.assign(state=_NOT_JUDGED)]) if len(blank) else judged
    base = alt.Chart(cells.assign(day=cells["day"].dt.strftime("%Y-%m-%d"))).encode(
        x=alt.X(
            "day:O",
            title=None,
            axis=alt.Axis(labelAngle=-45, labelOverlap=True),
            scale=alt.Scale(domain=[f"{day:%Y-%m-%d}" for day in pd.date_range(days[0], days[-1])]),
        ),
        y=alt.Y("feature:N", title=None, axis=alt.Axis(labelLimit=220), sort=moved),
    )
    tiles = base.mark_rect(stroke="white").encode(
        color=alt.Color(
            "state:N",
            title=None,
            scale=alt.Scale(domain=[*STATES.values(), _NOT_JUDGED], range=_STATE_COLOURS),
            legend=None,  # beside the names of features a phone has no room for it: `drift_legend`
        ),
        tooltip=[
            "feature:N",
            "day:O",
            "state:N",
            alt.Tooltip("kind:N", title="measure"),
            alt.Tooltip("champion:Q", title="against the champion's reference", format=".2f"),
            alt.Tooltip("weeks_before:Q", title="against the weeks before", format=".2f"),
        ],
    )
    dots = base.mark_circle(color="#24303c", size=28, opacity=1).transform_filter(
        alt.FieldEqualPredicate(field="state", equal=STATES["drift"])
    )
    return alt.layer(tiles, dots)


def drift_legend() -> None:
    """What the colours of `drift_map` mean; it wraps on a phone."""
    named = zip(_STATE_COLOURS, [*STATES.values(), _NOT_JUDGED], strict=True)
    square = "display:inline-block;width:.8em;height:.8em;border:1px solid #8894a0;background:"
    marks = (f'<span><span style="{square}{colour}"></span> {state}</span>' for colour, state in named)
    st.html(f'<div style="display:flex;flex-wrap:wrap;gap:0 1.5em">{"".join(marks)}</div>')


def metric_over_time(figures: pd.DataFrame, *, name: str) -> Chart:
    """One metric by day with its 95 % interval, each champion and matured and provisional apart.

    `figures` holds day, kind, value, low, high and model_version. Line and marker tell the kinds apart without colour.
    """
    versions = sorted(figures["model_version"].unique(), key=lambda version: (len(version), version))
    base = alt.Chart(figures, height=300).encode(
        x=alt.X("utcyearmonthdate(day):T", title=None, scale=_TIME),
        color=alt.Color("model_version:N", title="champion", sort=versions, legend=alt.Legend(orient="bottom")),
    )
    band = base.mark_errorbar(ticks=True).encode(y=alt.Y("low:Q", title=name), y2="high:Q")
    value = alt.Y("value:Q", title=name, scale=alt.Scale(zero=False))
    kinds = ["matured", "provisional"]
    lines = base.mark_line().encode(
        y=value,
        strokeDash=alt.StrokeDash(
            "kind:N",
            title="labels",
            scale=alt.Scale(domain=kinds, range=[[1, 0], [4, 3]]),
            legend=_KINDS,
        ),
    )
    points = base.mark_point(filled=True, size=60, opacity=1).encode(
        y=value,
        shape=alt.Shape(
            "kind:N",
            title="labels",
            scale=alt.Scale(domain=kinds, range=["circle", "triangle-up"]),
            legend=_KINDS,
        ),
        tooltip=[
            "utcyearmonthdate(day):T",
            "kind:N",
            alt.Tooltip("model_version:N", title="champion"),
            alt.Tooltip("value:Q", format=".3f"),
            "low:Q",
            "high:Q",
        ],
    )
    return alt.layer(band, lines, points)


def show_figures(figures: Mapping[str, str]) -> None:
    """Figures by their names, side by side as far as there is room."""
    with st.container(horizontal=True, gap="medium"):
        for label, value in figures.items():
            st.metric(label, value, width="content")


def money(cents: int) -> str:
    """An amount in currency units."""
    return f"{cents / 100:,.2f}"


def age(seconds: float) -> str:
    """How long ago, in its largest unit."""
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def share(part: float, whole: float) -> str:
    """A share in percent, or a dash of nothing."""
    return f"{part / whole:.1%}" if whole else "-"


def words(name: Any) -> str:
    """A name of ours as people write it."""
    return str(name).replace("_", " ")


def plain(text: str) -> str:
    """Text from outside for a place that reads Markdown: an id may be written as a link or a picture."""
    return _MARKUP.sub(r"\\\1", " ".join(text.split()))
