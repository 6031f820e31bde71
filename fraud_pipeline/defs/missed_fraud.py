"""The daily report on missed fraud: what was reported by now of what the champion had allowed.

Belongs here: loading, one call, storing, showing. Must not be here: what is a surge (`monitoring/surge_test.py`), SQL
(`database/performance.py`).
"""

from collections.abc import Iterator
from datetime import date, timedelta
from typing import Final

import dagster as dg
import pandas as pd

from fraud_pipeline.database.performance import decisions_on
from fraud_pipeline.database.verdicts import ReportVerdict, replace_verdict
from fraud_pipeline.defs.alarms import NO_CHAMPION, alarm_check, store_not_judged
from fraud_pipeline.defs.calendar import REPORTS_POOL, daily, span_of
from fraud_pipeline.defs.metadata import image
from fraud_pipeline.defs.model_features import features_for
from fraud_pipeline.defs.resources import DatabaseResource, RegistryResource, TablesResource
from fraud_pipeline.monitoring.missed_fraud import (
    ACTIVE_DAYS,
    MissedFraudReport,
    active_customers,
    allowed_frauds,
    missed_fraud_report,
    unseen_from,
)
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
        # As with features, Dagster is told of the same day only, although the days before are read, too.
        deps=["features", "transactions", "fraud_reports", "decisions"],
        check_specs=[
            dg.AssetCheckSpec(
                CHECK,
                asset="missed_fraud_report",
                description="Of fraud that the champion allowed no more is reported by now than the days before let "
                "expect, by the newest report that judged it. One that does not, or is of an older day, is no news.",
            )
        ],
        description="Reported fraud that the champion allowed, before its labels have matured: a surge of it is "
        "often a new kind of fraud.",
    )
    def report(
        context: dg.AssetExecutionContext,
        tables: TablesResource,
        registry: RegistryResource,
        database: DatabaseResource,
    ) -> dg.MaterializeResult:
        span, models, store = span_of(context), registry.registry(), tables.store()
        registered = models.with_alias("champion")
        if registered is None:
            with database.opened() as online:
                told = store_not_judged(online, "missed_fraud", days=span.days, reason=NO_CHAMPION)
                check = alarm_check(online, "missed_fraud", check=CHECK, day=span.end, told=told)
            return dg.MaterializeResult(metadata={"summary": told}, check_results=[check])
        champion = models.load(registered)
        first = unseen_from(champion)
        reports = store.read("fraud_reports", first, span.last, schema=FRAUD_REPORTS, allow_missing=True)
        features, transactions = _reported_rows(store, reports, first=first, last=span.last)
        customers = active_customers(_customers(store, first - timedelta(days=ACTIVE_DAYS - 1), span.last))
        with database.opened() as online:
            served = decisions_on(online, features["transaction_id"].tolist(), model_sha256=registered.sha256)
            as_seen = features_for(champion, store, features, settings=settings)
            allowed = allowed_frauds(champion, as_seen, transactions, served)
            for day in span.days:
                found = missed_fraud_report(
                    day,
                    allowed,
                    reports,
                    customers,
                    champion=str(registered.version),
                    first=first,
                    label_maturity=settings.label_maturity,
                )
                at, judged = pd.Timestamp(day, tz="UTC"), not found.not_judged
                verdict = ReportVerdict("missed_fraud", at, red=found.red, summary=found.summary, judged=judged)
                chart = incidents_by_day(
                    first,
                    found.incidents,
                    found.expected,
                    group=found.group,
                    since=found.since if found.red else None,
                )
                picture = to_png(chart)
                page = missed_fraud_page(found, {"incidents by day": picture}) if judged else None
                # The dashboard shows the page from there: it has no way into this home directory.
                replace_verdict(online, verdict, page=page)
            check = alarm_check(online, "missed_fraud", check=CHECK, day=at, told=found.summary)
        return dg.MaterializeResult(
            metadata={
                "summary": found.summary,
                "table": dg.MetadataValue.md(found.to_markdown()),
                "by_day": image(picture, title="missed fraud by day"),
                **_figures(found),
            },
            check_results=[check],
        )

    return [report]


def _reported_rows(
    store: TableStore, reports: pd.DataFrame, *, first: date, last: date
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Features and transactions of these days that were ever reported as fraud."""
    frauds = set(reports.loc[reports["is_fraud"], "transaction_id"])
    rows: dict[str, list[pd.DataFrame]] = {"features": [], "transactions": []}
    # Day by day, for only a few rows of each are needed.
    for day in (one for one in store.days("features") if first <= one <= last):
        for table, found in rows.items():
            there = store.read(table, day, day)
            found.append(there[there["transaction_id"].isin(frauds)])
    features, transactions = (pd.concat(found) if found else NO_ROWS for found in rows.values())
    return features, transactions


def _customers(store: TableStore, first: date, last: date) -> Iterator[tuple[date, pd.Series]]:
    """Who paid, day by day."""
    for day in (one for one in store.days("transactions") if first <= one <= last):
        yield day, store.read("transactions", day, day, columns=["customer_id"])["customer_id"]


def _figures(report: MissedFraudReport) -> dict[str, float | int]:
    """Values that Dagster plots by itself."""
    if report.surge is None:
        return {}
    return {"incidents": report.surge.incidents, "expected": report.surge.expected, "p": report.surge.p}
