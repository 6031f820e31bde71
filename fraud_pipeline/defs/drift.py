"""The daily drift report: a day's features compared with the champion's training data and with the weeks before.

Belongs here: the asset, which loads, calls, writes and returns metadata. Must not be here: measures and verdicts
(`monitoring/drift.py`), SQL (`database/drift.py`).
"""

from collections.abc import Callable, Mapping
from datetime import date, timedelta
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import dagster as dg
import numpy as np
import pandas as pd

from fraud_pipeline.database import Database
from fraud_pipeline.database.drift import DriftRow, read_drift, replace_drift
from fraud_pipeline.database.verdicts import ReportVerdict, not_judged_days, replace_verdict
from fraud_pipeline.defs.alarms import NO_CHAMPION, alarm_check, not_judged_result
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
from fraud_pipeline.promotion.registry import RegisteredModel
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
        # As with features, the declared dependency is the same day only, although the weeks before are read, too.
        deps=["features", "transactions"],
        check_specs=[
            dg.AssetCheckSpec(
                CHECK,
                asset="drift_report",
                description="Features and score of the newest judged day match the champion's training data or the "
                "weeks before. Days that are not judged, or older, change nothing.",
            ),
            dg.AssetCheckSpec(
                ENOUGH_ROWS,
                asset="drift_report",
                description="Each day brought enough transactions to be judged.",
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
        with database.opened() as online:
            if registered is None:
                days = set(store.days("features"))
                rows = {day: len(store.read("features", day, day)) if day in days else 0 for day in span.days}
                enough = _enough_rows(rows)
                return not_judged_result(
                    online, "drift", check=CHECK, days=span.days, reason=NO_CHAMPION, further_checks=[enough]
                )
            champion, rows = models.load(registered), {}
            as_seen = partial(features_for, champion, store, settings=settings)
            for day in span.days:
                evidence = _load(store, champion, day, as_seen=as_seen)
                judged = report_of(day, champion=champion, **evidence._asdict())
                rows[day] = judged.rows
                shown = not judged.not_judged or day == span.last
                pictures = _write(
                    online,
                    judged,
                    evidence,
                    champion=champion,
                    registered=registered,
                    page=_page(settings, day) if shown else None,
                )
            return _result(online, judged, pictures, page=_page(settings, span.last), enough_rows=_enough_rows(rows))

    return [report]


class _Evidence(NamedTuple):
    """The rows that a day is judged on."""

    current: Sample
    weeks_before: Sample
    history: timedelta


def _load(
    store: TableStore, champion: FraudModel, day: date, *, as_seen: Callable[[pd.DataFrame], pd.DataFrame]
) -> _Evidence:
    """Read a day and the same weekday of the weeks before, as far as they are stored."""
    stored = store.days("features")
    weekdays = [day - timedelta(weeks=weeks) for weeks in range(WEEKS_BEFORE, 0, -1)]
    earlier = [weekday for weekday in weekdays if weekday in stored]
    return _Evidence(
        current=sample(store, champion, [day] if day in stored else [], as_seen=as_seen),
        weeks_before=sample(store, champion, earlier, as_seen=as_seen),
        history=earlier[0] - min(stored) if earlier else timedelta(0),
    )


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


def _page(settings: Settings, day: date) -> Path:
    return settings.report_directory / f"drift-{day}.html"


def _write(
    database: Database,
    report: DriftReport,
    evidence: _Evidence,
    *,
    champion: FraudModel,
    registered: RegisteredModel,
    page: Path | None,
) -> dict[str, bytes]:
    """Store the figures, the verdict and, if named, the page of a day; returns the pictures of the page."""
    day, version = pd.Timestamp(report.day, tz="UTC"), str(registered.version)
    replace_drift(database, day=day, rows=_rows(report, model_version=version))
    pictures: dict[str, bytes] = {}
    text = None
    if page:
        pictures = _pictures(report, _by_day(database, report), champion=champion, evidence=evidence)
        text = drift_page(report, pictures, model_version=version)
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(text, encoding="utf-8")
    verdict = ReportVerdict(
        "drift", day, red=bool(report.drifted), summary=report.summary, judged=not report.not_judged
    )
    # The dashboard reads the page from the database, because it cannot read this home directory.
    replace_verdict(database, verdict, page=text)
    return pictures


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


def _pictures(report: DriftReport, by_day: Chart, *, champion: FraudModel, evidence: _Evidence) -> dict[str, bytes]:
    """The heat map of the days so far, and the feature that moved most."""
    pictures = {"drift by day": to_png(by_day)}
    if report.drifted:
        name = report.drifted[0].feature
        samples = {
            "champion": champion.reference,
            "weeks before": evidence.weeks_before.values,
            "today": evidence.current.values,
        }
        values = {sample: frame[name].to_numpy(np.float64) for sample, frame in samples.items()}
        pictures["largest shift"] = to_png(compared_values(values, name=name))
    return pictures


def _result(
    database: Database,
    report: DriftReport,
    pictures: Mapping[str, bytes],
    *,
    page: Path,
    enough_rows: dg.AssetCheckResult,
) -> dg.MaterializeResult:
    """The metadata of the last day's report, and the checks."""
    day = pd.Timestamp(report.day, tz="UTC")
    return dg.MaterializeResult(
        metadata={
            "summary": report.summary,
            "table": dg.MetadataValue.md(report.to_markdown()),
            "page": dg.MetadataValue.path(page),
            "judged_features": len({shift.feature for shift in report.shifts}),
            "drifted_features": len({shift.feature for shift in report.drifted}),
            **{title.replace(" ", "_"): image(png, title=title) for title, png in pictures.items()},
        },
        check_results=[alarm_check(database, "drift", check=CHECK, day=day, summary=report.summary), enough_rows],
    )


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
    problem = f"Too few to judge: {', '.join(few)}. Check that all transactions of these days have arrived."
    return dg.AssetCheckResult(
        passed=not few,
        check_name=ENOUGH_ROWS,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"finding": problem if few else f"Each day brought at least {MIN_ROWS} rows."},
    )
