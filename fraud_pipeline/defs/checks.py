"""Blocking checks between features and training: the leak canaries.

Belongs here: when a canary sings in the pipeline. Must not be here: what a leak is (`leakage.py`).
"""

import dagster as dg
import numpy as np
import pandas as pd

from fraud_pipeline.defs.resources import TablesResource
from fraud_pipeline.features import FEATURE_NAMES
from fraud_pipeline.leakage import (
    LeakVerdict,
    null_pattern_auc,
    segment_base_rate,
    single_feature_auc,
)
from fraud_pipeline.transactions import OPTIONAL_COLUMNS


def leak_checks() -> list[dg.AssetChecksDefinition]:
    """Checks that stop a run before a leaking feature reaches a model."""

    @dg.multi_asset_check(
        specs=[
            dg.AssetCheckSpec(
                "single_feature_auc",
                asset="training_set",
                blocking=True,
                description="No feature alone may nearly be the label.",
            ),
            dg.AssetCheckSpec(
                "null_pattern_auc",
                asset="training_set",
                blocking=True,
                description="Which values are missing must not tell fraud.",
            ),
            dg.AssetCheckSpec(
                "segment_base_rate",
                asset="training_set",
                blocking=True,
                description="No group of transactions may be mostly fraud.",
            ),
        ],
        name="label_leaks",
    )
    def label_leaks(tables: TablesResource):  # type: ignore[no-untyped-def]  # noqa: ANN202 - dagster reads the annotation of a generator as one result
        store = tables.store()
        rows = store.read_whole("training_set").sort_values("event_time")
        labels = rows["label"].to_numpy(np.float64)
        first, last = rows["event_time"].iloc[0].date(), rows["event_time"].iloc[-1].date()
        inputs = store.read("transactions", first, last, allow_missing=True).set_index("transaction_id")
        optional = inputs.loc[rows["transaction_id"], list(OPTIONAL_COLUMNS)]
        yield check_result(single_feature_auc(rows[list(FEATURE_NAMES)], labels), asset="training_set")
        yield check_result(null_pattern_auc(optional, labels), asset="training_set")
        # Groups of the source only: that all transactions of an unusual size are fraud can be honest.
        groups = {name: optional[name].to_numpy() for name in ("category", "channel", "country")}
        yield check_result(segment_base_rate(labels, groups), asset="training_set")

    return [label_leaks]


def check_result(verdict: LeakVerdict, *, asset: str) -> dg.AssetCheckResult:
    """A canary's verdict as Dagster shows it."""
    figures = {name: value for name, value in verdict.figures.items() if pd.notna(value)}
    return dg.AssetCheckResult(
        passed=verdict.passed,
        check_name=verdict.check,
        asset_key=asset,
        metadata={"finding": verdict.detail, **figures},
    )
