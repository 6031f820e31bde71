"""The loop: the champion is watched every day, and trained again every week or as soon as an alarm goes off.

Belongs here: when the reports run and what makes the training run. Must not be here: what the reports find, how a model
is trained, who becomes champion.

Drift or degradation once found stays red for days or weeks, until a better champion is there and its labels have
matured. So an alarm trains once when it goes off, and again only after a recovery; the weekly training is the net for
what the first one could not learn yet, because the frauds were not reported.
"""

import operator
from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from typing import Any, Final

import dagster as dg
from dagster_mlflow import end_mlflow_on_run_finished

from fraud_pipeline.defs.calendar import request_yesterday
from fraud_pipeline.settings import Settings

MONITORING: Final = dg.AssetSelection.groups("monitoring")
RETRAINING: Final = dg.AssetSelection.groups("training") | dg.AssetSelection.assets("online_history")


def alarm(reports: Iterable[dg.AssetsDefinition]) -> dg.AutomationCondition:
    """True for one tick when a check of one of these reports becomes red.

    A check that is being run again is neither failed nor passed for Dagster. Red is therefore from a failure to the
    next pass: otherwise each night's run of a red check would look like a recovery and train once more.
    """
    condition = dg.AutomationCondition
    red = condition.check_failed().since(condition.check_passed()).with_label("red")
    turned_red = condition.any_checks_match(red.newly_true())
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
            description="The champion's reports of one day: drift, and performance by the labels that have matured.",
        ),
        "retraining_job": dg.define_asset_job(
            "retraining_job",
            selection=RETRAINING,
            hooks={end_mlflow_on_run_finished},
            description="Train on all features there are, evaluate, register, and promote if the gate agrees.",
        ),
    }


def build_loop_schedules(settings: Settings, jobs: Mapping[str, Any]) -> list[dg.ScheduleDefinition]:
    """Daily reports and weekly retraining; switched on unless the settings say otherwise."""
    status = dg.DefaultScheduleStatus.RUNNING if settings.schedules_enabled else dg.DefaultScheduleStatus.STOPPED

    @dg.schedule(
        name="daily_drift",
        job=jobs["drift_job"],
        cron_schedule="0 3 * * *",
        execution_timezone="UTC",
        default_status=status,
        description="How the champion stands at the end of yesterday, after the night's features.",
    )
    def daily_drift(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        return request_yesterday(context, settings=settings)

    weekly = dg.ScheduleDefinition(
        name="weekly_retraining",
        job=jobs["retraining_job"],
        cron_schedule="0 4 * * 1",
        execution_timezone="UTC",
        default_status=status,
        description="Retrain on Monday morning, after Sunday's data; the gate decides whether it goes live.",
    )
    return [daily_drift, weekly]


def build_loop_sensor(settings: Settings) -> dg.AutomationConditionSensorDefinition:
    """Looks for alarms and starts the training."""
    return dg.AutomationConditionSensorDefinition(
        "retraining_on_alarm",
        target=RETRAINING,
        default_status=dg.DefaultSensorStatus.RUNNING if settings.schedules_enabled else dg.DefaultSensorStatus.STOPPED,
        minimum_interval_seconds=60,
        run_tags={"fraud/cause": "alarm"},
        description="Trains when drift or degradation is found: once, and again after a recovery.",
    )
