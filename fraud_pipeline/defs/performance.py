"""The champion's daily report: how it does by labels that have matured, and whether that is less than it promised.

Belongs here: loading, one call, storing, showing. Must not be here: which days count and what is worse
(`performance.py`), SQL (`database/performance.py`).
"""

from datetime import date, timedelta
from typing import Final

import dagster as dg
import numpy as np
import pandas as pd

from fraud_pipeline.database import Database
from fraud_pipeline.database.performance import (
    PerformanceRow,
    read_performance,
    replace_performance,
    served_decisions,
    would_be_blocks,
)
from fraud_pipeline.database.verdicts import ReportVerdict, replace_verdict
from fraud_pipeline.defs.alarms import NO_CHAMPION, alarm_check, store_not_judged
from fraud_pipeline.defs.calendar import REPORTS_POOL, daily, span_of
from fraud_pipeline.defs.metadata import image
from fraud_pipeline.defs.model_features import features_for
from fraud_pipeline.defs.resources import DatabaseResource, RegistryResource, TablesResource
from fraud_pipeline.defs.training import policy_settings
from fraud_pipeline.modeling.evaluation import Evaluation
from fraud_pipeline.modeling.model_directory import FraudModel
from fraud_pipeline.monitoring.performance import (
    SHOWN,
    Assessment,
    EvaluationPeriod,
    PerformanceReport,
    assess,
    seen_to,
    windows,
)
from fraud_pipeline.monitoring.performance_comparison import compare
from fraud_pipeline.promotion.registry import RegisteredModel, Registry
from fraud_pipeline.reporting.chart_style import to_png
from fraud_pipeline.reporting.daily_charts import performance_over_time
from fraud_pipeline.schema.transactions import FRAUD_REPORTS
from fraud_pipeline.settings import Settings
from fraud_pipeline.storage.tables import TableStore

CHECK: Final = "no_degradation"
PLOTTED: Final = timedelta(days=180)


def performance_assets(settings: Settings, calendar: dg.DailyPartitionsDefinition) -> list[dg.AssetsDefinition]:
    """The champion's report, in the `monitoring` group."""

    @dg.asset(
        **daily(settings, calendar, group="monitoring", pool=REPORTS_POOL) | {"kinds": {"python", "sql"}},
        # As with features, Dagster is told of the same day only, although the days before are read, too.
        deps=["features", "transactions", "fraud_reports", "decisions"],
        check_specs=[
            dg.AssetCheckSpec(
                CHECK,
                asset="performance_report",
                description="On days with matured labels the champion is not clearly worse than when it was promoted, "
                "by the newest report that judged it. One that does not, or is of an older day, changes nothing.",
            )
        ],
        description="How the champion does: on days whose labels have matured, and provisionally on those after.",
    )
    def performance_report(
        context: dg.AssetExecutionContext,
        tables: TablesResource,
        registry: RegistryResource,
        database: DatabaseResource,
    ) -> dg.MaterializeResult:
        span, models = span_of(context), registry.registry()
        registered = models.with_alias("champion")
        if registered is None:
            with database.opened() as online:
                told = store_not_judged(online, "performance", days=span.days, reason=NO_CHAMPION)
                check = alarm_check(online, "performance", check=CHECK, day=span.end, told=told)
            return dg.MaterializeResult(metadata={"summary": told}, check_results=[check])
        champion, then = models.load(registered), _at_promotion(models, registered)
        with database.opened() as online:
            for day in span.days:
                report = report_of(
                    day,
                    champion=champion,
                    registered=registered,
                    then=then,
                    store=tables.store(),
                    database=online,
                    settings=settings,
                )
                at = pd.Timestamp(day, tz="UTC")
                replace_performance(online, day=at, rows=_rows(report))
                judged = not report.not_judged
                verdict = ReportVerdict("performance", at, red=report.degraded, summary=report.summary, judged=judged)
                replace_verdict(online, verdict)
            check = alarm_check(online, "performance", check=CHECK, day=at, told=report.summary)
            past = read_performance(online, start=span.end - PLOTTED, end=span.end)
        level = {} if then is None else {name: metric.value for name, metric in then.metrics.items()}
        return dg.MaterializeResult(
            metadata={
                "summary": report.summary,
                "table": dg.MetadataValue.md(report.to_markdown()),
                "over_time": image(
                    to_png(performance_over_time(past, at_promotion=level)), title="performance over time"
                ),
                **_figures(report.of_kind("matured")),
            },
            check_results=[check],
        )

    return [performance_report]


def report_of(
    day: date,
    *,
    champion: FraudModel,
    registered: RegisteredModel,
    then: Evaluation | None,
    store: TableStore,
    database: Database,
    settings: Settings,
) -> PerformanceReport:
    """The champion as it is known at the end of `day`; `then` is its evaluation at promotion."""
    as_of = pd.Timestamp(day, tz="UTC") + pd.Timedelta(days=1)

    def assessment(window: EvaluationPeriod) -> Assessment:
        start, end = (pd.Timestamp(one, tz="UTC") for one in (window.first, window.last + timedelta(days=1)))
        features = store.read("features", window.first, window.last, allow_missing=True)
        return assess(
            champion,
            features_for(champion, store, features, settings=settings),
            store.read("transactions", window.first, window.last, allow_missing=True),
            store.read("fraud_reports", window.first, day, schema=FRAUD_REPORTS, allow_missing=True),
            served_decisions(database, start=start, end=end, model_sha256=registered.sha256),
            would_be_blocks=would_be_blocks(database, start=start, end=end),
            window=window,
            label_maturity=settings.label_maturity,
            as_of=as_of,
            policy=policy_settings(settings),
        )

    there = store.days("features")
    wanted = windows(day, label_maturity=settings.label_maturity, seen=seen_to(champion))
    found = tuple(assessment(window) for window in wanted if any(window.first <= one <= window.last for one in there))
    matured = next((one for one in found if one.window.kind == "matured"), None)
    return PerformanceReport(
        day=day,
        champion=str(registered.version),
        assessments=found,
        findings=compare(matured.evaluation, then) if matured else (),
    )


def _at_promotion(models: Registry, registered: RegisteredModel) -> Evaluation | None:
    told = models.evaluation(registered)
    return Evaluation.from_dict(told) if told else None


def _rows(report: PerformanceReport) -> list[PerformanceRow]:
    return [
        PerformanceRow(
            kind=found.window.kind,
            segment=segment,
            group_name=group,
            metric=name,
            value=_or_none(part.metrics[name].value),
            low=_or_none(part.metrics[name].low),
            high=_or_none(part.metrics[name].high),
            row_count=part.counts["rows"],
            frauds=part.counts["frauds"],
            served=found.served,
            model_version=report.champion,
        )
        for found in report.assessments
        for (segment, group), part in found.groups().items()
        for name in SHOWN
    ]


def _figures(matured: Assessment | None) -> dict[str, float | int]:
    """Values that Dagster plots by itself."""
    if matured is None:
        return {}
    values = {name: matured.evaluation.metrics[name].value for name in SHOWN}
    counts = {"served": matured.served, "held_out": matured.held_out.rows}
    return {**{name: value for name, value in values.items() if np.isfinite(value)}, **counts}


def _or_none(number: float) -> float | None:
    return float(number) if np.isfinite(number) else None
