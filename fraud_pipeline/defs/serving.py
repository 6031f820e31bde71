"""The batch side of serving: it loads history into the database and proves that both sides compute the same features.

Belongs here: assets that load, call and write. Must not be here: SQL (`database/`), the comparison
(`monitoring/skew_audit.py`).
"""

import logging
import time
from collections.abc import Iterable
from datetime import date
from typing import get_args

import dagster as dg
import pandas as pd

from fraud_pipeline.database import Database
from fraud_pipeline.database.history import (
    customers_of,
    made_label_maturities,
    read_feature_configs,
    read_merchant_days,
    read_newest_decisions,
    read_reports,
    read_transactions,
)
from fraud_pipeline.database.history_source import HistorySource, claim_history
from fraud_pipeline.database.merchant_day_refresh import refresh_merchant_days
from fraud_pipeline.database.months import open_months
from fraud_pipeline.database.own_fields import typed, with_types_of
from fraud_pipeline.database.retention import Retention, give_back_space, remove_expired, remove_settled_shadow_rows
from fraud_pipeline.defs.features import feature_config
from fraud_pipeline.defs.resources import DatabaseResource, RegistryResource, TablesResource
from fraud_pipeline.features.config import DEFAULT_FEATURE_CONFIG, FeatureConfig
from fraud_pipeline.monitoring.skew_audit import Audit, VersionedHistory, audit_each, with_tables
from fraud_pipeline.promotion.registry import Registry, RegistryError
from fraud_pipeline.scoring.online_history import load_changed_days, rows_of_customers
from fraud_pipeline.settings import Settings
from fraud_pipeline.storage.expired_files import remove_expired_files
from fraud_pipeline.storage.tables import TableStore

log = logging.getLogger(__name__)

AUDITED_DECISIONS = 20_000


class HistoryConfig(dg.Config):
    """Configuration of one run in the launchpad."""

    accept_other_source: bool = False


def serving_assets(settings: Settings) -> list[dg.AssetsDefinition]:
    """The assets of the `serving` group."""

    @dg.asset(
        group_name="serving",
        owners=[settings.owner],
        kinds={"python", "sql"},
        pool="online_history",
        deps=["transactions", "fraud_reports"],
        description="History in the database that decisions are made from: events, reports, merchants' days. "
        "Only days whose content changed are read, and only customers with new events get a new version.",
        check_specs=[
            dg.AssetCheckSpec(
                "served_features",
                asset="online_history",
                blocking=True,
                description="Features of served rows, computed again from history, must have the same bits.",
            )
        ],
    )
    def online_history(
        config: HistoryConfig, tables: TablesResource, database: DatabaseResource, registry: RegistryResource
    ) -> dg.MaterializeResult:
        store, started, now = tables.store(), time.monotonic(), pd.Timestamp.now(tz="UTC")
        source = HistorySource(settings.source_id, settings.source_name)
        with database.opened() as online:
            in_use = _configs_in_use(online, registry.registry(), settings=settings)
            first, last = _days(store, in_use, settings=settings, now=now)
            if settings.source_kind != "none":
                claim_history(online, source, accept_other=config.accept_other_source)
            load = load_changed_days(online, store, first=first, last=last)
            # Models that differ in own inputs or in local time share these days.
            lookbacks = {each.label_maturity: each.engineer().lookback for each in in_use}
            days = sum(
                refresh_merchant_days(online, now=now, lookback=lookback, label_maturity=label_maturity)
                for label_maturity, lookback in lookbacks.items()
            )
            _remove_settled_shadow_rows(online, registry.registry())
            verdict = _audit(online, store, first=first, last=last, settings=settings)
        return dg.MaterializeResult(
            metadata={
                "dagster/row_count": load.added.transactions,
                "new_reports": load.added.reports,
                "changed_customers": load.added.customers,
                "days_read": load.days_read,
                "changed_merchant_days": days,
                "seconds": time.monotonic() - started,
            },
            check_results=[
                dg.AssetCheckResult(
                    passed=verdict.passed,
                    check_name="served_features",
                    metadata={
                        "finding": verdict.finding,
                        "compared": verdict.compared,
                        "explained_by_later_knowledge": verdict.explained_by_later_knowledge,
                        "different": verdict.different,
                    },
                )
            ],
        )

    @dg.asset(
        group_name="serving",
        owners=[settings.owner],
        kinds={"python", "sql"},
        pool="online_history",
        description="Removes rows and files that are older than their retention, and gives their space back.",
    )
    def retention(database: DatabaseResource) -> dg.MaterializeResult:
        started, now = time.monotonic(), pd.Timestamp.now(tz="UTC")
        with database.opened() as online:
            months = open_months(online, now=now)
            removed = remove_expired(online, limits=retention_limits(settings, now=now))
            give_back_space(online)
        files = {
            "report_files": remove_expired_files(
                settings.report_directory, before=now - settings.report_page_retention
            ),
            "study_files": remove_expired_files(settings.study_directory, before=now - settings.study_retention),
        }
        counts = {f"removed_{name}": count for name, count in (removed | files).items()}
        return dg.MaterializeResult(metadata={**counts, "opened_months": months, "seconds": time.monotonic() - started})

    return [online_history, retention]


def retention_limits(settings: Settings, *, now: pd.Timestamp) -> dict[Retention, pd.Timestamp]:
    """The instant before which rows of each retention are too old."""
    limits: dict[Retention, pd.Timestamp] = {name: now - getattr(settings, name) for name in get_args(Retention)}
    return limits | {"decision_retention": now - settings.kept_decisions}


def _remove_settled_shadow_rows(database: Database, models: Registry) -> None:
    """Shadow scores of challengers that are no longer judged, also those that arrived after the verdict."""
    try:
        judged = models.judged_pair()
    except RegistryError as error:
        log.warning("shadow rows stay until it is known which are still judged: %s", error)
        return
    remove_settled_shadow_rows(database, judged=judged)


def _days(
    store: TableStore, configs: Iterable[FeatureConfig], *, settings: Settings, now: pd.Timestamp
) -> tuple[date, date]:
    """The first and last of the newest days, as far back as any feature reads and history is complete."""
    days = store.days("transactions")
    if not days and settings.source_kind in ("none", "served"):
        return now.date(), now.date()  # nothing to load; served rows have their merchant days, too
    if not days:
        raise dg.Failure("there are no transactions yet; materialize transactions and fraud_reports first")
    kept = (now - settings.history_retention).ceil("D").date()
    return max(kept, days[-1] - max(config.engineer().lookback for config in configs)), days[-1]


def _audit(database: Database, store: TableStore, *, first: date, last: date, settings: Settings) -> Audit:
    """The newest decisions against history, which is the offline tables wherever they hold a row.

    Decisions of releases that did not name a feature configuration were made with the deployment's.
    """
    decisions = read_newest_decisions(database, limit=AUDITED_DECISIONS)
    customers = customers_of(database, decisions["transaction_id"].tolist())
    end = pd.Timestamp.now(tz="UTC") + pd.Timedelta(days=1)
    start = end - settings.history_retention
    online = read_transactions(
        database, start=start, end=end, with_version=True, with_own_fields=True, customers=customers
    )
    online_reports = read_reports(database, start=start, end=end, with_version=True)
    transactions, reports = rows_of_customers(store, customers, first=first, last=last)

    def history_for(config: FeatureConfig) -> VersionedHistory:
        fields = config.own_inputs.fields
        history = VersionedHistory(
            transactions=typed(online, fields),
            reports=online_reports,
            merchant_days=read_merchant_days(database, start=start, end=end, label_maturity=config.label_maturity),
        )
        return with_tables(history, transactions=with_types_of(transactions, fields), reports=reports)

    configs = {id_: FeatureConfig.from_json(content) for id_, content in read_feature_configs(database).items()}
    return audit_each(decisions, history_for, configs=configs, unnamed=feature_config(settings))


def _configs_in_use(database: Database, models: Registry, *, settings: Settings) -> set[FeatureConfig]:
    """The feature configurations in use: of the next training, the champion or the rules, and the challenger."""
    in_use = {feature_config(settings)}
    try:
        of_models = models.feature_configs()
    except RegistryError as error:
        log.warning("merchants' days are made for all label maturities that they were made for before: %s", error)
        return in_use | {FeatureConfig(label_maturity=maturity) for maturity in made_label_maturities(database)}
    return in_use | set(of_models.values()) | (set() if "champion" in of_models else {DEFAULT_FEATURE_CONFIG})
