"""From intents to transactions, on one code path for honest customers and thieves.

Belongs here: choice of merchant, rounding of amounts, channels, positions, missing values, ids. Must not be here:
truth. An intent is a purchase to make, without the information whether it is fraud, so a row cannot reveal fraud by
how it is computed.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Final, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fraud_pipeline.generator import chance
from fraud_pipeline.generator.categories import CASH, CATEGORY_NAMES, TRANSFER
from fraud_pipeline.generator.config import WorldConfig
from fraud_pipeline.generator.drift_schedule import DriftName, drift_strength
from fraud_pipeline.generator.geography import EARTH_KM_PER_DEGREE, ZONE_COUNTRY
from fraud_pipeline.generator.population import Customers, Floats, Ints, Market, Merchants
from fraud_pipeline.schema.transactions import CHANNELS, DAY, MAX_AMOUNT_CENTS, times

RowTable = TypeVar("RowTable", "Intents", "Truth", "Rows")

POSITION_NOISE_KM: Final = 4.0  # accuracy of an online buyer's position
_FAULTY_MERCHANTS: Final = 0.1
_MISSING: Final = {"category": 0.01, "channel": 0.005, "country": 0.01, "position": 0.04}


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Properties that stay the same from day to day: configuration, people, shops, and the market before and after new
    merchants open.
    """

    config: WorldConfig
    epoch: int
    customers: Customers
    merchants: Merchants
    market_before: Market
    market_after: Market
    customer_ids: NDArray[np.object_]
    merchant_ids: NDArray[np.object_]

    def drift(self, name: DriftName, day: int) -> float:
        return drift_strength(self.config.drifts, name, day)

    def market(self, day: int) -> Market:
        return self.market_after if self.drift("merchant_mix_shift", day) else self.market_before


@dataclass(frozen=True, slots=True, kw_only=True)
class Intents:
    """Purchases that people want to make, each column (n,): time, category, place, amount (log cents) and pick.

    `key` is unique in the world and feeds every later draw. `time` is microseconds UTC. `zone` is where the actor
    stands. `pick` in (0, 1) chooses the merchant: a fresh number for a new merchant, a repeated one for a habit.
    """

    key: NDArray[np.uint64]
    time: Ints
    customer: Ints
    category: Ints
    online: NDArray[np.bool_]
    zone: Ints
    latitude: Floats
    longitude: Floats
    pick: Floats
    log_amount: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Truth:
    """The truth about intents, each column (n,): kind of episode, its number (0: none), report time (or NEVER)."""

    kind: Ints
    episode: Ints
    reported_at: Ints


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Transactions as numbers, each column (n,); negative codes and NaN positions are missing."""

    key: NDArray[np.uint64]
    time: Ints
    customer: Ints
    merchant: Ints
    cents: Ints
    category: Ints
    channel: Ints
    country: Ints
    latitude: Floats
    longitude: Floats


def take(table: RowTable, which: NDArray[Any] | slice) -> RowTable:
    """The chosen rows of every column, by mask, index or slice."""
    return type(table)(**{column.name: getattr(table, column.name)[which] for column in fields(table)})


def joined(tables: Sequence[RowTable]) -> RowTable:
    """The tables concatenated; give at least one."""
    names = [column.name for column in fields(tables[0])]
    return type(tables[0])(**{name: np.concatenate([getattr(table, name) for table in tables]) for name in names})


def day_of(world: World, time: Ints) -> Ints:
    """Days since the world's first day, shape (n,)."""
    return np.asarray((time - world.epoch) // DAY)


def make_rows(world: World, intents: Intents) -> Rows:
    """Turn intents into rows. Each row depends on its own intent only, so any batch makes the same row."""
    merchant = _merchants(world, intents)
    cents = _cents(world, intents, merchant=merchant)
    in_shop = ~intents.online
    scatter = POSITION_NOISE_KM / EARTH_KM_PER_DEGREE
    latitude = np.where(
        in_shop,
        world.merchants.latitude[merchant],
        intents.latitude + scatter * chance.normal(intents.key, "latitude"),
    )
    longitude = np.where(
        in_shop,
        world.merchants.longitude[merchant],
        intents.longitude + scatter * chance.normal(intents.key, "longitude") / np.cos(np.radians(intents.latitude)),
    )
    missing = {name: chance.uniform(intents.key, f"missing {name}") < share for name, share in _MISSING.items()}
    return Rows(
        key=intents.key,
        time=intents.time,
        customer=intents.customer,
        merchant=merchant,
        cents=cents,
        category=np.where(missing["category"], -1, intents.category),
        channel=np.where(missing["channel"], -1, _channels(intents, cents=cents)),
        country=np.where(missing["country"], -1, world.merchants.zone[merchant]),
        latitude=np.where(missing["position"], np.nan, np.round(latitude, 4)),
        longitude=np.where(missing["position"], np.nan, np.round(longitude, 4)),
    )


def _merchants(world: World, intents: Intents) -> Ints:
    zone = np.where(intents.online, len(ZONE_COUNTRY), intents.zone)
    day = day_of(world, intents.time)
    merchant = np.empty(len(day), dtype=np.int64)
    for today in np.unique(day):
        of_today = day == today
        merchant[of_today] = world.market(int(today)).choose(
            zone=zone[of_today], category=intents.category[of_today], pick=intents.pick[of_today]
        )
    return merchant


def _cents(world: World, intents: Intents, *, merchant: Ints) -> Ints:
    amount = np.exp(intents.log_amount + world.merchants.price_level[merchant])
    round_amount = (intents.category == TRANSFER) & (chance.uniform(intents.key, "whole amount") < 0.5)
    step = np.where(intents.category == CASH, 1_000, np.where(round_amount, 100, 1))
    cents = np.maximum(np.round(amount / step), 1) * step
    cents *= unit_error(world, time=intents.time, merchant=merchant)
    return np.asarray(np.minimum(cents, MAX_AMOUNT_CENTS), dtype=np.int64)


def unit_error(world: World, *, time: Ints, merchant: Ints) -> Floats:
    """The factor by which an upstream fault multiplies each amount, shape (n,); 1 on a normal day."""
    day = day_of(world, time)
    days, position = np.unique(day, return_inverse=True)
    broken = np.array([world.drift("units_fault", int(today)) > 0 for today in days], dtype=bool)[position]
    if not broken.any():
        return np.ones(len(day))
    merchant_key = chance.keys(world.config.seed, "units fault", merchant)
    return np.where(broken & (chance.uniform(merchant_key, "broken") < _FAULTY_MERCHANTS), 100.0, 1.0)


def _channels(intents: Intents, *, cents: Ints) -> Ints:
    tap = (cents < 50_00) & (chance.uniform(intents.key, "tap") < 0.85)
    in_shop = np.where(tap, CHANNELS.index("contactless"), CHANNELS.index("chip"))
    channel = np.where(intents.online, CHANNELS.index("online"), in_shop)
    channel = np.where(intents.category == CASH, CHANNELS.index("atm"), channel)
    return np.where(intents.category == TRANSFER, CHANNELS.index("transfer"), channel)


_CATEGORY_VALUES: Final = np.array([*CATEGORY_NAMES, None], dtype=object)
_CHANNEL_VALUES: Final = np.array([*CHANNELS, None], dtype=object)
_COUNTRY_VALUES: Final = np.array([*ZONE_COUNTRY, None], dtype=object)


def id_strings(words: NDArray[np.uint64], *, length: int = 16) -> NDArray[np.object_]:
    """Hexadecimal ids of 64-bit words, shape (n,)."""
    text = words.astype(">u8").tobytes().hex()
    return np.array([text[start : start + length] for start in range(0, len(text), 16)], dtype=object)


def transaction_ids(rows: Rows) -> NDArray[np.object_]:
    """Ids that reveal nothing about their row, shape (n,)."""
    return id_strings(chance.mix(rows.key))


def raw_frame(world: World, rows: Rows) -> pd.DataFrame:
    """Transactions as a bank sends them: text ids, amounts in currency units, `None` or NaN for missing values."""
    return pd.DataFrame(
        {
            "transaction_id": transaction_ids(rows),
            "event_time": times(rows.time),
            "customer_id": world.customer_ids[rows.customer],
            "merchant_id": world.merchant_ids[rows.merchant],
            "amount": rows.cents / 100,
            "category": _CATEGORY_VALUES[rows.category],
            "channel": _CHANNEL_VALUES[rows.channel],
            "country": _COUNTRY_VALUES[rows.country],
            "latitude": rows.latitude,
            "longitude": rows.longitude,
        }
    )
