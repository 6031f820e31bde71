"""Jobs, schedules and sensors: what runs by itself, when, and who hears of a failure.

Belongs here: selections, cron lines, notification. Must not be here: assets and their rules, the loop of watching and
retraining (`retraining.py`).
"""

from collections.abc import Mapping
from typing import Any, Final

import dagster as dg
import httpx
from dagster_mlflow import end_mlflow_on_run_finished

from fraud_pipeline.defs.calendar import request_yesterday
from fraud_pipeline.defs.retraining import RETRAINING
from fraud_pipeline.settings import Settings

DATA_AND_FEATURES: Final = dg.AssetSelection.groups("data", "features")
ONLINE_HISTORY: Final = dg.AssetSelection.assets("online_history")
WEBHOOK_TIMEOUT_SECONDS: Final = 10


def build_jobs() -> dict[str, Any]:
    """Jobs by name."""
    return {
        "ingest_job": dg.define_asset_job(
            "ingest_job",
            selection=DATA_AND_FEATURES,
            description="One day (or, as a backfill, many) from the source to features.",
        ),
        "online_history_job": dg.define_asset_job(
            "online_history_job",
            selection=ONLINE_HISTORY,
            description="History and merchants' days of yesterday into the database; also rebuilds an empty one.",
        ),
        "source_to_champion_job": dg.define_asset_job(
            "source_to_champion_job",
            selection=DATA_AND_FEATURES | RETRAINING,
            hooks={end_mlflow_on_run_finished},
            description="Everything in one run: what `fraud-detect train` launches.",
        ),
    }


def build_schedules(settings: Settings, jobs: Mapping[str, Any]) -> list[dg.ScheduleDefinition]:
    """Daily data, features and history; switched on unless the settings say otherwise."""
    status = dg.DefaultScheduleStatus.RUNNING if settings.schedules_enabled else dg.DefaultScheduleStatus.STOPPED

    @dg.schedule(
        name="daily_ingest",
        job=jobs["ingest_job"],
        cron_schedule="30 1 * * *",
        execution_timezone="UTC",
        default_status=status,
        description="Yesterday's transactions, reports and features, every night.",
    )
    def daily_ingest(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        return request_yesterday(context, settings=settings)

    midnight = dg.ScheduleDefinition(
        name="daily_online_history",
        job=jobs["online_history_job"],
        cron_schedule="2 0 * * *",
        execution_timezone="UTC",
        default_status=status,
        description="Merchants' days as of midnight, soon after it: features of whole days need them.",
    )
    return [daily_ingest, midnight]


def failure_line(*, job: str, run_id: str, step: str, message: str) -> str:
    """One line that says what failed, where to look and what to do next."""
    reason = next((line.strip() for line in message.splitlines() if line.strip()), "no message")
    remedy = "open it in the Dagster UI under Runs, then re-execute from failure"
    return f"{job} failed in {step}: {reason} | run {run_id} | {remedy}"


def build_sensors(settings: Settings) -> list[dg.SensorDefinition]:
    """A failed run writes one clear line and, where a webhook is set, posts it."""

    @dg.run_failure_sensor(
        name="run_failure_alert",
        default_status=dg.DefaultSensorStatus.RUNNING if settings.schedules_enabled else dg.DefaultSensorStatus.STOPPED,
        minimum_interval_seconds=10,
        description="Writes a clear line for every failed run and posts it to FRAUD_ALERT_WEBHOOK_URL if set.",
    )
    def run_failure_alert(context: dg.RunFailureSensorContext) -> None:
        events = context.get_step_failure_events()
        step, message = "the run", context.failure_event.message or ""
        if events:
            error = events[0].step_failure_data.error
            step = events[0].step_key or step
            # Dagster wraps the exception of an asset; the cause is what a person needs to read.
            cause = error.cause or error if error else None
            message = cause.message if cause else message
        line = failure_line(
            job=context.dagster_run.job_name, run_id=context.dagster_run.run_id, step=step, message=message
        )
        context.log.error(line)
        if settings.alert_webhook_url:
            answer = httpx.post(
                settings.alert_webhook_url,
                json={"text": line, "run_id": context.dagster_run.run_id, "job": context.dagster_run.job_name},
                timeout=WEBHOOK_TIMEOUT_SECONDS,
            )
            answer.raise_for_status()

    return [run_failure_alert]
