"""Every comparison with a window equals its definition, written here in plain Python; compiled, and as Python."""

import math
from collections.abc import Iterator
from typing import Final

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fraud_pipeline.features.kernels import comparisons
from fraud_pipeline.features.kernels.columns import MISSING_CODE
from fraud_pipeline.schema.transactions import DAY, HOUR, MAX_AMOUNT_CENTS

Ints = NDArray[np.int64]
NOW: Final = 30 * DAY


@pytest.fixture(scope="module", params=["compiled", "python"], autouse=True)
def kernels(request: pytest.FixtureRequest) -> Iterator[None]:
    """The kernels as they run in production, then as the Python that coverage and a debugger can see."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "python":
            for name, function in vars(comparisons).items():
                if hasattr(function, "py_func"):
                    patch.setattr(comparisons, name, function.py_func)
        yield


def ints(*values: int) -> Ints:
    """An int64 array, also of no values."""
    return np.array(values, dtype=np.int64)


def all_of(n: int) -> tuple[Ints, Ints]:
    """The slice of all n events."""
    return ints(0), ints(n)


def mean(values: list[float]) -> float:
    """NaN of nothing."""
    return sum(values) / len(values) if values else math.nan


CODES: Final = st.integers(MISSING_CODE, 2)
AMOUNTS: Final = st.integers(1, MAX_AMOUNT_CENTS)


class TestRun:
    @given(
        reports=st.lists(st.tuples(st.integers(0, 9), AMOUNTS), max_size=9),
        cleared=st.sampled_from([-math.inf, math.inf, *map(float, range(10))]),
    )
    def test_holds_frauds_after_the_last_cleared_transaction(
        self, reports: list[tuple[int, int]], cleared: float
    ) -> None:
        happened, amounts = ints(*(t for t, _ in reports)), ints(*(cents for _, cents in reports))
        order = np.arange(len(reports))[::-1].copy()  # positions are not rows
        run = [(time, cents) for time, cents in reports if time > cleared]
        count, first, smallest = comparisons.frauds_since_last_cleared(
            order, happened, amounts, np.array([cleared]), *all_of(len(reports))
        )
        assert count.tolist() == [len(run)]
        np.testing.assert_array_equal(first, [min((time for time, _ in run), default=math.nan)])
        np.testing.assert_array_equal(smallest, [min((cents for _, cents in run), default=math.nan)])


class TestSameKind:
    @given(events=st.lists(st.tuples(CODES, AMOUNTS), max_size=9), matching=st.integers(0, 2))
    def test_counts_times_and_averages_events_of_the_matching_code(
        self, events: list[tuple[int, int]], matching: int
    ) -> None:
        n = len(events)
        codes, amounts = ints(*(code for code, _ in events)), ints(*(cents for _, cents in events))
        times = np.arange(n) * HOUR
        same = [(hour, cents) for hour, (code, cents) in enumerate(events) if code == matching]
        count, since, average = comparisons.matching_event_stats(
            np.arange(n), times, codes, amounts, ints(matching), ints(NOW), *all_of(n)
        )
        assert count.tolist() == [len(same)]
        np.testing.assert_array_equal(since, [NOW - same[-1][0] * HOUR if same else math.nan])
        np.testing.assert_allclose(average, [mean([cents for _, cents in same])], rtol=1e-12)

    def test_a_missing_code_equals_no_other_code(self) -> None:
        missing = ints(MISSING_CODE, MISSING_CODE)
        statistics = comparisons.matching_event_stats(
            np.arange(2), ints(0, 1), missing, ints(5, 5), ints(MISSING_CODE), ints(NOW), *all_of(2)
        )
        assert np.isnan(statistics).all()


class TestHourShare:
    @given(ages=st.lists(st.integers(1, 3 * DAY), max_size=9))
    def test_counts_events_near_this_time_of_any_day(self, ages: list[int]) -> None:
        times = NOW - ints(*sorted(ages, reverse=True))
        near = [float(min(age % DAY, DAY - age % DAY) <= 2 * HOUR) for age in ages]
        share = comparisons.hour_share(times, ints(NOW), *all_of(len(ages)), 2 * HOUR, DAY)
        np.testing.assert_allclose(share, [mean(near)], rtol=1e-12)

    def test_midnight_is_no_border(self) -> None:
        before_midnight, after_midnight = 10 * DAY - HOUR, 11 * DAY + HOUR
        assert comparisons.hour_share(ints(before_midnight), ints(after_midnight), *all_of(1), 2 * HOUR, DAY) == [1.0]


class TestPlaces:
    def test_distances_between_cities(self) -> None:
        berlin, munich, sydney = (52.52, 13.405), (48.1372, 11.5755), (-33.8688, 151.2093)
        assert comparisons.distance_km(*berlin, *munich) == pytest.approx(504.4, abs=1)
        assert comparisons.distance_km(*berlin, *sydney) == pytest.approx(16_090, abs=30)
        assert comparisons.distance_km(*berlin, *berlin) == 0.0

    def test_opposite_points_are_half_the_circumference_apart(self) -> None:
        assert comparisons.distance_km(10.0, 20.0, -10.0, -160.0) == pytest.approx(math.pi * 6371.0088)

    @given(
        st.floats(-90, 90), st.floats(-180, 180), st.floats(-90, 90), st.floats(-180, 180), st.sampled_from([-360, 360])
    )
    def test_distance_is_symmetric_bounded_and_round_the_globe(
        self, north: float, east: float, other_north: float, other_east: float, turn: int
    ) -> None:
        distance = comparisons.distance_km(north, east, other_north, other_east)
        assert distance == pytest.approx(comparisons.distance_km(other_north, other_east, north, east), abs=1e-6)
        assert 0 <= distance <= math.pi * 6371.0088 + 1e-6
        # Near opposite points the formula loses half of its digits: about a metre.
        assert distance == pytest.approx(comparisons.distance_km(north, east + turn, other_north, other_east), abs=1e-2)

    def test_the_last_place_is_the_last_known_one_and_the_centre_is_the_mean(self) -> None:
        """Row 0 is the query; of its customer's three events the newest has no position."""
        latitude, longitude = np.array([0.0, 0.0, 0.0, np.nan]), np.array([0.0, 1.0, 3.0, np.nan])
        from_last, since, from_centre = comparisons.location_stats(
            ints(1, 2, 3), ints(NOW - 9, NOW - 5, NOW - 1), latitude, longitude, ints(NOW), *all_of(3)
        )
        degree = math.pi * 6371.0088 / 180
        assert from_last == pytest.approx([3 * degree])
        assert since.tolist() == [5]
        assert from_centre == pytest.approx([2 * degree])

    @pytest.mark.parametrize("position", [(np.nan, np.nan), (1.0, np.nan), (np.nan, 1.0)])
    def test_a_transaction_without_a_place_has_no_distance(self, position: tuple[float, float]) -> None:
        statistics = comparisons.location_stats(
            ints(1), ints(NOW - 1), np.array([position[0], 1.0]), np.array([position[1], 1.0]), ints(NOW), *all_of(1)
        )
        assert np.isnan(statistics).all()

    def test_a_customer_without_earlier_places_has_no_distance(self) -> None:
        nowhere = comparisons.location_stats(
            ints(1), ints(NOW - 1), np.array([1.0, np.nan]), np.array([1.0, np.nan]), ints(NOW), *all_of(1)
        )
        assert np.isnan(nowhere).all()
