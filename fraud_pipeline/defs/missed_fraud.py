"""The daily report on missed fraud: reported frauds that the champion had allowed.

Belongs here: the asset, which loads, calls, writes and returns metadata. Must not be here: what a surge is
(`monitoring/surge_test.py`), SQL (`database/performance.py`).
"""

from collections.abc import Callable, Iterator
from datetime import date, timedelta
from functools import partial
from typing import Final

import dagster as dg
import pandas as pd

from fraud_pipeline.database import Database
from fraud_pipeline.database.performance import decisions_on
from fraud_pipeline.database.verdicts import ReportVerdict, replace_verdict
from fraud_pipeline.defs.alarms import NO_CHAMPION, alarm_check, not_judged_result
from fraud_pipeline.defs.calendar import REPORTS_POOL, Span, daily, span_of
from fraud_pipeline.defs.metadata import image
from fraud_pipeline.defs.model_features import features_for
from fraud_pipeline.defs.resources import DatabaseResource, RegistryResource, TablesResource
from fraud_pipeline.modeling.model_directory import FraudModel
from fraud_pipeline.monitoring.missed_fraud import (
    ACTIVE_DAYS,
    MissedFraudReport,
    active_customers,
    allowed_frauds,
    missed_fraud_report,
    unseen_from,
)
from fraud_pipeline.promotion.registry import RegisteredModel
from fraud_pipeline.reporting.chart_style import to_png
from fraud_pipeline.reporting.daily_charts import incidents_by_day
from fraud_pipeline.reporting.report_pages import missed_fraud_page
from fraud_pipeline.schema.transactions import FRAUD_REPORTS
from fraud_pipeline.settings import Settings
from fraud_pipeline.storage.tables import TableStore

CHECK: Final = "no_surge"
NO_ROWS: Final = pd.DataFrame({"transaction_id": []})


def missed_fraud_assets(settings: Settings, calendar: dg.DailyPartitionsDefinition) -> list[dg.AssetsDefinition]:
    """The day's report on missed fraud, in the `monitoring` group."""

    @dg.asset(
        name="missed_fraud_report",
        **daily(settings, calendar, group="monitoring", pool=REPORTS_POOL) | {"kinds": {"python", "sql"}},
        # As with features, the declared dependency is the same day only, although earlier days are read, too.
        deps=["features", "transactions", "fraud_reports", "decisions"],
        check_specs=[
            dg.AssetCheckSpec(
                CHECK,
                asset="missed_fraud_report",
                description="The newest judged report finds no surge: reported fraud that the champion allowed is not "
                "more than earlier days let expect. Reports that judge nothing, or an older day, change nothing.",
            )
        ],
        description="Reported fraud that the champion allowed, before its labels have matured. A surge is often a new "
        "kind of fraud.",
    )
    def report(
        context: dg.AssetExecutionContext,
        tables: TablesResource,
        registry: RegistryResource,
        database: DatabaseResource,
    ) -> dg.MaterializeResult:
        span, models = span_of(context), registry.registry()
        registered = models.with_alias("champion")
        with database.opened() as online:
            if registered is None:
                return not_judged_result(online, "missed_fraud", check=CHECK, days=span.days, reason=NO_CHAMPION)
            champion = models.load(registered)
            judge = _load(champion, registered, store=tables.store(), database=online, settings=settings, span=span)
            for day in span.days:
                judged = judge(day)
                picture = _write(online, judged)
            return _result(online, judged, picture=picture)

    return [report]


def _load(
    champion: FraudModel,
    registered: RegisteredModel,
    *,
    store: TableStore,
    database: Database,
    settings: Settings,
    span: Span,
) -> Callable[[date], MissedFraudReport]:
    """The report of a day of `span`, from all days that the champion did not see."""
    first, last = unseen_from(champion), span.last
    reports = store.read("fraud_reports", first, last, schema=FRAUD_REPORTS, allow_missing=True)
    features, transactions = _reported_rows(store, reports, first=first, last=last)
    served = decisions_on(database, features["transaction_id"].tolist(), model_sha256=registered.sha256)
    as_seen = features_for(champion, store, features, settings=settings)
    return partial(
        missed_fraud_report,
        allowed=allowed_frauds(champion, as_seen, transactions, served),
        reports=reports,
        customers=active_customers(_customers(store, first - timedelta(days=ACTIVE_DAYS - 1), last)),
        champion=str(registered.version),
        first=first,
        label_maturity=settings.label_maturity,
    )


def _reported_rows(
    store: TableStore, reports: pd.DataFrame, *, first: date, last: date
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Features and transactions of these days that were ever reported as fraud."""
    frauds = set(reports.loc[reports["is_fraud"], "transaction_id"])
    rows: dict[str, list[pd.DataFrame]] = {"features": [], "transactions": []}
    # Day by day, because only a few rows of each day are needed.
    for day in _stored(store, "features", first, last):
        for table, frames in rows.items():
            of_day = store.read(table, day, day)
            frames.append(of_day[of_day["transaction_id"].isin(frauds)])
    features, transactions = (pd.concat(frames) if frames else NO_ROWS for frames in rows.values())
    return features, transactions


def _customers(store: TableStore, first: date, last: date) -> Iterator[tuple[date, pd.Series]]:
    """The customers who paid on each day."""
    for day in _stored(store, "transactions", first, last):
        yield day, store.read("transactions", day, day, columns=["customer_id"])["customer_id"]


def _stored(store: TableStore, table: str, first: date, last: date) -> list[date]:
    return [day for day in store.days(table) if first <= day <= last]


def _write(database: Database, report: MissedFraudReport) -> bytes:
    """Store the verdict and the page of a day; returns the picture (PNG) of its incidents by day."""
    chart = incidents_by_day(
        report.first,
        report.incidents,
        report.expected,
        group=report.group,
        since=report.since if report.red else None,
    )
    picture, judged = to_png(chart), not report.not_judged
    day = pd.Timestamp(report.day, tz="UTC")
    verdict = ReportVerdict("missed_fraud", day, red=report.red, summary=report.summary, judged=judged)
    # The dashboard reads the page from the database, because it cannot read this home directory.
    page = missed_fraud_page(report, {"incidents by day": picture}) if judged else None
    replace_verdict(database, verdict, page=page)
    return picture


def _result(database: Database, report: MissedFraudReport, *, picture: bytes) -> dg.MaterializeResult:
    """The metadata and the check of the last day's report."""
    day = pd.Timestamp(report.day, tz="UTC")
    return dg.MaterializeResult(
        metadata={
            "summary": report.summary,
            "table": dg.MetadataValue.md(report.to_markdown()),
            "by_day": image(picture, title="missed fraud by day"),
            **_figures(report),
        },
        check_results=[alarm_check(database, "missed_fraud", check=CHECK, day=day, summary=report.summary)],
    )


def _figures(report: MissedFraudReport) -> dict[str, float | int]:
    """Values that Dagster plots by itself."""
    if report.surge is None:
        return {}
    return {"incidents": report.surge.incidents, "expected": report.surge.expected, "p": report.surge.p}
