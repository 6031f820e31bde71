"""Features have the same bits whichever tiles of a history are closed."""

from datetime import timedelta

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fraud_pipeline.features.definitions import CUSTOMER_WINDOWS, FEATURE_NAMES
from fraud_pipeline.features.engineer import FeatureEngineer, HistoryTables
from fraud_pipeline.features.kernels.columns import Table, concat_rows
from fraud_pipeline.features.tiles import (
    HISTORY_COLUMNS,
    TILE,
    as_history,
    rows_where,
    tile_rows,
    tiles_to_open,
    with_closed_tiles,
    with_open_tiles,
)
from fraud_pipeline.schema.transactions import DAY, TRANSACTION_COLUMNS
from fraud_pipeline.scoring.history_cache import NO_MERCHANT_DAYS, NO_REPORTS

NOW = 20_000 * DAY + 5 * TILE // 3
ENGINEER = FeatureEngineer(label_maturity=timedelta(days=7))
CUSTOMERS = 2


def random_events(generator: np.random.Generator, count: int) -> Table:
    """Events near an instant and near its windows' edges, on a coarse clock, so that many coincide with tiles."""
    near = NOW - generator.choice([0, *CUSTOMER_WINDOWS.values()], count)
    times = near + generator.integers(-20, 8, count) * (TILE // 3)
    columns = {name: generator.integers(0, 4, count) for name in TRANSACTION_COLUMNS}
    places = {name: np.round(generator.random(count), 1) for name in ("latitude", "longitude")}
    return {
        **columns,
        **places,
        "transaction_id": generator.permutation(count),
        "event_time": times,
        "customer_id": generator.integers(0, CUSTOMERS, count),
        "amount_cents": generator.integers(1, 10_000, count),
    }


def partly_closed(events: Table, generator: np.random.Generator) -> Table:
    """The same history with some tiles closed; some of their events became known later and are separate rows."""
    starts = events["event_time"] // TILE
    keys, row_tiles = np.unique(starts * CUSTOMERS + events["customer_id"], return_inverse=True)
    closed = (generator.random(len(keys)) < generator.random())[row_tiles]
    closed &= generator.random(len(closed)) < 0.9
    tiles, of_tile = np.unique(row_tiles[closed], return_inverse=True)
    counts, cents = np.bincount(of_tile), np.bincount(of_tile, weights=events["amount_cents"][closed])
    summed = tile_rows(
        keys[tiles] % CUSTOMERS, keys[tiles] // CUSTOMERS * TILE, counts.astype(np.int64), cents.astype(np.int64)
    )
    rows = concat_rows(as_history(rows_where(events, ~closed)), summed, names=HISTORY_COLUMNS)
    order = generator.permutation(len(rows["event_time"]))
    return {name: column[order] for name, column in rows.items()}


def bits(history: Table, new: Table) -> NDArray[np.uint32]:
    is_tile = history["tile_events"] > 0
    tables = HistoryTables(
        transactions=rows_where(history, ~is_tile),
        reports=NO_REPORTS,
        merchant_days=NO_MERCHANT_DAYS,
        known=np.zeros(len(new["event_time"]), np.bool_),
        customer_tiles=rows_where(history, is_tile),
    )
    return np.ascontiguousarray(ENGINEER.values(history=tables, new=new)).view(np.uint32)


def assert_same(computed: NDArray[np.uint32], expected: NDArray[np.uint32]) -> None:
    assert {
        name for name, wrong in zip(FEATURE_NAMES, (computed != expected).any(axis=0), strict=True) if wrong
    } == set()


@settings(max_examples=300)
@given(seed=st.integers(0, 2**32 - 1), count=st.sampled_from([3, 40, 300, 1_500]), requesting=st.integers(1, 5))
def test_only_tiles_that_features_need_are_open(seed: int, count: int, requesting: int) -> None:
    generator = np.random.default_rng(seed)
    events, new = random_events(generator, count), random_events(generator, requesting)
    new = {**new, "transaction_id": new["transaction_id"] + count}
    expected = bits(as_history(events), new)

    history = partly_closed(events, generator)
    cut = tiles_to_open(history, new)
    keys = events["event_time"] // TILE * CUSTOMERS + events["customer_id"]
    of_cut = np.isin(keys, history["event_time"][cut] // TILE * CUSTOMERS + history["customer_id"][cut])
    opened = with_open_tiles(history, cut, rows_where(events, of_cut))
    assert_same(bits(opened, new), expected)

    closed = with_closed_tiles(opened, new)
    assert_same(bits(closed, new), expected)
    total = np.where(closed["tile_events"] > 0, closed["tile_events"], 1).sum()
    assert (total, closed["amount_cents"].sum()) == (count, events["amount_cents"].sum())


def test_a_crowded_history_is_mostly_closed() -> None:
    generator = np.random.default_rng(0)
    times = NOW - generator.integers(0, 30 * DAY, 50_000)
    crowd = random_events(generator, len(times))
    crowd = {**crowd, "event_time": times, "customer_id": np.zeros(len(times), np.int64)}
    new = {**rows_where(crowd, np.arange(len(times)) < 1), "event_time": np.array([NOW])}
    closed = with_closed_tiles(as_history(crowd), new)
    in_a_tile = len(times) * TILE // (30 * DAY)
    assert (closed["tile_events"] == 0).sum() < 12 * in_a_tile
    assert len(closed["event_time"]) < 30 * DAY // TILE + 12 * in_a_tile
