"""The synthetic world as a source: a seed gives one world for any slices of time, with one path for every row."""

import itertools
import random
from dataclasses import fields, replace
from datetime import date

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fraud_pipeline.generator import Drift, SyntheticWorld, WorldConfig, drift_schedule, first_day_of_history
from fraud_pipeline.generator.behaviour import ordinary_life
from fraud_pipeline.generator.episodes import episodes_starting
from fraud_pipeline.generator.oracle import oracle_scores
from fraud_pipeline.generator.rows import Intents, Rows, joined, make_rows, take
from fraud_pipeline.generator.story import FRAUD_KIND, KINDS, NEVER
from fraud_pipeline.schema.transactions import CHANNELS, DAY, FRAUD_REPORTS, HOUR, MAX_AMOUNT_CENTS

SMALL = WorldConfig(customers=120, fraud_rate=0.01)
FIRST = pd.Timestamp(SMALL.first_day, tz="UTC")
RAW_COLUMNS = [
    "transaction_id",
    "event_time",
    "customer_id",
    "merchant_id",
    "amount",
    "category",
    "channel",
    "country",
    "latitude",
    "longitude",
]


def at(day: float) -> pd.Timestamp:
    return FIRST + pd.Timedelta(microseconds=round(day * DAY))


def same_rows(left: Rows, right: Rows) -> None:
    for column in fields(Rows):
        np.testing.assert_array_equal(getattr(left, column.name), getattr(right, column.name), err_msg=column.name)


@pytest.fixture(scope="module")
def world() -> SyntheticWorld:
    return SyntheticWorld(SMALL)


@pytest.fixture(scope="module")
def sixty_days(world: SyntheticWorld) -> pd.DataFrame:
    return world.transactions(start=at(0), end=at(60))


@pytest.fixture(scope="module")
def sixty_days_of_reports(world: SyntheticWorld) -> pd.DataFrame:
    return world.reports(start=at(0), end=at(60))


def test_rows_are_raw_as_a_bank_sends_them(sixty_days: pd.DataFrame) -> None:
    assert list(sixty_days.columns) == RAW_COLUMNS
    assert str(sixty_days["event_time"].dtype) == "datetime64[us, UTC]"
    assert sixty_days["event_time"].is_monotonic_increasing
    assert sixty_days["transaction_id"].is_unique
    assert set(sixty_days["channel"].dropna()) == set(CHANNELS)
    assert sixty_days["amount"].between(0.01, MAX_AMOUNT_CENTS / 100).all()
    np.testing.assert_array_equal((sixty_days["amount"] * 100).round() / 100, sixty_days["amount"])


def test_reports_follow_the_schema_and_name_real_transactions(
    sixty_days: pd.DataFrame, sixty_days_of_reports: pd.DataFrame
) -> None:
    reports = FRAUD_REPORTS.validate(sixty_days_of_reports)
    assert reports["reported_at"].is_monotonic_increasing
    assert (reports["reported_at"] > reports["event_time"]).all()
    named = reports.merge(sixty_days, on=["transaction_id", "event_time", "customer_id", "merchant_id"])
    assert len(named) == len(reports) > 20


@given(cuts=st.lists(st.floats(0.05, 59.95), max_size=6), order=st.randoms(use_true_random=False))
@settings(max_examples=12)
def test_the_world_is_the_same_for_any_slices_of_time_in_any_order(
    sixty_days: pd.DataFrame, sixty_days_of_reports: pd.DataFrame, cuts: list[float], order: random.Random
) -> None:
    edges = [0.0, *sorted(set(cuts)), 60.0]
    spans = list(itertools.pairwise(edges))
    shuffled = order.sample(spans, len(spans))
    fresh = SyntheticWorld(SMALL)
    rows = {start: fresh.transactions(start=at(start), end=at(stop)) for start, stop in shuffled}
    reports = {start: fresh.reports(start=at(start), end=at(stop)) for start, stop in reversed(shuffled)}
    pd.testing.assert_frame_equal(pd.concat([rows[s] for s, _ in spans], ignore_index=True), sixty_days)
    pd.testing.assert_frame_equal(pd.concat([reports[s] for s, _ in spans], ignore_index=True), sixty_days_of_reports)


def test_a_day_far_away_needs_no_day_before_it() -> None:
    alone = SyntheticWorld(SMALL).transactions(start=at(200), end=at(201))
    swept = SyntheticWorld(SMALL).transactions(start=at(195), end=at(202))
    of_the_day = swept[(swept["event_time"] >= at(200)) & (swept["event_time"] < at(201))]
    pd.testing.assert_frame_equal(alone, of_the_day.reset_index(drop=True))


@pytest.mark.parametrize("before", [date(2026, 3, 1), date(2026, 11, 28), date(2031, 7, 9)])
def test_a_world_that_ends_now_differs_in_nothing_but_its_dates(before: date) -> None:
    first_day = first_day_of_history(days=156, before=before)
    assert 156 <= (before - first_day).days < 163
    shift = pd.Timestamp(first_day) - pd.Timestamp(SMALL.first_day)
    moved = SyntheticWorld(replace(SMALL, first_day=first_day))
    start, end = at(25), at(34)  # over a pay day
    expected = SyntheticWorld(SMALL).transactions(start=start, end=end)
    rows = moved.transactions(start=start + shift, end=end + shift)
    assert len(rows) > 0
    pd.testing.assert_frame_equal(rows.assign(event_time=rows["event_time"] - shift), expected)
    reports = moved.reports(start=start + shift, end=end + shift)
    expected_reports = SyntheticWorld(SMALL).reports(start=start, end=end)
    assert reports["transaction_id"].tolist() == expected_reports["transaction_id"].tolist()


def test_before_the_first_day_nothing_happens(world: SyntheticWorld) -> None:
    assert world.transactions(start=at(-9), end=at(0)).empty
    assert FRAUD_REPORTS.validate(world.reports(start=at(-9), end=at(0))).empty
    assert world.oracle(start=at(-9), end=at(0)).empty


def test_another_seed_is_another_world(sixty_days: pd.DataFrame) -> None:
    other = SyntheticWorld(WorldConfig(customers=120, fraud_rate=0.01, seed=8)).transactions(start=at(0), end=at(60))
    assert not set(other["transaction_id"]) & set(sixty_days["transaction_id"])
    assert not set(other["customer_id"]) & set(sixty_days["customer_id"])


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=20)
def test_a_row_does_not_depend_on_other_rows_of_its_batch(world: SyntheticWorld, seed: int) -> None:
    """A row depends on its own intent alone, so fraud rows made among honest ones equal fraud rows made apart."""
    inner = world._world
    intents: Intents = joined([ordinary_life(inner, 9)[0], *(episodes_starting(inner, day)[0] for day in range(20))])
    chosen = np.random.default_rng(seed).permutation(len(intents.key))[: 1 + seed % 50]
    same_rows(make_rows(inner, take(intents, chosen)), take(make_rows(inner, intents), chosen))


def test_an_intent_does_not_reveal_fraud() -> None:
    assert {column.name for column in fields(Intents)}.isdisjoint({"kind", "episode", "reported_at", "is_fraud"})


def test_victims_keep_spending_during_a_fraud(world: SyntheticWorld) -> None:
    rows, truth = world.rows_with_truth(start=at(0), end=at(60))
    ordinary = truth.kind == KINDS.index("ordinary")
    strangers = [KINDS.index(name) for name in ("card_testing", "stolen_number", "skimmed_terminal")]
    beside = [
        np.any(ordinary & (rows.customer == rows.customer[row]) & (np.abs(rows.time - rows.time[row]) < 12 * HOUR))
        for row in np.flatnonzero(np.isin(truth.kind, strangers))
    ]
    assert np.mean(beside) > 0.4


def test_an_episode_may_span_days_has_one_customer_and_ends_with_the_call() -> None:
    rows, truth = SyntheticWorld(WorldConfig(customers=2_000)).rows_with_truth(start=at(0), end=at(60))
    fraud = FRAUD_KIND[truth.kind]
    columns = {"episode": truth.episode[fraud], "customer": rows.customer[fraud], "day": rows.time[fraud] // DAY}
    episodes = pd.DataFrame(columns).groupby("episode")
    pd.testing.assert_series_equal(episodes["customer"].min(), episodes["customer"].max())
    assert (episodes["day"].max() > episodes["day"].min()).sum() > 3
    reported = fraud & (truth.reported_at != NEVER)
    calls = pd.Series(truth.reported_at[reported]).groupby(truth.episode[reported])
    pd.testing.assert_series_equal(calls.min(), calls.max())
    assert (truth.reported_at[reported] >= rows.time[reported]).all()


def test_the_oracle_never_looks_ahead(world: SyntheticWorld) -> None:
    rows, _ = world.rows_with_truth(start=at(20), end=at(40))
    until = len(rows.key) // 2
    np.testing.assert_array_equal(
        oracle_scores(world._world, rows)[:until], oracle_scores(world._world, take(rows, slice(until)))
    )


def test_the_oracle_reads_no_truth_and_lines_up_with_the_rows(world: SyntheticWorld, sixty_days: pd.DataFrame) -> None:
    oracle = world.oracle(start=at(30), end=at(60))
    rows = sixty_days[sixty_days["event_time"] >= at(30)]
    assert list(oracle["transaction_id"]) == list(rows["transaction_id"])
    assert oracle["oracle_score"].between(0, 1).all()
    assert (oracle["is_fraud"] <= (oracle["episode_id"] > 0)).all()
    assert set(oracle.columns) & set(rows.columns) == {"transaction_id", "event_time"}


def test_the_schedule_is_data_with_dates() -> None:
    schedule = {drift.name: drift for drift in drift_schedule(WorldConfig(first_day=date(2026, 1, 1)))}
    assert set(schedule) == {"season", "new_scenario", "merchant_mix_shift", "units_fault"}
    assert (schedule["season"].first_day, schedule["season"].last_day) == (date(2026, 3, 12), date(2026, 3, 25))
    assert schedule["merchant_mix_shift"].last_day is None
    later = [drift for name, drift in schedule.items() if name != "season"]
    assert min(drift.first_day for drift in later) > date(2026, 5, 1)  # the first 120 days are mostly stable


def shares(config: WorldConfig, *, first: float, last: float) -> tuple[Rows, set[str], float, SyntheticWorld]:
    world = SyntheticWorld(config)
    rows, truth = world.rows_with_truth(start=at(first), end=at(last))
    online = world._world.merchants.online[rows.merchant].mean()
    return rows, {KINDS[kind] for kind in np.unique(truth.kind)}, float(online), world


def test_a_season_raises_volume_on_its_days_only() -> None:
    drifts = (Drift(name="season", first=28, last=41),)
    season, calm = (WorldConfig(customers=500, drifts=change) for change in (drifts, ()))
    before, during, after = (
        [len(shares(config, first=first, last=first + 14)[0].key) for config in (season, calm)]
        for first in (14, 28, 42)
    )
    assert before[0] == before[1]
    assert after[0] == after[1]
    assert during[0] / during[1] == pytest.approx(1.3, abs=0.1)


def test_a_new_scenario_appears_on_its_day_and_not_before() -> None:
    config = WorldConfig(customers=500, drifts=(Drift(name="new_scenario", first=20),))
    assert "wallet_theft" not in shares(config, first=0, last=20)[1]
    assert "wallet_theft" in shares(config, first=20, last=60)[1]


def test_a_merchant_mix_shift_brings_new_merchants_and_more_online() -> None:
    config = WorldConfig(customers=500, drifts=(Drift(name="merchant_mix_shift", first=20),))
    before, _, online_before, world = shares(config, first=0, last=20)
    after, _, online_after, _ = shares(config, first=20, last=40)
    newcomer = world._world.merchants.newcomer
    assert not newcomer[before.merchant].any()
    assert newcomer[after.merchant].mean() > 0.1
    assert online_after > online_before + 0.03


def test_a_units_fault_multiplies_amounts_of_some_merchants_for_some_days() -> None:
    faulty = SyntheticWorld(WorldConfig(customers=500, drifts=(Drift(name="units_fault", first=20, last=21),)))
    sound = SyntheticWorld(WorldConfig(customers=500, drifts=()))
    amounts = [world.transactions(start=at(18), end=at(24)) for world in (faulty, sound)]
    ratio = (amounts[0]["amount"] / amounts[1]["amount"]).round(6)
    in_fault = amounts[0]["event_time"].between(at(20), at(22), inclusive="left")
    assert set(ratio[~in_fault]) == {1.0}
    assert set(ratio[in_fault]) == {1.0, 100.0}
    by_merchant = ratio[in_fault].groupby(amounts[0]["merchant_id"]).nunique()
    assert (by_merchant == 1).all()
    assert 0.02 < (ratio[in_fault] == 100).mean() < 0.3


@pytest.mark.parametrize(
    "wrong",
    [{"difficulty": 1.5}, {"customers": 0}, {"merchants": 10}, {"fraud_rate": 0.5}, {"seed": -1}],
    ids=lambda wrong: next(iter(wrong)),
)
def test_a_setting_out_of_range_is_named(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(wrong))} must be between"):
        WorldConfig(**wrong)  # type: ignore[arg-type]  # the wrong values are the point
