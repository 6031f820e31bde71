"""A rule over stored decisions: the same columns and the same engine as live.

Belongs here: stored rows into columns, matches and figures. Must not be here: statements (`database/rule_backtest.py`),
figures (`policy/backtest.py`).

Percent and snoozes are left out: the backtest asks what the condition is true of. Lists are those of now with their
ends; removed values are gone.
"""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fraud_pipeline.database import Database
from fraud_pipeline.database.rule_backtest import StoredDay, stored_days
from fraud_pipeline.features.definitions import FEATURE_NAMES
from fraud_pipeline.policy.analyst_rules import AnalystRule, RuleSet, checked
from fraud_pipeline.policy.backtest import Backtest, BacktestRows, backtest
from fraud_pipeline.policy.expressions import FEATURE_COLUMNS, Column, columns_of
from fraud_pipeline.policy.value_lists import ValueList
from fraud_pipeline.schema.fields import FIELDS
from fraud_pipeline.schema.transactions import DAY, now_microseconds
from fraud_pipeline.scoring.rule_columns import column_reader

_FROM_TIME: Final = frozenset({"hour", "weekday"})
_WIDTH: Final = 4 * len(FEATURE_NAMES)


def backtest_rule(
    database: Database,
    rule: AnalystRule,
    *,
    lists: Mapping[str, ValueList],
    days: int,
    label_maturity: timedelta,
    end: int | None = None,
) -> Backtest:
    """The figures of a rule over the decisions on the last `days` days of transactions before `end` (microseconds),
    with labels that are mature at that time.

    Raises ExpressionError for a rule that cannot be evaluated.
    """
    node = checked(rule, lists=lists)
    rules = RuleSet([rule], lists=lists)
    end = now_microseconds() if end is None else end
    pieces = [
        _rows(day, matches_of_day(day, rules)[0])
        for day in stored_days(
            database,
            start=end - days * DAY,
            end=end,
            label_maturity=label_maturity,
            columns=frozenset(name for column in columns_of(node) for name in stored_names(column)),
        )
    ]
    return backtest(_joined(pieces), days=days)


def matches_of_day(day: StoredDay, rules: RuleSet) -> NDArray[np.bool_]:
    """Whether each rule is true of each stored transaction, shape (rules, n)."""
    columns = day.columns
    read = column_reader(
        columns.__getitem__,
        features=_features(columns.get("features"), day.count),
        probability=columns.get("probability", ()),
        without_history=np.array(["history" in missing.split() for missing in columns.get("missing", ())], np.bool_),
    )
    return rules.matches(read, n_rows=day.count, at=np.array(columns["event_time"], np.int64))


def stored_names(column: Column) -> Sequence[str]:
    """The stored columns that a column of a rule is made of, beside those that every backtest reads."""
    if column.own_type is not None:
        return ("own_fields",)
    if column.name in FEATURE_COLUMNS:
        return ("features", "missing")
    if column.name in _FROM_TIME:
        return ()
    return ("probability",) if column.name == "probability" else (FIELDS[column.name].stored_as,)


def _features(stored: Sequence[bytes] | None, count: int) -> NDArray[np.float32]:
    """The features of n rows; a row of a release with fewer features has none of them."""
    if stored is None:
        return np.full((count, 0), np.nan, np.float32)
    missing = np.full(len(FEATURE_NAMES), np.nan, np.float32).tobytes()
    joined = b"".join(row[:_WIDTH] if len(row) >= _WIDTH else missing for row in stored)
    return np.frombuffer(joined, np.float32).reshape(count, len(FEATURE_NAMES))


def _rows(day: StoredDay, matched: NDArray[np.bool_]) -> BacktestRows:
    columns = day.columns
    ids = np.empty(day.count, object)
    ids[:] = columns["transaction_id"]
    return BacktestRows(
        transaction_ids=ids,
        matched=matched,
        fraud=np.array([np.nan if label is None else float(label) for label in columns["label"]]),
        stopped=np.array([decision != "allow" for decision in columns["without_rules"]], np.bool_),
        amount_cents=np.array(columns["amount_cents"], np.int64),
        day=np.array(columns["event_time"], np.int64) // DAY,
    )


def _joined(pieces: Sequence[BacktestRows]) -> BacktestRows:
    def column(name: str, dtype: Any) -> NDArray[Any]:
        return np.concatenate([np.zeros(0, dtype), *(getattr(piece, name) for piece in pieces)]).astype(dtype)

    return BacktestRows(
        transaction_ids=column("transaction_ids", object),
        matched=column("matched", np.bool_),
        fraud=column("fraud", np.float64),
        stopped=column("stopped", np.bool_),
        amount_cents=column("amount_cents", np.int64),
        day=column("day", np.int64),
    )
