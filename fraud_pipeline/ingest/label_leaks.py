"""Columns that leak the label, or only repeat the calendar.

Belongs here: comparing a column with the label and the time. Must not be here: types.
"""

from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fraud_pipeline.ingest.column_labels import is_about_label
from fraud_pipeline.ingest.column_profiles import Profile
from fraud_pipeline.ingest.column_times import Times
from fraud_pipeline.ingest.time_spellings import MISSING

_GIVES_AWAY: Final = 0.999
_ENOUGH: Final = 10
"""Frauds, and legitimate rows, from which on a column can be judged."""
_ROWS_PER_VALUE: Final = 10
_CALENDAR: Final = 0.999


def leak_reason(profile: Profile, labels: NDArray[np.float64]) -> str:
    """Why a column must be no input, or nothing. `labels`: 1 fraud, 0 legitimate, NaN unknown; shape (n,)."""
    if is_about_label(profile.name):
        return "named like the label: it may have been written afterwards"
    known = np.isfinite(labels)
    fraud = labels[known] == 1
    if min(fraud.sum(), (~fraud).sum()) < _ENOUGH:
        return ""
    missing = np.asarray(profile.text.is_null().to_numpy(zero_copy_only=False))[known]
    if _auc(missing.astype(np.float64), fraud) >= _GIVES_AWAY:
        return "it is filled for one side of the label only: it gives the label away"
    values = _values(profile)
    if values is not None and _auc(values[known], fraud) >= _GIVES_AWAY:
        return "it alone separates fraud from legitimate: it gives the label away"
    return ""


def calendar_reason(profile: Profile, times: Times | None) -> str:
    """Why a number that grows with the event time must be no input, or nothing."""
    if times is None or profile.numbers is None or not profile.is_number:
        return ""
    both = np.isfinite(profile.numbers) & (times != MISSING)
    if both.sum() < _ENOUGH or np.ptp(profile.numbers[both]) == 0 or np.ptp(times[both]) == 0:
        return ""
    correlation = np.corrcoef(profile.numbers[both], times[both].astype(np.float64))[0, 1]
    return "it only repeats the event time" if abs(correlation) > _CALENDAR and profile.distinct > _ENOUGH else ""


def _values(profile: Profile) -> NDArray[np.float64] | None:
    """Numbers, or the code of each value of a column with few values; fraud is judged by both."""
    if profile.is_number and profile.distinct > _ROWS_PER_VALUE and profile.numbers is not None:
        return np.nan_to_num(profile.numbers, nan=float(profile.present_numbers.min()) - 1)
    if profile.distinct * _ROWS_PER_VALUE > len(profile.text):
        return None
    codes = pd.Series(profile.text.to_pandas()).astype("category").cat.codes
    return np.asarray(codes, dtype=np.float64)


def _auc(values: NDArray[np.float64], fraud: NDArray[np.bool_]) -> float:
    """The AUC of values for fraud, in either direction; few different values are ranked by fraud rate."""
    codes, inverse = np.unique(values, return_inverse=True)
    if len(codes) <= len(values) // _ROWS_PER_VALUE and len(codes) <= 1_000:
        rates = np.bincount(inverse, weights=fraud) / np.bincount(inverse)
        values = rates[inverse]
    ranks = pd.Series(values).rank().to_numpy()
    n_fraud, n_rest = int(fraud.sum()), int((~fraud).sum())
    area = (ranks[fraud].sum() - n_fraud * (n_fraud + 1) / 2) / (n_fraud * n_rest)
    return float(max(area, 1 - area))
