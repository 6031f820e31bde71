"""All definitions of one deployment, put together.

Belongs here: putting the pieces together. Must not be here: any piece.
"""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from fraud_pipeline.defs.automation import build_jobs, build_schedules, build_sensors
from fraud_pipeline.defs.calendar import build_calendar
from fraud_pipeline.defs.catalog import in_catalog, own_fields
from fraud_pipeline.defs.checks import leak_checks, schema_checks
from fraud_pipeline.defs.data import data_assets
from fraud_pipeline.defs.drift import drift_assets
from fraud_pipeline.defs.external import external_assets
from fraud_pipeline.defs.features import feature_assets, features_check
from fraud_pipeline.defs.missed_fraud import missed_fraud_assets
from fraud_pipeline.defs.performance import performance_assets
from fraud_pipeline.defs.promotion import promotion_assets
from fraud_pipeline.defs.resources import build_resources
from fraud_pipeline.defs.retraining import (
    build_loop_jobs,
    build_loop_schedules,
    build_loop_sensor,
    build_report_sensor,
    retrained_on_alarm,
)
from fraud_pipeline.defs.serving import serving_assets
from fraud_pipeline.defs.streaming import build_stream_job, build_stream_sensors, streaming_assets
from fraud_pipeline.defs.training import training_assets
from fraud_pipeline.messaging.topics import KafkaSettings, load_kafka_settings
from fraud_pipeline.settings import Settings, load_settings


def build_defs(
    settings: Settings | None = None,
    *,
    kafka: KafkaSettings | None = None,
    resource_overrides: Mapping[str, object] | None = None,
) -> dg.Definitions:
    """All definitions for one deployment; `resource_overrides` replaces resources by name."""
    settings, kafka = settings or load_settings(), kafka or load_kafka_settings()
    calendar, own = build_calendar(settings), own_fields(settings)
    resources: dict[str, Any] = {**build_resources(settings), **(resource_overrides or {})}
    jobs, stream_job = build_jobs() | build_loop_jobs(), build_stream_job()
    reports = [*drift_assets(settings, calendar), *performance_assets(settings, calendar)]
    online_history, retention = serving_assets(settings)
    training = [*training_assets(settings), online_history, *promotion_assets(settings)]
    assets: list[dg.AssetsDefinition | dg.AssetSpec] = [
        *data_assets(settings, calendar),
        *feature_assets(settings, calendar),
        *retrained_on_alarm(training, reports=reports),
        retention,
        *streaming_assets(settings, kafka),
        *reports,
        # This alarm starts no training, because the frauds behind it have no matured labels yet.
        *missed_fraud_assets(settings, calendar),
        *external_assets(settings, kafka),
    ]
    return dg.Definitions(
        assets=in_catalog(assets, settings=settings),
        asset_checks=[*schema_checks(own_fields=own), *leak_checks(own_fields=own), features_check(settings)],
        jobs=[*jobs.values(), stream_job],
        schedules=[
            *build_schedules(settings, jobs, tables=resources["tables"], source=resources["source"]),
            *build_loop_schedules(settings, jobs),
        ],
        sensors=[
            build_loop_sensor(settings),
            build_report_sensor(settings, jobs),
            *build_sensors(settings),
            *build_stream_sensors(settings, kafka, job=stream_job),
        ],
        resources=resources,
        # dagster-mlflow keeps one run per process, and a spawned step costs seconds of imports: one process a run.
        executor=dg.in_process_executor,
    )
