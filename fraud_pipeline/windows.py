"""The kernel: exact statistics of the events in [t - w, t), over flat integer arrays.

Belongs here: grouping events by entity, window bounds, sums, order statistics, last-seen. Must not be here: frames,
names, what any number means.

Events are grouped once by (entity, time). Every window is a slice [low, high) of that order, found by two pointers, so
a year of rows costs one pass per window. Integer sums wrap around, which keeps differences of prefix sums exact. Loops
are compiled and scalar on purpose: a vectorised logarithm may round differently in a long array than in a short one.
"""

import math
from typing import Any, Final, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

MISSING_CODE: Final = -1
ROBUST_EVENTS: Final = 128
EARTH_RADIUS_KM: Final = 6371.0088
MICRODEGREES: Final = 1_000_000


class Groups(NamedTuple):
    """Events in (entity, time) order: entity e owns positions starts[e] to starts[e + 1]; `order` maps to rows."""

    starts: Ints
    order: Ints
    times: Ints


class Bounds(NamedTuple):
    """For each query q and window w the slice low[w, q] to high[q] of grouped positions."""

    low: Ints
    high: Ints


@njit(cache=True)  # type: ignore[untyped-decorator]  # numba ships no types
def _group(codes: Ints, times: Ints, ties: Ints, entities: int) -> tuple[Ints, Ints, Ints]:
    n = len(codes)
    in_time_order = True
    for i in range(1, n):
        if times[i] < times[i - 1]:
            in_time_order = False
            break
    arrival = np.arange(n) if in_time_order else np.argsort(times, kind="mergesort")
    starts = np.zeros(entities + 1, np.int64)
    for i in range(n):
        starts[codes[i] + 1] += 1
    for e in range(entities):
        starts[e + 1] += starts[e]
    at = starts[:-1].copy()
    order = np.empty(n, np.int64)
    for k in range(n):
        i = arrival[k]
        order[at[codes[i]]] = i
        at[codes[i]] += 1
    grouped = np.empty(n, np.int64)
    for p in range(n):
        grouped[p] = times[order[p]]
    if len(ties) == n:
        for e in range(entities):
            for p in range(starts[e] + 1, starts[e + 1]):
                k = p
                while k > starts[e] and grouped[k - 1] == grouped[k] and ties[order[k - 1]] > ties[order[k]]:
                    order[k - 1], order[k] = order[k], order[k - 1]
                    k -= 1
    return starts, order, grouped


def group(codes: Ints, times: Ints, *, entities: int, ties: Ints | None = None) -> Groups:
    """Order events by entity and time; codes (n,) from 0 to entities - 1, times (n,) in microseconds.

    `ties` (n,) orders events of one entity at one instant, so that the order depends on the events alone and not on
    how they arrived. Linear for events that already come in order of time.
    """
    return Groups(*_group(codes, times, np.empty(0, np.int64) if ties is None else ties, entities))


@njit(cache=True)  # type: ignore[untyped-decorator]  # numba ships no types
def _bounds(
    starts: Ints, times: Ints, query_starts: Ints, query_order: Ints, query_times: Ints, widths: Ints, queries: int
) -> tuple[Ints, Ints]:
    n_widths = len(widths)
    low = np.empty((n_widths, queries), np.int64)
    high = np.empty(queries, np.int64)
    edge = np.empty(n_widths, np.int64)
    for e in range(len(query_starts) - 1):
        first, last = starts[e], starts[e + 1]
        edge[:] = first
        top = first
        for p in range(query_starts[e], query_starts[e + 1]):
            t = query_times[p]
            q = query_order[p]
            while top < last and times[top] < t:
                top += 1
            high[q] = top
            for w in range(n_widths):
                k = edge[w]
                while k < top and times[k] < t - widths[w]:
                    k += 1
                edge[w] = k
                low[w, q] = k
    return low, high


def window_bounds(events: Groups, queries: Groups, widths: Ints) -> Bounds:
    """Slices of `events` strictly before each query and at most `widths` (k,) microseconds old.

    Both groups must share their entity codes; the result is in the row order of the queries. Times may be anything
    that leaves t - w inside int64.
    """
    return Bounds(
        *_bounds(events.starts, events.times, queries.starts, queries.order, queries.times, widths, len(queries.order))
    )


@njit(cache=True)  # type: ignore[untyped-decorator]  # numba ships no types
def window_sum(order: Ints, values: Ints, low: Ints, high: Ints) -> Ints:
    """Sums of int64 values (rows,) over each slice, shape (queries,), exact modulo 2^64."""
    n = len(order)
    total = np.zeros(n + 1, np.int64)
    for p in range(n):
        total[p + 1] = total[p] + values[order[p]]
    out = np.empty(len(high), np.int64)
    for q in range(len(high)):
        out[q] = total[high[q]] - total[low[q]]
    return out


@njit(cache=True)  # type: ignore[untyped-decorator]  # numba ships no types
def window_extremes(order: Ints, values: Ints, low: Ints, high: Ints) -> tuple[Floats, Floats]:
    """Smallest and largest value of each slice, each of shape (queries,); NaN where it is empty."""
    smallest, largest = np.full(len(high), np.nan), np.full(len(high), np.nan)
    for q in range(len(high)):
        if low[q] < high[q]:
            least = most = values[order[low[q]]]
            for p in range(low[q] + 1, high[q]):
                value = values[order[p]]
                least, most = min(least, value), max(most, value)
            smallest[q], largest[q] = least, most
    return smallest, largest


@njit(cache=True)  # type: ignore[untyped-decorator]  # numba ships no types
def window_spread(order: Ints, values: Ints, low: Ints, high: Ints) -> tuple[Floats, Floats]:
    """Mean and standard deviation (n - 1) of each slice, each of shape (queries,); NaN below 1 and 2 events."""
    mean, deviation = np.full(len(high), np.nan), np.full(len(high), np.nan)
    for q in range(len(high)):
        n = high[q] - low[q]
        if n == 0:
            continue
        total = 0.0
        for p in range(low[q], high[q]):
            total += values[order[p]]
        middle = total / n
        mean[q] = middle
        if n > 1:
            squares = 0.0
            for p in range(low[q], high[q]):
                squares += (values[order[p]] - middle) ** 2
            deviation[q] = math.sqrt(squares / (n - 1))
    return mean, deviation


@njit(cache=True)  # type: ignore[untyped-decorator]  # numba ships no types
def window_median(order: Ints, values: Ints, low: Ints, high: Ints) -> Floats:
    """Median of the newest `ROBUST_EVENTS` values of each slice, shape (queries,); NaN where it is empty."""
    out = np.full(len(high), np.nan)
    kept = np.empty(ROBUST_EVENTS, np.int64)
    for q in range(len(high)):
        n = min(high[q] - low[q], ROBUST_EVENTS)
        if n == 0:
            continue
        for k in range(n):
            kept[k] = values[order[high[q] - n + k]]
        ranked = np.sort(kept[:n])
        out[q] = (ranked[(n - 1) // 2] + ranked[n // 2]) / 2
    return out


@njit(cache=True)  # type: ignore[untyped-decorator]  # numba ships no types
def window_typical(order: Ints, values: Ints, medians: Floats, low: Ints, high: Ints, factor: float) -> Floats:
    """Mean of the newest `ROBUST_EVENTS` values of each slice that are at most `factor` medians; shape (queries,)."""
    out = np.full(len(high), np.nan)
    for q in range(len(high)):
        total, n = 0, 0
        for p in range(max(low[q], high[q] - ROBUST_EVENTS), high[q]):
            value = values[order[p]]
            if value <= factor * medians[q]:
                total += value
                n += 1
        if n:
            out[q] = total / n
    return out


@njit(cache=True)  # type: ignore[untyped-decorator]  # numba ships no types
def count_above(order: Ints, values: Ints, limits: Floats, low: Ints, high: Ints) -> tuple[Ints, Ints]:
    """Values of each slice above the query's limit (queries,): how many, and the largest; both 0 where there is none."""
    count, largest = np.zeros(len(high), np.int64), np.zeros(len(high), np.int64)
    for q in range(len(high)):
        for p in range(low[q], high[q]):
            value = values[order[p]]
            if value > limits[q]:
                count[q] += 1
                largest[q] = max(largest[q], value)
    return count, largest


@njit(cache=True)  # type: ignore[untyped-decorator]  # numba ships no types
def run_after(
    order: Ints, happened: Ints, amounts: Ints, cleared: Ints, low: Ints, high: Ints
) -> tuple[Ints, Floats, Floats]:
    """Reported events of each slice that happened after `cleared` (queries,): count, first time, smallest amount.

    Each of shape (queries,); the last two are NaN where there is none.
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


@njit(cache=True)  # type: ignore[untyped-decorator]  # numba ships no types
def window_distinct(order: Ints, codes: Ints, low: Ints, high: Ints) -> Floats:
    """Number of different codes (rows,) among the newest `ROBUST_EVENTS` events of each slice, shape (queries,)."""
    out = np.zeros(len(high))
    for q in range(len(high)):
        first = max(low[q], high[q] - ROBUST_EVENTS)
        for p in range(first, high[q]):
            new = True
            for r in range(first, p):
                if codes[order[r]] == codes[order[p]]:
                    new = False
                    break
            out[q] += new
    return out


@njit(cache=True)  # type: ignore[untyped-decorator]  # numba ships no types
def same_kind(
    order: Ints, times: Ints, codes: Ints, amounts: Ints, wanted: Ints, now: Ints, low: Ints, high: Ints
) -> tuple[Floats, Floats, Floats]:
    """Events of each slice whose code (rows,) is the `wanted` one (queries,): count, microseconds since the last, mean.

    All of shape (queries,); NaN when the wanted code is missing, and for the last two when there is no such event.
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


@njit(cache=True)  # type: ignore[untyped-decorator]  # numba ships no types
def hour_share(times: Ints, now: Ints, low: Ints, high: Ints, reach: int, day: int) -> Floats:
    """Share of each slice whose time of day is within `reach` microseconds of the query's, around the clock."""
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


@njit(cache=True)  # type: ignore[untyped-decorator]  # numba ships no types
def distance_km(latitude: float, longitude: float, other_latitude: float, other_longitude: float) -> float:
    """Great-circle distance of two points in degrees, by the haversine formula."""
    a, b = math.radians(latitude), math.radians(other_latitude)
    across = math.radians(other_longitude - longitude)
    h = math.sin((b - a) / 2) ** 2 + math.cos(a) * math.cos(b) * math.sin(across / 2) ** 2
    return 2 * EARTH_RADIUS_KM * math.asin(math.sqrt(min(h, 1.0)))


@njit(cache=True)  # type: ignore[untyped-decorator]  # numba ships no types
def places(
    order: Ints, times: Ints, latitude: Floats, longitude: Floats, query_rows: Ints, now: Ints, low: Ints, high: Ints
) -> tuple[Floats, Floats, Floats]:
    """Km and microseconds since the last place, and km from the mean place of each slice; each (queries,).

    Events without a position (rows,) are passed over. Positions are summed as whole microdegrees, which is exact.
    """
    from_last, since = np.full(len(high), np.nan), np.full(len(high), np.nan)
    from_centre = np.full(len(high), np.nan)
    for q in range(len(high)):
        row = query_rows[q]
        if math.isnan(latitude[row]) or math.isnan(longitude[row]):
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
            from_last[q] = distance_km(latitude[row], longitude[row], latitude[i], longitude[i])
            centre = (north / n / MICRODEGREES, east / n / MICRODEGREES)
            from_centre[q] = distance_km(latitude[row], longitude[row], centre[0], centre[1])
            since[q] = now[q] - times[last]
    return from_last, since, from_centre


def kernels() -> tuple[Any, ...]:
    """Every compiled function, so that tests can run their plain Python too."""
    return (
        _group, _bounds, window_sum, window_extremes, window_spread, window_median, window_typical, count_above,
        run_after, window_distinct,
        same_kind, hour_share, distance_km, places,
    )  # fmt: skip
