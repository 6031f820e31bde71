"""Ordinary spending: how often, when, where and on what customers spend, with trips, moves, pay days and seasons.

Belongs here: the ordinary purchases of a day as intents, a pure function of (seed, day). Must not be here: episodes
(`episodes.py`), and how an intent becomes a row (`rows.py`).
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fraud_pipeline.generator import chance
from fraud_pipeline.generator.categories import CATEGORIES, ONLINE, SPREAD, by_category, hours_drawn
from fraud_pipeline.generator.config import DEFAULT_FIRST_DAY
from fraud_pipeline.generator.geography import HOME_WEIGHT, TRIP_WEIGHT, ZONE_LATITUDE, ZONE_LONGITUDE, zones_drawn
from fraud_pipeline.generator.population import HOMES, Floats, Ints, usual_log_amount
from fraud_pipeline.generator.rows import Intents, Truth, World
from fraud_pipeline.generator.story import KINDS, NEVER, episode_number
from fraud_pipeline.schema.transactions import DAY, HOUR

HABIT: Final = 0.75  # share of purchases, not on a trip, at one of the favourites
FAVOURITES: Final[tuple[float, ...]] = (0.5, 0.25, 0.15, 0.1)
ELSEWHERE: Final = 0.02  # share of online purchases that seem to come from another town
ELSEWHERE_WEIGHT: Final = 0.6 * HOME_WEIGHT + 0.4 * TRIP_WEIGHT
OVERDISPERSION: Final = 3.0
_WEEKDAY: Final = (0.95, 0.93, 0.95, 1.0, 1.15, 1.2, 0.82)
_PERIOD_DAYS: Final = 28
_YEAR_DAYS: Final = 365
_MOVES_PER_YEAR: Final = 0.1
_SETTLING_DAYS: Final = 21

_TRIP_TASTE: Final = by_category(
    {"restaurant": 2.5, "travel": 3.0, "cash": 2.0, "clothing": 1.5, "luxury": 2.0, "entertainment": 2.0, "home": 0.1},
    default=0.7,
)
_SETTLING_TASTE: Final = by_category({"home": 7.0, "electronics": 2.0}, default=1.0)
_SEASON_TASTE: Final = by_category({"clothing": 1.8, "electronics": 1.6, "home": 1.5}, default=1.0)
_SHIFTED_TASTE: Final = by_category({"digital": 1.7, "electronics": 1.4, "grocery": 0.8, "cash": 0.5}, default=1.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Whereabouts:
    """Where every customer is on a day, each (customers,): zone, position, on a trip, newly moved, story numbers."""

    zone: Ints
    latitude: Floats
    longitude: Floats
    travelling: NDArray[np.bool_]
    settling: NDArray[np.bool_]
    episode: Ints


def whereabouts(world: World, day: int) -> Whereabouts:
    """The place of each customer on a day: moves are drawn per year, trips per four weeks, each by its own seed."""
    customers, seed = world.customers, world.config.seed
    everyone = np.arange(world.config.customers)
    home = np.zeros(len(everyone), dtype=np.int64)
    settling = np.zeros(len(everyone), dtype=bool)
    for year in range(day // _YEAR_DAYS + 1):
        rng = chance.batch_generator(seed, "moves", year)
        moves = rng.random(len(everyone)) < _MOVES_PER_YEAR
        since = day - (year * _YEAR_DAYS + rng.integers(0, _YEAR_DAYS, len(everyone)))
        home += moves & (since >= 0)
        settling |= moves & (since >= 0) & (since < _SETTLING_DAYS)
    home %= HOMES
    period = day // _PERIOD_DAYS
    rng = chance.batch_generator(seed, "trips", period)
    leaves = rng.random(len(everyone)) < customers.trips_per_year * _PERIOD_DAYS / _YEAR_DAYS
    length = rng.integers(2, 11, len(everyone))
    departure = period * _PERIOD_DAYS + np.floor(rng.random(len(everyone)) * (_PERIOD_DAYS - length + 1))
    destination = zones_drawn(TRIP_WEIGHT, rng.random(len(everyone)))
    travelling = leaves & (day >= departure) & (day < departure + length)
    zone = np.where(travelling, destination, customers.home_zone[home, everyone])
    story = np.where(
        travelling,
        episode_number(KINDS.index("travel"), period, everyone),
        np.where(settling, episode_number(KINDS.index("moving_house"), day // _YEAR_DAYS, everyone), 0),
    )
    return Whereabouts(
        zone=zone,
        latitude=np.where(travelling, ZONE_LATITUDE[zone], customers.home_latitude[home, everyone]),
        longitude=np.where(travelling, ZONE_LONGITUDE[zone], customers.home_longitude[home, everyone]),
        travelling=travelling,
        settling=settling,
        episode=story,
    )


def purchases_expected(world: World, day: int, location: Whereabouts) -> Floats:
    """Mean number of ordinary purchases of each customer on a day, shape (customers,)."""
    weekday = (world.config.first_day + timedelta(days=day)).weekday()
    # Months are those after the default first day, so that a world that begins later has the same pay days in its life.
    of_month = (DEFAULT_FIRST_DAY + timedelta(days=day)).day
    pay_day = 1.2 if of_month <= 3 or of_month >= 27 else 1.0
    season = 1 + 0.3 * world.drift("season", day)
    staying = np.where(location.travelling, 1.6, np.where(location.settling, 1.3, 1.0))
    return np.asarray(world.customers.activity * staying * (_WEEKDAY[weekday] * pay_day * season))


def taste_on(world: World, day: int, location: Whereabouts, customer: Ints) -> Floats:
    """Probability of each category for the next purchase of each given customer, shape (n, categories)."""
    taste = world.customers.taste[customer]
    taste = taste * (1 + (_SEASON_TASTE - 1) * world.drift("season", day))
    taste *= 1 + (_SHIFTED_TASTE - 1) * min(world.drift("merchant_mix_shift", day), 1.0)
    taste *= np.where(location.travelling[customer, None], _TRIP_TASTE, 1.0)
    taste *= np.where(location.settling[customer, None], _SETTLING_TASTE, 1.0)
    return np.asarray(taste / taste.sum(axis=1, keepdims=True))


def online_chance(world: World, location: Whereabouts, *, customer: Ints, category: Ints) -> Floats:
    """Probability that a purchase is made online, shape (n,)."""
    leaning = world.customers.online[customer] * np.where(location.travelling[customer], 0.4, 1.0)
    return np.where(ONLINE[category] == 1, 1.0, np.clip(ONLINE[category] * leaning, 0, 0.95))


def habit_chance(location: Whereabouts, *, customer: Ints, online: NDArray[np.bool_]) -> Floats:
    """Probability that a purchase is made at one of the customer's favourite merchants, shape (n,)."""
    return np.where(online | ~location.travelling[customer], HABIT, 0.0)


def favourite_pick(world: World, *, customer: Ints, category: Ints, slot: Ints) -> Floats:
    """The pick that leads a customer to the favourite merchant in a slot (slot 0 is used most), shape (n,)."""
    number = (customer * len(CATEGORIES) + category) * len(FAVOURITES) + slot
    return chance.uniform(chance.keys(world.config.seed, "favourites", number), "pick")


def ordinary_life(world: World, day: int) -> tuple[Intents, Truth]:
    """The ordinary purchases of all customers on one day; counts are gamma-Poisson."""
    rng = chance.batch_generator(world.config.seed, "ordinary life", day)
    location = whereabouts(world, day)
    mood = rng.gamma(OVERDISPERSION, 1 / OVERDISPERSION, world.config.customers)
    counts = rng.poisson(purchases_expected(world, day, location) * mood)
    customer = np.repeat(np.arange(len(counts)), counts)
    size = len(customer)
    cumulative = np.cumsum(taste_on(world, day, location, customer), axis=1)
    category = np.minimum((rng.random((size, 1)) > cumulative).sum(axis=1), len(CATEGORIES) - 1)
    online = rng.random(size) < online_chance(world, location, customer=customer, category=category)
    slot = np.searchsorted(np.cumsum(FAVOURITES[:-1]), rng.random(size))
    habit = rng.random(size) < habit_chance(location, customer=customer, online=online)
    favourite = favourite_pick(world, customer=customer, category=category, slot=slot)
    hour = (hours_drawn(category, rng.random(size)) + world.customers.later_hours[customer]) % 24
    elsewhere = rng.random(size) < ELSEWHERE
    random_zone = zones_drawn(ELSEWHERE_WEIGHT, rng.random(size))
    usual = usual_log_amount(world.config, world.customers, customer=customer, category=category)
    intents = Intents(
        key=chance.keys(world.config.seed, "ordinary row", (day << 32) + np.arange(size)),
        time=np.minimum((hour * HOUR).astype(np.int64), DAY - 1) + (world.epoch + day * DAY),
        customer=customer,
        category=category,
        online=online,
        zone=location.zone[customer],
        latitude=np.where(elsewhere, ZONE_LATITUDE[random_zone], location.latitude[customer]),
        longitude=np.where(elsewhere, ZONE_LONGITUDE[random_zone], location.longitude[customer]),
        pick=np.where(habit, favourite, rng.random(size)),
        log_amount=usual + SPREAD[category] * rng.standard_normal(size),
    )
    ordinary, travel, moving = (KINDS.index(name) for name in ("ordinary", "travel", "moving_house"))
    kind = np.where(location.travelling, travel, np.where(location.settling, moving, ordinary))
    return intents, Truth(kind=kind[customer], episode=location.episode[customer], reported_at=np.full(size, NEVER))
