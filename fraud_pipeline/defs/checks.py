"""Blocking checks of stored tables: the schema of each one, and leaks before training.

Belongs here: which rows a check reads, and its result.
Must not be here: schemas (`catalog.py` names them), what a leak is (`modeling/leakage.py`).
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import dagster as dg
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandera.errors import SchemaErrors
from pandera.pandas import DataFrameSchema

from fraud_pipeline.defs.calendar import days_of_run
from fraud_pipeline.defs.catalog import HIDDEN_ROWS, TABLES_BESIDE, stored_tables
from fraud_pipeline.defs.resources import TablesResource
from fraud_pipeline.features.engineer import FEATURE_NAMES
from fraud_pipeline.features.own_inputs import fit_own_inputs
from fraud_pipeline.modeling.leakage import (
    LeakVerdict,
    category_rates,
    null_pattern_auc,
    segment_base_rate,
    single_feature_auc,
)
from fraud_pipeline.schema.joins import rows_of
from fraud_pipeline.schema.own_fields import OwnField, with_own_columns
from fraud_pipeline.schema.transactions import OPTIONAL_COLUMNS, microseconds
from fraud_pipeline.storage.tables import TableStore

SCHEMA: Final = "schema"
_DAYS_AT_ONCE: Final = 31
_WHOLE: Final = ("training_set", HIDDEN_ROWS)


def schema_checks(*, own_fields: Sequence[OwnField] = ()) -> list[dg.AssetChecksDefinition]:
    """A check for each stored table: what is stored follows the table's schema."""
    own = [_schema_check(table, schema, asset=table) for table, schema in stored_tables(own_fields).items()]
    return own + [_schema_check(table, schema, asset=asset) for table, (asset, schema) in TABLES_BESIDE.items()]


def _schema_check(table: str, schema: DataFrameSchema, *, asset: str) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=asset,
        name=SCHEMA if table == asset else f"{table}_{SCHEMA}",
        blocking=True,
        description="Columns, types and values of the stored rows follow the schema of the table.",
    )
    def schema_check(context: dg.AssetCheckExecutionContext, tables: TablesResource) -> dg.AssetCheckResult:
        rows, broken = 0, ""
        for frame in _stored_frames(tables.store(), table, tags=context.run.tags):
            rows += len(frame)
            broken = broken or broken_rules(frame, schema)
        finding = f"Stored rows break the schema: {broken}." if broken else f"{rows} rows follow the schema."
        return dg.AssetCheckResult(passed=not broken, metadata={"finding": finding, "rows": rows})

    return schema_check


def _stored_frames(store: TableStore, table: str, *, tags: Mapping[str, str]) -> Iterator[pd.DataFrame]:
    """The rows of the run's days, or of all days for a run without days, a month at a time."""
    if table in _WHOLE:
        yield store.read_whole(table)
        return
    span = days_of_run(tags)
    days = [day for day in store.days(table) if span is None or span.first <= day <= span.last]
    for start in range(0, len(days), _DAYS_AT_ONCE):
        some = days[start : start + _DAYS_AT_ONCE]
        yield store.read(table, some[0], some[-1], allow_missing=True)


def broken_rules(frame: pd.DataFrame, schema: DataFrameSchema) -> str:
    """Which checks of which columns fail, and how often; pandera's own text quotes cells, and those are card data."""
    try:
        schema.validate(frame, lazy=True)
    except SchemaErrors as errors:
        cases = errors.failure_cases
        # A case of the whole table is the name of a column, and not the content of a cell.
        column = cases["failure_case"].where(cases["schema_context"] == "DataFrameSchema", cases["column"])
        failures = cases.groupby([column.rename("column"), "check"], dropna=False).size()
        return ", ".join(f"{column} {check} ({count} rows)" for (column, check), count in failures.items())
    return ""


def leak_checks(*, own_fields: Sequence[OwnField] = ()) -> list[dg.AssetChecksDefinition]:
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
        for verdict in label_leak_verdicts(rows, transactions, own_fields=own_fields):
            yield check_result(verdict, asset="training_set")

    return [label_leaks]


def label_leak_verdicts(
    rows: pd.DataFrame, transactions: pd.DataFrame, *, own_fields: Sequence[OwnField] = ()
) -> list[LeakVerdict]:
    """The canaries on labelled feature rows in order of time, whose `transactions` hold the optional and own columns.

    Raises JoinError when a transaction is missing or repeated.
    """
    labels = rows["label"].to_numpy(np.float64)
    raw = with_own_columns(rows_of(transactions, rows["transaction_id"], table="transactions"), own_fields)
    optional = raw[list(OPTIONAL_COLUMNS)]
    # Groups of the source only: that all transactions of an unusual size are fraud can be honest.
    groups = {name: optional[name].to_numpy() for name in ("category", "channel", "country")}
    return [
        single_feature_auc(rows[list(FEATURE_NAMES)].assign(**_own_values(raw, labels, own_fields)), labels),
        null_pattern_auc(optional, labels),
        segment_base_rate(labels, groups),
    ]


def _own_values(
    rows: pd.DataFrame, labels: NDArray[np.float64], own_fields: Sequence[OwnField]
) -> dict[str, NDArray[Any]]:
    """Everything that a model may see as it is: numbers as it sees them, categories as their rates of fraud."""
    own = fit_own_inputs(rows, own_fields, min_count=1)
    values = own.values(rows, microseconds(rows["event_time"]))
    return {
        each.name: category_rates(rows[each.name], labels) if each.kind == "category" else values[:, position]
        for position, each in enumerate(own.inputs)
    }


def check_result(verdict: LeakVerdict, *, asset: str) -> dg.AssetCheckResult:
    """A canary's verdict as Dagster shows it."""
    figures = {name: value for name, value in verdict.figures.items() if pd.notna(value)}
    return dg.AssetCheckResult(
        passed=verdict.passed,
        check_name=verdict.check,
        asset_key=asset,
        metadata={"finding": verdict.detail, **figures},
    )
