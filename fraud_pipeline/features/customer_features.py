"""Features of a transaction from its customer's own history.

Belongs here: the statistic and the events of each feature. Must not be here: loops
(`features/kernels/windows.py`, `features/kernels/comparisons.py`), the list of features (`definitions.py`), frames.

Counts, sums and means are exact over the whole window. All other statistics use the newest `NEWEST_EVENTS` events of
the window, so that a customer with a hundred thousand events costs no more than one with a hundred.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from fraud_pipeline.features.definitions import CUSTOMER_WINDOWS, LONGEST_WINDOW, NEWEST_EVENTS, WindowName
from fraud_pipeline.features.kernels import comparisons, windows
from fraud_pipeline.features.kernels.columns import (
    MISSING_CODE,
    Columns,
    Table,
    codes,
    concat_rows,
    elapsed,
    equality_codes,
    first_of_each,
    lacks_merchant,
    ratio,
    shared_codes,
    tie_breakers,
)
from fraud_pipeline.features.kernels.windows import Bounds, Floats, Groups, Ints
from fraud_pipeline.schema.transactions import DAY, HOUR, SECOND, TRANSACTION_COLUMNS

HABIT_REACH: Final = 2 * HOUR
HIGH_AMOUNT: Final = 2.5  # times the median or typical amount: rare for a customer


@dataclass(frozen=True, slots=True)
class CustomerEvents:
    """The events of the customers, new rows first, and the window bounds of each new row.

    Events in tiles are given by their number and their sum of amounts, each of shape (windows, new rows).
    """

    rows: Table
    now: Ints
    grouped: Groups
    bounds: Bounds
    counts_of_tiles: Ints
    cents_of_tiles: Ints

    def low(self, window: WindowName) -> Ints:
        """First position of the window."""
        low: Ints = self.bounds.low[list(CUSTOMER_WINDOWS).index(window)]
        return low

    def newest(self, window: WindowName) -> Ints:
        """First position of the newest `NEWEST_EVENTS` events of the window."""
        return np.maximum(self.low(window), self.bounds.high - NEWEST_EVENTS)


def customer_events(
    history: Table, new: Table, *, known: NDArray[np.bool_] | None, tiles: Table | None = None
) -> CustomerEvents:
    """Events are a set keyed by transaction id: a repeated event, or one that is both new and known, counts once.

    `known` (new rows,) marks the new rows that are in `history`, and promises that nothing else is repeated; without
    it, ids are compared. No window of a new row may cut one of the `tiles` in two, see `tiles.py`.
    """
    rows = concat_rows(new, history, names=TRANSACTION_COLUMNS)
    now = rows["event_time"][: len(new["event_time"])]
    customers, entities = codes(rows["customer_id"])
    once = np.flatnonzero(
        first_of_each(rows["transaction_id"])
        if known is None
        else np.concatenate([~known, np.ones(len(customers) - len(known), np.bool_)])
    )
    grouped = windows.group(
        customers[once],
        rows["event_time"][once],
        entities=entities,
        ties=lambda tied: tie_breakers(rows["transaction_id"][once[tied]]),
    )
    grouped = grouped._replace(order=once[grouped.order])
    queries = windows.group(customers[: len(now)], now, entities=entities)
    widths = np.array(list(CUSTOMER_WINDOWS.values()), np.int64)
    counts_of_tiles, cents_of_tiles = _sums_of_tiles(tiles, new, widths)
    return CustomerEvents(
        rows=rows,
        now=now,
        grouped=grouped,
        bounds=windows.window_bounds(grouped, queries, widths),
        counts_of_tiles=counts_of_tiles,
        cents_of_tiles=cents_of_tiles,
    )


def _sums_of_tiles(tiles: Table | None, new: Table, widths: Ints) -> tuple[Ints, Ints]:
    """Number of events and sum of amounts of the tiles in each window, each of shape (windows, new rows)."""
    if tiles is None or not len(tiles["event_time"]):
        nothing = np.zeros((len(widths), len(new["event_time"])), np.int64)
        return nothing, nothing
    (row_codes, customer_codes), entities = shared_codes(new["customer_id"], tiles["customer_id"])
    grouped = windows.group(customer_codes, tiles["event_time"], entities=entities)
    queries = windows.group(row_codes, new["event_time"], entities=entities)
    bounds = windows.window_bounds(grouped, queries, widths)
    counts, cents = (
        np.stack([windows.window_sum(grouped.order, tiles[name], low, bounds.high) for low in bounds.low])
        for name in ("tile_events", "amount_cents")
    )
    return counts, cents


def customer_columns(events: CustomerEvents) -> Columns:
    """Every feature of the customer's own transactions."""
    return _volume(events) | _amounts(events) | _habits(events) | _same_kind(events) | _places(events)


def _volume(events: CustomerEvents) -> Columns:
    columns: Columns = {}
    high, cents = events.bounds.high, events.rows["amount_cents"]
    tiles = zip(CUSTOMER_WINDOWS, events.counts_of_tiles, events.cents_of_tiles, strict=True)
    for window, more_events, more_cents in tiles:
        low = events.low(window)
        count = (high - low + more_events).astype(np.float64)
        total = (windows.window_sum(events.grouped.order, cents, low, high) + more_cents).astype(np.float64)
        columns[f"customer_transaction_count_{window}"] = count
        columns[f"customer_amount_sum_{window}"] = total
        columns[f"customer_amount_mean_{window}"] = ratio(total, count)
    return columns


def _amounts(events: CustomerEvents) -> Columns:
    order, high, cents = events.grouped.order, events.bounds.high, events.rows["amount_cents"]
    amount: Floats = cents[: len(events.now)].astype(np.float64)
    day, week, month = events.newest("24h"), events.newest("7d"), events.newest("30d")
    least_24h, most_24h = windows.window_extremes(order, cents, day, high)
    _, most_7d = windows.window_extremes(order, cents, week, high)
    _, most_30d = windows.window_extremes(order, cents, month, high)
    mean, spread = windows.window_spread(order, cents, month, high)
    median = windows.window_median(order, cents, month, high)
    typical = windows.window_mean_up_to(order, cents, HIGH_AMOUNT * median, month, high)
    unusual = HIGH_AMOUNT * typical
    return {
        "customer_amount_min_24h": least_24h,
        "customer_amount_max_24h": most_24h,
        "customer_amount_max_30d": most_30d,
        "customer_amount_spread_30d": spread,
        "customer_amount_z_score_30d": ratio(amount - mean, spread),
        "customer_amount_over_mean_30d": ratio(amount, mean),
        "customer_amount_over_max_30d": ratio(amount, most_30d),
        "customer_amount_median_30d": median,
        "customer_amount_over_median_30d": ratio(amount, median),
        "customer_amount_over_typical_30d": ratio(amount, typical),
        "customer_high_amount_count_7d": windows.window_count_above(order, cents, unusual, week, high),
        "customer_high_amount_count_30d": windows.window_count_above(order, cents, unusual, month, high),
        "customer_amount_peak_7d": ratio(most_7d, typical),
    }


def _habits(events: CustomerEvents) -> Columns:
    times, high, now = events.grouped.times, events.bounds.high, events.now
    month = events.newest("30d")
    return {
        "customer_seconds_since_last_30d": elapsed(times, high - 1, now, high > month) / SECOND,
        "customer_seconds_since_first_30d": elapsed(times, month, now, high > month) / SECOND,
        "customer_habit_hour_share_30d": comparisons.hour_share(times, now, month, high, HABIT_REACH, DAY),
        "customer_distinct_merchants_24h": windows.window_distinct(
            events.grouped.order, equality_codes(events.rows["merchant_id"]), events.newest("24h"), high
        ),
    }


def _same_kind(events: CustomerEvents) -> Columns:
    columns: Columns = {}
    month, high, n = events.newest("30d"), events.bounds.high, len(events.now)
    cents = events.rows["amount_cents"]
    for kind in ("merchant_id", "category", "country", "channel"):
        kinds = equality_codes(events.rows[kind])
        if kind == "merchant_id":
            kinds = np.where(lacks_merchant(events.rows[kind]), MISSING_CODE, kinds)
        count, since, mean = comparisons.matching_event_stats(
            events.grouped.order, events.grouped.times, kinds, cents, kinds[:n], events.now, month, high
        )
        name = f"customer_same_{kind.removesuffix('_id')}"
        columns[f"{name}_count_30d"] = count
        columns[f"{name}_seconds_since_last_30d"] = since / SECOND
        columns[f"{name}_share_30d"] = ratio(count, high - month)
        columns[f"{name}_amount_over_mean_30d"] = ratio(cents[:n], mean)
    return columns


def _places(events: CustomerEvents) -> Columns:
    from_last, since, from_centre = comparisons.location_stats(
        events.grouped.order,
        events.grouped.times,
        events.rows["latitude"],
        events.rows["longitude"],
        events.now,
        events.newest("30d"),
        events.bounds.high,
    )
    return {
        "customer_distance_from_last_30d": from_last,
        "customer_speed_from_last_30d": ratio(from_last, since / HOUR),
        "customer_distance_from_centre_30d": from_centre,
    }


def customer_report_columns(reports: Table, new: Table) -> Columns:
    """Features of fraud reports on the customer's transactions; `reports` are fraud reports, each once."""
    (customers, reported), entities = shared_codes(new["customer_id"], reports["customer_id"])
    now = new["event_time"]
    grouped = windows.group(reported, reports["reported_at"], entities=entities)
    queries = windows.group(customers, now, entities=entities)
    bounds = windows.window_bounds(grouped, queries, np.array([LONGEST_WINDOW]))
    count = bounds.high - bounds.low[0]
    return {
        "customer_report_count_60d": count,
        "customer_seconds_since_last_report_60d": elapsed(grouped.times, bounds.high - 1, now, count > 0) / SECOND,
    }
