"""Charts of days: volume, missed fraud, performance, drift.

Belongs here: charts of computed frames. Must not be here: findings (`fraud_pipeline/monitoring/`), the style of every
chart (`chart_style.py`), files, orchestration.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Final

import altair as alt
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fraud_pipeline.monitoring.drift import STATES
from fraud_pipeline.policy.decisions import Decision
from fraud_pipeline.reporting.chart_style import (
    ACCENT,
    AMBER,
    FRAUD,
    GRID,
    HEIGHT,
    INK,
    LEGITIMATE,
    ONE_ROW,
    QUIET,
    Chart,
    named_colours,
    note,
    percent,
)

Floats = NDArray[np.float64]
DECISION_COLOURS: Final[Mapping[Decision, str]] = {"allow": LEGITIMATE, "review": ACCENT, "block": FRAUD}
NOT_JUDGED: Final = "not judged"
STATE_COLOURS: Final = {**dict(zip(STATES.values(), (GRID, AMBER, FRAUD), strict=True)), NOT_JUDGED: "#aab4be"}
"""White stays for days without a report."""
_SHARES: Final = ("recall", "precision", "cost_saved")
_TIME: Final = alt.Scale(type="utc")
# On a phone long names would leave no room for the map; its tooltips hold them. A picture has no container.
_NAMES: Final = alt.ExprRef("(containerSize()[0] || 800) < 500 ? 120 : 290")
_DAYS: Final = alt.Axis(format="%d %b", labelOverlap=True, labelSeparation=8)
# One legend for line and marker: the outline of a symbol is dashed as its line is.
_KINDS: Final = alt.Legend(
    orient="bottom", symbolSize=180, symbolFillColor="white", symbolStrokeColor=INK, symbolStrokeWidth=2
)
_CHAMPIONS: Final = alt.Legend(orient="bottom", symbolOpacity=1)


def decisions_per_minute(traffic: pd.DataFrame) -> Chart:
    """Bars of decisions by minute (UTC), by decision; `traffic` as `read_traffic` gives it."""
    rows = traffic.groupby(["minute", "decision"], as_index=False)["decisions"].sum()
    return (
        alt.Chart(rows)
        .mark_bar()
        .encode(
            x=alt.X("utcyearmonthdatehoursminutes(minute):T", title="UTC", scale=_TIME),
            y=alt.Y("decisions:Q", title="decisions a minute"),
            color=named_colours({str(name): colour for name, colour in DECISION_COLOURS.items()}, field="decision"),
            order=alt.Order("decision:N"),
            tooltip=["utcyearmonthdatehoursminutes(minute):T", "decision:N", "decisions:Q"],
        )
    )


def daily_volume(days: pd.DatetimeIndex, rows: NDArray[np.int64], frauds: NDArray[np.int64]) -> Chart:
    """Transactions and known frauds per day, one above the other; arrays (number of days,)."""
    base = alt.Chart(pd.DataFrame({"day": days, "rows": rows, "frauds": frauds})).mark_bar()
    axis = alt.Axis(format=",d", tickMinStep=1, minExtent=50)
    x = alt.X("utcyearmonthdate(day):T", title=None, scale=_TIME, axis=_DAYS)
    parts = [
        base.mark_bar(color=colour)
        .encode(x=x, y=alt.Y(f"{name}:Q", title=title, axis=axis))
        .properties(width=680, height=185)
        for name, title, colour in (
            ("rows", "transactions per day", LEGITIMATE),
            ("frauds", "known frauds per day", FRAUD),
        )
    ]
    return alt.vconcat(*parts, title="Transactions and known frauds")


def incidents_by_day(
    first: date, incidents: NDArray[np.int64], expected: Floats, *, group: str, since: date | None
) -> Chart:
    """Incidents of each day from `first` on, known and expected; arrays (days,)."""
    title = f"Missed fraud{f' in {group}' if group else ''}"
    if not incidents.any():
        return note(title, "none was reported")
    days = pd.date_range(first, periods=len(incidents), tz="UTC")
    recent = np.zeros(len(days), bool) if since is None else days >= pd.Timestamp(since, tz="UTC")
    rows = pd.DataFrame({"day": days, "incidents": incidents, "expected": expected})
    rows["name"] = np.where(recent, "surge", "reported")
    used = {"reported": LEGITIMATE} | ({"surge": FRAUD} if recent.any() else {})
    colour = named_colours(used | ({"expected": INK} if expected.any() else {}))
    x = alt.X("utcyearmonthdate(day):T", title=None, scale=_TIME, axis=_DAYS)
    y = alt.Y("incidents:Q", title="incidents per day, reported by now", axis=alt.Axis(tickMinStep=1))
    bars = alt.Chart(rows, title=title).mark_bar(opacity=0.75).encode(x=x, y=y, color=colour)
    if not expected.any():
        return bars
    line = alt.Chart(rows.assign(name="expected")).mark_line(interpolate="step", strokeWidth=1.6)
    middle = alt.X("utcyearmonthdate(day):T", bandPosition=0.5)
    return alt.layer(bars, line.encode(x=middle, y="expected:Q", color=colour))


def metric_over_time(figures: pd.DataFrame, *, name: str) -> Chart:
    """The metric `name` by day with its 95 % interval; champions, matured and provisional figures are separate lines.

    `figures` holds day, kind, value, low, high, model_version. Line and marker distinguish kinds without colour.
    """
    axis, digits = (percent(), ".1%") if name in _SHARES else (alt.Axis(), ".3f")
    versions = sorted(figures["model_version"].unique(), key=lambda version: (len(version), version))
    base = alt.Chart(figures).encode(
        x=alt.X("utcyearmonthdate(day):T", title=None, scale=_TIME, axis=_DAYS),
        color=alt.Color("model_version:N", title="champion", sort=versions, legend=_CHAMPIONS),
    )
    title = _words(name)
    band = base.mark_errorbar(ticks=True, opacity=0.4).encode(y=alt.Y("low:Q", title=title, axis=axis), y2="high:Q")
    value = alt.Y("value:Q", title=title, axis=axis, scale=alt.Scale(zero=False))
    kinds = ["matured", "provisional"]
    lines = base.mark_line().encode(
        y=value,
        strokeDash=alt.StrokeDash(
            "kind:N",
            title="labels",
            scale=alt.Scale(domain=kinds, range=[[1, 0], [3, 2]]),
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
            *(alt.Tooltip(f"{figure}:Q", format=digits) for figure in ("value", "low", "high")),
        ],
    )
    return alt.layer(band, lines, points)


def performance_over_time(figures: pd.DataFrame, *, at_promotion: Mapping[str, float]) -> Chart:
    """Four metrics by day, a line for each champion, 95 % intervals; a dashed line is the figure at promotion.

    Columns: day, kind, metric, value, low, high, model_version.
    """
    parts = []
    for name in ("recall", "precision", "average_precision", "cost_saved"):
        rows = figures[(figures["metric"] == name) & figures["value"].notna()]
        chart = metric_over_time(rows, name=name) if len(rows) else note(_words(name), "no figure yet")
        if len(rows) and name in at_promotion:
            level = alt.Chart(ONE_ROW).mark_rule(color=ACCENT, strokeDash=[5, 4])
            chart += level.encode(y=alt.datum(at_promotion[name]))
        parts.append(chart.properties(width=300, height=190))
    title = alt.Title("The champion by day of report", subtitle="dashed orange: at promotion" if at_promotion else "")
    return alt.concat(*parts, columns=2, title=title)


def drift_map(states: pd.DataFrame, *, not_judged: Sequence[pd.Timestamp], top: int, legend: bool = False) -> Chart:
    """The state of each feature on each day, the `top` features that moved most; a dot, too, is drift.

    Args:
        states: of `daily_states`; a day without a row and not in `not_judged` has no report.
        not_judged: days that the report could not judge.
        top: how many features.
        legend: whether the map has a title, and its colours are explained below it.

    """
    if states.empty:
        return note("Drift by feature and day", "no day was judged yet")
    moved = list(states.groupby("feature")["largest"].max().nlargest(top).index)
    judged = states[states["feature"].isin(moved)].assign(state=states["state"].map(dict(STATES)))
    days = sorted({*states["day"], *not_judged})
    blank = pd.MultiIndex.from_product([list(not_judged), moved], names=["day", "feature"]).to_frame(index=False)
    cells = pd.concat([judged, blank.assign(state=NOT_JUDGED)]) if len(blank) else judged
    colours = {state: colour for state, colour in STATE_COLOURS.items() if len(blank) or state != NOT_JUDGED}
    base = alt.Chart(cells.assign(day=cells["day"].dt.strftime("%Y-%m-%d"))).encode(
        x=alt.X(
            "day:O",
            title=None,
            axis=alt.Axis(labelAngle=-45, labelOverlap=True),
            scale=alt.Scale(domain=[f"{day:%Y-%m-%d}" for day in pd.date_range(days[0], days[-1])]),
        ),
        y=alt.Y("feature:N", title=None, axis=alt.Axis(labelLimit=_NAMES), sort=moved),
    )
    tiles = base.mark_rect(stroke="white").encode(
        color=alt.Color(
            "state:N",
            title=None,
            scale=alt.Scale(domain=list(colours), range=list(colours.values())),
            legend=alt.Legend(orient="bottom", columns=1) if legend else None,
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
    dots = base.mark_circle(color="white", size=28, opacity=1).transform_filter(
        alt.FieldEqualPredicate(field="state", equal=STATES["drift"])
    )
    chart = alt.layer(tiles, dots)
    if not legend:
        return chart
    return chart.properties(height=max(HEIGHT, 170 + 22 * len(moved)), title="Drift by feature and day")


def compared_values(values: Mapping[str, Floats], *, name: str) -> Chart:
    """One feature's distributions by name of sample, over the quantiles they share; arrays (n,), NaN left out."""
    known = {sample: rows[~np.isnan(rows)] for sample, rows in values.items()}
    edges = np.unique(np.quantile(np.concatenate(list(known.values())), np.linspace(0, 1, 31)))
    if len(edges) < 3:
        return note(name, "one value only")
    parts = []
    for sample, rows in known.items():
        shares = np.histogram(rows, edges)[0] / max(len(rows), 1)
        # The last step has a length, too.
        parts.append(pd.DataFrame({"bin": range(len(edges)), "share": [*shares, shares[-1]], "name": sample}))
    names = [f"{edge:,.0f}" if abs(edge) >= 100 else f"{edge:.3g}" for edge in edges]
    places = list(range(0, len(edges), max(1, (len(edges) - 1) // 6)))
    axis = alt.Axis(values=places, labelExpr=f"{json.dumps(names)}[datum.value]")
    return (
        alt.Chart(pd.concat(parts), title=name)
        .mark_line(interpolate="step-after")
        .encode(
            x=alt.X(
                "bin:Q",
                title="value (bins of equal count, all samples together)",
                axis=axis,
                scale=alt.Scale(domain=[0, len(edges) - 1], nice=False),
            ),
            y=alt.Y("share:Q", title="share of rows", axis=percent()),
            color=named_colours(dict(zip(known, (QUIET, LEGITIMATE, FRAUD), strict=True))),
        )
    )


def _words(name: str) -> str:
    return name.replace("_", " ")
