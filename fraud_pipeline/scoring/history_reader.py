"""The history that one micro-batch sees: from the cache, and from the open transaction what the cache lacks.

Belongs here: which versions and spans of time are read. Must not be here: caching between transactions
(`history_cache.py`), statements (`database/`), features.
"""

import numpy as np
from numpy.typing import NDArray

from fraud_pipeline.database import Batch, HistoryReadError, Versions
from fraud_pipeline.features.config import FeatureConfig
from fraud_pipeline.features.definitions import LONGEST_WINDOW
from fraud_pipeline.features.engineer import HistoryTables
from fraud_pipeline.features.kernels.columns import Table
from fraud_pipeline.features.tiles import rows_where
from fraud_pipeline.schema.transactions import DAY
from fraud_pipeline.scoring.errors import HistoryUnavailableError
from fraud_pipeline.scoring.history_cache import HistoryCache


def read_history(
    cache: HistoryCache,
    batch: Batch,
    new: Table,
    versions: Versions,
    config: FeatureConfig,
    *,
    known: NDArray[np.bool_],
) -> HistoryTables:
    """The history before the transactions of `new`; `known` (n,) marks those that were stored before.

    Raises HistoryUnavailableError, and CrowdedHistoryError for customers that must be read ahead.
    """
    earliest = int(new["event_time"].min())
    maturity, lookback = config.label_maturity, config.engineer().lookback.days * DAY
    days_version = versions.merchant_days(maturity).version
    try:
        customers = cache.customers(new, versions.customers, read=batch.customers)
        is_tile = customers["tile_events"] > 0
        tiled = bool(is_tile.any())
        return HistoryTables(
            transactions=rows_where(customers, ~is_tile) if tiled else customers,
            customer_tiles=rows_where(customers, is_tile) if tiled else None,
            reports=cache.reports(
                new,
                version=versions.reports,
                since=earliest - LONGEST_WINDOW,
                load=lambda above, since: batch.reports(
                    above_version=above, up_to_version=versions.reports, since=since
                ),
            ),
            merchant_days=cache.merchants(
                new["merchant_id"],
                label_maturity=maturity,
                version=days_version,
                since=earliest - lookback,
                load=lambda names, since: batch.merchant_days(
                    names, since=since, up_to_version=days_version, label_maturity=maturity
                ),
            ),
            known=known,
        )
    except HistoryReadError as error:
        raise HistoryUnavailableError(str(error)) from error
