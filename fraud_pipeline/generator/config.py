"""The parameters of a synthetic world; every row can be computed from them.

Belongs here: parameters and their ranges. Must not be here: constants of behaviour; they are beside the code.
"""

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

from fraud_pipeline.generator.drift_schedule import DEFAULT_DRIFTS, Drift, ScheduledDrift, with_dates

MIN_MERCHANTS: Final = 600
LOWEST_FRAUD_RATE: Final = 0.003
HIGHEST_FRAUD_RATE: Final = 0.01
DEFAULT_FIRST_DAY: Final = date(2026, 1, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class WorldConfig:
    """One synthetic world. The default makes about 100,000 transactions in 120 days.

    `fraud_rate` is the share of transactions. `difficulty` (0 to 1) is how far fraudsters mimic their victim.
    Raises ValueError that names the field and its range.
    """

    seed: int = 7
    first_day: date = DEFAULT_FIRST_DAY
    customers: int = 500
    merchants: int = 800
    fraud_rate: float = 0.008
    difficulty: float = 0.5
    drifts: tuple[Drift, ...] = DEFAULT_DRIFTS

    def __post_init__(self) -> None:
        ranges = {
            "seed": (0, 2**63),
            "customers": (10, 10_000_000),
            "merchants": (MIN_MERCHANTS, 1_000_000),
            "fraud_rate": (LOWEST_FRAUD_RATE, HIGHEST_FRAUD_RATE),
            "difficulty": (0, 1),
        }
        for name, (lowest, highest) in ranges.items():
            if not lowest <= getattr(self, name) <= highest:
                message = f"{name} must be between {lowest} and {highest}"
                raise ValueError(message)


def drift_schedule(config: WorldConfig) -> tuple[ScheduledDrift, ...]:
    """Every change of the world with its calendar dates, in the order of the configuration."""
    return with_dates(config.drifts, first_day=config.first_day)


def first_day_of_history(*, days: int, before: date) -> date:
    """The last first day of a world that has at least `days` whole days before a day.

    It lies whole weeks from the default, so that weekdays fall on the same days of the world's life. Everything else is
    counted from the first day. Worlds of one seed then differ in nothing but their dates.
    """
    weeks = (before - timedelta(days=days) - DEFAULT_FIRST_DAY).days // 7
    return DEFAULT_FIRST_DAY + timedelta(weeks=weeks)
