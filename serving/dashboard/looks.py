"""How things look on every page: colours, charts, amounts and ages in words.

Belongs here: turning frames into charts. Must not be here: reading, pages.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

import altair as alt
import numpy as np
import pandas as pd
import streamlit as st
from numpy.typing import NDArray

Chart = Any  # every step of Altair's gives another type
COLOURS: Final = {"allow": "#2f6ea5", "review": "#c27a12", "block": "#c8402f"}
_FLOOR: Final = 1e-4
_MARKUP: Final = re.compile(r"([\\`*_{}\[\]()#+\-.!|<>~:$&^=])")
_TIME: Final = alt.Scale(type="utc")


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


def drift_map(sizes: pd.DataFrame) -> Chart:
    """Features by day, as dark as their shift is large against its limit; a dot where the day is called red.

    `sizes` holds day, feature, of_limit, measure and drifted.
    """
    base = alt.Chart(sizes).encode(
        x=alt.X("utcyearmonthdate(day):O", title=None, axis=alt.Axis(labelAngle=-45)),
        y=alt.Y(
            "feature:N",
            title=None,
            axis=alt.Axis(labelLimit=320),
            sort=alt.EncodingSortField("of_limit", op="max", order="descending"),
        ),
    )
    cells = base.mark_rect(stroke="white").encode(
        color=alt.Color(
            "of_limit:Q",
            title="size / limit",
            scale=alt.Scale(
                domain=[0, 1, 2], range=["#f4f6f8", "#e9c08a", COLOURS["block"]], clamp=True, interpolate="rgb"
            ),
        ),
        tooltip=["feature:N", "utcyearmonthdate(day):T", "measure:N", alt.Tooltip("of_limit:Q", format=".2f")],
    )
    dots = base.mark_circle(color="#24303c", size=28).transform_filter("datum.drifted")
    return alt.layer(cells, dots)


def metric_over_time(figures: pd.DataFrame, *, name: str) -> Chart:
    """One metric by day with its 95 % interval, each champion and matured and provisional apart.

    `figures` holds day, kind, value, low, high and model_version.
    """
    versions = sorted(figures["model_version"].unique(), key=lambda version: (len(version), version))
    base = alt.Chart(figures, height=300).encode(
        x=alt.X("utcyearmonthdate(day):T", title=None, scale=_TIME),
        color=alt.Color("model_version:N", title="champion", sort=versions),
    )
    band = base.mark_errorbar(ticks=True).encode(y=alt.Y("low:Q", title=name), y2="high:Q")
    points = base.mark_line(point=True).encode(
        y=alt.Y("value:Q", title=name, scale=alt.Scale(zero=False)),
        strokeDash=alt.StrokeDash(
            "kind:N", title=None, scale=alt.Scale(domain=["matured", "provisional"], range=[[1, 0], [4, 3]])
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
    return alt.layer(band, points)


def show_figures(figures: Mapping[str, str]) -> None:
    """Figures by their names, side by side."""
    for column, (label, value) in zip(st.columns(len(figures)), figures.items(), strict=True):
        column.metric(label, value)


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
