"""The champion's daily report: its performance on matured labels, compared with its evaluation at promotion.

Belongs here: the asset, which loads, calls, writes and returns metadata. Must not be here: which days count and what is
worse (`monitoring/performance.py`), SQL (`database/performance.py`).
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
from fraud_pipeline.defs.alarms import NO_CHAMPION, alarm_check, not_judged_result
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
        # As with features, the declared dependency is the same day only, although earlier days are read, too.
        deps=["features", "transactions", "fraud_reports", "decisions"],
        check_specs=[
            dg.AssetCheckSpec(
                CHECK,
                asset="performance_report",
                description="The newest judged report finds the champion not clearly worse than at promotion, on days "
                "with matured labels. Reports that judge nothing, or an older day, change nothing.",
            )
        ],
        description="Performance of the champion: on days with matured labels, and provisionally on younger days.",
    )
    def performance_report(
        context: dg.AssetExecutionContext,
        tables: TablesResource,
        registry: RegistryResource,
        database: DatabaseResource,
    ) -> dg.MaterializeResult:
        span, models = span_of(context), registry.registry()
        registered = models.with_alias("champion")
        with database.opened() as online:
            if registered is None:
                return not_judged_result(online, "performance", check=CHECK, days=span.days, reason=NO_CHAMPION)
            champion, at_promotion = models.load(registered), _at_promotion(models, registered)
            for day in span.days:
                report = report_of(
                    day,
                    champion=champion,
                    registered=registered,
                    at_promotion=at_promotion,
                    store=tables.store(),
                    database=online,
                    settings=settings,
                )
                _write(online, report)
            return _result(online, report, at_promotion=at_promotion)

    return [performance_report]


def report_of(
    day: date,
    *,
    champion: FraudModel,
    registered: RegisteredModel,
    at_promotion: Evaluation | None,
    store: TableStore,
    database: Database,
    settings: Settings,
) -> PerformanceReport:
    """The champion's performance as known at the end of `day`, compared with its evaluation at promotion."""
    as_of = pd.Timestamp(day, tz="UTC") + pd.Timedelta(days=1)

    def assessment(window: EvaluationPeriod) -> Assessment:
        start, end = (pd.Timestamp(moment, tz="UTC") for moment in (window.first, window.last + timedelta(days=1)))
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

    days = store.days("features")
    periods = windows(day, label_maturity=settings.label_maturity, seen=seen_to(champion))
    assessments = tuple(
        assessment(period) for period in periods if any(period.first <= stored <= period.last for stored in days)
    )
    matured = next((assessed for assessed in assessments if assessed.window.kind == "matured"), None)
    return PerformanceReport(
        day=day,
        champion=str(registered.version),
        assessments=assessments,
        findings=compare(matured.evaluation, at_promotion) if matured else (),
    )


def _write(database: Database, report: PerformanceReport) -> None:
    """Store the figures and the verdict of a day; they replace those of an earlier run."""
    day = pd.Timestamp(report.day, tz="UTC")
    replace_performance(database, day=day, rows=_rows(report))
    verdict = ReportVerdict(
        "performance", day, red=report.degraded, summary=report.summary, judged=not report.not_judged
    )
    replace_verdict(database, verdict)


def _result(database: Database, report: PerformanceReport, *, at_promotion: Evaluation | None) -> dg.MaterializeResult:
    """The metadata and the check of the last day's report."""
    day = pd.Timestamp(report.day, tz="UTC")
    end = day + pd.Timedelta(days=1)
    past = read_performance(database, start=end - PLOTTED, end=end)
    level = {} if at_promotion is None else {name: metric.value for name, metric in at_promotion.metrics.items()}
    chart = performance_over_time(past, at_promotion=level)
    return dg.MaterializeResult(
        metadata={
            "summary": report.summary,
            "table": dg.MetadataValue.md(report.to_markdown()),
            "over_time": image(to_png(chart), title="performance over time"),
            **_figures(report.of_kind("matured")),
        },
        check_results=[alarm_check(database, "performance", check=CHECK, day=day, summary=report.summary)],
    )


def _at_promotion(models: Registry, registered: RegisteredModel) -> Evaluation | None:
    figures = models.evaluation(registered)
    return Evaluation.from_dict(figures) if figures else None


def _rows(report: PerformanceReport) -> list[PerformanceRow]:
    return [
        PerformanceRow(
            kind=assessed.window.kind,
            segment=segment,
            group_name=group,
            metric=name,
            value=_or_none(part.metrics[name].value),
            low=_or_none(part.metrics[name].low),
            high=_or_none(part.metrics[name].high),
            row_count=part.counts["rows"],
            frauds=part.counts["frauds"],
            served=assessed.served,
            model_version=report.champion,
        )
        for assessed in report.assessments
        for (segment, group), part in assessed.groups().items()
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
