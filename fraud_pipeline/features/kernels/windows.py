"""Kernels for windows: exact statistics of the events in [t - w, t), over flat integer arrays.

Belongs here: grouping events by entity, window bounds, sums and order statistics of one value. Must not be here:
comparisons of a transaction with its window (`comparisons.py`), frames, names, meanings of features.

Events are grouped once by (entity, time). Every window is a slice [low, high) of that order, computed with two
pointers, so a year of rows takes one pass per window. Integer sums wrap around, so differences of prefix sums are
exact. Loops are compiled and scalar on purpose: a vectorised sine may round differently in a long array than in a short
one.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, cast

import numpy as np
from numba import njit
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Function = TypeVar("Function", bound=Callable[..., Any])


def kernel(function: Function) -> Function:
    """Compile a function of flat arrays, without fast math, which may round one row differently from many.

    Compiled code releases the GIL, so other threads continue meanwhile.
    """
    return cast("Function", njit(cache=True, nogil=True)(function))


class Groups(NamedTuple):
    """Events in (entity, time) order: entity e owns positions starts[e] to starts[e + 1]; `order` maps to rows."""

    starts: Ints
    order: Ints
    times: Ints


class Bounds(NamedTuple):
    """For each query q and window w the slice low[w, q] to high[q] of grouped positions."""

    low: Ints
    high: Ints


@kernel
def _order_ties(starts: Ints, order: Ints, grouped: Ints, ties: Ints) -> None:
    for e in range(len(starts) - 1):
        for p in range(starts[e] + 1, starts[e + 1]):
            k = p
            while k > starts[e] and grouped[k - 1] == grouped[k] and ties[order[k - 1]] > ties[order[k]]:
                order[k - 1], order[k] = order[k], order[k - 1]
                k -= 1


@kernel
def _bucketed(codes: Ints, arrival: Ints, entities: int) -> tuple[Ints, Ints]:
    n = len(codes)
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
    return starts, order


@kernel
def _group(codes: Ints, times: Ints, entities: int) -> tuple[Ints, Ints, Ints]:
    n = len(codes)
    starts, order = _bucketed(codes, np.arange(n), entities)
    grouped = times[order]
    # Events of an entity are nearly in order, so insertion sort moves only a few.
    moves = 0
    for e in range(entities):
        for p in range(starts[e] + 1, starts[e + 1]):
            i, t, k = order[p], grouped[p], p
            while k > starts[e] and grouped[k - 1] > t:
                order[k], grouped[k] = order[k - 1], grouped[k - 1]
                k -= 1
            order[k], grouped[k] = i, t
            moves += p - k
            if moves > 8 * n:
                starts, order = _bucketed(codes, np.argsort(times, kind="mergesort"), entities)
                return starts, order, times[order]
    return starts, order, grouped


def group(codes: Ints, times: Ints, *, entities: int, ties: Callable[[Ints], Ints] | None = None) -> Groups:
    """Order events by entity and time; codes (n,) from 0 to entities - 1, times (n,) in microseconds.

    `ties` gives integers (k,) for simultaneous rows (k,). They order such events of one entity, so that the order does
    not depend on arrival. The time is linear for events that arrive nearly in order.
    """
    groups = Groups(*_group(codes, times, entities))
    if ties is not None:
        # Few events are simultaneous, and tie breakers for all events would cost as much as the rest.
        later = np.flatnonzero(groups.times[1:] == groups.times[:-1]) + 1
        if len(later):
            tied = groups.order[np.union1d(later - 1, later)]
            numbers = np.zeros(len(times), np.int64)
            numbers[tied] = ties(tied)
            _order_ties(groups.starts, groups.order, groups.times, numbers)
    return groups


@kernel
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
    """Slices of `events` strictly before each query and not older than `widths` (k,) microseconds.

    Both groups must share their entity codes; the result is in the row order of the queries. t - w must fit in int64.
    """
    return Bounds(
        *_bounds(events.starts, events.times, queries.starts, queries.order, queries.times, widths, len(queries.order))
    )


@kernel
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


@kernel
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


@kernel
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
                apart = values[order[p]] - middle
                squares += apart * apart
            deviation[q] = math.sqrt(squares / (n - 1))
    return mean, deviation


@kernel
def window_median(order: Ints, values: Ints, low: Ints, high: Ints) -> Floats:
    """Median of each slice, shape (queries,); NaN where it is empty."""
    out = np.full(len(high), np.nan)
    for q in range(len(high)):
        n = high[q] - low[q]
        if n == 0:
            continue
        inside = np.empty(n, np.int64)
        for k in range(n):
            inside[k] = values[order[low[q] + k]]
        out[q] = np.median(inside)
    return out


@kernel
def window_mean_up_to(order: Ints, values: Ints, limits: Floats, low: Ints, high: Ints) -> Floats:
    """Mean of the values of each slice that are at most the query's limit (queries,); NaN where there is none."""
    out = np.full(len(high), np.nan)
    for q in range(len(high)):
        total, n = 0, 0
        for p in range(low[q], high[q]):
            value = values[order[p]]
            if value <= limits[q]:
                total += value
                n += 1
        if n:
            out[q] = total / n
    return out


@kernel
def window_count_above(order: Ints, values: Ints, limits: Floats, low: Ints, high: Ints) -> Ints:
    """Number of values of each slice above the query's limit (queries,); 0 for a missing limit."""
    count = np.zeros(len(high), np.int64)
    for q in range(len(high)):
        for p in range(low[q], high[q]):
            count[q] += values[order[p]] > limits[q]
    return count


@kernel
def window_distinct(order: Ints, codes: Ints, low: Ints, high: Ints) -> Ints:
    """Number of different codes (rows,) in each slice, shape (queries,); meant for slices of at most some hundred
    events.
    """
    out = np.zeros(len(high), np.int64)
    for q in range(len(high)):
        for p in range(low[q], high[q]):
            new = True
            for r in range(low[q], p):
                if codes[order[r]] == codes[order[p]]:
                    new = False
                    break
            out[q] += new
    return out
