"""Charts of a model: separation, calibration, cost, tuning.

Belongs here: charts of computed arrays. Must not be here: metrics, the style of every chart (`chart_style.py`), files,
orchestration.
"""

from collections.abc import Mapping
from typing import Any, Final

import altair as alt
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fraud_pipeline.policy.choice import PolicyReport
from fraud_pipeline.policy.decisions import Policy
from fraud_pipeline.reporting.chart_style import (
    ACCENT,
    FRAUD,
    GRID,
    HEIGHT,
    INK,
    LEGITIMATE,
    QUIET,
    Chart,
    level,
    named_colours,
    note,
    percent,
)

Floats = NDArray[np.float64]
SMALLEST: Final = 1e-6
_POINTS: Final = 500


def precision_recall(probability: Floats, labels: Floats, *, precision_floor: float | None = None) -> Chart:
    """Precision against recall over all thresholds, with the share of fraud as the level of chance; arrays (n,)."""
    title = "Precision and recall"
    if not labels.any():
        return note(title, "no known fraud")
    order = np.argsort(-probability, kind="stable")
    last = np.append(np.flatnonzero(np.diff(probability[order])), len(order) - 1)
    caught = np.cumsum(labels[order])[last]
    # As many points as there are pixels to show them.
    last, caught = (values[np.unique(np.linspace(0, len(last) - 1, _POINTS).astype(int))] for values in (last, caught))
    recall, precision = caught / labels.sum(), caught / (last + 1)
    rows = pd.DataFrame({"recall": np.append(0, recall), "precision": np.append(precision[0], precision)})
    unit_scale = alt.Scale(domain=[0, 1], nice=False)
    curve = (
        alt.Chart(rows, title=title)
        .mark_line(color=FRAUD, interpolate="step-after")
        .encode(
            x=alt.X("recall:Q", title="recall (share of frauds caught)", axis=percent()),
            y=alt.Y(
                "precision:Q",
                title="precision (share of alerts)",
                axis=percent(),
                scale=unit_scale,
            ),
        )
    )
    levels = [level(labels.mean(), f"chance {100 * labels.mean():.2g} %", color=QUIET)]
    if precision_floor is not None:
        levels.append(level(precision_floor, f"floor {100 * precision_floor:g} %", color=ACCENT, right=True))
    return alt.layer(*levels, curve)


def calibration(probability: Floats, labels: Floats, *, bins: int = 12) -> Chart:
    """Observed fraud rate against predicted probability in bins of equal expected fraud, on log axes; arrays (n,)."""
    title = "Calibration"
    if not labels.any():
        return note(title, "no known fraud")
    order = np.argsort(probability, kind="stable")
    expected = np.cumsum(np.maximum(probability[order], SMALLEST))
    groups = np.minimum(expected / expected[-1] * bins, bins - 1).astype(np.intp)
    count = np.bincount(groups, minlength=bins)
    filled = count > 0
    predicted = np.bincount(groups, probability[order], minlength=bins)[filled] / count[filled]
    frauds = np.bincount(groups, labels[order], minlength=bins)[filled]
    observed = frauds / count[filled]
    spread = 1.96 * np.sqrt(np.maximum(frauds, 1)) / count[filled]
    floor = max(min(predicted.min(), observed[observed > 0].min(initial=1.0)) / 2, SMALLEST)
    model = pd.DataFrame(
        {
            "predicted": np.maximum(predicted, floor),
            "observed": np.maximum(observed, floor),
            "low": np.maximum(observed - spread, floor),
            "high": np.minimum(observed + spread, 1.0),
            "name": "model (95 % counting error)",
        }
    )
    scale = alt.Scale(type="log", domain=[floor, 1])
    x = alt.X("predicted:Q", title="predicted probability", scale=scale, axis=percent())
    y = alt.Y("observed:Q", title="observed fraud rate", scale=scale, axis=percent())
    colour = named_colours({"model (95 % counting error)": FRAUD, "perfect": QUIET})
    perfect = pd.DataFrame({"predicted": [floor, 1], "observed": [floor, 1], "name": "perfect"})
    drawn = alt.Chart(model, title=title).encode(x=x, color=colour)
    return alt.layer(
        alt.Chart(perfect).mark_line(strokeDash=[5, 4]).encode(x=x, y=y, color=colour),
        drawn.mark_rule().encode(y=alt.Y("low:Q", scale=scale), y2="high:Q"),
        drawn.mark_line(point={"filled": True, "size": 60}).encode(y=y),
    )


def cost_by_threshold(report: PolicyReport, policy: Policy) -> Chart:
    """Observed cost per day by review threshold, with the chosen thresholds and the part beyond the alert budget.

    The threshold of a policy by expected cost is an expected loss in currency units.
    """
    by_loss = policy.costs is not None
    unit, review_from = (100, policy.review_loss_cents / 100) if by_loss else (1, policy.review_threshold)
    thresholds = np.maximum(report.thresholds / unit, SMALLEST)
    cost, idle = report.cost_cents_per_day / 100, report.do_nothing_cents_per_day / 100
    left = float(thresholds.min() / 1.1)
    # Reviewing everything costs many times doing nothing and would squeeze the part that matters into a line.
    top = max(idle, float(cost.min()), 1.0) * 1.6
    x = alt.X(
        "threshold:Q",
        title="review from an expected loss of (currency units)" if by_loss else "review threshold",
        axis=alt.Axis(format="~g") if by_loss else percent(),
        scale=alt.Scale(
            type="log", domain=[left, min(np.inf if by_loss else 1.0, float(thresholds.max() * 1.1))], nice=False
        ),
    )
    y = alt.Y(
        "cost:Q",
        title="cost per day (currency units)",
        axis=alt.Axis(format=",.0f"),
        scale=alt.Scale(domain=[0, top], nice=False),
    )
    vertical = {
        (f"{name} from {threshold:.2f}" if by_loss else f"{name} from {100 * threshold:.3g} %"): (
            float(threshold),
            colour,
        )
        for name, threshold, colour in (
            ("review", review_from, ACCENT),
            ("block", np.inf if by_loss else policy.block_threshold, FRAUD),
        )
        if np.isfinite(threshold)
    }
    colours = {"expected cost": LEGITIMATE, "cost of doing nothing": QUIET}
    colours |= {name: colour for name, (_, colour) in vertical.items()}
    over = report.alerts_per_day > report.alert_budget_per_day
    layers = []
    if over.any():
        colours["beyond the alert budget"] = GRID
    colour = named_colours(colours)
    if over.any():
        area = pd.DataFrame(
            {"threshold": [left], "end": [float(thresholds[over].max())], "name": "beyond the alert budget"}
        )
        layers.append(alt.Chart(area).mark_rect(clip=True, opacity=1).encode(x=x, x2="end:Q", color=colour))
    # As many points as the log axis has pixels; a training has thousands of thresholds, and a chart takes 5,000 rows.
    depth = -np.log(thresholds)
    shown = np.unique(np.searchsorted(depth, np.linspace(depth[0], depth[-1], _POINTS)).clip(max=len(depth) - 1))
    curve = pd.DataFrame({"threshold": thresholds[shown], "cost": cost[shown], "name": "expected cost"})
    layers.append(alt.Chart(curve).mark_line(clip=True).encode(x=x, y=y, color=colour))
    doing_nothing = pd.DataFrame({"cost": [idle], "name": "cost of doing nothing"})
    layers.append(alt.Chart(doing_nothing).mark_rule(strokeDash=[5, 4]).encode(y=y, color=colour))
    lines = pd.DataFrame([(name, at) for name, (at, _) in vertical.items()], columns=["name", "threshold"])
    layers.append(alt.Chart(lines).mark_rule(strokeWidth=2, clip=True).encode(x=x, color=colour))
    return alt.layer(*layers).properties(title="Expected cost by review threshold")


def feature_importance(importance: Mapping[str, float], *, top: int = 20, unit: str = "mean gain") -> Chart:
    """The `top` features by importance as bars, largest first."""
    shown = sorted(importance.items(), key=lambda item: -item[1])[:top]
    rows = pd.DataFrame(shown, columns=["feature", "importance"])
    title = f"Most important {len(shown)} of {len(importance)} features"
    return (
        alt.Chart(rows, title=title, height=max(HEIGHT, 110 + 22 * len(shown)))
        .mark_bar(color=LEGITIMATE)
        .encode(
            x=alt.X("importance:Q", title=unit),
            y=alt.Y("feature:N", title=None, sort=None, axis=alt.Axis(labelLimit=280)),
        )
    )


def score_distribution(
    probability: Floats, labels: Floats | None = None, policy: Policy | None = None, *, smallest: float = SMALLEST
) -> Chart:
    """Shares of rows by probability on a log axis, of frauds and of legitimate rows apart; arrays (n,).

    Probabilities below `smallest` are in the first bar.
    """
    if len(probability) == 0:
        return note("Score distribution", "no rows")
    clipped = np.clip(probability, smallest, 1)
    edges = np.geomspace(min(clipped.min(), 0.1), 1, 51)
    kinds = {"decisions": (clipped, LEGITIMATE)}
    if labels is not None:
        named = (("legitimate", clipped[labels == 0], LEGITIMATE), ("fraud", clipped[labels == 1], FRAUD))
        kinds = {f"{name} ({len(scores):,})": (scores, colour) for name, scores, colour in named}
    parts = [
        pd.DataFrame({"low": edges[:-1], "high": edges[1:], "name": name}).assign(
            share=np.histogram(scores, edges)[0] / max(len(scores), 1)
        )
        for name, (scores, _) in kinds.items()
    ]
    colour: Any = alt.value(LEGITIMATE)
    share_of = "share of decisions"
    if labels is not None:
        share_of = "share of each kind"
        colour = named_colours({name: colour for name, (_, colour) in kinds.items()})
    axis = percent([10.0**exponent for exponent in range(-6, 1)])
    bars = (
        alt.Chart(pd.concat(parts))
        .mark_bar(opacity=0.65)
        .encode(
            x=alt.X(
                "low:Q",
                title="fraud probability",
                axis=axis,
                scale=alt.Scale(type="log", domain=[edges[0], 1], nice=False),
            ),
            x2="high:Q",
            y=alt.Y("share:Q", title=share_of, stack=None, axis=percent()),
            y2=alt.datum(0),
            color=colour,
            tooltip=[alt.Tooltip("low:Q", format=".3%"), "name:N", alt.Tooltip("share:Q", format=".1%")],
        )
    )
    if policy is None:
        return bars
    thresholds = {"review": np.inf if policy.costs else policy.review_threshold, "block": policy.block_threshold}
    lines = pd.DataFrame(
        [(name, at) for name, at in thresholds.items() if np.isfinite(at)], columns=["threshold", "low"]
    )
    base = alt.Chart(lines).encode(x="low:Q")
    names = base.mark_text(dy=-7, color=INK, fontSize=12).encode(text="threshold:N", y=alt.value(0))
    layers = alt.layer(bars, base.mark_rule(strokeDash=[2, 3], color=INK, strokeWidth=1.5), names)
    return layers.properties(title="Score distribution")


def tuning_history(values: Floats) -> Chart:
    """Average precision of each trial in order, NaN for pruned ones, and the best so far; shape (trials,)."""
    done = np.isfinite(values)
    best = np.fmax.accumulate(values)
    rows = pd.DataFrame({"trial": np.arange(1, len(values) + 1), "value": values, "best": best})
    colour = named_colours({"finished trial": LEGITIMATE, "best so far": FRAUD, "pruned trial": QUIET})
    trial_axis = alt.Axis(tickMinStep=1, format="d")
    all_trials = alt.Scale(domain=[0.5, max(len(values), 1) + 0.5], nice=False)
    x = alt.X("trial:Q", title="trial", axis=trial_axis, scale=all_trials)
    y_title, zoomed = "average precision on the tune part", alt.Scale(zero=False, padding=12)
    finished = alt.Chart(rows[done].assign(name="finished trial")).mark_circle(size=60, opacity=0.6)
    line = alt.Chart(rows[np.isfinite(best)].assign(name="best so far")).mark_line(interpolate="step-after")
    pruned = alt.Chart(rows[~done].assign(name="pruned trial")).mark_tick(orient="vertical", thickness=2, size=16)
    return alt.layer(
        line.encode(x=x, y=alt.Y("best:Q", title=y_title, scale=zoomed), color=colour),
        finished.encode(x=x, y=alt.Y("value:Q", title=y_title, scale=zoomed), color=colour),
        pruned.encode(x=x, y=alt.value("height"), color=colour),
    ).properties(title="Tuning history")
