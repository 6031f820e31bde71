"""Kernels that compare each transaction with the events of its window: equal codes, hour, location, frauds.

Belongs here: loops over the slices that `windows.py` computes. Must not be here: computing slices, frames, names.

Loops are compiled and scalar on purpose: a vectorised sine may round differently in a long array than in a short one.
"""

import math
from typing import Final

import numpy as np

from fraud_pipeline.features.kernels.columns import MISSING_CODE
from fraud_pipeline.features.kernels.windows import Floats, Ints, kernel

EARTH_RADIUS_KM: Final = 6371.0088
MICRODEGREES: Final = 1_000_000


@kernel
def frauds_since_last_cleared(
    order: Ints, happened: Ints, amounts: Ints, cleared: Floats, low: Ints, high: Ints
) -> tuple[Ints, Floats, Floats]:
    """Reported frauds of each slice after `cleared` (queries,), the time of the last matured legitimate transaction.

    Returns count, first time and smallest amount, each of shape (queries,); the last two are NaN without such a fraud.
    """
    count = np.zeros(len(high), np.int64)
    first, smallest = np.full(len(high), np.nan), np.full(len(high), np.nan)
    for q in range(len(high)):
        for p in range(low[q], high[q]):
            i = order[p]
            if happened[i] > cleared[q]:
                count[q] += 1
                if not first[q] <= happened[i]:
                    first[q] = happened[i]
                if not smallest[q] <= amounts[i]:
                    smallest[q] = amounts[i]
    return count, first, smallest


@kernel
def matching_event_stats(
    order: Ints, times: Ints, codes: Ints, amounts: Ints, wanted: Ints, now: Ints, low: Ints, high: Ints
) -> tuple[Floats, Floats, Floats]:
    """Events of each slice whose code (rows,) equals `wanted` (queries,): count, microseconds since the last, mean
    amount.

    Each of shape (queries,); NaN when the wanted code is missing, and the last two also without such an event.
    """
    count, since = np.full(len(high), np.nan), np.full(len(high), np.nan)
    mean = np.full(len(high), np.nan)
    for q in range(len(high)):
        if wanted[q] == MISSING_CODE:
            continue
        n, total = 0, 0
        for p in range(low[q], high[q]):
            if codes[order[p]] == wanted[q]:
                n += 1
                total += amounts[order[p]]
                since[q] = now[q] - times[p]
        count[q] = n
        if n:
            mean[q] = total / n
    return count, since, mean


@kernel
def hour_share(times: Ints, now: Ints, low: Ints, high: Ints, reach: int, day: int) -> Floats:
    """Share of the events of each slice whose time of day is within `reach` microseconds of the query's, around
    midnight too.
    """
    out = np.full(len(high), np.nan)
    for q in range(len(high)):
        if low[q] == high[q]:
            continue
        near = 0
        for p in range(low[q], high[q]):
            apart = (now[q] - times[p]) % day
            near += min(apart, day - apart) <= reach
        out[q] = near / (high[q] - low[q])
    return out


@kernel
def distance_km(latitude: float, longitude: float, other_latitude: float, other_longitude: float) -> float:
    """Great-circle distance of two points in degrees, by the haversine formula."""
    a, b = math.radians(latitude), math.radians(other_latitude)
    across = math.radians(other_longitude - longitude)
    h = math.sin((b - a) / 2) ** 2 + math.cos(a) * math.cos(b) * math.sin(across / 2) ** 2
    return 2 * EARTH_RADIUS_KM * math.asin(math.sqrt(min(h, 1.0)))


@kernel
def location_stats(
    order: Ints, times: Ints, latitude: Floats, longitude: Floats, now: Ints, low: Ints, high: Ints
) -> tuple[Floats, Floats, Floats]:
    """Km and microseconds since the last location, and km from the mean location of each slice; each (queries,).

    Query q is row q. Events without a position are skipped. Positions are summed exactly, as whole microdegrees.
    """
    from_last, since = np.full(len(high), np.nan), np.full(len(high), np.nan)
    from_centre = np.full(len(high), np.nan)
    for q in range(len(high)):
        if math.isnan(latitude[q]) or math.isnan(longitude[q]):
            continue
        n, north, east, last = 0, 0, 0, -1
        for p in range(low[q], high[q]):
            i = order[p]
            if not (math.isnan(latitude[i]) or math.isnan(longitude[i])):
                n += 1
                north += round(latitude[i] * MICRODEGREES)
                east += round(longitude[i] * MICRODEGREES)
                last = p
        if n:
            i = order[last]
            from_last[q] = distance_km(latitude[q], longitude[q], latitude[i], longitude[i])
            centre = (north / n / MICRODEGREES, east / n / MICRODEGREES)
            from_centre[q] = distance_km(latitude[q], longitude[q], centre[0], centre[1])
            since[q] = now[q] - times[last]
    return from_last, since, from_centre
