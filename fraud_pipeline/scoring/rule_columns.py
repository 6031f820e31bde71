"""The columns that rules read, from rows and feature values: the same live and in backtests.

Belongs here: from a name to an array. Must not be here: expressions and their evaluation (`policy/`).
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from fraud_pipeline.features.definitions import FEATURE_NAMES, FEATURES
from fraud_pipeline.policy.expressions import FEATURE_COLUMNS, Column
from fraud_pipeline.schema.fields import NO_MERCHANT
from fraud_pipeline.schema.own_fields import OwnField, own_values
from fraud_pipeline.schema.transactions import DAY, HOUR

Stored = Callable[[str], Sequence[Any]]
"""The values of a stored column of `transactions` for n rows, or their `own_fields`."""
_CENTS: Final = frozenset(feature.name for feature in FEATURES if feature.unit == "cents")
_OF_HISTORY: Final = frozenset(feature.name for feature in FEATURES if feature.entity != "transaction")
_PLACE: Final = {name: place for place, name in enumerate(FEATURE_NAMES)}
_THURSDAY: Final = 3  # 1970-01-01, counted from Monday


def column_reader(
    stored: Stored,
    *,
    features: NDArray[np.float32],
    probability: Sequence[float | None],
    without_history: NDArray[np.bool_] | bool = False,
) -> Callable[[Column], NDArray[Any]]:
    """Reads columns of n rows; `features` has shape (n, features and own inputs).

    Money is in currency units. `without_history` marks rows whose counts of 0 would be wrong: their features of the
    history are missing. A merchant of nobody is missing, too.
    """

    @cache
    def values_of(name: str) -> Sequence[Any]:
        return stored(name)

    def read(column: Column) -> NDArray[Any]:
        if column.own_type is not None:
            field = OwnField(name=column.name, type=column.own_type)
            return _typed(column, own_values(values_of("own_fields"), [field])[column.name])
        if column.name in FEATURE_COLUMNS:
            values = features[:, _PLACE[column.name]].astype(np.float64)
            if column.name in _CENTS:
                values /= 100
            return np.where(without_history, np.nan, values) if column.name in _OF_HISTORY else values
        if column.name == "probability":
            return np.array(probability, np.float64)
        if column.name in _DERIVED:
            return _DERIVED[column.name](values_of)
        return _typed(column, values_of(column.name))

    return read


def _amount(stored: Stored) -> NDArray[Any]:
    return np.array(stored("amount_cents"), np.float64) / 100


def _hour(stored: Stored) -> NDArray[Any]:
    return np.array(stored("event_time"), np.int64) // HOUR % 24


def _weekday(stored: Stored) -> NDArray[Any]:
    return (np.array(stored("event_time"), np.int64) // DAY + _THURSDAY) % 7 + 1


def _merchant(stored: Stored) -> NDArray[Any]:
    return _objects([None if value == NO_MERCHANT else value for value in stored("merchant_id")])


def _typed(column: Column, values: Sequence[Any]) -> NDArray[Any]:
    match column.kind:
        case "text":
            return _objects(values)
        case "boolean":
            return np.array([0 if value is None else 1 if value else -1 for value in values], np.int8)
        case _:
            return np.array(values, np.float64)


def _objects(values: Sequence[Any]) -> NDArray[np.object_]:
    result = np.empty(len(values), object)
    result[:] = values
    return result


_DERIVED: Final[Mapping[str, Callable[[Stored], NDArray[Any]]]] = {
    "amount": _amount,
    "hour": _hour,
    "weekday": _weekday,
    "merchant_id": _merchant,
}
