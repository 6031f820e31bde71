"""The feature table, by day.

Belongs here: which history a day needs. Must not be here: what a feature is (`features.py`).
"""

import dagster as dg
import pandas as pd

from fraud_pipeline.defs.calendar import Span, daily, span_of
from fraud_pipeline.defs.checks import check_result
from fraud_pipeline.defs.resources import TablesResource
from fraud_pipeline.feature_config import FeatureConfig
from fraud_pipeline.features import FEATURES, FeatureEngineer, History, merchant_days
from fraud_pipeline.leakage import LeakVerdict, future_invariance
from fraud_pipeline.settings import Settings
from fraud_pipeline.tables import TableStore
from fraud_pipeline.transactions import FRAUD_REPORTS, TRANSACTIONS


def feature_assets(settings: Settings, calendar: dg.DailyPartitionsDefinition) -> list[dg.AssetsDefinition]:
    """The assets of the `features` group."""

    @dg.asset(
        **daily(settings, calendar, group="features"),
        # Earlier days are read too, as far as they are there. Dagster is told of the same day only: it would count the
        # two months after a change as its consequence and start days that have no transactions yet.
        deps=["transactions", "fraud_reports"],
        description="Features of every transaction, from events strictly before it. The only feature code there is.",
        # Another label maturity makes other values, as other code does.
        code_version=f"{FeatureEngineer.code_version()}-{feature_config(settings).id}",
        check_specs=[
            dg.AssetCheckSpec(
                "future_invariance",
                asset="features",
                blocking=True,
                description="Changing everything after an instant must not change one bit of a feature before it.",
            )
        ],
    )
    def features(context: dg.AssetExecutionContext, tables: TablesResource) -> dg.MaterializeResult:
        span, store = span_of(context), tables.store()
        new = store.read("transactions", span.first, span.last)
        history = history_before(store, span, settings=settings)
        rows = engineer(settings).compute(history=history, new=new)
        store.write_days("features", rows, time_column="event_time", days=span.days)
        missing = rows[[definition.name for definition in FEATURES]].isna().mean()
        return dg.MaterializeResult(
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

    return [features]


def _keeps_out_the_future(history: History, new: pd.DataFrame, *, settings: Settings) -> LeakVerdict:
    cut = new["event_time"].iloc[len(new) // 2] if len(new) else pd.Timestamp.now(tz="UTC")
    return future_invariance(engineer(settings), history=history, new=new, cut=cut)


def feature_config(settings: Settings) -> FeatureConfig:
    """How this deployment makes features for its next training."""
    return FeatureConfig(label_maturity=settings.label_maturity)


def engineer(settings: Settings) -> FeatureEngineer:
    """The feature code with that configuration."""
    return feature_config(settings).engineer()


def lookback_days(settings: Settings) -> int:
    """Days of events before a transaction that its features may depend on."""
    return engineer(settings).lookback.days


def history_before(store: TableStore, span: Span, *, settings: Settings) -> History:
    """Everything that features of `span` may look at: the days before it, as far as they are there, and its own."""
    first = (span.start - pd.Timedelta(days=lookback_days(settings))).date()
    transactions = store.read("transactions", first, span.last, schema=TRANSACTIONS, allow_missing=True)
    reports = store.read("fraud_reports", first, span.last, schema=FRAUD_REPORTS, allow_missing=True)
    return History(
        transactions=transactions,
        reports=reports,
        merchant_days=merchant_days(transactions, reports, label_maturity=settings.label_maturity),
    )
