"""Frames as plain arrays, and the small arithmetic that feature columns share.

Belongs here: the one way out of pandas, codes for names, ages and ratios with their missing values. Must not be here:
what any feature means.

One transaction is scored in well under a millisecond only if pandas is left behind once, at the door. Names and ids
may be texts, or numbers that somebody gave them; features ask no more of them than whether two are the same.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fraud_pipeline.features.kernels.windows import Floats, Ints, kernel

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
    """Whole numbers for equal values, in order of appearance, and how many at most; a missing value is -1."""
    numbers, names = pd.factorize(values)
    numbers = numbers.astype(np.int64, copy=False)
    if values.dtype.kind == "i":
        numbers[values == MISSING_CODE] = MISSING_CODE
    return numbers, len(names)


def equality_codes(values: NDArray[Any]) -> Ints:
    """Numbers that are equal where values are; a missing value is -1."""
    return values if values.dtype.kind == "i" else codes(values)[0]


def positions_in(values: NDArray[Any], names: Sequence[str]) -> Ints:
    """Where each value stands among `names`, or -1; numbers are such positions already."""
    if values.dtype.kind == "i":
        return values
    return np.asarray(pd.Index(names).get_indexer(pd.Index(values)), np.int64)


def shared_codes(*columns: NDArray[Any]) -> tuple[list[Ints], int]:
    """Codes of several columns under one numbering, and how many."""
    numbers, count = codes(np.concatenate(columns))
    return np.split(numbers, np.cumsum([len(column) for column in columns])[:-1]), count


def first_of_each(*keys: NDArray[Any]) -> NDArray[np.bool_]:
    """Which rows are the first with their combination of keys, shape (n,)."""
    if len(keys[0]) < 2:
        return np.ones(len(keys[0]), np.bool_)
    numbers, _ = codes(keys[0])
    for key in keys[1:]:
        parts, count = codes(key)
        numbers, _ = codes(numbers * count + parts)
    return np.diff(np.maximum.accumulate(numbers), prepend=-1) > 0


def tie_breakers(ids: NDArray[Any]) -> Ints:
    """A number per id that orders what happened at one instant, the same in every process; numbers are such already."""
    if ids.dtype.kind == "i":
        return ids
    return np.asarray(pd.util.hash_array(ids, categorize=False).view(np.int64))


@kernel
def elapsed(times: Ints, positions: Ints, now: Ints, exists: NDArray[np.bool_]) -> Floats:
    """Microseconds from the event at each position to now, NaN where there is none."""
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
