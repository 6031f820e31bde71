"""Days: the calendar of daily partitions, the span of days one run works on, and which days are due.

Belongs here: partitions, and properties that all daily assets and schedules share. Must not be here: any asset.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Final

import dagster as dg
import pandas as pd

from fraud_pipeline.ingest.day_plan import days_between
from fraud_pipeline.settings import Settings

RANGE_START_TAG: Final = "dagster/asset_partition_range_start"
RANGE_END_TAG: Final = "dagster/asset_partition_range_end"
PARTITION_TAG: Final = "dagster/partition"
DAYS_POOL: Final = "days"
"""Runs that ingest days or compute features, in the order of their requests: later days read earlier ones."""
REPORTS_POOL: Final = "reports"
"""Runs that compute reports. Each run returns the state of the alarm, so the last one must know the newest report."""


def time_limit(limit: timedelta) -> dict[str, str]:
    """The tag of a job whose runs are stopped after `limit`: a run that hangs would hold its pool for ever."""
    return {"dagster/max_runtime": str(round(limit.total_seconds()))}


@dataclass(frozen=True, slots=True)
class Span:
    """The days a run works on: `first` to `last`, both included."""

    first: date
    last: date

    @property
    def start(self) -> pd.Timestamp:
        return pd.Timestamp(self.first, tz="UTC")

    @property
    def end(self) -> pd.Timestamp:
        return pd.Timestamp(self.last, tz="UTC") + pd.Timedelta(days=1)

    @property
    def days(self) -> list[date]:
        return days_between(self.first, self.last)

    @property
    def tags(self) -> dict[str, str]:
        """The tags that launch a run for these days."""
        return {RANGE_START_TAG: self.first.isoformat(), RANGE_END_TAG: self.last.isoformat()}


def span_of(context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext) -> Span:
    """The days of this run; a backfill with a single-run policy covers many."""
    keys = sorted(context.partition_keys)
    return Span(first=date.fromisoformat(keys[0]), last=date.fromisoformat(keys[-1]))


def days_of_run(tags: Mapping[str, str]) -> Span | None:
    """The days that a run was launched for; None for a run without days."""
    if RANGE_START_TAG in tags:
        return Span(date.fromisoformat(tags[RANGE_START_TAG]), date.fromisoformat(tags[RANGE_END_TAG]))
    if PARTITION_TAG in tags:
        day = date.fromisoformat(tags[PARTITION_TAG])
        return Span(day, day)
    return None


def scheduled(settings: Settings) -> dict[str, Any]:
    """The common properties of schedules; they are switched on unless the settings say otherwise."""
    status = dg.DefaultScheduleStatus.RUNNING if settings.schedules_enabled else dg.DefaultScheduleStatus.STOPPED
    return {"execution_timezone": "UTC", "default_status": status}


def sensor_status(*, running: bool) -> dg.DefaultSensorStatus:
    """Whether a sensor starts switched on."""
    return dg.DefaultSensorStatus.RUNNING if running else dg.DefaultSensorStatus.STOPPED


def build_calendar(settings: Settings) -> dg.DailyPartitionsDefinition:
    """Days in UTC from the first to the last day of a file, or from `first_day` on, for ever."""
    last = settings.calendar_end
    return dg.DailyPartitionsDefinition(
        start_date=settings.first_day.isoformat(),
        end_date=(last + timedelta(days=1)).isoformat() if last else None,
        timezone="UTC",
    )


def daily(settings: Settings, calendar: dg.DailyPartitionsDefinition, *, group: str, pool: str) -> dict[str, Any]:
    """The common properties of a group's daily assets. One run covers a day or a year; runs of one pool take turns."""
    return {
        "pool": pool,
        "partitions_def": calendar,
        "backfill_policy": dg.BackfillPolicy.single_run(),
        "owners": [settings.owner],
        "group_name": group,
        "kinds": {"python", "parquet"},
        # A file of the past is never fresh; a living source that brought nothing for two days is an incident.
        "freshness_policy": None
        if settings.calendar_end
        else dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=48), warn_window=timedelta(hours=30)),
    }
