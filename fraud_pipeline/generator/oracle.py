"""The best possible fraud score: it uses the generator's parameters, but not the truth of any row.

Belongs here: the posterior probability of fraud of each row, given all rows up to it. Must not be here: anything that
reads `Truth`. docs/explanation/synthetic-world.md lists the oracle's knowledge and its approximations.
"""

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from fraud_pipeline.generator.behaviour import (
    ELSEWHERE,
    ELSEWHERE_WEIGHT,
    FAVOURITES,
    favourite_pick,
    habit_chance,
    online_chance,
    purchases_expected,
    taste_on,
    whereabouts,
)
from fraud_pipeline.generator.categories import HOUR_DENSITY, LOG_PRICE, ONLINE, SHARE, SPREAD
from fraud_pipeline.generator.episodes import (
    MAX_DELAY_DAYS,
    RING_DAYS,
    RING_SIZE,
    RING_TOWN,
    compromised_terminals,
    delay_chance,
    episodes_per_day,
    ring_pick,
    ring_town,
    row_taste,
)
from fraud_pipeline.generator.geography import EARTH_KM_PER_DEGREE, NET, ZONE_LATITUDE, ZONE_LONGITUDE, ZONES
from fraud_pipeline.generator.population import Floats, Ints, usual_log_amount
from fraud_pipeline.generator.rows import POSITION_NOISE_KM, Rows, World, day_of, take, unit_error
from fraud_pipeline.generator.story import MAX_STAGES, SCENARIOS, Stages, stages_at
from fraud_pipeline.generator.story_filter import fraud_chance
from fraud_pipeline.schema.transactions import DAY, HOUR

_DAY_ELAPSED: Final = np.concatenate([[0.0], np.cumsum(SHARE @ HOUR_DENSITY)])


@dataclass(frozen=True, slots=True, kw_only=True)
class _Evidence:
    """Densities of each row, per hour where a rate is meant: ordinary (n,), first row of a story (n, scenarios).

    `marks` (n, scenarios, stages) is the density of the purchase, `anywhere` (n, scenarios) of its place, and `place`
    (n, zones) of its place when the actor is in a given zone. `zone` is the zone of the row.
    """

    ordinary: Floats
    expected_so_far: Floats
    first: Floats
    marks: Floats
    anywhere: Floats
    place: Floats
    zone: Ints


def oracle_scores(world: World, rows: Rows) -> Floats:
    """Probability that each row is fraud, given the rows before it, shape (n,); `rows` are in order of time."""
    day = day_of(world, rows.time)
    scores = np.zeros(len(day))
    if not len(day):
        return scores
    stages = stages_at(world.config.difficulty)
    days = [(today, np.flatnonzero(day == today)) for today in np.unique(day)]
    pieces = [_evidence(world, stages, int(today), take(rows, positions)) for today, positions in days]
    order = np.lexsort((np.arange(len(day)), rows.customer))

    def column(name: str) -> Floats:
        return np.concatenate([getattr(piece, name) for piece in pieces])[order]

    scores[order] = fraud_chance(
        customer=rows.customer[order],
        hours=rows.time[order] / HOUR,
        day=day[order],
        ordinary=column("ordinary"),
        expected_so_far=column("expected_so_far"),
        first=column("first"),
        marks=column("marks"),
        anywhere=column("anywhere"),
        place=column("place"),
        zone=column("zone").astype(np.int64),
        stages=stages,
    )
    return scores


def _normal(distance: Floats, spread: Floats | float) -> Floats:
    return np.asarray(np.exp(-0.5 * (distance / spread) ** 2) / (spread * math.sqrt(2 * math.pi)))


def _near(rows: Rows, latitude: Floats, longitude: Floats) -> Floats:
    """Density per km2 of an online row's position around a point; 1 where the position is missing."""
    north = (rows.latitude - latitude) * EARTH_KM_PER_DEGREE
    east = (rows.longitude - longitude) * EARTH_KM_PER_DEGREE * np.cos(np.radians(latitude))
    density = _normal(north, POSITION_NOISE_KM) * _normal(east, POSITION_NOISE_KM)
    return np.where(np.isnan(density), 1.0, density)


def _evidence(world: World, stages: Stages, day: int, rows: Rows) -> _Evidence:
    """The densities of one day's rows that do not depend on other rows."""
    location, market = whereabouts(world, day), world.market(day)
    who, merchant = rows.customer, rows.merchant
    category, online = world.merchants.category[merchant], world.merchants.online[merchant]
    amount = (
        np.log(rows.cents / unit_error(world, time=rows.time, merchant=merchant))
        - world.merchants.price_level[merchant]
    )
    hour = (rows.time - world.epoch) % DAY / HOUR
    own_hour = np.floor((hour - world.customers.later_hours[who]) % 24).astype(np.int64) % 24
    awake = HOUR_DENSITY[category, own_hour]
    usual = usual_log_amount(world.config, world.customers, customer=who, category=category)

    net = market.probability[NET, merchant]
    by_zone = np.stack([_near(rows, ZONE_LATITUDE[z], ZONE_LONGITUDE[z]) for z in range(ZONES)], axis=1)
    place = np.where(online[:, None], by_zone, market.probability[:ZONES, merchant].T)
    own_place = np.where(
        online,
        _near(rows, location.latitude[who], location.longitude[who]),
        place[np.arange(len(who)), location.zone[who]],
    )
    strange_place = place @ ELSEWHERE_WEIGHT

    expected = purchases_expected(world, day, location)
    shop = np.where(online, net, 1.0)
    spot = np.where(online, (1 - ELSEWHERE) * own_place + ELSEWHERE * strange_place, 1.0)
    market_zone = np.where(online, NET, location.zone[who])
    new = np.where(online, net, own_place)
    favourite = np.zeros(len(who))
    for slot, weight in enumerate(FAVOURITES):
        pick = favourite_pick(world, customer=who, category=category, slot=np.full(len(who), slot))
        favourite += weight * (market.choose(zone=market_zone, category=category, pick=pick) == merchant)
    habit = habit_chance(location, customer=who, online=online)
    by_net = online_chance(world, location, customer=who, category=category)
    ordinary = (
        expected[who] * taste_on(world, day, location, who)[np.arange(len(who)), category]
        * awake * np.where(online, by_net, 1 - by_net)
        * (habit * favourite + (1 - habit) * new) * spot * _normal(amount - usual, SPREAD[category])
    )  # fmt: skip

    marks = np.zeros((len(who), len(SCENARIOS), MAX_STAGES))
    anywhere, first = np.zeros_like(marks[:, :, 0]), np.zeros_like(marks[:, :, 0])
    starts = _first_uses(world, day)
    for s, scenario in enumerate(SCENARIOS):
        now = _share_started_in_this_ring(s, day)
        ring_shop = now * _at_ring(world, day, category, merchant) + (1 - now) * _at_ring(
            world, day - RING_DAYS, category, merchant
        )
        town = now * place[:, ring_town(world, day=np.array([day]))[0]]
        town = town + (1 - now) * place[:, ring_town(world, day=np.array([max(day - RING_DAYS, 0)]))[0]]
        away = strange_place if scenario.own else RING_TOWN * town + (1 - RING_TOWN) * strange_place
        home = own_place if scenario.own else place[np.arange(len(who)), location.zone[who]]
        anywhere[:, s] = stages.at_home[s, 0] * home + (1 - stages.at_home[s, 0]) * away
        for a in range(len(scenario.stages)):
            what, at = np.full(len(who), s), np.full(len(who), a)
            taste = row_taste(world, stages, scenario=what, stage=at, customer=who)[np.arange(len(who)), category]
            on_net = np.where(ONLINE[category] == 1, 1.0, stages.online[s, a] * (ONLINE[category] > 0))
            weight = 1.0 if scenario.own else stages.mimicry
            base = LOG_PRICE[category] + weight * (usual - LOG_PRICE[category]) + stages.shift[s, a]
            centre = base if np.isnan(stages.log_price[s, a]) else stages.log_price[s, a]
            merchant_density = np.where(online, stages.ring[s, a] * ring_shop + (1 - stages.ring[s, a]) * shop, 1.0)
            marks[:, s, a] = (
                taste
                * np.where(online, on_net, 1 - on_net)
                * merchant_density
                * _normal(amount - centre, float(stages.spread[s, a]))
            )
        first_hour = stages.night[s] * (hour < 6) / 6 + (1 - stages.night[s]) * awake
        first[:, s] = starts[who, s] * first_hour * marks[:, s, 0] * anywhere[:, s]
    return _Evidence(
        ordinary=ordinary,
        expected_so_far=expected[who]
        * np.interp((hour - world.customers.later_hours[who]) % 24, np.arange(25), _DAY_ELAPSED),
        first=first,
        marks=marks,
        anywhere=anywhere,
        place=place,
        zone=np.where(online, np.argmax(by_zone, axis=1), world.merchants.zone[merchant]),
    )


def _first_uses(world: World, day: int) -> Floats:
    """Expected first uses on a day, shape (customers, scenarios): earlier starts, spread by their delay."""
    exposure = world.customers.activity / world.customers.activity.sum()
    uses = np.zeros((world.config.customers, len(SCENARIOS)))
    for s, scenario in enumerate(SCENARIOS):
        for delay, share in enumerate(delay_chance(s)[: day + 1]):
            expected = episodes_per_day(world, day - delay)[s]
            if not scenario.victims_per_terminal:
                uses[:, s] += share * expected * exposure
                continue
            then = whereabouts(world, day - delay)
            terminals = expected / scenario.victims_per_terminal
            for regulars in compromised_terminals(world, day - delay, then, expected=terminals):
                uses[regulars, s] += share * min(1.0, scenario.victims_per_terminal / max(len(regulars), 1))
    return uses


def _share_started_in_this_ring(scenario: int, day: int) -> float:
    delays = np.arange(MAX_DELAY_DAYS + 1)
    return float(delay_chance(scenario)[(day - delays) // RING_DAYS == day // RING_DAYS].sum())


def _at_ring(world: World, day: int, category: Ints, merchant: Ints) -> Floats:
    if day < 0:
        return np.zeros(len(merchant))
    net, when = np.full(len(merchant), NET), np.full(len(merchant), day)
    shops = [
        world.market(day).choose(
            zone=net,
            category=category,
            pick=ring_pick(world, day=when, category=category, slot=np.full(len(net), slot)),
        )
        for slot in range(RING_SIZE)
    ]
    return np.asarray(np.mean([shop == merchant for shop in shops], axis=0))
