"""Blocking checks between features and training: the leak canaries.

Belongs here: when a canary sings in the pipeline. Must not be here: what a leak is (`modeling/leakage.py`).
"""

import dagster as dg
import numpy as np
import pandas as pd

from fraud_pipeline.defs.resources import TablesResource
from fraud_pipeline.features.engineer import FEATURE_NAMES
from fraud_pipeline.modeling.leakage import (
    LeakVerdict,
    null_pattern_auc,
    segment_base_rate,
    single_feature_auc,
)
from fraud_pipeline.schema.joins import rows_of
from fraud_pipeline.schema.transactions import OPTIONAL_COLUMNS


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
        first, last = rows["event_time"].iloc[0].date(), rows["event_time"].iloc[-1].date()
        transactions = store.read("transactions", first, last, allow_missing=True)
        for verdict in label_leak_verdicts(rows, transactions):
            yield check_result(verdict, asset="training_set")

    return [label_leaks]


def label_leak_verdicts(rows: pd.DataFrame, transactions: pd.DataFrame) -> list[LeakVerdict]:
    """The canaries on labelled feature rows, whose `transactions` hold the optional columns of the source.

    Raises JoinError when a transaction is missing or repeated.
    """
    labels = rows["label"].to_numpy(np.float64)
    optional = rows_of(transactions, rows["transaction_id"], table="transactions")[list(OPTIONAL_COLUMNS)]
    # Groups of the source only: that all transactions of an unusual size are fraud can be honest.
    groups = {name: optional[name].to_numpy() for name in ("category", "channel", "country")}
    return [
        single_feature_auc(rows[list(FEATURE_NAMES)], labels),
        null_pattern_auc(optional, labels),
        segment_base_rate(labels, groups),
    ]


def check_result(verdict: LeakVerdict, *, asset: str) -> dg.AssetCheckResult:
    """A canary's verdict as Dagster shows it."""
    figures = {name: value for name, value in verdict.figures.items() if pd.notna(value)}
    return dg.AssetCheckResult(
        passed=verdict.passed,
        check_name=verdict.check,
        asset_key=asset,
        metadata={"finding": verdict.detail, **figures},
    )
