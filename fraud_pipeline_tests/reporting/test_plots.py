"""Every plot is a PNG of 800 pixels that shows its data, also when there is nothing to show."""

import base64
import io
import struct
import subprocess
import sys
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread

from fraud_pipeline.policy.decisions import CostModel, Policy, choose_policy
from fraud_pipeline.reporting import plots
from fraud_pipeline.reporting.plot_style import FRAUD, LEGITIMATE, markdown_image

GENERATOR = np.random.default_rng(0)
PROBABILITY = GENERATOR.beta(0.3, 8, 2_000)
LABELS = (GENERATOR.random(2_000) < PROBABILITY).astype(np.float64)
NOTHING, NO_ROWS = np.zeros(2_000), np.zeros(0)
POLICY, REPORT = choose_policy(
    PROBABILITY,
    LABELS,
    GENERATOR.integers(1, 100_000, 2_000),
    np.arange(2_000, dtype=np.int64) % 7,
    costs=CostModel(),
    alert_budget_per_day=5,
    min_alerts=5,
)
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

PLOTS: dict[str, Callable[[], bytes]] = {
    "precision_recall": lambda: plots.precision_recall(PROBABILITY, LABELS, precision_floor=0.85),
    "precision_recall without fraud": lambda: plots.precision_recall(PROBABILITY, NOTHING),
    "precision_recall without rows": lambda: plots.precision_recall(NO_ROWS, NO_ROWS),
    "calibration": lambda: plots.calibration(PROBABILITY, LABELS),
    "calibration of one score": lambda: plots.calibration(np.full(2_000, 0.05), LABELS),
    "calibration of zeros": lambda: plots.calibration(NOTHING, LABELS),
    "calibration without fraud": lambda: plots.calibration(PROBABILITY, NOTHING),
    "calibration without rows": lambda: plots.calibration(NO_ROWS, NO_ROWS),
    "cost_by_threshold": lambda: plots.cost_by_threshold(REPORT, POLICY),
    "cost_by_threshold of never": lambda: plots.cost_by_threshold(REPORT, NEVER),
    "feature_importance": lambda: plots.feature_importance({"amount": 2.0, "hour": 1.0}),
    "feature_importance of nothing": lambda: plots.feature_importance({}),
    "performance_over_time": lambda: plots.performance_over_time(BY_DAY, at_promotion={"recall": 0.7}),
    "performance_over_time of one day": lambda: plots.performance_over_time(BY_DAY[:1], at_promotion={}),
    "performance_over_time of no days": lambda: plots.performance_over_time(BY_DAY[:0], at_promotion={}),
    "score_distribution": lambda: plots.score_distribution(PROBABILITY, LABELS, POLICY),
    "score_distribution without fraud": lambda: plots.score_distribution(PROBABILITY, NOTHING),
    "score_distribution without rows": lambda: plots.score_distribution(NO_ROWS, NO_ROWS, NEVER),
    "incidents_by_day": lambda: plots.incidents_by_day(
        WEEK[0].date(), COUNTS, COUNTS / 2, group="channel online", since=WEEK[5].date()
    ),
    "incidents_by_day without a surge": lambda: plots.incidents_by_day(
        WEEK[0].date(), COUNTS, np.zeros(7), group="", since=None
    ),
    "incidents_by_day without incidents": lambda: plots.incidents_by_day(
        WEEK[0].date(), 0 * COUNTS, COUNTS / 2, group="", since=WEEK[5].date()
    ),
    "drift_by_day": lambda: plots.drift_by_day(STATES_BY_DAY),
    "drift_by_day of nothing": lambda: plots.drift_by_day(STATES_BY_DAY[:0]),
    "daily_volume": lambda: plots.daily_volume(WEEK, COUNTS * 100, COUNTS),
    "daily_volume of a day": lambda: plots.daily_volume(WEEK[:1], COUNTS[:1], COUNTS[:1]),
    "daily_volume of nothing": lambda: plots.daily_volume(WEEK[:0], COUNTS[:0], COUNTS[:0]),
    "tuning_history": lambda: plots.tuning_history(VALUES),
    "tuning_history of pruned trials": lambda: plots.tuning_history(np.full(3, np.nan)),
    "tuning_history of nothing": lambda: plots.tuning_history(np.zeros(0)),
}


@pytest.mark.parametrize("name", PLOTS)
def test_every_plot_is_a_png_of_800_pixels(name: str) -> None:
    png = PLOTS[name]()
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", png[16:24])
    assert (width, height >= 450) == (800, True)


def share_of(color: str, png: bytes) -> float:
    """The share of pixels of about one colour."""
    pixels = imread(io.BytesIO(png), format="png")[:, :, :3]
    wanted = np.array([int(color[at : at + 2], 16) for at in (1, 3, 5)]) / 255
    return float((np.abs(pixels - wanted).max(axis=2) < 0.08).mean())


def test_data_are_drawn_in_their_colour() -> None:
    assert share_of(FRAUD, PLOTS["precision_recall"]()) > 10 * share_of(FRAUD, PLOTS["daily_volume of nothing"]())
    assert share_of(LEGITIMATE, PLOTS["feature_importance"]()) > 0.1
    assert share_of(FRAUD, PLOTS["daily_volume"]()) > 0.05


def test_the_same_data_give_the_same_picture() -> None:
    assert PLOTS["calibration"]() == PLOTS["calibration"]()


def test_only_the_most_important_features_are_shown() -> None:
    one_matters = {"matters": 1.0} | {f"idle_{i}": 0.0 for i in range(60)}
    long_bar, no_bar = (plots.feature_importance(one_matters | {"matters": size}, top=1) for size in (1.0, 0.0))
    assert share_of(LEGITIMATE, long_bar) > 0.1
    assert share_of(LEGITIMATE, no_bar) < 0.01


def test_markdown_carries_the_picture_itself() -> None:
    png = PLOTS["tuning_history"]()
    text = markdown_image(png, alternative="trials")
    assert text.startswith("![trials](data:image/png;base64,")
    assert base64.b64decode(text.removesuffix(")").split("base64,")[1]) == png


def test_no_global_plotting_state_is_loaded() -> None:
    program = "import sys, fraud_pipeline.reporting.plots; print('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout.strip() == b"False"
