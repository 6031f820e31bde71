"""Days: the calendar of daily partitions, the span of days one run works on, and the day a nightly tick asks for.

Belongs here: partitions and what every daily asset and schedule shares. Must not be here: any asset.
"""

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import dagster as dg
import pandas as pd

from fraud_pipeline.settings import Settings


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
        return [self.first + timedelta(days=offset) for offset in range((self.last - self.first).days + 1)]


def span_of(context: dg.AssetExecutionContext | dg.AssetCheckExecutionContext) -> Span:
    """The days of this run; a backfill with a single-run policy covers many."""
    keys = sorted(context.partition_keys)
    return Span(first=date.fromisoformat(keys[0]), last=date.fromisoformat(keys[-1]))


def last_day(settings: Settings) -> date | None:
    """The last day there is something of; None: it grows every day."""
    return None if settings.learn_from_served else settings.last_day


def request_yesterday(context: dg.ScheduleEvaluationContext, *, settings: Settings) -> dg.RunRequest | dg.SkipReason:
    """A run for the day before a nightly tick, unless the calendar has ended by then."""
    yesterday = (context.scheduled_execution_time - timedelta(days=1)).date()
    last = last_day(settings)
    if last and yesterday > last:
        return dg.SkipReason(f"{yesterday} is not in the calendar: the file ends on {last}")
    return dg.RunRequest(run_key=yesterday.isoformat(), partition_key=yesterday.isoformat())


def build_calendar(settings: Settings) -> dg.DailyPartitionsDefinition:
    """Days in UTC from the first to the last day of a file, or from `first_day` on, for ever."""
    last = last_day(settings)
    return dg.DailyPartitionsDefinition(
        start_date=settings.first_day.isoformat(),
        end_date=(last + timedelta(days=1)).isoformat() if last else None,
        timezone="UTC",
    )


def daily(settings: Settings, calendar: dg.DailyPartitionsDefinition, *, group: str) -> dict[str, Any]:
    """What every daily asset shares. One run does a day or a year."""
    return {
        "partitions_def": calendar,
        "backfill_policy": dg.BackfillPolicy.single_run(),
        "owners": [settings.owner],
        "group_name": group,
        "kinds": {"python", "parquet"},
        # A file of the past is never fresh; a living source that brought nothing for two days is an incident.
        "freshness_policy": None
        if last_day(settings)
        else dg.FreshnessPolicy.time_window(fail_window=timedelta(hours=48), warn_window=timedelta(hours=30)),
    }
