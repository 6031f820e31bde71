"""The daily drift report: a day's features against what the champion learned from and the weeks before.

Belongs here: loading, one call, storing, showing. Must not be here: measures and verdicts (`drift.py`), SQL
(`database/drift.py`).
"""

from collections.abc import Callable, Collection, Mapping
from datetime import date, timedelta
from functools import partial
from typing import Final

import dagster as dg
import numpy as np
import pandas as pd

from fraud_pipeline.database import Database
from fraud_pipeline.database.drift import DriftRow, read_drift, replace_drift
from fraud_pipeline.database.verdicts import ReportVerdict, not_judged_days, replace_verdict
from fraud_pipeline.defs.alarms import NO_CHAMPION, alarm_check, store_not_judged
from fraud_pipeline.defs.calendar import REPORTS_POOL, daily, span_of
from fraud_pipeline.defs.metadata import image
from fraud_pipeline.defs.model_features import features_for
from fraud_pipeline.defs.resources import DatabaseResource, RegistryResource, TablesResource
from fraud_pipeline.features.own_inputs import with_own_inputs
from fraud_pipeline.modeling.model_directory import FraudModel
from fraud_pipeline.monitoring.drift import (
    MIN_ROWS,
    SCORE,
    WEEKS_BEFORE,
    DriftReport,
    Sample,
    drift_report,
    judgeable,
)
from fraud_pipeline.monitoring.drift_by_day import daily_states
from fraud_pipeline.reporting.chart_style import Chart, to_png
from fraud_pipeline.reporting.daily_charts import compared_values, drift_map
from fraud_pipeline.reporting.report_pages import drift_page
from fraud_pipeline.schema.joins import rows_of
from fraud_pipeline.settings import Settings
from fraud_pipeline.storage.tables import TableStore

CHECK: Final = "no_drift"
ENOUGH_ROWS: Final = "enough_rows"
PLOTTED: Final = timedelta(days=60)


def drift_assets(settings: Settings, calendar: dg.DailyPartitionsDefinition) -> list[dg.AssetsDefinition]:
    """The day's drift report, in the `monitoring` group."""

    @dg.asset(
        name="drift_report",
        **daily(settings, calendar, group="monitoring", pool=REPORTS_POOL) | {"kinds": {"python", "sql"}},
        # As with features, Dagster is told of the same day only, although the weeks before are read, too.
        deps=["features", "transactions"],
        check_specs=[
            dg.AssetCheckSpec(
                CHECK,
                asset="drift_report",
                description="Features and score of the newest judged day are as the champion and the weeks before know "
                "them. A day that is not judged, or older than it, changes nothing.",
            ),
            dg.AssetCheckSpec(
                ENOUGH_ROWS,
                asset="drift_report",
                description="Each day brought enough transactions to be judged. No news is no good news.",
            ),
        ],
        description="PSI, KS and missing values of the day against the champion's reference and the weeks before.",
    )
    def report(
        context: dg.AssetExecutionContext,
        tables: TablesResource,
        registry: RegistryResource,
        database: DatabaseResource,
    ) -> dg.MaterializeResult:
        span, models, store = span_of(context), registry.registry(), tables.store()
        registered = models.with_alias("champion")
        there = store.days("features")
        if registered is None:
            with database.opened() as online:
                told = store_not_judged(online, "drift", days=span.days, reason=NO_CHAMPION)
                check = alarm_check(online, "drift", check=CHECK, day=span.end, told=told)
            rows = {day: len(store.read("features", day, day)) if day in there else 0 for day in span.days}
            return dg.MaterializeResult(metadata={"summary": told}, check_results=[check, _enough_rows(rows)])
        champion, rows = models.load(registered), {}
        as_seen = partial(features_for, champion, store, settings=settings)
        with database.opened() as online:
            for day in span.days:
                earlier = weekdays_before(day, there=there)
                current = sample(store, champion, [day] if day in there else [], as_seen=as_seen)
                before = sample(store, champion, earlier, as_seen=as_seen)
                history = earlier[0] - min(there) if earlier else timedelta(0)
                found = report_of(day, champion=champion, current=current, weeks_before=before, history=history)
                rows[day] = len(current.values)
                at, version = pd.Timestamp(day, tz="UTC"), str(registered.version)
                replace_drift(online, day=at, rows=_rows(found, model_version=version))
                page = None
                if not found.not_judged or day == span.last:
                    by_day = _by_day(online, found)
                    pictures = _pictures(found, by_day, champion=champion, current=current, weeks_before=before)
                    page = drift_page(found, pictures, model_version=version)
                    path = settings.report_directory / f"drift-{day}.html"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_text(page, encoding="utf-8")
                red, judged = bool(found.drifted), not found.not_judged
                verdict = ReportVerdict("drift", at, red=red, summary=found.summary, judged=judged)
                # The dashboard shows the page from there: it has no way into this home directory.
                replace_verdict(online, verdict, page=page)
            check = alarm_check(online, "drift", check=CHECK, day=at, told=found.summary)
        return dg.MaterializeResult(
            metadata={
                "summary": found.summary,
                "table": dg.MetadataValue.md(found.to_markdown()),
                "page": dg.MetadataValue.path(path),
                "judged_features": len({shift.feature for shift in found.shifts}),
                "drifted_features": len({shift.feature for shift in found.drifted}),
                **{title.replace(" ", "_"): image(png, title=title) for title, png in pictures.items()},
            },
            check_results=[check, _enough_rows(rows)],
        )

    return [report]


def weekdays_before(day: date, *, there: Collection[date]) -> list[date]:
    """The same weekday of the weeks before, of the days that are there, in order."""
    wanted = [day - timedelta(weeks=weeks) for weeks in range(WEEKS_BEFORE, 0, -1)]
    return [one for one in wanted if one in there]


def sample(
    store: TableStore,
    champion: FraudModel,
    days: list[date],
    *,
    as_seen: Callable[[pd.DataFrame], pd.DataFrame] = lambda rows: rows,
) -> Sample:
    """What is stored of these days, `as_seen` and encoded by the champion, with its score."""
    if not days:
        return Sample(pd.DataFrame(columns=[*champion.features, SCORE]), customers=0, merchants=0)
    features = as_seen(pd.concat([store.read("features", day, day) for day in days], ignore_index=True))
    transactions = pd.concat([store.read("transactions", day, day) for day in days], ignore_index=True)
    whose = rows_of(transactions, features["transaction_id"], table="transactions")
    values = champion.values(with_own_inputs(features, transactions, champion.feature_config.own_inputs))
    rows = pd.DataFrame(values, columns=pd.Index(champion.features)).assign(**{SCORE: champion.probabilities(values)})
    return Sample.of(rows, customers=whose["customer_id"], merchants=whose["merchant_id"])


def report_of(
    day: date, *, champion: FraudModel, current: Sample, weeks_before: Sample, history: timedelta
) -> DriftReport:
    """The report of a day that the champion did not learn from."""
    if day <= pd.Timestamp(champion.lineage["trained_to"]).date():
        return DriftReport(day=day, rows=len(current.values), not_judged="the champion learned from that day")
    return drift_report(
        day,
        current,
        champion=champion.reference,
        champion_customers=champion.lineage.get("reference_customers"),
        weeks_before=weeks_before,
        features=judgeable(history=history, features=champion.features),
    )


def _by_day(database: Database, report: DriftReport) -> Chart:
    """The map of the days up to the report's, whose shifts are stored and whose verdict is not yet."""
    day = pd.Timestamp(report.day, tz="UTC")
    end = day + pd.Timedelta(days=1)
    start = end - PLOTTED
    earlier = {verdict.day for verdict in not_judged_days(database, "drift", start=start) if verdict.day < day}
    not_judged = sorted(earlier | ({day} if report.not_judged else set()))
    return drift_map(
        daily_states(read_drift(database, start=start, end=end)), not_judged=not_judged, top=20, legend=True
    )


def _pictures(
    report: DriftReport, by_day: Chart, *, champion: FraudModel, current: Sample, weeks_before: Sample
) -> dict[str, bytes]:
    """The heat map of the days so far, and the feature that moved most."""
    found = {"drift by day": to_png(by_day)}
    if report.drifted:
        name = report.drifted[0].feature
        samples = {"champion": champion.reference, "weeks before": weeks_before.values, "today": current.values}
        values = {sample: frame[name].to_numpy(np.float64) for sample, frame in samples.items()}
        found["largest shift"] = to_png(compared_values(values, name=name))
    return found


def _rows(report: DriftReport, *, model_version: str) -> list[DriftRow]:
    red = {(shift.feature, shift.kind) for shift in report.drifted}
    return [
        DriftRow(
            feature=shift.feature,
            baseline=shift.baseline,
            kind=shift.kind,
            size=shift.size,
            q=shift.q,
            drifted=(shift.feature, shift.kind) in red,
            model_version=model_version,
        )
        for shift in report.shifts
    ]


def _enough_rows(rows: Mapping[date, int]) -> dg.AssetCheckResult:
    """A warning for days that brought too little."""
    few = [f"{number:,} rows on {day}" for day, number in rows.items() if number < MIN_ROWS]
    told = f"Too few to judge: {', '.join(few)}. Look whether the transactions of these days are there." if few else ""
    return dg.AssetCheckResult(
        passed=not few,
        check_name=ENOUGH_ROWS,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"finding": told or f"Each day brought at least {MIN_ROWS} rows."},
    )
