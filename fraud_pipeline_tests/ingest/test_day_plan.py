"""The nightly plan: after its steps, nothing is left to do."""

from dataclasses import dataclass, field, replace
from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_pipeline.ingest.day_plan import (
    LONGEST_STEP,
    DayInputs,
    FeatureWindow,
    SourceDay,
    Step,
    StoredDays,
    days_between,
    inputs_now,
    plan,
    spelled,
    standing,
)

FIRST = date(2026, 1, 1)
DAYS = 50
WINDOW = FeatureWindow(first=FIRST, transactions=2, reports=4, merchant_days=2, days_to_clear=3, code="code-1")


def day(number: int) -> date:
    return FIRST + timedelta(days=number)


LAST = day(DAYS - 1)


@dataclass
class World:
    """A source and the stored days; content is a number per day, and merchants' days are texts."""

    source: dict[date, int] = field(default_factory=dict)
    tables: dict[date, int] = field(default_factory=dict)
    features: dict[date, DayInputs | None] = field(default_factory=dict)
    merchant_days: dict[date, DayInputs | None] = field(default_factory=dict)
    merchant_versions: dict[date, str] = field(default_factory=dict)

    @property
    def offered(self) -> dict[date, SourceDay]:
        return {key: SourceDay(f"tx-{value}", f"reports-{value}") for key, value in self.source.items()}

    @property
    def stored(self) -> StoredDays:
        return StoredDays(
            ingested={key: SourceDay(f"tx-{value}", f"reports-{value}") for key, value in self.tables.items()},
            versions={
                "transactions": {key: f"t{value}" for key, value in self.tables.items()},
                "reports": {key: f"r{value}" for key, value in self.tables.items()},
                "merchant_days": {key: self.merchant_versions.get(key, "old") for key in self.merchant_days},
            },
            inputs={"merchant_days": self.merchant_days, "features": self.features},
        )

    def plan(self) -> list[Step]:
        return plan(self.offered, self.stored, window=WINDOW, first=FIRST, last=LAST)

    def run(self, step: Step) -> None:
        """Run a step: ingest, or derive again."""
        days = days_between(step.first, step.last)
        if step.kind == "ingest":
            self.tables |= {key: self.source[key] for key in days}
        for key in days:
            made = inputs_now(self.stored, "merchant_days", key, window=WINDOW)
            self.merchant_days[key], self.merchant_versions[key] = made, made.to_json()
        for key in days:
            self.features[key] = inputs_now(self.stored, "features", key, window=WINDOW)


numbers = st.integers(0, DAYS - 1)
contents = st.dictionaries(numbers.map(day), st.integers(0, 2), max_size=DAYS)
old_inputs = st.dictionaries(
    numbers.map(day), st.sampled_from([None, DayInputs("code-0", {}), DayInputs("code-1", {})])
)
worlds = st.builds(World, source=contents, tables=contents, features=old_inputs, merchant_days=old_inputs)


@given(world=worlds)
def test_after_the_steps_all_days_match_the_source_and_all_features_are_current(world: World) -> None:
    for step in world.plan():
        world.run(step)
    assert all(world.tables[key] == value for key, value in world.source.items())
    assert world.plan() == []
    for key in world.tables:
        assert world.merchant_days[key] == inputs_now(world.stored, "merchant_days", key, window=WINDOW)
        assert world.features[key] == inputs_now(world.stored, "features", key, window=WINDOW)


@given(world=worlds)
def test_steps_are_in_order_of_time_and_no_day_is_in_two(world: World) -> None:
    days = [key for step in world.plan() for key in days_between(step.first, step.last)]
    assert days == sorted(set(days))
    assert all((step.last - step.first).days < LONGEST_STEP for step in world.plan())


@given(world=worlds)
def test_current_days_are_not_made_again(world: World) -> None:
    for step in world.plan():
        world.run(step)
    changed = max(world.source, default=None)
    if changed is None:
        return
    world.source[changed] += 1
    touched = {key for step in world.plan() for key in days_between(step.first, step.last)}
    reach = {key for key in world.tables if changed <= key <= changed + timedelta(days=WINDOW.lookback)}
    assert touched == reach


def test_five_missed_nights_are_one_step() -> None:
    world = World(source=dict.fromkeys(map(day, range(12)), 0))
    for number in range(7):
        world.run(Step("ingest", day(number), day(number)))
    assert world.plan() == [Step("ingest", day(7), day(11))]


def test_a_late_event_ingests_its_day_and_remakes_dependent_features() -> None:
    world = World(source=dict.fromkeys(map(day, range(20)), 0))
    for number in range(19):
        world.run(Step("ingest", day(number), day(number)))
    world.source[day(10)] = 1
    assert world.plan() == [
        Step("ingest", day(10), day(10)),
        Step("features", day(11), day(15)),
        Step("ingest", day(19), day(19)),
    ]


def test_days_that_left_the_source_do_not_count_as_changed() -> None:
    world = World(source=dict.fromkeys(map(day, range(20)), 0))
    for step in world.plan():
        world.run(step)
    world.source = {key: value for key, value in world.source.items() if key >= day(15)}
    assert world.plan() == []


def test_stale_days_are_named_with_the_days_that_changed() -> None:
    world = World(source=dict.fromkeys(map(day, range(12)), 0))
    for step in world.plan():
        world.run(step)
    world.tables[day(3)] = 9
    del world.features[day(11)]
    report = standing(world.stored, window=WINDOW, first=FIRST, last=day(11))
    assert report.missing == (day(11),)
    assert report.stale == {day(number): (day(3),) for number in range(3, 9)}
    assert report.summary == (
        "days of features: 1 missing (2026-01-12), 6 stale (2026-01-04 to 2026-01-09: since 2026-01-04 changed)"
    )


def test_other_feature_code_makes_all_features_stale() -> None:
    world = World(source=dict.fromkeys(map(day, range(4)), 0))
    for step in world.plan():
        world.run(step)
    other = replace(WINDOW, code="code-2")
    report = standing(world.stored, window=other, first=FIRST, last=day(3))
    assert report.stale == {day(number): () for number in range(4)}
    assert "made by other feature code or settings" in report.summary


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ([3], "2026-01-04"),
        ([1, 2, 3, 7], "2026-01-02 to 2026-01-04, 2026-01-08"),
        ([0, 2, 4, 6, 8], "2026-01-01, 2026-01-03, 2026-01-05 and 2 more"),
    ],
)
def test_days_are_spelled_as_ranges(numbers: list[int], text: str) -> None:
    assert spelled([day(number) for number in numbers]) == text


def test_missing_merchants_days_are_made_from_the_first_day_on() -> None:
    """An earlier release stored none."""
    world = World(source=dict.fromkeys(map(day, range(9)), 0))
    for step in world.plan():
        world.run(step)
    world.merchant_days.clear()
    assert world.plan() == [Step("features", day(0), day(8))]


def test_features_follow_the_days_that_merchants_days_read() -> None:
    """Merchants' days of day 10 hold the cleared columns of day 7, which features no longer read themselves."""
    days = {name: set(read) for name, read in WINDOW.days_read("features", day(12)).items()}
    assert day(7) not in days["transactions"] | days["reports"]
    world = World(source=dict.fromkeys(map(day, range(16)), 0))
    for step in world.plan():
        world.run(step)
    world.tables[day(7)] = 9
    report = standing(world.stored, window=WINDOW, first=FIRST, last=day(15))
    assert report.stale == {day(number): (day(7),) for number in range(7, 13)}


@given(
    inputs=st.builds(
        DayInputs,
        st.text(),
        st.dictionaries(
            st.sampled_from(["transactions", "reports", "merchant_days"]), st.dictionaries(numbers.map(day), st.text())
        ),
    )
)
def test_inputs_come_back_from_their_note(inputs: DayInputs) -> None:
    assert DayInputs.from_json(inputs.to_json()) == inputs
