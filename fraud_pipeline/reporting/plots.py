"""Plots of a model and its data as PNG bytes.

Belongs here: drawing arrays that others computed. Must not be here: metrics worth a number, how every plot looks
(`plot_style.py`), files, orchestration.
"""

from collections.abc import Mapping
from datetime import date
from typing import Final

import numpy as np
import pandas as pd
from matplotlib.colors import ListedColormap
from matplotlib.dates import ConciseDateFormatter
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from fraud_pipeline.monitoring.drift import STATES
from fraud_pipeline.policy.decisions import Policy, PolicyReport
from fraud_pipeline.reporting.plot_style import (
    ACCENT,
    AMBER,
    FRAUD,
    GRID,
    INK,
    LEGITIMATE,
    PAPER,
    QUIET,
    add_legend,
    as_percent,
    as_thousands,
    draw_level,
    drawing,
    empty_figure,
    set_title,
    style_axes,
    to_png,
    write_note,
)

Floats = NDArray[np.float64]
SMALLEST: Final = 1e-6


def precision_recall(probability: Floats, labels: Floats, *, precision_floor: float | None = None) -> bytes:
    """Precision against recall over all thresholds, with the share of fraud as the level of chance; arrays (n,)."""
    figure, axes = drawing("Precision and recall", x="recall (share of frauds caught)", y="precision (share of alerts)")
    if not labels.any():
        return to_png(write_note(figure, axes, "no known fraud"))
    order = np.argsort(-probability, kind="stable")
    last = np.append(np.flatnonzero(np.diff(probability[order])), len(order) - 1)
    caught = np.cumsum(labels[order])[last]
    recall, precision = caught / labels.sum(), caught / (last + 1)
    axes.step(np.append(0, recall), np.append(precision[0], precision), where="post", color=FRAUD, linewidth=2)
    draw_level(axes, labels.mean(), f"chance {100 * labels.mean():.2g} %", color=QUIET, at="left")
    if precision_floor is not None:
        draw_level(axes, precision_floor, f"floor {100 * precision_floor:g} %", color=ACCENT, at="right")
    axes.set(xlim=(0, 1.01), ylim=(0, 1.03))
    as_percent(axes.xaxis, axes.yaxis)
    return to_png(figure)


def calibration(probability: Floats, labels: Floats, *, bins: int = 12) -> bytes:
    """Observed fraud rate against predicted probability in bins of equal expected fraud, on log axes; arrays (n,)."""
    figure, axes = drawing("Calibration", x="predicted probability", y="observed fraud rate")
    if not labels.any():
        return to_png(write_note(figure, axes, "no known fraud"))
    order = np.argsort(probability, kind="stable")
    expected = np.cumsum(np.maximum(probability[order], SMALLEST))
    groups = np.minimum(expected / expected[-1] * bins, bins - 1).astype(np.intp)
    rows = np.bincount(groups, minlength=bins)
    filled = rows > 0
    predicted = np.bincount(groups, probability[order], minlength=bins)[filled] / rows[filled]
    frauds = np.bincount(groups, labels[order], minlength=bins)[filled]
    observed = frauds / rows[filled]
    spread = 1.96 * np.sqrt(np.maximum(frauds, 1)) / rows[filled]
    floor = max(min(predicted.min(), observed[observed > 0].min(initial=1.0)) / 2, SMALLEST)
    axes.plot([floor, 1], [floor, 1], color=QUIET, linestyle="--", linewidth=1.2, label="perfect")
    axes.errorbar(
        predicted,
        np.maximum(observed, floor),
        yerr=[np.clip(np.minimum(spread, observed - floor), 0, None), spread],
        color=FRAUD,
        ecolor=FRAUD,
        elinewidth=1,
        capsize=2,
        marker="o",
        linewidth=1.8,
        label="model (95 % counting error)",
    )
    axes.set(xscale="log", yscale="log", xlim=(floor, 1.1), ylim=(floor, 1.1))
    as_percent(axes.xaxis, axes.yaxis)
    add_legend(axes)
    return to_png(figure)


def cost_by_threshold(report: PolicyReport, policy: Policy) -> bytes:
    """Expected cost per day by review threshold, with the chosen thresholds and the part beyond the alert budget."""
    figure, axes = drawing("Expected cost by review threshold", x="review threshold", y="cost per day (currency units)")
    thresholds = np.maximum(report.thresholds, SMALLEST)
    axes.plot(thresholds, report.cost_cents_per_day / 100, color=LEGITIMATE, linewidth=2, label="expected cost")
    over = report.alerts_per_day > report.alert_budget_per_day
    if over.any():
        axes.axvspan(
            thresholds.min() / 1.1, thresholds[over].max(), color=GRID, zorder=0, label="beyond the alert budget"
        )
    idle = report.do_nothing_cents_per_day / 100
    axes.axhline(idle, color=QUIET, linestyle="--", linewidth=1.2, label="cost of doing nothing")
    for threshold, name, color in (
        (policy.review_threshold, "review", ACCENT),
        (policy.block_threshold, "block", FRAUD),
    ):
        if np.isfinite(threshold):
            axes.axvline(threshold, color=color, linewidth=1.6, label=f"{name} from {100 * threshold:.3g} %")
    axes.set(xscale="log", xlim=(thresholds.min() / 1.1, min(1.0, thresholds.max() * 1.1)))
    # Reviewing everything costs many times doing nothing and would squeeze the part that matters into a line.
    axes.set_ylim(0, max(idle, report.cost_cents_per_day.min() / 100, 1.0) * 1.6)
    as_percent(axes.xaxis)
    as_thousands(axes.yaxis)
    axes.legend(frameon=True, edgecolor=GRID, loc="best", fontsize=9)
    return to_png(figure)


def feature_importance(importance: Mapping[str, float], *, top: int = 20, unit: str = "mean gain") -> bytes:
    """The `top` features by importance as bars, largest first."""
    shown = sorted(importance.items(), key=lambda item: item[1])[-top:]
    figure, axes = drawing(f"Most important {len(shown)} of {len(importance)} features", x=unit, y="", rows=len(shown))
    axes.barh([name for name, _ in shown], [value for _, value in shown], color=LEGITIMATE, height=0.7)
    axes.grid(visible=False, axis="y")
    axes.margins(y=0.02)
    axes.tick_params(axis="y", length=0, labelsize=9)
    return to_png(figure)


def score_distribution(probability: Floats, labels: Floats, policy: Policy | None = None) -> bytes:
    """How probabilities of frauds and of legitimate rows are spread, each as shares of its own; arrays (n,)."""
    figure, axes = drawing("Score distribution", x="probability", y="share of each kind")
    if len(probability) == 0:
        return to_png(write_note(figure, axes, "no rows"))
    clipped = np.clip(probability, SMALLEST, 1)
    edges = np.geomspace(min(clipped.min(), 0.1), 1, 51).tolist()
    for label, name, color in ((0, "legitimate", LEGITIMATE), (1, "fraud", FRAUD)):
        scores = clipped[labels == label]
        weights = np.full(len(scores), 1 / max(len(scores), 1))
        axes.hist(scores, bins=edges, weights=weights, color=color, alpha=0.65, label=f"{name} ({len(scores):,})")
    thresholds = () if policy is None else (policy.review_threshold, policy.block_threshold)
    for threshold, name in zip(thresholds, ("review", "block"), strict=False):
        if np.isfinite(threshold):
            axes.axvline(threshold, color=INK, linestyle=":", linewidth=1.4)
            axes.annotate(
                name,
                (threshold, 0.98),
                xycoords=("data", "axes fraction"),
                ha="center",
                va="top",
                color=INK,
                fontsize=9,
                bbox=PAPER,
            )
    axes.set(xscale="log")
    as_percent(axes.xaxis, axes.yaxis)
    add_legend(axes)
    return to_png(figure)


def daily_volume(days: pd.DatetimeIndex, rows: NDArray[np.int64], frauds: NDArray[np.int64]) -> bytes:
    """Transactions and known frauds per day, one above the other; arrays (number of days,)."""
    figure = empty_figure()
    upper, lower = figure.subplots(2, 1, sharex=True)
    for axes, counts, name, color in (
        (upper, rows, "transactions per day", LEGITIMATE),
        (lower, frauds, "known frauds per day", FRAUD),
    ):
        style_axes(axes, x="", y=name)
        axes.bar(days.to_numpy(), counts, color=color, width=0.9)
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        as_thousands(axes.yaxis)
    lower.xaxis.set_major_formatter(ConciseDateFormatter(lower.xaxis.get_major_locator()))  # type: ignore[no-untyped-call]  # matplotlib's stubs leave it out
    set_title(upper, "Transactions and known frauds")
    return to_png(figure)


def incidents_by_day(
    first: date, incidents: NDArray[np.int64], expected: Floats, *, group: str, since: date | None
) -> bytes:
    """Incidents of each day from `first` on that are known by now, and what was to be expected; arrays (days,)."""
    figure, axes = drawing(
        f"Missed fraud{f' in {group}' if group else ''}", x="", y="incidents per day, reported by now"
    )
    if not incidents.any():
        return to_png(write_note(figure, axes, "none was reported"))
    days = np.datetime64(first) + np.arange(len(incidents))
    recent = np.zeros(len(days), dtype=bool) if since is None else days >= np.datetime64(since)
    for which, name, color in ((~recent, "reported", LEGITIMATE), (recent, "surge", FRAUD)):
        if which.any():
            axes.bar(days[which], incidents[which], color=color, width=0.9, alpha=0.75, label=name)
    if expected.any():
        axes.step(days, expected, where="mid", color=INK, linewidth=1.6, label="expected")
    axes.xaxis.set_major_formatter(ConciseDateFormatter(axes.xaxis.get_major_locator()))  # type: ignore[no-untyped-call]  # matplotlib's stubs leave it out
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    add_legend(axes)
    return to_png(figure)


def tuning_history(values: Floats) -> bytes:
    """Average precision of each trial in order, NaN for pruned ones, and the best so far; shape (trials,)."""
    figure, axes = drawing("Tuning history", x="trial", y="average precision on the tune part")
    trials = np.arange(1, len(values) + 1)
    done = np.isfinite(values)
    axes.plot(trials[done], values[done], "o", color=LEGITIMATE, alpha=0.6, markersize=5, label="finished trial")
    if done.any():
        best = np.maximum.accumulate(np.where(done, values, -np.inf))
        axes.step(trials[best > -np.inf], best[best > -np.inf], where="post", color=FRAUD, linewidth=2, label="best")
    if not done.all():
        axes.plot(
            trials[~done],
            np.zeros((~done).sum()),
            "|",
            color=QUIET,
            markersize=9,
            transform=axes.get_xaxis_transform(),
            label="pruned trial",
            clip_on=False,
        )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    add_legend(axes)
    return to_png(figure)


def performance_over_time(figures: pd.DataFrame, *, at_promotion: Mapping[str, float]) -> bytes:
    """Four figures by day, a line for each champion, 95 % intervals of the matured ones.

    Columns: day, kind, metric, value, low, high, model_version.
    """
    figure = empty_figure(rows=20)
    grid = figure.subplots(2, 2, sharex=True).flat
    for axes, name in zip(grid, ("recall", "precision", "average_precision", "cost_saved"), strict=True):
        style_axes(axes, x="", y=name.replace("_", " "))
        # Colour, line and marker differ, so that a print in grey and a single day tell them apart, too.
        for kind, style, marker, color in (("provisional", ":", "^", QUIET), ("matured", "-", "o", LEGITIMATE)):
            found = figures[(figures["metric"] == name) & (figures["kind"] == kind)]
            # Another champion is another model: its line does not go on where that of the one before ended.
            champions = [rows for _, rows in found.groupby("model_version", sort=False)] or [found]
            for number, rows in enumerate(champions):
                days = rows["day"].dt.tz_localize(None).to_numpy()
                (line,) = axes.plot(days, rows["value"], style, color=color, linewidth=2)
                line.set(label="" if number else kind, marker=marker, markersize=4)
                if kind == "matured":
                    axes.fill_between(days, rows["low"], rows["high"], color=color, alpha=0.15, linewidth=0)
        if name in at_promotion:
            axes.axhline(at_promotion[name], color=ACCENT, linestyle="--", linewidth=1.2, label="at promotion")
        axes.xaxis.set_major_formatter(ConciseDateFormatter(axes.xaxis.get_major_locator()))  # type: ignore[no-untyped-call]  # matplotlib's stubs leave it out
        axes.set_ylim(np.nanmin([0.0, *figures.loc[figures["metric"] == name, "low"]]), 1.03)
        as_percent(axes.yaxis)
    named = figure.axes[0].get_legend_handles_labels()
    figure.legend(*named, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    figure.suptitle("The champion by day of report", x=0.02, ha="left", color=INK, fontsize=13, fontweight="bold")
    return to_png(figure)


def drift_by_day(states: pd.DataFrame, *, top: int = 20) -> bytes:
    """The state of each feature (rows) on each day (columns), the `top` features that moved most; a dot is drift.

    Columns: day, feature, state, largest.
    """
    moved = states.groupby("feature")["largest"].max().nlargest(top).index
    figure = empty_figure(rows=len(moved) + 7)
    axes = figure.subplots()
    set_title(axes, "Drift by feature and day")
    if states.empty:
        return to_png(write_note(figure, axes, "no day was judged yet"))
    code = states.assign(code=states["state"].map({state: number for number, state in enumerate(STATES)}).astype(float))
    grid = code.pivot_table(index="feature", columns="day", values="code").reindex(moved)
    grid = grid.reindex(
        columns=pd.date_range(grid.columns.min(), grid.columns.max())
    )  # days without a report are blank
    colours = [GRID, AMBER, FRAUD]
    axes.imshow(grid.to_numpy(np.float64), aspect="auto", cmap=ListedColormap(colours), vmin=-0.5, vmax=2.5)
    features, days = np.nonzero(grid.to_numpy() == list(STATES).index("drift"))
    axes.scatter(days, features, color=INK, s=14)
    axes.set_yticks(range(len(grid)), [str(name) for name in grid.index])
    every = max(1, grid.shape[1] // 8)
    labels = [f"{day:%d %b}" for day in grid.columns]
    axes.set_xticks(range(0, len(labels), every), labels[::every])
    axes.tick_params(colors=INK, labelsize=8, length=0)
    axes.spines[:].set_visible(False)
    patches = [
        Line2D([], [], color=colour, marker="s", markersize=9, linestyle="", label=words)
        for colour, words in zip(colours, STATES.values(), strict=True)
    ]
    figure.legend(handles=patches, loc="outside lower left", ncols=1, frameon=False, fontsize=9)
    return to_png(figure)


def compared_values(values: Mapping[str, Floats], *, name: str) -> bytes:
    """One feature's distributions by name of sample, over the quantiles they share; arrays (n,), NaN left out."""
    figure, axes = drawing(name, x="", y="share of rows")
    there = {sample: found[~np.isnan(found)] for sample, found in values.items()}
    edges = np.unique(np.quantile(np.concatenate(list(there.values())), np.linspace(0, 1, 31)))
    if len(edges) < 3:
        return to_png(write_note(figure, axes, "one value only"))
    for (sample, found), color in zip(there.items(), (QUIET, LEGITIMATE, FRAUD), strict=True):
        shares = np.histogram(found, edges)[0] / max(len(found), 1)
        axes.stairs(shares, np.arange(len(edges)), color=color, linewidth=2, label=sample)
    every = max(1, (len(edges) - 1) // 6)
    axes.set_xticks(
        range(0, len(edges), every), [f"{edge:,.0f}" if abs(edge) >= 100 else f"{edge:.3g}" for edge in edges[::every]]
    )
    axes.set_xlabel("value (bins of equal count, all samples together)", color=INK, fontsize=11)
    as_percent(axes.yaxis)
    add_legend(axes)
    return to_png(figure)
