"""Frames as arrays, and arithmetic that feature columns share.

Belongs here: conversion from pandas, codes for names, elapsed times and ratios with missing values. Must not be here:
meanings of features.

Scoring a transaction in well under a millisecond needs arrays instead of pandas. Names and ids may be texts, or
integers from the caller; features only compare them for equality.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fraud_pipeline.features.kernels.windows import Floats, Ints, kernel
from fraud_pipeline.schema.fields import NO_MERCHANT

MISSING_CODE: Final = -1

Table = Mapping[str, NDArray[Any]]
Columns = dict[str, NDArray[Any]]


def table(frame: pd.DataFrame) -> Table:
    """The columns of a frame as arrays of equal length; times become whole microseconds since 1970-01-01 UTC."""
    return {str(name): _array(column) for name, column in frame.items()}


def _array(column: pd.Series) -> NDArray[Any]:
    if column.dtype.kind == "M":
        return np.asarray(column.to_numpy("datetime64[us]").view(np.int64))
    return np.asarray(column.to_numpy())


def concat_rows(first: Table, second: Table, *, names: tuple[str, ...]) -> Table:
    """The rows of `first`, then those of `second`, of the columns `names`."""
    return {name: np.concatenate([first[name], second[name]]) for name in names}


def codes(values: NDArray[Any]) -> tuple[Ints, int]:
    """Integer codes of values in order of appearance, with -1 for a missing value, and an upper bound of the codes."""
    numbers, names = pd.factorize(values)
    numbers = numbers.astype(np.int64, copy=False)
    if values.dtype.kind == "i":
        numbers[values == MISSING_CODE] = MISSING_CODE
    return numbers, len(names)


def equality_codes(values: NDArray[Any]) -> Ints:
    """Integers that are equal for equal values; a missing value is -1."""
    return values if values.dtype.kind == "i" else codes(values)[0]


def positions_in(values: NDArray[Any], names: Sequence[str]) -> Ints:
    """The position of each value in `names`, or -1; integers are returned as they are."""
    if values.dtype.kind == "i":
        return values
    return np.asarray(pd.Index(names).get_indexer(pd.Index(values)), np.int64)


def lacks_merchant(merchants: NDArray[Any]) -> NDArray[np.bool_]:
    """Which of these merchants are none at all; a caller with integers gives rows with a merchant only."""
    return (
        np.asarray(merchants == NO_MERCHANT, np.bool_)
        if merchants.dtype.kind == "O"
        else np.zeros(len(merchants), np.bool_)
    )


def shared_codes(*columns: NDArray[Any]) -> tuple[list[Ints], int]:
    """Codes of several columns under one numbering, and how many."""
    numbers, count = codes(np.concatenate(columns))
    return np.split(numbers, np.cumsum([len(column) for column in columns])[:-1]), count


def first_of_each(*keys: NDArray[Any]) -> NDArray[np.bool_]:
    """Whether each row is the first with its combination of keys, shape (n,)."""
    if len(keys[0]) < 2:
        return np.ones(len(keys[0]), np.bool_)
    numbers, _ = codes(keys[0])
    for key in keys[1:]:
        parts, count = codes(key)
        numbers, _ = codes(numbers * count + parts)
    return np.diff(np.maximum.accumulate(numbers), prepend=-1) > 0


def tie_breakers(ids: NDArray[Any]) -> Ints:
    """An integer per id that orders simultaneous events the same way in every process; integers are returned as they
    are.
    """
    if ids.dtype.kind == "i":
        return ids
    return np.asarray(pd.util.hash_array(ids, categorize=False).view(np.int64))


@kernel
def elapsed(times: Ints, positions: Ints, now: Ints, exists: NDArray[np.bool_]) -> Floats:
    """Microseconds from the event at each position to now, NaN where `exists` is false."""
    out = np.full(len(now), np.nan)
    for q in range(len(now)):
        if exists[q]:
            out[q] = now[q] - times[positions[q]]
    return out


@kernel
def ratio(numerator: NDArray[Any], denominator: NDArray[Any]) -> Floats:
    """Quotient, NaN where the denominator is 0 or missing."""
    out = np.full(len(numerator), np.nan)
    for q in range(len(numerator)):
        if denominator[q] > 0:
            out[q] = numerator[q] / denominator[q]
    return out
