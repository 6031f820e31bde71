"""Changes of the world, with their dates. The schedule is data, so that a drift monitor can be judged against it.

Belongs here: the kinds of change, their dates and strengths. Must not be here: how a change acts on rows.
"""

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final, Literal

DriftName = Literal["season", "new_scenario", "merchant_mix_shift", "units_fault"]

WHAT: Final[dict[DriftName, str]] = {
    "season": "sales season: everybody buys more, above all clothing, electronics and home goods",
    "new_scenario": "wallet theft appears: victims' cards in a thief's phone, used in shops near their home",
    "merchant_mix_shift": "new merchants open and spending moves to online categories, for good",
    "units_fault": "an upstream fault sends the amounts of some merchants in the wrong unit, 100 times too high",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """One change: its name, first and last day counted from the world's first day (None: for good), and strength."""

    name: DriftName
    first: int
    last: int | None = None
    strength: float = 1.0

    def strength_on(self, day: int) -> float:
        return self.strength if self.first <= day and (self.last is None or day <= self.last) else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduledDrift:
    """One change with calendar dates; `last_day` None means that it stays."""

    name: DriftName
    first_day: date
    last_day: date | None
    what: str


# The first 120 days hold only the season: a model trained on them meets a mostly stable world.
DEFAULT_DRIFTS: Final[tuple[Drift, ...]] = (
    Drift(name="season", first=70, last=83),
    Drift(name="new_scenario", first=150),
    Drift(name="merchant_mix_shift", first=180),
    Drift(name="units_fault", first=210, last=213),
)


def drift_strength(drifts: tuple[Drift, ...], name: DriftName, day: int) -> float:
    """Summed strength of all changes called `name` on a day counted from the world's first day; 0 is none."""
    return sum(drift.strength_on(day) for drift in drifts if drift.name == name)


def with_dates(drifts: tuple[Drift, ...], *, first_day: date) -> tuple[ScheduledDrift, ...]:
    """The same changes with calendar dates."""
    return tuple(
        ScheduledDrift(
            name=drift.name,
            first_day=first_day + timedelta(days=drift.first),
            last_day=None if drift.last is None else first_day + timedelta(days=drift.last),
            what=WHAT[drift.name],
        )
        for drift in drifts
    )
