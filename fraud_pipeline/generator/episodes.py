"""Episodes of fraud, and of legitimate events that look like fraud, as intents.

Belongs here: the episodes that start on a day, a pure function of (seed, start day), with the report time of each row.
Must not be here: the scenarios' parameters (`story.py`), and how an intent becomes a row (`rows.py`).
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from fraud_pipeline.generator import chance
from fraud_pipeline.generator.behaviour import ELSEWHERE_WEIGHT, Whereabouts, favourite_pick, whereabouts
from fraud_pipeline.generator.categories import CATEGORIES, LOG_PRICE, ONLINE, hours_drawn
from fraud_pipeline.generator.geography import NET, ZONE_LATITUDE, ZONE_LONGITUDE, zones_drawn
from fraud_pipeline.generator.population import Floats, Ints, usual_log_amount
from fraud_pipeline.generator.rows import Intents, Truth, World, take
from fraud_pipeline.generator.story import (
    NEVER,
    NEW_SCENARIO,
    SCENARIOS,
    STATES_OF_LIFE,
    Stages,
    episode_number,
    stages_at,
)
from fraud_pipeline.schema.transactions import DAY, HOUR, SECOND

MAX_DELAY_DAYS: Final = 13
MAX_DURATION_DAYS: Final = 6
MAX_SPAN_DAYS: Final = MAX_DELAY_DAYS + MAX_DURATION_DAYS + 1
MAX_REPORT_DAYS: Final = 90
GAP_SPREAD: Final = 0.9
RING_DAYS: Final = 28
RING_SIZE: Final = 1
RING_TOWN: Final = 0.5
NOTICED: Final = 0.11
SHARES: Final = np.array([scenario.share for scenario in SCENARIOS])
NEW: Final = [scenario.name for scenario in SCENARIOS].index(NEW_SCENARIO)
_MAX_ROWS: Final = 12
_OVERLOOKED: Final = 0.065
_LATE_MEDIAN_DAYS: Final = 5.0
_LATE_SPREAD: Final = 1.3
_ROWS_PER_ACTIVITY: Final = 1.1  # trips, pay days and honest episodes on top of the customers' activity


def episodes_per_day(world: World, day: int) -> Floats:
    """Expected number of episodes of each scenario that start on a day, shape (scenarios,)."""
    fraud_rows = world.config.fraud_rate * world.customers.activity.sum() * _ROWS_PER_ACTIVITY
    per_row = np.array([scenario.share / rows_expected(s) for s, scenario in enumerate(SCENARIOS)])
    usual_fraud = np.array([scenario.fraud and scenario.name != NEW_SCENARIO for scenario in SCENARIOS])
    honest = np.array([not scenario.fraud for scenario in SCENARIOS])
    expected: Floats = fraud_rows * np.where(honest, SHARES * per_row[usual_fraud].sum(), per_row)
    expected[NEW] *= world.drift("new_scenario", day)
    return expected


def rows_expected(scenario: int) -> float:
    """Mean number of rows of an episode. The victim may notice any row, which ends the episode."""
    surviving = 1 - 0.8 * NOTICED
    mean, reach = 0.0, 1.0
    for stage in SCENARIOS[scenario].stages:
        more = 1 - 1 / stage.rows
        mean += reach / (1 - more * surviving)
        reach *= (1 - more) * surviving / (1 - more * surviving)
    return mean


def delay_chance(scenario: int) -> Floats:
    """Probability that the first use is 0, 1, ... MAX_DELAY_DAYS days after the compromise."""
    stay = SCENARIOS[scenario].delay_days / (1 + SCENARIOS[scenario].delay_days)
    weights = stay ** np.arange(MAX_DELAY_DAYS + 1)
    return np.asarray(weights / weights.sum())


def compromised_terminals(world: World, day: int, location: Whereabouts, *, expected: float) -> list[Ints]:
    """The regular customers of each terminal that is compromised on a day: it is their favourite of its category."""
    rng = chance.batch_generator(world.config.seed, "terminals", day)
    shops = np.flatnonzero(~world.merchants.online & ~world.merchants.newcomer)
    weight = np.cumsum(world.merchants.weight[shops])
    everyone = np.arange(world.config.customers)
    regulars = []
    for draw in rng.random(rng.poisson(expected)):
        terminal = shops[np.searchsorted(weight, draw * weight[-1])]
        category = np.full(len(everyone), world.merchants.category[terminal])
        pick = favourite_pick(world, customer=everyone, category=category, slot=np.zeros_like(everyone))
        favourite = world.market_before.choose(zone=location.zone, category=category, pick=pick)
        regulars.append(np.flatnonzero(favourite == terminal))
    return regulars


def ring_pick(world: World, *, day: Ints, category: Ints, slot: Ints) -> Floats:
    """The pick that leads to the online merchant that thieves prefer for four weeks, popular or not, shape (n,)."""
    number = (day // RING_DAYS * len(CATEGORIES) + category) * RING_SIZE + slot
    draw = chance.uniform(chance.keys(world.config.seed, "ring", number), "merchant")
    market = world.market_before
    online = np.flatnonzero(market.probability[NET] > 0)
    kinds = world.merchants.category[online]
    first, beyond = np.searchsorted(kinds, category, side="left"), np.searchsorted(kinds, category, side="right")
    merchant = online[np.minimum(first + np.floor(draw * (beyond - first)).astype(np.int64), len(online) - 1)]
    return market.pick_for(zone=NET, category=category, merchant=merchant)


def ring_town(world: World, *, day: Ints) -> Ints:
    """The zone from which thieves work for four weeks, shape (n,)."""
    return zones_drawn(
        ELSEWHERE_WEIGHT, chance.uniform(chance.keys(world.config.seed, "ring town", day // RING_DAYS), "zone")
    )


def episodes_starting(world: World, day: int) -> tuple[Intents, Truth]:
    """All rows of the episodes that start (are compromised) on a day, whenever the rows happen."""
    rng = chance.batch_generator(world.config.seed, "episodes", day)
    location = whereabouts(world, day)
    stages = stages_at(world.config.difficulty)
    scenario, customer = _cast(world, rng, day, location)
    story = episode_number(scenario + len(STATES_OF_LIFE), day, np.arange(len(scenario)))
    counts = np.minimum(rng.geometric(1 - stages.more[scenario]), _MAX_ROWS) * stages.exists[scenario]
    total = counts.sum(axis=1)
    episode = np.repeat(np.arange(len(scenario)), total)
    place_in_episode = np.arange(len(episode)) - np.repeat(np.cumsum(total) - total, total)
    stage = (place_in_episode >= counts[episode, 0]).astype(np.int64)
    who, what = customer[episode], scenario[episode]
    category, online, pick = _choices(world, rng, day, stages, scenario=what, stage=stage, customer=who)
    time = _times(
        world, rng, day, stages, scenario=scenario, episode=episode, stage=stage, customer=who, category=category
    )
    zone, latitude, longitude = _places(world, rng, day, stages, location, scenario=scenario, customer=customer)
    usual = usual_log_amount(world.config, world.customers, customer=who, category=category)
    weight = np.where(stages.own[what], 1.0, stages.mimicry)
    base = LOG_PRICE[category] + weight * (usual - LOG_PRICE[category]) + stages.shift[what, stage]
    price = stages.log_price[what, stage]
    intents = Intents(
        key=chance.keys(world.config.seed, "episode row", (day << 32) + np.arange(len(episode))),
        time=time,
        customer=who,
        category=category,
        online=online,
        zone=zone[episode],
        latitude=latitude[episode],
        longitude=longitude[episode],
        pick=pick,
        log_amount=np.where(np.isnan(price), base, price)
        + stages.spread[what, stage] * rng.standard_normal(len(episode)),
    )
    first = np.cumsum(total) - total
    reported_at, known_end = _reports(rng, time, scenario=scenario, episode=episode, first=first)
    truth = Truth(kind=what + len(STATES_OF_LIFE), episode=story[episode], reported_at=reported_at)
    within = time <= np.minimum(known_end, time[first] + MAX_DURATION_DAYS * DAY if len(first) else known_end)[episode]
    return take(intents, within), take(truth, within)


def _cast(world: World, rng: np.random.Generator, day: int, location: Whereabouts) -> tuple[Ints, Ints]:
    """Scenario and customer of each episode; the more people buy, the more often they are hit."""
    exposure = np.cumsum(world.customers.activity)
    scenarios, customers = [], []
    for s, expected in enumerate(episodes_per_day(world, day)):
        victims = SCENARIOS[s].victims_per_terminal
        if victims:
            terminals = compromised_terminals(world, day, location, expected=expected / victims)
            hit = np.concatenate(
                [np.zeros(0, np.int64), *(rng.permutation(regulars)[:victims] for regulars in terminals)]
            )
        else:
            hit = np.searchsorted(exposure, rng.random(rng.poisson(expected)) * exposure[-1])
        scenarios.append(np.full(len(hit), s))
        customers.append(hit)
    return np.concatenate(scenarios), np.concatenate(customers).astype(np.int64)


def _choices(
    world: World, rng: np.random.Generator, day: int, stages: Stages, *, scenario: Ints, stage: Ints, customer: Ints
) -> tuple[Ints, NDArray[np.bool_], Floats]:
    """Category, online or not, and merchant pick of each row."""
    size = len(scenario)
    possible = np.where(stages.online[scenario, stage][:, None] == 1, ONLINE > 0, ONLINE < 1)
    taste = row_taste(world, stages, scenario=scenario, stage=stage, customer=customer)
    cumulative = np.cumsum(taste, axis=1)
    category = np.minimum((rng.random((size, 1)) > cumulative).sum(axis=1), possible.shape[1] - 1)
    online = (rng.random(size) < stages.online[scenario, stage]) & (ONLINE[category] > 0) | (ONLINE[category] == 1)
    ring = online & (rng.random(size) < stages.ring[scenario, stage])
    slot = rng.integers(0, RING_SIZE, size)
    favoured = ring_pick(world, day=np.full(size, day), category=category, slot=slot)
    return category, online, np.where(ring, favoured, rng.random(size))


def row_taste(world: World, stages: Stages, *, scenario: Ints, stage: Ints, customer: Ints) -> Floats:
    """Probability of each category for each row: the scenario's mix, moved towards the victim's by difficulty."""
    taste = stages.taste[scenario, stage]
    online = stages.online[scenario, stage]
    fits = np.where((online == 1)[:, None], ONLINE > 0, np.where((online == 0)[:, None], ONLINE < 1, True))
    victims = world.customers.taste[customer] * fits
    victims = victims / victims.sum(axis=1, keepdims=True)
    mimicry = np.where(stages.own[scenario] | np.isfinite(stages.log_price[scenario, stage]), 0.0, stages.mimicry)
    return np.asarray(taste + mimicry[:, None] * (victims - taste))


def _times(
    world: World,
    rng: np.random.Generator,
    day: int,
    stages: Stages,
    *,
    scenario: Ints,
    episode: Ints,
    stage: Ints,
    customer: Ints,
    category: Ints,
) -> Ints:
    """Microseconds UTC: day of first use, hour by the scenario's night share, then log-normal gaps."""
    count = len(scenario)
    delay = np.zeros(count, dtype=np.int64)
    draws = rng.random(count)
    for s in np.unique(scenario):
        of_scenario = scenario == s
        delay[of_scenario] = np.searchsorted(np.cumsum(delay_chance(int(s)))[:-1], draws[of_scenario])
    is_first = np.diff(episode, prepend=-1) > 0
    first_category, first_customer = category[is_first], customer[is_first]
    awake = (hours_drawn(first_category, rng.random(count)) + world.customers.later_hours[first_customer]) % 24
    hour = np.where(rng.random(count) < stages.night[scenario], rng.random(count) * 6, awake)
    begin = world.epoch + (day + delay) * DAY + np.minimum((hour * HOUR).astype(np.int64), DAY - 1)
    log_gap = stages.log_gap[scenario[episode], stage] + GAP_SPREAD * rng.standard_normal(len(episode))
    gap = np.where(is_first, 0, (np.minimum(np.exp(log_gap), 1e5) * 60 * SECOND).astype(np.int64))
    elapsed = np.cumsum(gap)
    return np.asarray(begin[episode] + elapsed - elapsed[is_first][episode])


def _places(
    world: World,
    rng: np.random.Generator,
    day: int,
    stages: Stages,
    location: Whereabouts,
    *,
    scenario: Ints,
    customer: Ints,
) -> tuple[Ints, Floats, Floats]:
    """Zone and position from which each episode is acted out."""
    count = len(scenario)
    at_home = rng.random(count) < stages.at_home[scenario, 0]
    elsewhere = zones_drawn(ELSEWHERE_WEIGHT, rng.random(count))
    in_town = ~stages.own[scenario] & (rng.random(count) < RING_TOWN)
    zone = np.where(in_town, ring_town(world, day=np.full(count, day)), elsewhere)
    zone = np.where(at_home, location.zone[customer], zone)
    exact = at_home & stages.own[scenario]
    latitude = np.where(exact, location.latitude[customer], ZONE_LATITUDE[zone])
    longitude = np.where(exact, location.longitude[customer], ZONE_LONGITUDE[zone])
    return zone, latitude, longitude


def _reports(rng: np.random.Generator, time: Ints, *, scenario: Ints, episode: Ints, first: Ints) -> tuple[Ints, Ints]:
    """When each row is reported, and when each episode ends because the victim calls the bank.

    A victim may notice any row within minutes; otherwise the delay of the call is log-normal. The call reports all
    earlier rows, except those that the victim overlooks.
    """
    fraud = np.array([story.fraud for story in SCENARIOS])[scenario]
    at_once = (1 + 19 * rng.random(len(time))) * 60 * SECOND
    noticed = np.where(rng.random(len(time)) < NOTICED, time + at_once.astype(np.int64), NEVER)
    late = chance.late_microseconds(
        rng,
        len(scenario),
        median_days=_LATE_MEDIAN_DAYS,
        spread=_LATE_SPREAD,
        longest_days=MAX_REPORT_DAYS - MAX_DURATION_DAYS,
    )
    overlooked = rng.random(len(time)) < _OVERLOOKED
    if not len(time):
        return time, late
    call = np.where(fraud, np.minimum(np.minimum.reduceat(noticed, first), time[first] + late), NEVER)
    return np.where(overlooked, NEVER, call[episode]), call
