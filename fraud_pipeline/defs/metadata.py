"""Metadata of assets for people: tables and pictures.

Belongs here: domain values to metadata values. Must not be here: their computation.
"""

import hashlib
from collections.abc import Mapping

import dagster as dg
import numpy as np
import pandas as pd

from fraud_pipeline.defs.calendar import Span
from fraud_pipeline.reporting.chart_style import markdown_image, to_png
from fraud_pipeline.reporting.daily_charts import daily_volume
from fraud_pipeline.storage.tables import TableStore


def stored_version(store: TableStore, table: str, span: Span) -> dg.DataVersion:
    """The content version of a table's day, or one of all days of a run: Dagster takes one version from each run."""
    versions = store.versions(table, span.first, span.last)
    if len(versions) == 1:
        return dg.DataVersion(versions[span.first])
    joined = "\n".join(f"{day} {version}" for day, version in versions.items())
    return dg.DataVersion(hashlib.sha256(joined.encode()).hexdigest())


def image(png: bytes, *, title: str) -> dg.MetadataValue:
    """A picture that the UI shows in place."""
    return dg.MetadataValue.md(markdown_image(png, alternative=title))


def counts_table(counts: Mapping[str, int]) -> dg.MetadataValue:
    """Counts by name, largest first."""
    rows = sorted(counts.items(), key=lambda item: -item[1])
    return dg.MetadataValue.md("\n".join(["| what | rows |", "|---|---:|", *(f"| {k} | {v:,} |" for k, v in rows)]))


def volume_plot(transactions: pd.DataFrame, *, frauds: pd.Series) -> dg.MetadataValue:
    """Transactions and known frauds per day; `frauds` are the times of the known ones."""
    rows = transactions["event_time"].dt.floor("D").value_counts().sort_index()
    counts = frauds.dt.floor("D").value_counts().reindex(rows.index, fill_value=0).to_numpy(np.int64)
    days = pd.DatetimeIndex(rows.index).tz_localize(None)
    return image(to_png(daily_volume(days, rows.to_numpy(np.int64), counts)), title="volume by day")
