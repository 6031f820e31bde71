"""Every chart becomes a PNG of 800 pixels that shows its data, also when there is nothing to show."""

import struct
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from fraud_pipeline.policy.choice import PolicyRows, choose_policy
from fraud_pipeline.policy.decisions import CostModel, Policy
from fraud_pipeline.reporting import daily_charts, model_charts
from fraud_pipeline.reporting.chart_style import FRAUD, LEGITIMATE, Chart, markdown_image, note, to_png
from fraud_pipeline_tests.support.pictures import picture_in, pixels_that_differ, share_of

ROWS = 20_000  # a training judges as many; Altair refuses a chart of more than 5,000
GENERATOR = np.random.default_rng(0)
PROBABILITY = GENERATOR.beta(0.3, 8, ROWS)
LABELS = (GENERATOR.random(ROWS) < PROBABILITY).astype(np.float64)
NOTHING, NO_ROWS = np.zeros(ROWS), np.zeros(0)
POLICY_ROWS = PolicyRows(
    PROBABILITY, LABELS, GENERATOR.integers(1, 100_000, ROWS), customers=np.arange(ROWS), rows_per_day=ROWS / 7
)
POLICY, REPORT = choose_policy(POLICY_ROWS, costs=CostModel(), alert_budget_per_day=5, decides_by="thresholds")
BY_COST, COST_REPORT = choose_policy(POLICY_ROWS, costs=CostModel(), alert_budget_per_day=5)
NEVER = Policy(np.inf, np.inf)
WEEK = pd.date_range("2024-01-01", periods=7, tz="UTC")
COUNTS = np.arange(7, dtype=np.int64)
VALUES = np.array([np.nan, 0.3, 0.2, np.nan, 0.5])

BY_DAY = pd.DataFrame(
    {"day": WEEK, "kind": "matured", "metric": "recall", "value": 0.6, "low": 0.5, "high": 0.7},
).assign(model_version=["1"] * (len(WEEK) - 1) + ["2"])
STATES_BY_DAY = pd.DataFrame(
    {"day": WEEK, "feature": ["amount", "score", *["amount"] * 5], "largest": 0.3 * COUNTS}
).assign(state=["within"] * 4 + ["beyond"] * 2 + ["drift"])

CHARTS: dict[str, Callable[[], Chart]] = {
    "precision_recall": lambda: model_charts.precision_recall(PROBABILITY, LABELS, precision_floor=0.85),
    "precision_recall without fraud": lambda: model_charts.precision_recall(PROBABILITY, NOTHING),
    "precision_recall without rows": lambda: model_charts.precision_recall(NO_ROWS, NO_ROWS),
    "calibration": lambda: model_charts.calibration(PROBABILITY, LABELS),
    "calibration of one score": lambda: model_charts.calibration(np.full(ROWS, 0.05), LABELS),
    "calibration of zeros": lambda: model_charts.calibration(NOTHING, LABELS),
    "calibration without fraud": lambda: model_charts.calibration(PROBABILITY, NOTHING),
    "calibration without rows": lambda: model_charts.calibration(NO_ROWS, NO_ROWS),
    "cost_by_threshold": lambda: model_charts.cost_by_threshold(REPORT, POLICY),
    "cost_by_threshold by expected cost": lambda: model_charts.cost_by_threshold(COST_REPORT, BY_COST),
    "cost_by_threshold of never": lambda: model_charts.cost_by_threshold(REPORT, NEVER),
    "feature_importance": lambda: model_charts.feature_importance({"amount": 2.0, "hour": 1.0}),
    "feature_importance of nothing": lambda: model_charts.feature_importance({}),
    "performance_over_time": lambda: daily_charts.performance_over_time(BY_DAY, at_promotion={"recall": 0.7}),
    "performance_over_time of one day": lambda: daily_charts.performance_over_time(BY_DAY[:1], at_promotion={}),
    "performance_over_time of no days": lambda: daily_charts.performance_over_time(BY_DAY[:0], at_promotion={}),
    "score_distribution": lambda: model_charts.score_distribution(PROBABILITY, LABELS, POLICY),
    "score_distribution without fraud": lambda: model_charts.score_distribution(PROBABILITY, NOTHING),
    "score_distribution without rows": lambda: model_charts.score_distribution(NO_ROWS, NO_ROWS, NEVER),
    "incidents_by_day": lambda: daily_charts.incidents_by_day(
        WEEK[0].date(), COUNTS, COUNTS / 2, group="channel online", since=WEEK[5].date()
    ),
    "incidents_by_day without a surge": lambda: daily_charts.incidents_by_day(
        WEEK[0].date(), COUNTS, np.zeros(7), group="", since=None
    ),
    "incidents_by_day without incidents": lambda: daily_charts.incidents_by_day(
        WEEK[0].date(), 0 * COUNTS, COUNTS / 2, group="", since=WEEK[5].date()
    ),
    "drift_map": lambda: daily_charts.drift_map(STATES_BY_DAY, not_judged=[], top=20, legend=True),
    "drift_map of nothing": lambda: daily_charts.drift_map(STATES_BY_DAY[:0], not_judged=[], top=20),
    "daily_volume": lambda: daily_charts.daily_volume(WEEK, COUNTS * 100, COUNTS),
    "daily_volume of a day": lambda: daily_charts.daily_volume(WEEK[:1], COUNTS[:1], COUNTS[:1]),
    "daily_volume of nothing": lambda: daily_charts.daily_volume(WEEK[:0], COUNTS[:0], COUNTS[:0]),
    "tuning_history": lambda: model_charts.tuning_history(VALUES),
    "tuning_history of pruned trials": lambda: model_charts.tuning_history(np.full(3, np.nan)),
    "tuning_history of nothing": lambda: model_charts.tuning_history(np.zeros(0)),
}


@pytest.mark.parametrize("name", CHARTS)
def test_every_chart_is_a_png_of_800_pixels(name: str) -> None:
    png = to_png(CHARTS[name]())
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", png[16:24])
    assert (width, height >= 450) == (800, True)


def test_data_are_drawn_in_their_colour() -> None:
    assert share_of(FRAUD, to_png(CHARTS["precision_recall"]())) > 10 * share_of(
        FRAUD, to_png(CHARTS["daily_volume of nothing"]())
    )
    assert share_of(LEGITIMATE, to_png(CHARTS["feature_importance"]())) > 0.1
    assert share_of(FRAUD, to_png(CHARTS["daily_volume"]())) > 0.05


def test_where_there_is_nothing_to_show_words_say_so() -> None:
    words, no_words = (to_png(note("A title", text)) for text in ("no known fraud", ""))
    assert pixels_that_differ(words, no_words) > 100


def test_levels_are_drawn() -> None:
    """A dashed line of one pixel over most of the width changes hundreds of pixels."""
    curve = model_charts.precision_recall(PROBABILITY, LABELS)
    assert pixels_that_differ(to_png(curve), to_png(CHARTS["precision_recall"]())) > 400
    days = daily_charts.performance_over_time(BY_DAY, at_promotion={"precision": 0.7})
    assert pixels_that_differ(to_png(days), to_png(CHARTS["performance_over_time"]())) > 100


def test_a_day_that_was_not_judged_differs_from_a_day_without_a_report() -> None:
    grey = daily_charts.STATE_COLOURS[daily_charts.NOT_JUDGED]
    sunday = WEEK[-1] + pd.Timedelta(days=1)
    marked = daily_charts.drift_map(STATES_BY_DAY, not_judged=[sunday], top=20, legend=True)
    assert share_of(grey, to_png(marked)) > 0.05 > share_of(grey, to_png(CHARTS["drift_map"]()))


@pytest.mark.parametrize(("name", "format_"), [("recall", "~%"), ("cost_saved", "~%"), ("average_precision", None)])
def test_shares_are_read_in_percent(name: str, format_: str | None) -> None:
    axes = [
        layer["encoding"]["y"]["axis"] for layer in daily_charts.metric_over_time(BY_DAY, name=name).to_dict()["layer"]
    ]
    assert {axis.get("format") for axis in axes} == {format_}


def test_the_same_data_give_the_same_picture() -> None:
    assert to_png(CHARTS["calibration"]()) == to_png(CHARTS["calibration"]())


def test_only_the_most_important_features_are_shown() -> None:
    one_matters = {"matters": 1.0} | {f"idle_{i}": 0.0 for i in range(60)}
    long_bar, no_bar = (
        to_png(model_charts.feature_importance(one_matters | {"matters": size}, top=1)) for size in (1.0, 0.0)
    )
    assert share_of(LEGITIMATE, long_bar) > 0.1
    assert share_of(LEGITIMATE, no_bar) < 0.01


def test_markdown_carries_the_picture_itself() -> None:
    png = to_png(CHARTS["tuning_history"]())
    text = markdown_image(png, alternative="trials")
    assert text.startswith("![trials](data:image/png;base64,")
    assert picture_in(text) == png


def test_charts_load_neither_matplotlib_nor_what_makes_pictures() -> None:
    """A dashboard shows the charts themselves."""
    program = """
import sys, fraud_pipeline.reporting.daily_charts, fraud_pipeline.reporting.model_charts
print({"matplotlib", "vl_convert"} & {*sys.modules})
"""
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout.strip() == b"set()"
