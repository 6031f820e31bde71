"""Live traffic: the history's customers, the following days at their time of day, frauds only as announced attacks."""

from itertools import islice

import numpy as np
import pandas as pd
import pytest

from fraud_pipeline.generator import SyntheticWorld, WorldConfig
from fraud_pipeline.generator.live import DAYS_SIDE_BY_SIDE, LONGEST_GAP, SHORTEST_GAP, LiveWorld
from fraud_pipeline.schema.transactions import SECOND, microseconds

CONFIG = WorldConfig(customers=200, fraud_rate=0.01)
DAY = pd.Timedelta(days=1)
NOW = pd.Timestamp(CONFIG.first_day, tz="UTC") + 30 * DAY + pd.Timedelta(hours=10)
EVENING = NOW + pd.Timedelta(hours=8)


@pytest.fixture(scope="module")
def live() -> LiveWorld:
    return LiveWorld(CONFIG)


@pytest.fixture(scope="module")
def played(live: LiveWorld) -> pd.DataFrame:
    return live.side_by_side(start=NOW, end=EVENING)


class TestSideBySide:
    def test_rows_come_in_order_within_the_span_and_each_once(self, played: pd.DataFrame) -> None:
        assert played["event_time"].is_monotonic_increasing
        assert played["event_time"].between(NOW, EVENING, inclusive="left").all()
        assert played["transaction_id"].is_unique

    def test_rows_of_this_day_are_the_worlds_own(self, played: pd.DataFrame) -> None:
        own = SyntheticWorld(CONFIG).transactions(start=NOW, end=EVENING)
        of_this_day = played[played["transaction_id"].isin(own["transaction_id"])].reset_index(drop=True)
        pd.testing.assert_frame_equal(of_this_day, own)

    def test_another_days_row_keeps_its_time_of_day_and_is_no_fraud(self, played: pd.DataFrame) -> None:
        world, frauds = SyntheticWorld(CONFIG), 0
        for distance in range(1, 15):
            shift = distance * DAY
            rows = world.transactions_with_kind(start=NOW + shift, end=EVENING + shift)
            expected, frauds = rows[~rows["is_fraud"]], frauds + rows["is_fraud"].sum()
            of_that_day = played[played["transaction_id"].str.endswith(f"-{distance}")]
            assert of_that_day["transaction_id"].tolist() == [f"{id_}-{distance}" for id_ in expected["transaction_id"]]
            assert (of_that_day["event_time"] + shift).tolist() == expected["event_time"].tolist()
        assert frauds > 0, "the span shows nothing"

    def test_four_weeks_give_that_many_times_the_rows(self, played: pd.DataFrame) -> None:
        distances = played["transaction_id"].str.extract(r"-(\d+)$")[0].dropna().astype(int)
        assert set(distances) == set(range(1, DAYS_SIDE_BY_SIDE + 1))


class TestAttacks:
    def test_attacks_are_fraud_episodes_of_the_historys_customers(self, live: LiveWorld) -> None:
        customers = set(SyntheticWorld(CONFIG).transactions(start=NOW - 30 * DAY, end=NOW)["customer_id"])
        for attack in islice(live.attacks(start=NOW, seconds_between=40, run="r"), 10):
            assert attack.customer_id in customers
            assert set(attack.transactions["customer_id"]) == {attack.customer_id}
            assert "is_fraud" not in attack.transactions

    def test_attacks_begin_one_after_the_other_and_last_for_seconds(self, live: LiveWorld) -> None:
        attacks = list(islice(live.attacks(start=NOW, seconds_between=40, run="r"), 10))
        assert [attack.begins for attack in attacks] == [NOW + n * pd.Timedelta(seconds=40) for n in range(10)]
        gaps = np.concatenate([np.diff(microseconds(attack.transactions["event_time"])) for attack in attacks]) / SECOND
        assert len(gaps) > 10
        assert gaps.min() >= SHORTEST_GAP - 1e-6
        assert gaps.max() <= LONGEST_GAP + 1e-6

    def test_no_id_is_used_twice_when_the_list_begins_again(self, live: LiveWorld) -> None:
        attacks = list(islice(live.attacks(start=NOW, seconds_between=1, run="r"), 300))
        episodes = {tuple(attack.transactions["amount"]) for attack in attacks}
        assert len(episodes) < len(attacks), "the list did not begin again"
        ids = pd.concat([attack.transactions["transaction_id"] for attack in attacks])
        assert ids.is_unique

    def test_a_run_at_another_minute_begins_with_another_customer(self, live: LiveWorld) -> None:
        later = NOW + pd.Timedelta(minutes=1)
        first, second = (next(live.attacks(start=start, seconds_between=40, run="r")) for start in (NOW, later))
        assert first.transactions["amount"].tolist() != second.transactions["amount"].tolist()
