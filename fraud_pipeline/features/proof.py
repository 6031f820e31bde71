"""A fixed history whose features identify the feature code: releases with equal values here compute equal features.

Belongs here: that history, and a hash of each feature's values. Must not be here: what to do when they differ.

The history comes from a random stream of our own, so that it is the same in every release. It covers ties, windows that
end on an event, missing values, places around the date line, offsets of local clocks, customers and merchants with more
than `NEWEST_EVENTS` events, reports before and after the label maturity, and withdrawn and repeated reports.
"""

import hashlib
import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fraud_pipeline.features.engineer import FEATURE_NAMES, FeatureEngineer, History, merchant_days
from fraud_pipeline.features.own_inputs import FIXED_INPUTS, OwnInput, OwnInputs
from fraud_pipeline.schema.local_time import UTC_OFFSET
from fraud_pipeline.schema.own_fields import own_columns
from fraud_pipeline.schema.transactions import CHANNELS, DAY, HOUR, REPORT_COLUMNS, times

_EVENTS: Final = 2_400
_DAYS: Final = 75
_STEP: Final = HOUR // 6
_START: Final = 19_700 * DAY
_OWN_ROWS: Final = 300


@lru_cache(maxsize=8)
def value_hashes(engineer: FeatureEngineer) -> Mapping[str, str]:
    """SHA-256 of the float32 bits of each feature, by its name."""
    transactions = _transactions()
    reports = _reports(transactions)
    days = merchant_days(transactions, reports, label_maturity=engineer.label_maturity)
    twice = pd.concat([transactions, transactions.head(50)], ignore_index=True)
    offsets = np.array([-300.0, 0.0, 60.0, 345.0, np.nan])[(_draws(18) * 5).astype(np.int64)]
    new = transactions.assign(**{UTC_OFFSET: offsets})
    rows = engineer.compute(history=History(transactions=twice, reports=reports, merchant_days=days), new=new)
    return {name: _hash(rows[name].to_numpy(np.float32)) for name in FEATURE_NAMES}


def own_value_hashes(own: OwnInputs) -> Mapping[str, str]:
    """SHA-256 of the float32 bits of each own input over fixed values, by its name."""
    if not own.inputs:
        return {}
    documents = [
        {name: value for name, value in zip(own.names, values, strict=True) if value is not None}
        for values in zip(*(_own_values(each) for each in own.inputs), strict=True)
    ]
    columns = own_columns([json.dumps(document) for document in documents], own.fields)
    fixed = {
        name: pd.Series([document.get(name) for document in documents], dtype=object)
        for name in own.names
        if name in FIXED_INPUTS
    }
    at = _START + np.arange(len(documents)) * _STEP
    values = own.values(columns.assign(**fixed), at)
    return {name: _hash(values[:, position]) for position, name in enumerate(own.names)}


def _own_values(own: OwnInput) -> list[str | float | bool | None]:
    """Values of an own input: every category and one that no model knows, numbers of every size, missing ones."""
    numbers = np.round((_draws(16, count=_OWN_ROWS) - 0.5) * 10.0 ** (_draws(17, count=_OWN_ROWS) * 60 - 10), 3)
    match own.kind:
        case "category":
            known: list[str | None] = [*own.categories, "\x7f no category", None]
            return [known[position % len(known)] for position in range(_OWN_ROWS)]
        case "flag":
            return [(True, False, None)[position % 3] for position in range(_OWN_ROWS)]
        case "age":
            return [int(_START - number * 1e9) if abs(number) < 1e9 else None for number in numbers.tolist()]
        case _:
            return [None if position % 7 == 0 else number for position, number in enumerate(numbers.tolist())]


def _hash(values: NDArray[np.float32]) -> str:
    # A missing value has many bit patterns, which mean the same to a model.
    same_missing = np.where(np.isnan(values), np.float32(np.nan), values).astype("<f4")
    return hashlib.sha256(same_missing.tobytes()).hexdigest()


def _draws(stream: int, *, count: int = _EVENTS) -> NDArray[np.float64]:
    """Numbers from [0, 1), shape (count,). Source: SplitMix64, Steele, Lea and Flood, OOPSLA 2014."""
    state = np.arange(stream * count, (stream + 1) * count, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    state ^= state >> np.uint64(31)
    return (state >> np.uint64(11)).astype(np.float64) / 2.0**53


def _choices(stream: int, names: tuple[str | None, ...]) -> NDArray[np.object_]:
    chosen: NDArray[np.object_] = np.array(names, object)[(_draws(stream) * len(names)).astype(np.int64)]
    return chosen


def _transactions() -> pd.DataFrame:
    """Most events belong to few customers and merchants, at multiples of a time step, so that many events are
    simultaneous.
    """
    at = np.sort((_draws(1) * (_DAYS * DAY // _STEP)).astype(np.int64)) * _STEP + _START
    latitude = np.round(_draws(2) * 170 - 85, 3)
    longitude = np.round((_draws(3) * 40 + 160 + 180) % 360 - 180, 3)
    latitude[_draws(4) < 0.15] = np.nan
    longitude[_draws(5) < 0.15] = np.nan
    return pd.DataFrame(
        {
            "transaction_id": [f"proof-{number}" for number in range(_EVENTS)],
            "event_time": times(at),
            "customer_id": [f"c-{number}" for number in (_draws(6) ** 3 * 12).astype(np.int64)],
            "merchant_id": [f"m-{number}" for number in (_draws(7) ** 3 * 10).astype(np.int64)],
            "amount_cents": 100 * (1 + (_draws(8) ** 6 * 400).astype(np.int64)),
            "category": _choices(9, ("grocery", "travel", "fuel", "games", None)),
            "channel": _choices(10, (*CHANNELS, None)),
            "country": _choices(11, ("SE", "DE", "BR", None)),
            "latitude": latitude,
            "longitude": longitude,
        }
    )


def _reports(transactions: pd.DataFrame) -> pd.DataFrame:
    """A quarter of the transactions is reported within 40 days, and nearly all of one merchant from some day on."""
    run = (transactions["merchant_id"] == "m-3") & (np.arange(_EVENTS) > _EVENTS // 2)
    reported = (_draws(12) < 0.25) | (run.to_numpy() & (_draws(13) < 0.9))
    delay = (_draws(14) ** 2 * 40 * 4).astype(np.int64) * (DAY // 4)
    reports = transactions.assign(
        reported_at=transactions["event_time"] + pd.to_timedelta(delay, unit="us"), is_fraud=_draws(15) > 0.15
    )[reported]
    again = reports[::7].assign(reported_at=reports["reported_at"] + pd.Timedelta(days=1), is_fraud=True)
    columns = list(REPORT_COLUMNS)
    return pd.concat([reports[columns], again[columns], reports.loc[::11, columns]], ignore_index=True)
