"""Every kernel against its definition, written out naively: ties, late events, empty windows, int64 extremes.

Each test runs twice: compiled, as in production, and as the plain Python it is written in.
"""

import math
import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud_pipeline import comparisons, windows
from fraud_pipeline.windows import Bounds, Groups, Ints

Mode = Literal["compiled", "plain"]
BOTH: Final = pytest.mark.parametrize("mode", ["compiled", "plain"])
PATIENT: Final = settings(deadline=None)  # the first call compiles
INT64: Final = st.integers(-(2**63), 2**63 - 1)
CENTS: Final = st.integers(1, 10**10)
CLOCK: Final = st.integers(-12, 12)  # so few instants that ties and window edges are the rule
DAY: Final = 8
ENTITIES: Final = 3


@contextmanager
def kernels(mode: Mode) -> Iterator[None]:
    """The kernels in this mode; plain numpy integers warn when they wrap around, compiled ones do not."""
    with pytest.MonkeyPatch.context() as patch, np.errstate(over="ignore" if mode == "plain" else "warn"):
        if mode == "plain":
            for module in (windows, comparisons):
                for name, value in list(vars(module).items()):
                    patch.setattr(module, name, getattr(value, "py_func", value))
        yield


@dataclass(frozen=True)
class Case:
    """Events (entity, time, value, kind) in any order and queries (entity, time, kind), seen through one width."""

    events: list[tuple[int, int, int, int]]
    queries: list[tuple[int, int, int]]
    width: int

    def column(self, number: int) -> Ints:
        return np.array([event[number] for event in self.events], np.int64)

    def asked(self, number: int) -> Ints:
        return np.array([query[number] for query in self.queries], np.int64)

    def found(self) -> tuple[Groups, Ints, Ints]:
        """Grouped events and the slice of each query, by the code under test."""
        ties = np.arange(len(self.events))
        grouped = windows.group(self.column(0), self.column(1), entities=ENTITIES, ties=ties)
        asked = windows.group(self.asked(0), self.asked(1), entities=ENTITIES)
        bounds = windows.window_bounds(grouped, asked, np.array([self.width, 10**6]))
        return grouped, bounds.low[0], bounds.high

    def rows(self) -> list[list[int]]:
        """For each query the rows of its window, oldest first: the definition."""
        return [
            sorted(
                (i for i, (of, at, *_) in enumerate(self.events) if of == entity and t - self.width <= at < t),
                key=lambda i: (self.events[i][1], i),
            )
            for entity, t, _ in self.queries
        ]

    def values(self) -> list[list[int]]:
        return [[self.events[i][2] for i in rows] for rows in self.rows()]


@st.composite
def cases(draw: st.DrawFn, *, values: st.SearchStrategy[int] = CENTS) -> Case:
    entity, kind = st.integers(0, ENTITIES - 1), st.integers(-1, 2)
    return Case(
        events=draw(st.lists(st.tuples(entity, CLOCK, values, kind), max_size=12)),
        queries=draw(st.lists(st.tuples(entity, CLOCK, kind), max_size=6)),
        width=draw(st.integers(0, 20)),
    )


def same(found: Any, expected: list[float]) -> None:
    np.testing.assert_allclose(np.asarray(found, float), np.array(expected, float), rtol=1e-12, equal_nan=True)


@BOTH
@PATIENT
@given(case=cases())
def test_a_window_holds_what_is_before_the_query_and_not_older_than_its_width(mode: Mode, case: Case) -> None:
    with kernels(mode):
        grouped, low, high = case.found()
    assert [list(grouped.order[a:b]) for a, b in zip(low, high, strict=True)] == case.rows()
    assert list(grouped.times) == list(case.column(1)[grouped.order])


@BOTH
@PATIENT
@given(case=cases(values=INT64), order=st.randoms(use_true_random=False))
def test_the_order_of_events_does_not_depend_on_how_they_arrive(mode: Mode, case: Case, order: Any) -> None:
    arrival = np.array(order.sample(range(len(case.events)), len(case.events)), np.int64)
    code, time, tie = case.column(0), case.column(1), np.arange(len(case.events))
    with kernels(mode):
        first = windows.group(code, time, entities=ENTITIES, ties=tie)
        second = windows.group(code[arrival], time[arrival], entities=ENTITIES, ties=tie[arrival])
    assert list(first.order) == list(arrival[second.order])


@BOTH
@PATIENT
@given(case=cases(values=INT64))
def test_sums_are_exact_modulo_two_to_the_64(mode: Mode, case: Case) -> None:
    with kernels(mode):
        grouped, low, high = case.found()
        found = windows.window_sum(grouped.order, case.column(2), low, high)
    assert [int(value) for value in found] == [(sum(of) + 2**63) % 2**64 - 2**63 for of in case.values()]


@BOTH
@PATIENT
@given(case=cases(values=INT64))
def test_extremes(mode: Mode, case: Case) -> None:
    with kernels(mode):
        grouped, low, high = case.found()
        least, most = windows.window_extremes(grouped.order, case.column(2), low, high)
    same(least, [min(of) if of else math.nan for of in case.values()])
    same(most, [max(of) if of else math.nan for of in case.values()])


@BOTH
@PATIENT
@given(case=cases())
def test_mean_spread_and_median(mode: Mode, case: Case) -> None:
    with kernels(mode):
        grouped, low, high = case.found()
        mean, spread = windows.window_spread(grouped.order, case.column(2), low, high)
        median = windows.window_median(grouped.order, case.column(2), low, high)
    same(mean, [statistics.fmean(of) if of else math.nan for of in case.values()])
    same(spread, [statistics.stdev(of) if len(of) > 1 else math.nan for of in case.values()])
    same(median, [statistics.median(of) if of else math.nan for of in case.values()])


@BOTH
@PATIENT
@given(case=cases(), limit=st.one_of(st.floats(0, 1e10), st.just(math.nan)))
def test_values_on_either_side_of_a_limit(mode: Mode, case: Case, limit: float) -> None:
    limits = np.full(len(case.queries), limit)
    with kernels(mode):
        grouped, low, high = case.found()
        mean = windows.window_mean_up_to(grouped.order, case.column(2), limits, low, high)
        count = windows.window_count_above(grouped.order, case.column(2), limits, low, high)
    below = [[value for value in of if value <= limit] for of in case.values()]
    same(mean, [statistics.fmean(of) if of else math.nan for of in below])
    assert list(count) == [sum(value > limit for value in of) for of in case.values()]


@BOTH
@PATIENT
@given(case=cases())
def test_distinct_kinds(mode: Mode, case: Case) -> None:
    with kernels(mode):
        grouped, low, high = case.found()
        found = windows.window_distinct(grouped.order, case.column(3), low, high)
    assert list(found) == [len({case.events[i][3] for i in rows}) for rows in case.rows()]


@BOTH
@PATIENT
@given(case=cases())
def test_events_of_the_same_kind(mode: Mode, case: Case) -> None:
    now, wanted = case.asked(1), case.asked(2)
    with kernels(mode):
        grouped, low, high = case.found()
        count, since, mean = comparisons.same_kind(
            grouped.order, grouped.times, case.column(3), case.column(2), wanted, now, low, high
        )
    for q, rows in enumerate(case.rows()):
        alike = [case.events[i] for i in rows if case.events[i][3] == wanted[q]]
        known = wanted[q] != comparisons.MISSING_CODE
        last = now[q] - alike[-1][1] if known and alike else math.nan
        amount = statistics.fmean(event[2] for event in alike) if known and alike else math.nan
        same([count[q], since[q], mean[q]], [len(alike) if known else math.nan, last, amount])


@BOTH
@PATIENT
@given(case=cases(), reach=st.integers(0, DAY // 2))
def test_share_of_events_around_this_time_of_day(mode: Mode, case: Case, reach: int) -> None:
    now = case.asked(1)
    with kernels(mode):
        grouped, low, high = case.found()
        found = comparisons.hour_share(grouped.times, now, low, high, reach, DAY)

    def apart(first: int, second: int) -> int:
        return min(abs(first % DAY - second % DAY + turn) for turn in (-DAY, 0, DAY))

    near = [[apart(int(now[q]), case.events[i][1]) <= reach for i in rows] for q, rows in enumerate(case.rows())]
    same(found, [sum(of) / len(of) if of else math.nan for of in near])


@BOTH
@PATIENT
@given(case=cases(), cleared=st.one_of(CLOCK, st.just(-math.inf)))
def test_the_run_of_reported_events_after_the_last_cleared_one(mode: Mode, case: Case, cleared: float) -> None:
    happened = -case.column(1)  # in another order than it was reported
    with kernels(mode):
        grouped, low, high = case.found()
        count, first, smallest = comparisons.run_after(
            grouped.order, happened, case.column(2), np.full(len(case.queries), cleared), low, high
        )
    runs = [[i for i in rows if happened[i] > cleared] for rows in case.rows()]
    assert list(count) == [len(run) for run in runs]
    same(first, [min(happened[run]) if run else math.nan for run in runs])
    same(smallest, [min(case.events[i][2] for i in run) if run else math.nan for run in runs])


@BOTH
@pytest.mark.parametrize(
    ("one", "other", "km"),
    [
        pytest.param((0, 0), (0, 0), 0, id="the same place"),
        pytest.param((52.5200, 13.4050), (48.8566, 2.3522), 877.5, id="Berlin to Paris"),
        pytest.param((0, 179.5), (0, -179.5), 111.2, id="across the date line"),
        pytest.param((90, 0), (-90, 0), 20015.1, id="from pole to pole"),
    ],
)
def test_distance(mode: Mode, one: tuple[float, float], other: tuple[float, float], km: float) -> None:
    with kernels(mode):
        assert comparisons.distance_km(*one, *other) == pytest.approx(km, abs=0.1)


@BOTH
def test_places_are_compared_with_the_last_known_one_and_with_the_centre(mode: Mode) -> None:
    """Row 0 asks; rows 1 to 3 are its past, of which the newest has no position."""
    latitude = np.array([0.0, 0.0, 2.0, np.nan])
    longitude = np.array([0.0, 0.0, 0.0, 9.0])
    order, times, now = np.array([1, 2, 3]), np.array([10, 20, 30]), np.array([100])
    low, high = np.array([0]), np.array([3])
    degree = 111.195
    with kernels(mode):
        from_last, since, from_centre = comparisons.places(order, times, latitude, longitude, now, low, high)
        unknown = comparisons.places(order, times, np.array([np.nan, 0, 0, 0]), longitude, now, low, high)
        nothing = comparisons.places(order, times, latitude, longitude, now, np.array([2]), high)
    same([round(from_last[0] / degree, 3), since[0], round(from_centre[0] / degree, 3)], [2, 80, 1])
    assert np.isnan(unknown).all()
    assert np.isnan(nothing).all()


def test_windows_of_nothing_are_empty() -> None:
    none = np.empty(0, np.int64)
    grouped = windows.group(none, none, entities=0)
    bounds = windows.window_bounds(grouped, grouped, np.array([1]))
    assert bounds.high.shape == (0,)
    assert windows.window_sum(grouped.order, none, bounds.low[0], bounds.high).shape == (0,)


def test_bounds_of_every_width_share_one_pass() -> None:
    times = np.arange(100)
    events = windows.group(np.zeros(100, np.int64), times, entities=1)
    bounds: Bounds = windows.window_bounds(events, events, np.array([1, 10, 1000]))
    np.testing.assert_array_equal(bounds.high - bounds.low, [np.minimum(times, w) for w in (1, 10, 1000)])
