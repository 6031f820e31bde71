"""Merchant days and the feature table, by day.

Belongs here: the history that a day needs. Must not be here: the definition of features (`features/`) and of merchant
days (`features/final_merchant_days.py`).
"""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Final

import dagster as dg
import pandas as pd

from fraud_pipeline.defs.calendar import DAYS_POOL, Span, daily, span_of
from fraud_pipeline.defs.checks import check_result
from fraud_pipeline.defs.metadata import stored_version
from fraud_pipeline.defs.resources import SourceResource, TablesResource
from fraud_pipeline.features.config import FeatureConfig
from fraud_pipeline.features.engineer import FEATURES, FeatureEngineer, History
from fraud_pipeline.features.merchant_days import FINAL_MERCHANT_DAYS, assembled, final_on
from fraud_pipeline.ingest.day_plan import LONGEST_STEP, FeatureWindow, days_between
from fraud_pipeline.ingest.day_state import (
    check_lookback,
    expected_last,
    feature_window,
    notes_of_inputs,
    read_standing,
)
from fraud_pipeline.modeling.leakage import LeakVerdict, future_invariance
from fraud_pipeline.schema.transactions import FRAUD_REPORTS, TRANSACTIONS, empty
from fraud_pipeline.settings import Settings
from fraud_pipeline.storage.tables import TableStore

INPUTS_CURRENT: Final = "inputs_current"
INPUTS_CHECKED: Final = {"fraud/inputs_checked": "true"}
"""The tag of jobs that end with this check; Dagster itself knows only the selected assets of a run."""

_OF_MERCHANT_DAYS: Final = ("transaction_id", "event_time", "merchant_id", "amount_cents")


def feature_assets(settings: Settings, calendar: dg.DailyPartitionsDefinition) -> list[dg.AssetsDefinition]:
    """The assets of the `features` group."""
    shared = daily(settings, calendar, group="features", pool=DAYS_POOL)
    # Another label maturity makes other values, as other code does.
    code_version = f"{FeatureEngineer.code_version()}-{feature_config(settings).id}"

    @dg.asset(
        **shared,
        deps=["transactions", "fraud_reports"],
        description="Final figures of merchant days that become known on a day: its volume, and the matured "
        "legitimate rows of an earlier day. Features read these instead of every transaction of a merchant.",
        code_version=code_version,
    )
    def merchant_days(
        context: dg.AssetExecutionContext, tables: TablesResource, source: SourceResource
    ) -> dg.MaterializeResult:
        span, store, window = span_of(context), tables.store(), window_of(settings)
        check_lookback(store, source.source(), window=window, first=span.first, last=span.last)
        notes = notes_of_inputs(store, "merchant_days", span.days, window=window)
        rows = final_merchant_days(store, span.days, window=window, label_maturity=settings.label_maturity)
        store.write_days("merchant_days", rows, time_column="final_on", days=span.days, notes=notes)
        return dg.MaterializeResult(
            metadata={"dagster/row_count": len(rows), "merchants": int(rows["merchant_id"].nunique())},
            data_version=stored_version(store, "merchant_days", span),
        )

    @dg.asset(
        **shared,
        # Earlier days are read, too, but only the same day is declared. Dagster would count the two months after a
        # change as its consequence and start days that have no transactions yet. The check `inputs_current` covers all
        # of them.
        deps=["transactions", "fraud_reports", merchant_days],
        description="Features of every transaction, from events strictly before it. The only feature code there is.",
        code_version=code_version,
        check_specs=[
            dg.AssetCheckSpec(
                "future_invariance",
                asset="features",
                blocking=True,
                description="Changing everything after an instant must not change one bit of a feature before it.",
            )
        ],
    )
    def features(
        context: dg.AssetExecutionContext, tables: TablesResource, source: SourceResource
    ) -> dg.MaterializeResult:
        span, store, window = span_of(context), tables.store(), window_of(settings)
        check_lookback(store, source.source(), window=window, first=span.first, last=span.last)
        # Versions first: a day that is replaced while it is read leaves stale features, and no wrong note.
        notes = notes_of_inputs(store, "features", span.days, window=window)
        new = store.read("transactions", span.first, span.last)
        history = history_before(store, span, settings=settings)
        rows = engineer(settings).compute(history=history, new=new)
        store.write_days("features", rows, time_column="event_time", days=span.days, notes=notes)
        missing = rows[[definition.name for definition in FEATURES]].isna().mean()
        return dg.MaterializeResult(
            data_version=stored_version(store, "features", span),
            metadata={
                "dagster/row_count": len(rows),
                "features": len(FEATURES),
                "always_missing": int((missing == 1).sum()),
                "missing_share": dg.MetadataValue.md(
                    missing[missing > 0]
                    .sort_values(ascending=False)
                    .map("{:.1%}".format)
                    .to_frame("missing")
                    .to_markdown()
                ),
            },
            check_results=[check_result(_keeps_out_the_future(history, new, settings=settings), asset="features")],
        )

    return [merchant_days, features]


def _keeps_out_the_future(history: History, new: pd.DataFrame, *, settings: Settings) -> LeakVerdict:
    cut = new["event_time"].iloc[len(new) // 2] if len(new) else pd.Timestamp.now(tz="UTC")
    return future_invariance(engineer(settings), history=history, new=new, cut=cut)


def feature_config(settings: Settings) -> FeatureConfig:
    """The feature configuration of this deployment's next training."""
    declared = settings.declaration
    local_time = declared.local_time if declared else False
    return FeatureConfig(label_maturity=settings.label_maturity, local_time=local_time)


def engineer(settings: Settings) -> FeatureEngineer:
    """The feature code with that configuration."""
    return feature_config(settings).engineer()


def window_of(settings: Settings) -> FeatureWindow:
    """The days that this deployment's features read."""
    return feature_window(feature_config(settings), first=settings.first_day)


def history_before(store: TableStore, span: Span, *, settings: Settings, stored_merchant_days: bool = True) -> History:
    """Everything that features of `span` may read: the days before it in the calendar, and its own.

    Merchant days are stored for the deployment's label maturity only. For another one `stored_merchant_days` is False,
    and they are computed here as the asset computes them. Raises MissingDaysError for a hole. Before the first stored
    day there are no events (see `check_lookback`).
    """
    window, stored = window_of(settings), store.days("transactions")
    first = {
        table: min(day for day in [*stored, span.first] if day >= days[0])
        for table, days in window.days_read("features", span.first).items()
        if days
    }
    final_days = days_between(first.get("merchant_days", span.first), span.last - timedelta(days=1))
    if not final_days:
        final = empty(FINAL_MERCHANT_DAYS)
    elif stored_merchant_days:
        final = store.read("merchant_days", final_days[0], final_days[-1], schema=FINAL_MERCHANT_DAYS)
    else:
        final = final_merchant_days(store, final_days, window=window, label_maturity=settings.label_maturity)
    return History(
        transactions=store.read("transactions", first["transactions"], span.last, schema=TRANSACTIONS),
        reports=store.read("fraud_reports", first["reports"], span.last, schema=FRAUD_REPORTS),
        merchant_days=assembled(final),
    )


def final_merchant_days(
    store: TableStore, days: Sequence[date], *, window: FeatureWindow, label_maturity: timedelta
) -> pd.DataFrame:
    """What becomes final of merchants' days on each of these consecutive days; a month's rows are in memory at once."""
    first = window.days_read("merchant_days", days[0])["reports"][0]
    reports = store.read("fraud_reports", first, days[-1], schema=FRAUD_REPORTS, allow_missing=True)
    final = [
        final_on(
            transactions=store.read("transactions", some[0], some[-1], columns=_OF_MERCHANT_DAYS),
            settling=_settling(store, some, window=window),
            reports=reports,
            label_maturity=label_maturity,
        )
        for some in (days[start : start + LONGEST_STEP] for start in range(0, len(days), LONGEST_STEP))
    ]
    return pd.concat(final, ignore_index=True)


def _settling(store: TableStore, days: Sequence[date], *, window: FeatureWindow) -> pd.DataFrame:
    """Transactions of the days that settle on these; none before the calendar or before the first stored day."""
    back = timedelta(days=window.days_to_clear)
    first, last = max(days[0] - back, window.first), days[-1] - back
    if last < first:
        return empty(TRANSACTIONS)
    return store.read("transactions", first, last, schema=TRANSACTIONS, columns=_OF_MERCHANT_DAYS, allow_missing=True)


def features_check(settings: Settings) -> dg.AssetChecksDefinition:
    """Shows in Dagster that features are missing or stale, whichever day was made last.

    Dagster's freshness and staleness see the same day only: a backfill of an old day would turn both green.
    """

    @dg.asset_check(
        asset="features",
        name=INPUTS_CURRENT,
        additional_deps=["transactions", "fraud_reports", "merchant_days"],
        automation_condition=_updated_unchecked(),
        description="The features of every day are there, and were made from the transactions, reports and merchants' "
        "days, of all days that they read, that are there now.",
    )
    def inputs_current(tables: TablesResource) -> dg.AssetCheckResult:
        last = expected_last(living=settings.living, ends=settings.calendar_end, now=datetime.now(UTC))
        standing = read_standing(tables.store(), window=window_of(settings), last=last)
        return dg.AssetCheckResult(passed=standing.current, metadata={"finding": standing.summary})

    return inputs_current


def _updated_unchecked() -> dg.AutomationCondition:
    """True when a table that features read was made again by a run that does not end with the check."""
    condition = dg.AutomationCondition
    checked = condition.all_new_updates_have_run_tags(tag_values=INPUTS_CHECKED)
    return condition.any_deps_match(condition.newly_updated() & ~checked).with_label("days were made again")
