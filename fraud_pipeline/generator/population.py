"""Customers, merchants, and the market that assigns a purchase to a merchant.

Belongs here: properties that stay the same from day to day. Must not be here: events of a day.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fraud_pipeline.generator import chance
from fraud_pipeline.generator.categories import (
    CATEGORIES,
    LOG_PRICE,
    ONLINE,
    REACH_KM,
    SEGMENTS,
    SHARE,
    TRANSFER,
    by_category,
)
from fraud_pipeline.generator.config import WorldConfig
from fraud_pipeline.generator.geography import (
    EARTH_KM_PER_DEGREE,
    HOME_WEIGHT,
    NET,
    TRIP_WEIGHT,
    ZONE_LATITUDE,
    ZONE_LONGITUDE,
    ZONES,
    kilometres,
    zones_drawn,
)

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

HOMES: Final = 2  # a customer who moves goes to the other home, and perhaps returns years later
PURCHASES_PER_DAY: Final = 1.48  # of a mean customer; trips, seasons and hard negatives are added to it
_ACTIVITY_SHAPE: Final = 3.0
_TASTE_CONCENTRATION: Final = 14.0
_ONLINE_MERCHANTS: Final = 0.3
_NEWCOMERS: Final = 0.15
_NEWCOMER_PULL: Final = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Customers:
    """Columns of the customers, each (customers,), home columns (2, customers), taste (customers, categories)."""

    activity: Floats
    wealth: Floats
    later_hours: Floats
    trips_per_year: Floats
    online: Floats
    taste: Floats
    home_zone: Ints
    home_latitude: Floats
    home_longitude: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Merchants:
    """Columns of the merchants, each (merchants,), in order of category; `price_level` is a log factor."""

    category: Ints
    zone: Ints
    online: NDArray[np.bool_]
    latitude: Floats
    longitude: Floats
    price_level: Floats
    newcomer: NDArray[np.bool_]
    weight: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Market:
    """Probabilities of merchants for a purchase: (zones + net, merchants), summing to 1 within a category."""

    probability: Floats
    cumulative: Floats

    def choose(self, *, zone: Ints, category: Ints, pick: Floats) -> Ints:
        """Merchants by inverse distribution from `pick` in (0, 1); the same pick always gives the same merchant."""
        target = zone * len(CATEGORIES) + category + pick
        merchants = self.probability.shape[1]
        return np.asarray(np.searchsorted(self.cumulative, target, side="right") % merchants)

    def pick_for(self, *, zone: int, category: Ints, merchant: Ints) -> Floats:
        """A pick that leads from a zone to given merchants of given categories, shape (n,)."""
        upper = self.cumulative[zone * self.probability.shape[1] + merchant] - zone * len(CATEGORIES) - category
        return np.asarray(upper - self.probability[zone, merchant] / 2)


def make_customers(config: WorldConfig) -> Customers:
    """All customers of a world."""
    rng = chance.batch_generator(config.seed, "customers")
    count = config.customers
    segment = rng.choice(len(SEGMENTS), size=count, p=[segment.share for segment in SEGMENTS])

    def of_segment(values: list[float]) -> Floats:
        return np.array(values)[segment]

    taste = SHARE * np.stack([by_category(segment.taste, default=1.0) for segment in SEGMENTS])[segment]
    taste = rng.standard_gamma(_TASTE_CONCENTRATION * taste / taste.sum(axis=1, keepdims=True)) + 1e-4
    zone = zones_drawn(HOME_WEIGHT, rng.random(HOMES * count)).reshape(HOMES, count)
    north, east = rng.normal(0, 4 / EARTH_KM_PER_DEGREE, size=(2, HOMES, count))
    activity = of_segment([s.activity for s in SEGMENTS]) * rng.gamma(_ACTIVITY_SHAPE, 1 / _ACTIVITY_SHAPE, count)
    return Customers(
        activity=PURCHASES_PER_DAY * activity / activity.mean(),
        wealth=of_segment([s.wealth for s in SEGMENTS]) + rng.normal(0, 0.3, count),
        later_hours=of_segment([s.later for s in SEGMENTS]) + rng.normal(0, 1.3, count),
        trips_per_year=of_segment([s.trips_per_year for s in SEGMENTS]),
        online=of_segment([s.online for s in SEGMENTS]) * rng.lognormal(0, 0.3, count),
        taste=taste / taste.sum(axis=1, keepdims=True),
        home_zone=zone,
        home_latitude=ZONE_LATITUDE[zone] + north,
        home_longitude=ZONE_LONGITUDE[zone] + east / np.cos(np.radians(ZONE_LATITUDE[zone])),
    )


def make_merchants(config: WorldConfig) -> Merchants:
    """All merchants of a world: every zone has every kind of shop, and the rest are placed where people live."""
    rng = chance.batch_generator(config.seed, "merchants")
    in_shops = np.flatnonzero(ONLINE < 1)
    on_net = np.flatnonzero(ONLINE > 0)
    everywhere = np.stack(np.meshgrid(in_shops, np.arange(ZONES)), axis=-1).reshape(-1, 2)
    rest = config.merchants - len(everywhere) - len(on_net)
    more_online = round(rest * _ONLINE_MERCHANTS)
    # Everybody pays other people: payees are as many as a sixth of the online merchants.
    online_share = np.where(np.arange(len(CATEGORIES)) == TRANSFER, 2.0, 1.0)[on_net]
    category = np.concatenate([
        everywhere[:, 0], on_net, rng.choice(on_net, more_online, p=online_share / online_share.sum()),
        rng.choice(in_shops, rest - more_online),
    ])  # fmt: skip
    people = HOME_WEIGHT * 0.75 + TRIP_WEIGHT * 0.25
    zone = np.concatenate([everywhere[:, 1], zones_drawn(people, rng.random(config.merchants - len(everywhere)))])
    online = np.zeros(config.merchants, dtype=bool)
    online[len(everywhere) : len(everywhere) + len(on_net) + more_online] = True
    extra = np.arange(config.merchants) >= len(everywhere) + len(on_net)
    newcomer = extra & (rng.random(config.merchants) < _NEWCOMERS)
    scatter_km = rng.normal(0, 3, size=(2, config.merchants))
    order = np.argsort(category, kind="stable")
    rank = rng.permutation(config.merchants)
    return Merchants(
        category=category[order],
        zone=zone[order],
        online=online[order],
        latitude=(ZONE_LATITUDE[zone] + scatter_km[0] / EARTH_KM_PER_DEGREE)[order],
        longitude=(ZONE_LONGITUDE[zone] + scatter_km[1] / EARTH_KM_PER_DEGREE)[order],
        price_level=rng.normal(0, 0.25, config.merchants),
        newcomer=newcomer[order],
        weight=_zipf(category[order], online[order], rank),
    )


def _zipf(category: Ints, online: NDArray[np.bool_], rank: Ints) -> Floats:
    """Zipf popularity inside each (category, online) group, ranks drawn at random."""
    group = category * 2 + online
    order = np.lexsort((rank, group))
    starts = np.searchsorted(group[order], group[order])
    weight = np.empty(len(group))
    weight[order] = (np.arange(len(group)) - starts + 1.0) ** -0.8
    return weight


def make_market(merchants: Merchants, *, with_newcomers: bool) -> Market:
    """The market before or after new merchants open: popularity is Zipf, and shops lose customers with distance."""
    open_weight = merchants.weight * np.where(merchants.newcomer, _NEWCOMER_PULL if with_newcomers else 0.0, 1.0)
    away = kilometres(
        ZONE_LATITUDE[:, None], ZONE_LONGITUDE[:, None], merchants.latitude[None, :], merchants.longitude[None, :]
    )
    weight = np.empty((ZONES + 1, len(open_weight)))
    weight[:NET] = np.where(merchants.online, 0.0, open_weight * np.exp(-away / REACH_KM[merchants.category]))
    weight[NET] = np.where(merchants.online, open_weight, 0.0)
    first = np.searchsorted(merchants.category, np.arange(len(CATEGORIES)))
    totals = np.add.reduceat(weight, first, axis=1)[:, merchants.category]
    probability = np.divide(weight, totals, out=np.zeros_like(weight), where=totals > 0)
    running = np.cumsum(probability, axis=1)
    before = np.concatenate([np.zeros((ZONES + 1, 1)), running], axis=1)[:, first][:, merchants.category]
    within = np.clip(running - before, 0, 1)
    # The last merchant of a category closes it, so that rounding never moves a pick into the next one.
    within[:, np.append(first[1:], len(open_weight)) - 1] = 1.0
    level = np.arange(ZONES + 1)[:, None] * len(CATEGORIES) + merchants.category
    return Market(probability=probability, cumulative=(level + within).ravel())


def usual_log_amount(config: WorldConfig, customers: Customers, *, customer: Ints, category: Ints) -> Floats:
    """Log cents that a customer usually pays in a category, before the merchant's price level, shape (n,)."""
    pair = chance.keys(config.seed, "habit of spending", customer * len(CATEGORIES) + category)
    return np.asarray(LOG_PRICE[category] + customers.wealth[customer] + 0.25 * chance.normal(pair, "level"))
