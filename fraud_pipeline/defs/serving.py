"""What serving needs of the batch side: history in the database, and proof that both sides see the same features.

Belongs here: loading, one call, showing. Must not be here: SQL (`database/`), the comparison (`audit.py`).
"""

import time

import dagster as dg
import pandas as pd

from fraud_pipeline.audit import Audit, Known, audit, with_tables
from fraud_pipeline.database import Database
from fraud_pipeline.database.history import (
    customers_of,
    load_history,
    prune,
    read_merchant_days,
    read_newest_decisions,
    read_reports,
    read_transactions,
    refresh_merchant_days,
)
from fraud_pipeline.defs.features import engineer, lookback_days
from fraud_pipeline.defs.resources import DatabaseResource, TablesResource
from fraud_pipeline.settings import Settings
from fraud_pipeline.tables import TableStore
from fraud_pipeline.transactions import FRAUD_REPORTS, TRANSACTIONS, empty

AUDITED_DECISIONS = 20_000


def serving_assets(settings: Settings) -> list[dg.AssetsDefinition]:
    """The assets of the `serving` group."""

    @dg.asset(
        group_name="serving",
        owners=[settings.owner],
        kinds={"python", "sql"},
        pool="online_history",
        deps=["transactions", "fraud_reports"],
        description="History in the database that decisions are made from: events, reports, merchants' days. "
        "Loading again adds only what is missing; what no window reaches any more is removed.",
        check_specs=[
            dg.AssetCheckSpec(
                "served_features",
                asset="online_history",
                blocking=True,
                description="Features of served rows, computed again from history, must have the same bits.",
            )
        ],
    )
    def online_history(tables: TablesResource, database: DatabaseResource) -> dg.MaterializeResult:
        store, started, now = tables.store(), time.monotonic(), pd.Timestamp.now(tz="UTC")
        transactions, reports = _offline(store, settings=settings, since=now - settings.history_retention)
        with database.opened() as online:
            loaded = load_history(online, transactions=transactions, reports=reports)
            days = refresh_merchant_days(
                online, now=now, lookback=engineer(settings).lookback, label_maturity=settings.label_maturity
            )
            pruned = prune(online, before=now - settings.history_retention)
            verdict = _audit(online, transactions, reports, settings=settings)
        return dg.MaterializeResult(
            metadata={
                "dagster/row_count": loaded.transactions,
                "new_reports": loaded.reports,
                "changed_merchant_days": days,
                "removed_transactions": pruned.transactions,
                "removed_reports": pruned.reports,
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

    return [online_history]


def _offline(store: TableStore, *, settings: Settings, since: pd.Timestamp) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Transactions and reports of the newest days, as far back as any feature looks and history is kept."""
    days = store.days("transactions")
    if not days:
        raise dg.Failure("there are no transactions yet; materialize transactions and fraud_reports first")
    first = max(since.date(), (pd.Timestamp(days[-1]) - pd.Timedelta(days=lookback_days(settings))).date())
    if first > days[-1]:
        return empty(TRANSACTIONS), empty(FRAUD_REPORTS)
    transactions = store.read("transactions", first, days[-1], schema=TRANSACTIONS, allow_missing=True)
    return transactions, store.read("fraud_reports", first, days[-1], schema=FRAUD_REPORTS, allow_missing=True)


def _audit(database: Database, transactions: pd.DataFrame, reports: pd.DataFrame, *, settings: Settings) -> Audit:
    """The newest decisions against history, which is the offline tables wherever they hold a row."""
    decisions = read_newest_decisions(database, limit=AUDITED_DECISIONS)
    customers = customers_of(database, decisions["transaction_id"].tolist())
    end = pd.Timestamp.now(tz="UTC") + pd.Timedelta(days=1)
    start = end - settings.history_retention
    known = Known(
        transactions=read_transactions(database, start=start, end=end, with_version=True, customers=customers),
        reports=read_reports(database, start=start, end=end, with_version=True),
        merchant_days=read_merchant_days(database, start=start, end=end, label_maturity=settings.label_maturity),
    )
    ours = transactions[transactions["customer_id"].isin(customers)]
    return audit(decisions, with_tables(known, transactions=ours, reports=reports), engineer=engineer(settings))
