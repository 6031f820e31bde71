"""The surge test: expected incidents, p-values, and the start of a surge."""

from typing import Final

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from fraud_pipeline.monitoring.surge_test import (
    MIN_DAYS,
    SPANS,
    chance_of_more,
    expected_incidents,
    most_significant_excess,
)


class TestExpected:
    @given(
        incidents=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=30),
        customers=st.lists(st.integers(1, 50), min_size=10, max_size=10),
        since=st.integers(1, 9),
    )
    def test_expected_incidents_follow_earlier_report_delays(
        self, incidents: list[tuple[int, int]], customers: list[int], since: int
    ) -> None:
        event = np.array([day for day, _ in incidents], np.int64)
        delay = np.array([delay for _, delay in incidents], np.int64)
        expected = expected_incidents(event, event + delay, np.array(customers), since=since)
        earlier = [delay for day, delay in incidents if day < since]
        for day in range(10):
            reported = [delay for delay in earlier if day < since or day + delay <= 9]
            assert expected[day] == pytest.approx(customers[day] * len(reported) / sum(customers[:since]))


class TestChance:
    @given(
        incidents=st.integers(1, 60), before=st.integers(0, 60), exposure=st.floats(0.02, 2), more=st.integers(1, 20)
    )
    def test_the_chance_is_that_of_a_binomial_and_falls_with_every_incident(
        self, incidents: int, before: int, exposure: float, more: int
    ) -> None:
        probability = chance_of_more(incidents, expected=before * exposure, exposure=exposure)
        share = exposure / (1 + exposure)
        assert probability == pytest.approx(stats.binom.sf(incidents - 1, incidents + before, share), rel=1e-6)
        assert chance_of_more(incidents + more, expected=before * exposure, exposure=exposure) <= probability
        assert chance_of_more(0, expected=before * exposure, exposure=exposure) == 1


EVEN: Final = np.repeat(np.arange(60), 10)
"""The days of ten incidents each."""


class TestLikeliest:
    CUSTOMERS = np.full(60, 1_000)

    @given(span=st.sampled_from(SPANS), more=st.integers(20, 60))
    def test_it_begins_where_the_excess_does(self, span: int, more: int) -> None:
        event = np.append(EVEN, np.repeat(np.arange(60 - span, 60), more))
        # Before the labels of the extra ones have matured, the days that tell how much is usual are quiet.
        surge = most_significant_excess(event, event, self.CUSTOMERS, matured=32, comparisons=1)
        assert surge is not None
        assert surge.significant
        assert (surge.since, surge.incidents) == (60 - span, span * (10 + more))
        assert surge.expected == pytest.approx(10 * span)

    @given(comparisons=st.integers(1, 50))
    def test_p_values_are_corrected_for_the_number_of_comparisons(self, comparisons: int) -> None:
        event = np.append(EVEN, [59] * 12)
        single, corrected = (
            most_significant_excess(event, event, self.CUSTOMERS, matured=39, comparisons=n) for n in (1, comparisons)
        )
        assert single is not None
        assert corrected is not None
        assert corrected.p == pytest.approx(min(1.0, single.p * comparisons))

    def test_overdispersed_incidents_count_for_less(self) -> None:
        event = np.repeat(np.arange(0, 60, 5), 50)
        surge = np.append(event, [59] * 40)
        excess = most_significant_excess(surge, surge, self.CUSTOMERS, matured=39, comparisons=1)
        assert excess is not None
        assert excess.large
        assert not excess.significant
        surge = np.append(EVEN, [59] * 40)
        excess = most_significant_excess(surge, surge, self.CUSTOMERS, matured=39, comparisons=1)
        assert excess is not None
        assert excess.significant

    @pytest.mark.parametrize("last", range(40, 47))
    @pytest.mark.parametrize("busy", [1, 2, 3])
    def test_a_weekly_rhythm_is_no_surge_whatever_the_day(self, last: int, busy: int) -> None:
        days = np.arange(last + 1)
        event = np.repeat(days, np.where(days % 7 < busy, 150, 100))
        surge = most_significant_excess(event, event, self.CUSTOMERS[days], matured=last - 20, comparisons=1)
        assert surge is not None
        assert not surge.significant

    def test_too_few_earlier_days_give_no_surge(self) -> None:
        for matured in range(60):
            judged = most_significant_excess(EVEN, EVEN, self.CUSTOMERS, matured=matured, comparisons=1) is not None
            assert judged == (matured >= MIN_DAYS)
        assert most_significant_excess(EVEN, EVEN, np.zeros(60, np.int64), matured=39, comparisons=1) is None
