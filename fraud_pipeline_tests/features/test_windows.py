"""Every window statistic equals its definition, written here in plain Python over all events.

Each test runs twice: compiled, and as the Python it is compiled from. Times are drawn from a narrow range, so that
ties, duplicates and edges of windows are the rule, and in any order, so that most events come late.
"""

import math
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn
from numpy.typing import NDArray

from fraud_pipeline.features.kernels import windows
from fraud_pipeline.features.kernels.windows import Bounds, Groups
from fraud_pipeline.schema.transactions import MAX_AMOUNT_CENTS

ENTITIES: Final = 3
INT64: Final = np.iinfo(np.int64)


@pytest.fixture(scope="module", params=["compiled", "python"], autouse=True)
def kernels(request: pytest.FixtureRequest) -> Iterator[None]:
    """The kernels as they run in production, then as the Python that coverage and a debugger can see."""
    with pytest.MonkeyPatch.context() as patch, np.errstate(over="ignore"):  # wrap-around is meant
        if request.param == "python":
            for name, function in vars(windows).items():
                if hasattr(function, "py_func"):
                    patch.setattr(windows, name, function.py_func)
        yield


@dataclass(frozen=True)
class Case:
    """Events (entity, time, value) and queries (entity, time, limit) about the window of one width."""

    events: list[tuple[int, int, int]]
    queries: list[tuple[int, int, int]]
    width: int

    def slices(self) -> tuple[Groups, Bounds]:
        """The kernel's results."""
        grouped = self.grouped()
        return grouped, windows.window_bounds(grouped, self.grouped_queries(), ints([self.width]))

    def grouped(self) -> Groups:
        return windows.group(column(self.events, 0), column(self.events, 1), entities=ENTITIES)

    def grouped_queries(self) -> Groups:
        return windows.group(column(self.queries, 0), column(self.queries, 1), entities=ENTITIES)

    def values(self) -> NDArray[np.int64]:
        return column(self.events, 2)

    def limits(self) -> NDArray[np.float64]:
        return column(self.queries, 2).astype(np.float64)

    def seen(self) -> list[list[int]]:
        """By definition: each query's values in [t - width, t), oldest first, in order of arrival within an instant."""
        by_time = sorted(self.events, key=lambda event: event[1])
        return [
            [value for e, time, value in by_time if e == entity and now - self.width <= time < now]
            for entity, now, _ in self.queries
        ]

    def expected(self, statistic: Callable[[list[int]], float]) -> list[float]:
        return [statistic(seen) for seen in self.seen()]


def column(rows: list[tuple[int, int, int]], number: int) -> NDArray[np.int64]:
    """One field of all rows."""
    return ints([row[number] for row in rows])


def ints(values: list[int]) -> NDArray[np.int64]:
    """An int64 array, also of no values."""
    return np.array(values, dtype=np.int64)


def cases(values: st.SearchStrategy[int], times: st.SearchStrategy[int] | None = None) -> st.SearchStrategy[Case]:
    """Few entities and few instants, many ties."""
    moments = st.integers(-8, 8) if times is None else times
    rows = st.lists(st.tuples(st.integers(0, ENTITIES - 1), moments, values), max_size=12)
    return st.builds(Case, events=rows, queries=rows, width=st.integers(0, 10))


AMOUNTS: Final = st.integers(1, 9) | st.integers(1, MAX_AMOUNT_CENTS)
ANY: Final = st.integers(int(INT64.min), int(INT64.max))


@st.composite
def keyed_events(draw: DrawFn) -> list[tuple[int, int, int]]:
    """Events (entity, time, key) of distinct keys."""
    keys = draw(st.lists(ANY, max_size=12, unique=True))
    return [(draw(st.integers(0, ENTITIES - 1)), draw(st.integers(0, 3)), key) for key in keys]


class TestGroup:
    @given(case=cases(AMOUNTS))
    def test_orders_by_entity_and_time_then_by_arrival(self, case: Case) -> None:
        grouped, _ = case.slices()
        expected = sorted(range(len(case.events)), key=lambda i: (case.events[i][0], case.events[i][1], i))
        assert grouped.order.tolist() == expected
        assert grouped.times.tolist() == [case.events[i][1] for i in expected]
        assert grouped.starts.tolist() == [sum(e < entity for e, _, _ in case.events) for entity in range(ENTITIES + 1)]

    @given(events=keyed_events(), data=st.data())
    def test_with_tie_breakers_the_order_does_not_depend_on_arrival(
        self, events: list[tuple[int, int, int]], data: st.DataObject
    ) -> None:
        for arrived in (events, data.draw(st.permutations(events))):
            codes, times, ties = (column(arrived, number) for number in range(3))
            grouped = windows.group(codes, times, entities=ENTITIES, ties=partial(np.take, ties))
            assert [arrived[i] for i in grouped.order] == sorted(events)
            assert grouped.times.tolist() == [time for _, time, _ in sorted(events)]


class TestBounds:
    @given(case=cases(AMOUNTS))
    def test_hold_the_events_strictly_before_and_not_older_than_the_window(self, case: Case) -> None:
        grouped, bounds = case.slices()
        for q, seen in enumerate(case.seen()):
            rows = grouped.order[bounds.low[0, q] : bounds.high[q]]
            assert [case.events[i][2] for i in rows] == seen

    @given(case=cases(AMOUNTS, times=st.sampled_from([INT64.min + 10, -1, 0, 1, INT64.max - 1, INT64.max])))
    def test_hold_for_the_earliest_and_latest_times(self, case: Case) -> None:
        grouped, bounds = case.slices()
        assert (bounds.high - bounds.low[0]).tolist() == [len(seen) for seen in case.seen()]
        assert len(grouped.order) == len(case.events)

    @given(case=cases(AMOUNTS), widths=st.lists(st.integers(0, 20), max_size=4))
    def test_bounds_of_several_windows_equal_those_of_each(self, case: Case, widths: list[int]) -> None:
        grouped, alone = case.slices()
        together = windows.window_bounds(grouped, case.grouped_queries(), ints([*widths, case.width]))
        assert together.low[-1].tolist() == alone.low[0].tolist()
        assert together.high.tolist() == alone.high.tolist()


class TestStatistics:
    @given(case=cases(ANY))
    def test_sums_are_exact_and_wrap_around(self, case: Case) -> None:
        grouped, bounds = case.slices()
        sums = windows.window_sum(grouped.order, case.values(), bounds.low[0], bounds.high)
        wrapped = [(sum(seen) - INT64.min) % 2**64 + INT64.min for seen in case.seen()]
        assert sums.tolist() == wrapped

    @given(case=cases(ANY))
    def test_extremes(self, case: Case) -> None:
        grouped, bounds = case.slices()
        least, most = windows.window_extremes(grouped.order, case.values(), bounds.low[0], bounds.high)
        np.testing.assert_array_equal(least, case.expected(lambda seen: min(seen, default=math.nan)))
        np.testing.assert_array_equal(most, case.expected(lambda seen: max(seen, default=math.nan)))

    @given(case=cases(AMOUNTS))
    def test_mean_and_spread(self, case: Case) -> None:
        grouped, bounds = case.slices()
        mean, spread = windows.window_spread(grouped.order, case.values(), bounds.low[0], bounds.high)
        means = case.expected(lambda seen: statistics.fmean(seen) if seen else math.nan)
        spreads = case.expected(lambda seen: statistics.stdev(seen) if len(seen) > 1 else math.nan)
        np.testing.assert_allclose(mean, means, rtol=1e-12)
        np.testing.assert_allclose(spread, spreads, rtol=1e-12)

    @given(case=cases(AMOUNTS))
    def test_median(self, case: Case) -> None:
        grouped, bounds = case.slices()
        median = windows.window_median(grouped.order, case.values(), bounds.low[0], bounds.high)
        np.testing.assert_array_equal(median, case.expected(lambda seen: statistics.median(seen) if seen else math.nan))

    @given(case=cases(st.integers(1, 9)))
    def test_mean_up_to_a_limit_and_count_above_it(self, case: Case) -> None:
        grouped, bounds = case.slices()
        slices = (grouped.order, case.values(), case.limits(), bounds.low[0], bounds.high)
        limited = list(zip(case.seen(), case.limits(), strict=True))
        small = [[value for value in seen if value <= limit] for seen, limit in limited]
        means = [statistics.fmean(values) if values else math.nan for values in small]
        np.testing.assert_allclose(windows.window_mean_up_to(*slices), means, rtol=1e-12)
        above = [sum(value > limit for value in seen) for seen, limit in limited]
        assert windows.window_count_above(*slices).tolist() == above

    @given(case=cases(st.integers(1, 3)))
    def test_nothing_is_above_or_up_to_a_missing_limit(self, case: Case) -> None:
        grouped, bounds = case.slices()
        slices = (grouped.order, case.values(), np.full(len(case.queries), np.nan), bounds.low[0], bounds.high)
        assert np.isnan(windows.window_mean_up_to(*slices)).all()
        assert not windows.window_count_above(*slices).any()

    @given(case=cases(st.integers(-1, 3)))
    def test_distinct(self, case: Case) -> None:
        grouped, bounds = case.slices()
        counts = windows.window_distinct(grouped.order, case.values(), bounds.low[0], bounds.high)
        assert counts.tolist() == case.expected(lambda seen: len(set(seen)))
