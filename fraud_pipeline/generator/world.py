"""The synthetic world as a transaction source: any span of time, in any order, from the seed alone.

Belongs here: which days a span needs, and small caches. Must not be here: the events of a day.
"""

import hashlib
from datetime import date, timedelta
from functools import lru_cache

import numpy as np
import pandas as pd

from fraud_pipeline.generator import chance
from fraud_pipeline.generator.behaviour import ordinary_life
from fraud_pipeline.generator.config import WorldConfig
from fraud_pipeline.generator.episodes import MAX_DURATION_DAYS, MAX_REPORT_DAYS, MAX_SPAN_DAYS, episodes_starting
from fraud_pipeline.generator.oracle import oracle_scores
from fraud_pipeline.generator.population import Ints, make_customers, make_market, make_merchants
from fraud_pipeline.generator.reports import report_frame, wrong_reports
from fraud_pipeline.generator.rows import (
    Rows,
    Truth,
    World,
    id_strings,
    joined,
    make_rows,
    raw_frame,
    take,
    transaction_ids,
)
from fraud_pipeline.generator.story import FRAUD_KIND, KINDS
from fraud_pipeline.ingest.day_plan import SourceDay, days_between
from fraud_pipeline.schema.transactions import DAY, microsecond, times

_LOOKBACK_DAYS = MAX_SPAN_DAYS + MAX_REPORT_DAYS
_ORDINARY_DAYS_KEPT = 2
_ORACLE_MEMORY_DAYS = MAX_DURATION_DAYS + 2

RowsWithTruth = tuple[Rows, Truth]


def make_world(config: WorldConfig) -> World:
    """Everything that stays the same from day to day."""
    merchants = make_merchants(config)

    def ids(purpose: str, count: int) -> np.ndarray[tuple[int, ...], np.dtype[np.object_]]:
        return id_strings(chance.keys(config.seed, purpose, np.arange(count)), length=12)

    return World(
        config=config,
        epoch=microsecond(pd.Timestamp(config.first_day, tz="UTC")),
        customers=make_customers(config),
        merchants=merchants,
        market_before=make_market(merchants, with_newcomers=False),
        market_after=make_market(merchants, with_newcomers=True),
        customer_ids=ids("customer ids", config.customers),
        merchant_ids=ids("merchant ids", config.merchants),
    )


class SyntheticWorld:
    """A seeded world of customers, merchants and thieves; a `TransactionSource` without a file.

    The world begins on `config.first_day`; before it nothing happens. Holds a few days of rows at a time.
    """

    def __init__(self, config: WorldConfig | None = None) -> None:
        self.config = config or WorldConfig()
        self._world = make_world(self.config)
        self._ordinary = lru_cache(maxsize=_ORDINARY_DAYS_KEPT)(self._make_ordinary)
        self._episodes = lru_cache(maxsize=_LOOKBACK_DAYS + 32)(self._make_episodes)
        self._wrong = lru_cache(maxsize=_LOOKBACK_DAYS + 32)(self._make_wrong)

    def transactions(self, *, start: pd.Timestamp, end: pd.Timestamp) -> pd.DataFrame:
        """Raw transactions with `event_time` in [start, end), in order of time; amounts in currency units."""
        rows, _ = self.rows_with_truth(start=start, end=end)
        return raw_frame(self._world, rows)

    def transactions_with_kind(self, *, start: pd.Timestamp, end: pd.Timestamp) -> pd.DataFrame:
        """`transactions` with the truth of each row, for demos and tests. Never join it into features.

        Further columns: kind (scenario, honest event or ordinary), episode_id (0: none), is_fraud.
        """
        rows, truth = self.rows_with_truth(start=start, end=end)
        return raw_frame(self._world, rows).assign(
            kind=np.array(KINDS, dtype=object)[truth.kind],
            episode_id=truth.episode,
            is_fraud=FRAUD_KIND[truth.kind],
        )

    def day_versions(self, *, start: pd.Timestamp, end: pd.Timestamp) -> dict[date, SourceDay]:
        """Every day since the world began; a world never changes, so its configuration is the version."""
        version = hashlib.sha256(repr(self.config).encode()).hexdigest()[:16]
        first, last = max(start.date(), self.config.first_day), end.date() - timedelta(days=1)
        return dict.fromkeys(days_between(first, last), SourceDay(transactions=version, reports=version))

    def reports(self, *, start: pd.Timestamp, end: pd.Timestamp) -> pd.DataFrame:
        """Fraud reports with `reported_at` in [start, end), in order of report."""
        begin, stop = microsecond(start), microsecond(end)
        last = (stop - 1 - self._world.epoch) // DAY
        first = (begin - self._world.epoch) // DAY - _LOOKBACK_DAYS
        pieces, moments = [], []
        for day in range(max(first, 0), last + 1):
            rows, truth = self._episodes(day)
            for some, when in ((rows, truth.reported_at), self._wrong(day)):
                inside = (when >= begin) & (when < stop)
                if inside.any():
                    pieces.append(take(some, inside))
                    moments.append(when[inside])
        if not pieces:
            pieces, moments = [take(self._episodes(0)[0], slice(0))], [np.zeros(0, dtype=np.int64)]
        return report_frame(self._world, joined(pieces), reported_at=np.concatenate(moments))

    def oracle(self, *, start: pd.Timestamp, end: pd.Timestamp) -> pd.DataFrame:
        """The truth about rows with `event_time` in [start, end), and the oracle's score. Never join it into features.

        Columns: transaction_id, event_time, is_fraud, kind (scenario, honest event or ordinary), episode_id (0: none),
        oracle_score (probability of fraud given all rows up to this one).
        """
        known_from = start - pd.Timedelta(days=_ORACLE_MEMORY_DAYS)
        rows, truth = self.rows_with_truth(start=known_from, end=end)
        scores = oracle_scores(self._world, rows)
        inside = rows.time >= microsecond(start)
        rows, truth = take(rows, inside), take(truth, inside)
        return pd.DataFrame(
            {
                "transaction_id": transaction_ids(rows),
                "event_time": times(rows.time),
                "is_fraud": FRAUD_KIND[truth.kind],
                "kind": np.array(KINDS, dtype=object)[truth.kind],
                "episode_id": truth.episode,
                "oracle_score": scores[inside],
            }
        )

    def rows_with_truth(self, *, start: pd.Timestamp, end: pd.Timestamp) -> RowsWithTruth:
        """Rows with `event_time` in [start, end), in order of time, and the truth about each."""
        begin, stop = microsecond(start), microsecond(end)
        first, last = (begin - self._world.epoch) // DAY, (stop - 1 - self._world.epoch) // DAY
        no_rows, no_truth = self._episodes(0)
        parts = [(take(no_rows, slice(0)), take(no_truth, slice(0)))]  # a span without a day still has columns
        parts += [self._ordinary(day) for day in range(max(first, 0), last + 1)]
        parts += [self._episodes(day) for day in range(max(first - MAX_SPAN_DAYS, 0), last + 1)]
        rows, truth = joined([rows for rows, _ in parts]), joined([truth for _, truth in parts])
        inside = np.flatnonzero((rows.time >= begin) & (rows.time < stop))
        order = inside[np.lexsort((rows.key[inside], rows.time[inside]))]
        return take(rows, order), take(truth, order)

    def _make_ordinary(self, day: int) -> RowsWithTruth:
        intents, truth = ordinary_life(self._world, day)
        return make_rows(self._world, intents), truth

    def _make_episodes(self, day: int) -> RowsWithTruth:
        intents, truth = episodes_starting(self._world, day)
        return make_rows(self._world, intents), truth

    def _make_wrong(self, day: int) -> tuple[Rows, Ints]:
        position, delay = wrong_reports(self._world, day)
        if not len(position):
            return take(self._episodes(0)[0], slice(0)), delay
        rows, _ = self._ordinary(day)
        chosen = np.floor(position * len(rows.key)).astype(np.int64)
        return take(rows, chosen), rows.time[chosen] + delay
