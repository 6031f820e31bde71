"""Spending categories and customer segments, as data.

Belongs here: shares, prices, hours, multipliers. Must not be here: code that draws from them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

CategoryName = Literal[
    "grocery", "restaurant", "fuel", "transport", "clothing", "electronics", "home", "health", "entertainment",
    "travel", "digital", "luxury", "cash", "transfer",
]  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Category:
    """One kind of spending: share of purchases, median price and spread (log), online share, reach, busy hours.

    `hours` are (centre, width, weight) of bumps over the day; a low flat floor is added so that no hour is empty.
    """

    name: CategoryName
    share: float
    price: float
    spread: float
    online: float
    reach_km: float
    hours: tuple[tuple[float, float, float], ...]


_SHOP_HOURS: Final = ((11.0, 2.5, 1.0), (17.5, 2.0, 1.3))
_MEALS: Final = ((12.7, 1.0, 1.0), (19.8, 1.7, 1.2))
_EVENING: Final = ((20.0, 2.5, 1.0), (13.0, 3.0, 0.5))
_COMMUTE: Final = ((8.0, 1.2, 1.0), (17.5, 1.6, 1.0))

CATEGORIES: Final[tuple[Category, ...]] = (
    Category(name="grocery", share=0.22, price=26, spread=0.52, online=0.06, reach_km=4, hours=_SHOP_HOURS),
    Category(name="restaurant", share=0.12, price=21, spread=0.45, online=0.15, reach_km=6, hours=_MEALS),
    Category(name="fuel", share=0.06, price=54, spread=0.28, online=0.0, reach_km=8, hours=_COMMUTE),
    Category(name="transport", share=0.07, price=9, spread=0.63, online=0.4, reach_km=6, hours=_COMMUTE),
    Category(name="clothing", share=0.07, price=52, spread=0.52, online=0.5, reach_km=15, hours=_SHOP_HOURS),
    Category(name="electronics", share=0.06, price=95, spread=0.7, online=0.6, reach_km=20, hours=_SHOP_HOURS),
    Category(name="home", share=0.04, price=70, spread=0.66, online=0.4, reach_km=20, hours=_SHOP_HOURS),
    Category(name="health", share=0.04, price=23, spread=0.49, online=0.2, reach_km=6, hours=_SHOP_HOURS),
    Category(name="entertainment", share=0.06, price=27, spread=0.49, online=0.5, reach_km=10, hours=_EVENING),
    Category(name="travel", share=0.03, price=170, spread=0.66, online=0.8, reach_km=40, hours=_EVENING),
    Category(name="digital", share=0.10, price=12, spread=0.56, online=1.0, reach_km=1, hours=_EVENING),
    Category(name="luxury", share=0.01, price=240, spread=0.56, online=0.3, reach_km=30, hours=_SHOP_HOURS),
    Category(name="cash", share=0.05, price=80, spread=0.42, online=0.0, reach_km=4, hours=_SHOP_HOURS),
    Category(name="transfer", share=0.07, price=130, spread=0.84, online=1.0, reach_km=1, hours=_EVENING),
)
CATEGORY_NAMES: Final[tuple[str, ...]] = tuple(category.name for category in CATEGORIES)
CASH: Final = CATEGORY_NAMES.index("cash")
TRANSFER: Final = CATEGORY_NAMES.index("transfer")

SHARE: Final = np.array([category.share for category in CATEGORIES])
LOG_PRICE: Final = np.log([category.price * 100 for category in CATEGORIES])
SPREAD: Final = np.array([category.spread for category in CATEGORIES])
ONLINE: Final = np.array([category.online for category in CATEGORIES])
REACH_KM: Final = np.array([category.reach_km for category in CATEGORIES])


def by_category(factors: Mapping[CategoryName, float], *, default: float) -> NDArray[np.float64]:
    """One number per category, shape (categories,)."""
    return np.array([factors.get(category.name, default) for category in CATEGORIES])


def _hour_density(category: Category) -> NDArray[np.float64]:
    middles = np.arange(24) + 0.5
    density = np.full(24, 0.004)
    for centre, width, weight in category.hours:
        away = np.minimum(np.abs(middles - centre), 24 - np.abs(middles - centre))
        density += weight * np.exp(-0.5 * (away / width) ** 2) / width
    return np.asarray(density / density.sum())


HOUR_DENSITY: Final = np.stack([_hour_density(category) for category in CATEGORIES])
_HOUR_CUMULATIVE: Final = (np.cumsum(HOUR_DENSITY, axis=1) + np.arange(len(CATEGORIES))[:, None]).ravel()


def hours_drawn(category: NDArray[np.int64], draws: NDArray[np.float64]) -> NDArray[np.float64]:
    """Hours of the day in [0, 24) by inverse distribution from numbers in (0, 1), shape (n,)."""
    slot = np.minimum(np.searchsorted(_HOUR_CUMULATIVE, category + draws, side="right"), len(_HOUR_CUMULATIVE) - 1)
    above = _HOUR_CUMULATIVE[slot]
    density = HOUR_DENSITY.ravel()[slot]
    return np.asarray(np.clip(slot % 24 + 1 - (above - category - draws) / density, 0, np.nextafter(24, 0)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """One kind of customer: share, activity, wealth (log), shift of the day (hours), trips per year, online share."""

    name: str
    share: float
    activity: float
    wealth: float
    later: float
    trips_per_year: float
    online: float
    taste: Mapping[CategoryName, float] = field(default_factory=dict)


SEGMENTS: Final[tuple[Segment, ...]] = (
    Segment(
        name="student", share=0.18, activity=1.0, wealth=-0.45, later=1.5, trips_per_year=1.7, online=1.3,
        taste={"digital": 1.8, "restaurant": 1.3, "fuel": 0.3, "home": 0.5, "entertainment": 1.6},
    ),
    Segment(name="worker", share=0.37, activity=1.0, wealth=0.0, later=0.0, trips_per_year=2.0, online=1.0),
    Segment(
        name="family", share=0.22, activity=1.25, wealth=0.1, later=-0.3, trips_per_year=1.8, online=1.0,
        taste={"grocery": 1.5, "clothing": 1.3, "home": 1.4, "entertainment": 0.7},
    ),
    Segment(
        name="retired", share=0.15, activity=0.7, wealth=-0.1, later=-1.5, trips_per_year=1.7, online=0.5,
        taste={"health": 2.2, "cash": 2.0, "digital": 0.4, "electronics": 0.6},
    ),
    Segment(
        name="affluent", share=0.08, activity=1.35, wealth=0.7, later=0.3, trips_per_year=4.9, online=1.1,
        taste={"luxury": 4.0, "travel": 2.5, "restaurant": 1.5},
    ),
)  # fmt: skip
