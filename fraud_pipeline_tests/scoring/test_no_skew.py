"""No skew: online, one by one or in micro-batches, features have the bits that training computed.

Online there is no table of everything. There is what a store can fetch for a few transactions: their customers' last 30
days, reports about their customers and merchants, and their merchants' days as they were known last midnight. It comes
in any order, and some of it twice.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from fraud_pipeline.features.engineer import FEATURE_NAMES, FeatureEngineer, History, HistoryTables, merchant_days
from fraud_pipeline.features.kernels.columns import Table, table
from fraud_pipeline.generator import SyntheticWorld, WorldConfig
from fraud_pipeline.ingest.validation import validate
from fraud_pipeline.schema.transactions import DAY, OPTIONAL_COLUMNS

START: Final = pd.Timestamp("2026-01-01", tz="UTC")
DAYS: Final = 65
MATURITY: Final = timedelta(days=5)
ENGINEER: Final = FeatureEngineer(label_maturity=MATURITY)
Positions = NDArray[np.int64]


@dataclass(frozen=True)
class World:
    """Everything that happened, and every feature of it, computed in one batch."""

    transactions: pd.DataFrame
    reports: pd.DataFrame
    features: NDArray[np.uint32]


@pytest.fixture(scope="module")
def world() -> World:
    """More than 20,000 transactions, many of them at the same instant, some without their optional columns."""
    source = SyntheticWorld(WorldConfig(seed=11, customers=200, fraud_rate=0.01))
    end = START + pd.Timedelta(days=DAYS)
    transactions = validate(source.transactions(start=START, end=end), now=end).accepted
    transactions["event_time"] = transactions["event_time"].dt.floor("10min")
    generator = np.random.default_rng(0)
    for name in OPTIONAL_COLUMNS:
        transactions[name] = transactions[name].mask(generator.random(len(transactions)) < 0.1, None)
    reports = source.reports(start=START, end=end)
    return World(transactions=transactions, reports=reports, features=in_one_batch(transactions, reports))


def in_one_batch(transactions: pd.DataFrame, reports: pd.DataFrame) -> NDArray[np.uint32]:
    """The bits of all features, as training computes them."""
    days = merchant_days(transactions, reports, label_maturity=MATURITY)
    history = History(transactions=transactions.iloc[:0], reports=reports, merchant_days=days)
    return bits(ENGINEER.compute(history=history, new=transactions))


def bits(features: pd.DataFrame) -> NDArray[np.uint32]:
    """Shape (rows, features)."""
    return np.ascontiguousarray(features[list(FEATURE_NAMES)].to_numpy(np.float32)).view(np.uint32)


def assert_same(computed: NDArray[np.uint32], expected: NDArray[np.uint32]) -> None:
    """0 differing bits, or the names of the features that differ."""
    different = {name: int(n) for name, n in zip(FEATURE_NAMES, (computed != expected).sum(axis=0), strict=True) if n}
    assert computed.shape == expected.shape
    assert not different


class Shelf:
    """Rows of a table that can be fetched by the values of one column and a span of time."""

    def __init__(self, rows: Table, *, key: str, time: str) -> None:
        by_time = np.argsort(rows[time], kind="stable")
        self.times = rows[time]
        self.positions = {
            value: by_time[positions]
            for value, positions in pd.Series(rows[key][by_time]).groupby(rows[key][by_time]).indices.items()
        }

    def find(self, values: set[str], *, since: int, until: int) -> Positions:
        """Positions of rows in since <= time <= until."""
        slices = [self.positions[value] for value in sorted(values) if value in self.positions]
        positions: Positions = np.concatenate([np.empty(0, np.int64), *slices])
        times = self.times[positions]
        within: Positions = positions[(times >= since) & (times <= until)]
        return within


class OnlineStore:
    """The history of arriving transactions: only of their customers and merchants."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.transactions, self.reports = table(world.transactions), table(world.reports)
        self.of_customer = Shelf(self.transactions, key="customer_id", time="event_time")
        self.reported = {
            key: Shelf(self.reports, key=key, time="reported_at") for key in ("customer_id", "merchant_id")
        }
        self.generator = np.random.default_rng(1)
        self.today: pd.Timestamp | None = None

    def fetch(self, rows: Positions, *, redeliver: bool) -> HistoryTables:
        """The history of consecutive rows, in random order; or also these rows themselves, and some events twice."""
        first, last = (int(time) for time in self.transactions["event_time"][rows[[0, -1]]])
        keys = {name: set(self.transactions[name][rows]) for name in self.reported}
        events = self.of_customer.find(keys["customer_id"], since=first - 30 * DAY, until=last)
        events = np.concatenate([events, events[::3]]) if redeliver else events[events < rows[0]]
        reports = [shelf.find(keys[name], since=first - 60 * DAY, until=last) for name, shelf in self.reported.items()]
        self._begin_day(pd.Timestamp(last, unit="us", tz="UTC").floor("D"))
        days = self.of_merchant.find(keys["merchant_id"], since=0, until=last)
        return HistoryTables(
            transactions=take(self.transactions, self.generator.permutation(events)),
            reports=take(self.reports, self.generator.permutation(np.concatenate(reports))),
            merchant_days=take(self.days, self.generator.permutation(days)),
        )

    def _begin_day(self, today: pd.Timestamp) -> None:
        """At midnight merchants' days are made from what is known by then."""
        if today == self.today:
            return
        happened = self.world.transactions[self.world.transactions["event_time"] < today]
        reported = self.world.reports[self.world.reports["reported_at"] < today]
        self.today, self.days = today, table(merchant_days(happened, reported, label_maturity=MATURITY))
        self.of_merchant = Shelf(self.days, key="merchant_id", time="day")


def take(rows: Table, positions: Positions) -> Table:
    """The rows at these positions."""
    return {name: values[positions] for name, values in rows.items()}


def replayed(world: World, batches: list[Positions], *, redeliver: bool) -> NDArray[np.uint32]:
    """The bits of all features, each batch computed from its own fetched history."""
    store = OnlineStore(world)
    frames = [
        ENGINEER.values(history=store.fetch(rows, redeliver=redeliver), new=take(store.transactions, rows))
        for rows in batches
    ]
    return np.ascontiguousarray(np.concatenate(frames)).view(np.uint32)


class TestReplay:
    def test_the_world_is_large_and_tied(self, world: World) -> None:
        assert len(world.transactions) > 20_000
        assert world.transactions.duplicated(["customer_id", "event_time"]).sum() > 100
        assert world.reports["is_fraud"].sum() > 50

    @pytest.mark.slow
    def test_one_by_one(self, world: World) -> None:
        rows = np.array_split(np.arange(len(world.transactions)), len(world.transactions))
        assert_same(replayed(world, rows, redeliver=False), world.features)

    @pytest.mark.slow
    def test_in_micro_batches_with_redelivery(self, world: World) -> None:
        n = len(world.transactions)
        cuts = np.cumsum(np.random.default_rng(2).integers(1, 200, n // 50))
        batches = np.split(np.arange(n), cuts[cuts < n])
        assert_same(replayed(world, batches, redeliver=True), world.features)


class TestBatch:
    def test_order_of_arrival_changes_nothing(self, world: World) -> None:
        arrived = np.random.default_rng(3).permutation(len(world.transactions))
        reports = world.reports.sample(frac=1, random_state=3)
        assert_same(in_one_batch(world.transactions.iloc[arrived], reports), world.features[arrived])

    def test_a_second_delivery_changes_nothing(self, world: World) -> None:
        days = merchant_days(world.transactions, world.reports, label_maturity=MATURITY)
        twice = pd.concat([world.reports, world.reports.iloc[::2]])
        history = History(transactions=world.transactions.iloc[::-3], reports=twice, merchant_days=days)
        assert_same(bits(ENGINEER.compute(history=history, new=world.transactions)), world.features)


class TestFuture:
    @pytest.mark.parametrize("seed", range(8))
    def test_changing_anything_from_an_instant_on_changes_nothing_until_then(self, world: World, seed: int) -> None:
        """The transaction at that instant keeps its features too, whatever else happens at the same time."""
        generator = np.random.default_rng(seed)
        kept = int(generator.integers(len(world.transactions) // 3, len(world.transactions)))
        row = world.transactions.iloc[[kept]]
        now = row["event_time"].iloc[0]
        past = world.transactions["event_time"] < now
        transactions = pd.concat(
            [row, other_future(row, world.transactions[~past], generator), world.transactions[past]]
        )
        reports = world.reports[world.reports["reported_at"] < now]
        late = transactions.iloc[generator.integers(0, len(transactions), 500)]
        accused = late.assign(reported_at=late["event_time"].clip(lower=now), is_fraud=True)[reports.columns]
        features = in_one_batch(transactions, pd.concat([reports, accused]))
        assert_same(features[[0]], world.features[[kept]])
        assert_same(features[-past.sum() :], world.features[past])


def other_future(row: pd.DataFrame, future: pd.DataFrame, generator: np.random.Generator) -> pd.DataFrame:
    """Half of the future rows with other merchants and amounts, and a burst of the same customer at this instant."""
    burst = pd.concat([row] * 5).assign(amount_cents=1, latitude=0.0, longitude=0.0)
    kept = future[generator.random(len(future)) < 0.5]
    kept = kept[kept["transaction_id"] != row["transaction_id"].iloc[0]]
    other = kept.assign(
        merchant_id=generator.permutation(kept["merchant_id"]),
        customer_id=generator.permutation(kept["customer_id"]),
        amount_cents=generator.integers(1, 10_000_000, len(kept)),
    )
    burst["transaction_id"] = [f"burst-{number}" for number in range(len(burst))]
    return pd.concat([burst, other])
