"""Jobs, schedules and sensors: automatic runs, their times, and notification of failures.

Belongs here: selections, cron lines, notification. Must not be here: assets and their rules, the loop of monitoring
and retraining (`retraining.py`).
"""

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final

import dagster as dg
from dagster_mlflow import end_mlflow_on_run_finished

from fraud_pipeline.alerts.webhook import WebhookError, open_client, post
from fraud_pipeline.database import DatabaseUnavailableError, DatabaseUnsuitableError, open_database
from fraud_pipeline.database.verdicts import ReportName, ReportVerdict, newest_verdicts
from fraud_pipeline.defs.calendar import Span, scheduled, sensor_status, time_limit
from fraud_pipeline.defs.drift import CHECK as NO_DRIFT
from fraud_pipeline.defs.features import INPUTS_CHECKED, INPUTS_CURRENT, window_of
from fraud_pipeline.defs.missed_fraud import CHECK as NO_SURGE
from fraud_pipeline.defs.named_source import reason_to_wait
from fraud_pipeline.defs.performance import CHECK as NO_DEGRADATION
from fraud_pipeline.defs.resources import SourceResource, TablesResource
from fraud_pipeline.defs.retraining import RETRAINING
from fraud_pipeline.ingest.day_state import plan_of
from fraud_pipeline.ingest.sources import SourceError
from fraud_pipeline.settings import Settings

DATA_AND_FEATURES: Final = dg.AssetSelection.groups("data", "features")
DERIVED: Final = ("merchant_days", "features")
ONLINE_HISTORY: Final = dg.AssetSelection.assets("online_history")
# By report: the asset and its check.
CHECKS: Final[Mapping[ReportName, tuple[str, str]]] = {
    "drift": ("drift_report", NO_DRIFT),
    "performance": ("performance_report", NO_DEGRADATION),
    "missed_fraud": ("missed_fraud_report", NO_SURGE),
}


def build_jobs() -> dict[str, Any]:
    """Jobs by name."""
    return {
        "ingest_job": dg.define_asset_job(
            "ingest_job",
            selection=DATA_AND_FEATURES,
            tags=INPUTS_CHECKED | time_limit(timedelta(hours=6)),
            description="Days from the source to features; daily_ingest knows which are due.",
        ),
        "online_history_job": dg.define_asset_job(
            "online_history_job",
            selection=ONLINE_HISTORY,
            tags=time_limit(timedelta(hours=4)),
            description="History and merchants' days of yesterday into the database; also rebuilds an empty one.",
        ),
        "retention_job": dg.define_asset_job(
            "retention_job",
            selection=dg.AssetSelection.assets("retention"),
            tags=time_limit(timedelta(hours=2)),
            description="Removes rows and files that are older than their retention.",
        ),
        "source_to_champion_job": dg.define_asset_job(
            "source_to_champion_job",
            selection=DATA_AND_FEATURES | RETRAINING,
            tags=INPUTS_CHECKED | time_limit(timedelta(hours=12)),
            hooks={end_mlflow_on_run_finished},
            description="Everything in one run, as launched by `fraud-detect train`.",
        ),
    }


def build_schedules(
    settings: Settings, jobs: Mapping[str, Any], *, tables: TablesResource, source: SourceResource
) -> list[dg.ScheduleDefinition]:
    """Daily data, features, history and retention; switched on unless the settings say otherwise."""
    shared = scheduled(settings)

    @dg.schedule(
        name="daily_ingest",
        job=jobs["ingest_job"],
        cron_schedule="30 1 * * *",
        **shared,
        description="Every night, each day up to yesterday that is missing or differs from its source, and features "
        "that are stale.",
    )
    def daily_ingest(context: dg.ScheduleEvaluationContext) -> list[dg.RunRequest] | dg.SkipReason:
        if wait := reason_to_wait(settings):
            return wait
        try:
            requests = due_runs(settings, tables=tables, source=source, now=context.scheduled_execution_time)
        except SourceError as error:
            return dg.SkipReason(str(error))
        return requests or dg.SkipReason("every day up to yesterday is there and current")

    midnight = dg.ScheduleDefinition(
        name="daily_online_history",
        job=jobs["online_history_job"],
        cron_schedule="2 0 * * *",
        **shared,
        description="Merchants' days as of midnight, soon after it: features of whole days need them.",
    )
    retention = dg.ScheduleDefinition(
        name="daily_retention",
        job=jobs["retention_job"],
        cron_schedule="0 2 * * *",
        **shared,
        description="What is older than its retention leaves the database, a little every night.",
    )
    return [daily_ingest, midnight, retention]


def due_runs(
    settings: Settings, *, tables: TablesResource, source: SourceResource, now: datetime
) -> list[dg.RunRequest]:
    """The runs of ingest_job that bring every day up to yesterday, in the order in which they must run.

    Their run keys make a repeated tick request nothing; the next night requests them again. Raises SourceError.
    """
    yesterday = (now - timedelta(days=1)).date()
    last = min(yesterday, settings.calendar_end or yesterday)
    return [
        dg.RunRequest(
            run_key=f"{now:%Y-%m-%d} {step.kind} {step.first} {step.last}",
            tags=Span(step.first, step.last).tags,
            asset_selection=[dg.AssetKey(name) for name in DERIVED] if step.kind == "features" else None,
        )
        for step in plan_of(tables.store(), source.source(), window=window_of(settings), last=last)
    ]


def failure_line(*, job: str, run_id: str, step: str, message: str) -> str:
    """One line with the failure, the place to look and the next step."""
    reason = next((line.strip() for line in message.splitlines() if line.strip()), "no message")
    remedy = "open it in the Dagster UI under Runs, then re-execute from failure"
    return f"{job} failed in {step}: {reason} | run {run_id} | {remedy}"


def red_line(verdict: ReportVerdict) -> str:
    """One line with the red report, the reason and the next step."""
    asset, check = CHECKS[verdict.report]
    remedy = f"open {asset} in the Dagster UI, and docs/how-to/alarms.md#reportred"
    return f"{check} of {verdict.day:%Y-%m-%d} is red: {verdict.summary} | {remedy}"


def build_sensors(settings: Settings) -> list[dg.SensorDefinition]:
    """A failed run, or a report that turns red, writes one clear line and, where a webhook is set, posts it."""
    status = sensor_status(running=settings.schedules_enabled)

    @dg.run_failure_sensor(
        name="run_failure_alert",
        default_status=status,
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
        _post(settings, {"text": line, "run_id": context.dagster_run.run_id, "job": context.dagster_run.job_name})

    @dg.sensor(
        name="red_report_alert",
        minimum_interval_seconds=60,
        default_status=status,
        description="Writes a clear line when a report turns red and posts it to FRAUD_ALERT_WEBHOOK_URL if set.",
    )
    def red_report_alert(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        # A report that is red for weeks is posted once, and again after a recovery.
        before: set[str] = set(json.loads(context.cursor or "[]"))
        try:
            with open_database(settings.database, statement_timeout=settings.statement_timeout) as database:
                red = {verdict.report: verdict for verdict in newest_verdicts(database) if verdict.red}
        except (DatabaseUnavailableError, DatabaseUnsuitableError) as error:
            return dg.SkipReason(str(error))
        posted, messages = before & red.keys(), [f"red: {', '.join(sorted(red)) or 'none'}"]
        for report in red.keys() - before:
            line = red_line(red[report])
            context.log.error(line)
            try:
                _post(settings, {"text": line, "report": report, "day": f"{red[report].day:%Y-%m-%d}"})
            except WebhookError as error:
                # A failed tick would forget the reports posted before; this one is posted again at the next tick.
                messages.append(str(error))
            else:
                posted.add(report)
        return dg.SensorResult(skip_reason="; ".join(messages), cursor=json.dumps(sorted(posted)))

    inputs_watch = dg.AutomationConditionSensorDefinition(
        "features_inputs_watch",
        target=dg.AssetSelection.checks(dg.AssetCheckKey(dg.AssetKey("features"), INPUTS_CURRENT)),
        default_status=status,
        minimum_interval_seconds=60,
        description="Checks again for stale features, after days that they read were computed again without them.",
    )
    return [run_failure_alert, red_report_alert, inputs_watch]


def _post(settings: Settings, body: Mapping[str, str]) -> None:
    """Post to the webhook, if there is one. Raises WebhookError."""
    if settings.alert_webhook_url:
        with open_client() as client:
            post(client, settings.alert_webhook_url, body)
