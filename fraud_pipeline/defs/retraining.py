"""The loop: reports judge the champion every day; training runs every week and after an alarm.

Belongs here: the times of reports, and the triggers of a training. Must not be here: findings of the reports,
training, promotion.

Drift stays red until a better champion serves and its labels have matured. So an alarm starts one training, and another
one only after a recovery. The weekly training covers frauds that were not yet reported at the first one.

A challenger in shadow is judged every day, once enough frauds that it scored have matured. Until then the weekly
training does not replace it, because otherwise no challenger would ever be judged. An alarm does replace it.
"""

import operator
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from functools import reduce
from typing import Any, Final

import dagster as dg
import pandas as pd
from dagster_mlflow import end_mlflow_on_run_finished

from fraud_pipeline.database.performance import shadowed_frauds
from fraud_pipeline.defs.calendar import days_of_run, scheduled, sensor_status, time_limit
from fraud_pipeline.defs.drift import ENOUGH_ROWS
from fraud_pipeline.defs.named_source import reason_to_wait
from fraud_pipeline.defs.resources import DatabaseResource, RegistryResource
from fraud_pipeline.promotion.verdict import GateRules
from fraud_pipeline.settings import Settings

MONITORING: Final = dg.AssetSelection.groups("monitoring")
SHADOW_PATIENCE: Final = timedelta(days=14)
"""How long, after the first of its labels have matured, a challenger may delay the weekly training."""
RETRAINING: Final = dg.AssetSelection.groups("training") | dg.AssetSelection.assets("online_history")


def alarm(reports: Iterable[dg.AssetsDefinition]) -> dg.AutomationCondition:
    """True for one tick when a check of one of these reports becomes red.

    For Dagster, a check that runs again is neither failed nor passed. Red therefore lasts from a failure to the next
    pass. Otherwise each night's run of a red check would look like a recovery and train once more.
    """
    condition = dg.AutomationCondition
    red = condition.check_failed().since(condition.check_passed()).with_label("red")
    # A missing day is a warning for people only: training on fewer days would not help.
    missing = dg.AssetCheckKey(dg.AssetKey("drift_report"), ENOUGH_ROWS)
    turned_red = condition.any_checks_match(red.newly_true()).ignore(dg.AssetSelection.checks(missing))
    alarms = (condition.asset_matches(key, turned_red) for report in reports for key in report.keys)
    return reduce(operator.or_, alarms).with_label("drift or degradation was found")


def retrained_on_alarm(
    assets: Sequence[dg.AssetsDefinition], *, reports: Iterable[dg.AssetsDefinition]
) -> list[dg.AssetsDefinition]:
    """The assets of the training with the condition that starts all of them in one run."""
    condition = alarm(reports)
    return list(dg.map_asset_specs(lambda spec: spec.replace_attributes(automation_condition=condition), assets))


def build_loop_jobs() -> dict[str, Any]:
    """Jobs by name."""
    return {
        "drift_job": dg.define_asset_job(
            "drift_job",
            selection=MONITORING,
            tags=time_limit(timedelta(hours=4)),
            description="The champion's reports of one day: drift, missed fraud, and performance by matured labels.",
        ),
        "retraining_job": dg.define_asset_job(
            "retraining_job",
            selection=RETRAINING,
            tags=time_limit(timedelta(hours=8)),
            hooks={end_mlflow_on_run_finished},
            description="Train on all features there are, evaluate, register, and promote if the gate agrees.",
        ),
        "gate_job": dg.define_asset_job(
            "gate_job",
            selection=dg.AssetSelection.assets("champion", "online_history"),
            tags=time_limit(timedelta(hours=2)),
            hooks={end_mlflow_on_run_finished},
            description="Judge the present challenger again, without training, and promote it if the gate agrees.",
        ),
    }


def build_loop_schedules(settings: Settings, jobs: Mapping[str, Any]) -> list[dg.ScheduleDefinition]:
    """The daily gate and weekly retraining; switched on unless the settings say otherwise."""
    shared = scheduled(settings)

    @dg.schedule(
        name="daily_gate",
        job=jobs["gate_job"],
        cron_schedule="0 5 * * *",
        **shared,
        description="Judges a challenger that waits in shadow, once enough frauds that it scored have matured.",
    )
    def daily_gate(
        context: dg.ScheduleEvaluationContext, registry: RegistryResource, database: DatabaseResource
    ) -> dg.RunRequest | dg.SkipReason:
        models, now = registry.registry(), pd.Timestamp(context.scheduled_execution_time)
        waiting, champion = models.waiting(), models.with_alias("champion")
        if waiting is None or champion is None:
            return dg.SkipReason("no challenger waits in shadow")
        with database.opened() as online:
            frauds = shadowed_frauds(
                online,
                champion=str(champion.version),
                challenger=str(waiting.version),
                before=now - settings.label_maturity,
            )
        needed = GateRules().min_frauds
        if frauds < needed:
            since = f"version {waiting.version} waits in shadow since {waiting.decided_at:%Y-%m-%d}"
            hint = "" if settings.shadow_challenger else "; it scores nothing, for FRAUD_SHADOW_CHALLENGER is off"
            return dg.SkipReason(f"{since}: {frauds} of {needed} frauds that it scored have matured{hint}")
        return dg.RunRequest(run_key=f"gate-{waiting.version}-{now:%Y-%m-%d}")

    @dg.schedule(
        name="weekly_retraining",
        job=jobs["retraining_job"],
        cron_schedule="0 4 * * 1",
        **shared,
        description="Retrain on Monday morning, after Sunday's data, unless a challenger still waits in shadow; the "
        "gate decides whether it goes live.",
    )
    def weekly_retraining(
        context: dg.ScheduleEvaluationContext, registry: RegistryResource
    ) -> dg.RunRequest | dg.SkipReason:
        if reason := reason_to_wait(settings):
            return reason
        waiting = registry.registry().waiting() if settings.shadow_challenger else None
        if waiting is not None:
            until = waiting.decided_at + settings.label_maturity + SHADOW_PATIENCE
            if pd.Timestamp(context.scheduled_execution_time) < until:
                return dg.SkipReason(f"version {waiting.version} waits in shadow, until {until:%Y-%m-%d} at most")
        return dg.RunRequest()

    return [daily_gate, weekly_retraining]


def build_report_sensor(settings: Settings, jobs: Mapping[str, Any]) -> dg.SensorDefinition:
    """The reports of a day follow its features, whenever these are made: at night, late, or again."""

    @dg.run_status_sensor(
        name="reports_after_features",
        run_status=dg.DagsterRunStatus.SUCCESS,
        request_job=jobs["drift_job"],
        # Runs of the command line belong to no code location, and their days are judged like any other.
        monitor_all_code_locations=True,
        default_status=sensor_status(running=settings.schedules_enabled),
        minimum_interval_seconds=30,
        description="The champion's reports of each day whose features were made, after they were.",
    )
    def reports_after_features(context: dg.RunStatusSensorContext) -> dg.RunRequest | dg.SkipReason:
        run = context.dagster_run
        span = days_of_run(run.tags)
        selected = run.asset_selection or ()
        # A run that also trains makes a champion that learned from these days; there is nothing to judge.
        if span is None or not (dg.AssetKey("features") in selected or run.job_name == "ingest_job"):
            return dg.SkipReason(f"{run.job_name} made no features of days")
        return dg.RunRequest(run_key=run.run_id, tags=span.tags)

    return reports_after_features


def build_loop_sensor(settings: Settings) -> dg.AutomationConditionSensorDefinition:
    """The sensor that evaluates alarms and starts the training."""
    return dg.AutomationConditionSensorDefinition(
        "retraining_on_alarm",
        target=RETRAINING,
        default_status=sensor_status(running=settings.schedules_enabled),
        minimum_interval_seconds=60,
        run_tags={"fraud/cause": "alarm"},
        description="Trains after drift or degradation: once, and again after a recovery.",
    )
