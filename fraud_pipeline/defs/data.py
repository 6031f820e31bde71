"""Data assets: source -> raw -> accepted | rejected, and what was reported when.

Belongs here: daily tables of events. Must not be here: rules about rows (`ingest/validation.py`), features.
"""

import dagster as dg

from fraud_pipeline.database.query_source import QuerySource
from fraud_pipeline.defs.calendar import DAYS_POOL, daily, span_of
from fraud_pipeline.defs.catalog import UNKNOWN, conversion, own_fields
from fraud_pipeline.defs.checks import broken_rules
from fraud_pipeline.defs.metadata import counts_table, stored_version
from fraud_pipeline.defs.resources import SourceResource, TablesResource
from fraud_pipeline.ingest.day_state import accept, source_notes
from fraud_pipeline.ingest.pseudonymous_source import PseudonymousSource
from fraud_pipeline.ingest.sources import FileSource
from fraud_pipeline.ingest.validation import check_rejected_share
from fraud_pipeline.schema.transactions import FRAUD_REPORTS
from fraud_pipeline.settings import Settings


def data_assets(settings: Settings, calendar: dg.DailyPartitionsDefinition) -> list[dg.AssetsDefinition]:
    """The assets of the `data` group."""
    shared = daily(settings, calendar, group="data", pool=DAYS_POOL)
    described = {key: value for key, value in shared.items() if key not in ("backfill_policy", "pool")}

    @dg.asset(
        **shared,
        # The loop closes: what was scored yesterday is trained on tomorrow.
        deps=["scored_transactions"] if settings.learn_from_served else [],
        description="Transactions as the source gave them, unchecked, by day.",
    )
    def raw_transactions(
        context: dg.AssetExecutionContext, tables: TablesResource, source: SourceResource
    ) -> dg.MaterializeResult:
        span, origin = span_of(context), source.source()
        # Versions first: what comes while rows are read makes the day differ, and the next night brings it.
        versions = origin.day_versions(start=span.start, end=span.end)
        raw = origin.transactions(start=span.start, end=span.end)
        tables.store().write_days(
            "raw_transactions",
            raw,
            time_column="event_time",
            days=span.days,
            misplaced_day=span.first,
            notes=source_notes(versions, reports=False),
        )
        recognised = counts_table(
            origin.notes if isinstance(origin, FileSource | QuerySource | PseudonymousSource) else {}
        )
        return dg.MaterializeResult(
            metadata={"dagster/row_count": len(raw), "days": len(span.days), "recognised_in_the_source": recognised},
            data_version=stored_version(tables.store(), "raw_transactions", span),
        )

    @dg.multi_asset(
        specs=[
            dg.AssetSpec(
                "transactions",
                deps=[raw_transactions],
                description="Accepted transactions: typed, unique, in range. Everything downstream reads these.",
                **described,
            ),
            dg.AssetSpec(
                "rejected_transactions",
                deps=[raw_transactions],
                description="Rows that were refused, each with the field and the reason. Nothing is dropped silently.",
                **described,
            ),
        ],
        backfill_policy=shared["backfill_policy"],
        pool=DAYS_POOL,
    )
    def validated_transactions(context: dg.AssetExecutionContext, tables: TablesResource):  # type: ignore[no-untyped-def]  # noqa: ANN202 - dagster reads an annotated generator as one output
        span = span_of(context)
        raw = tables.store().read("raw_transactions", span.first, span.last)
        # Whoever is accepted first keeps the id; the lock makes one of two runs at once the first.
        with tables.store().locked("transactions") as store:
            result, notes = accept(
                store,
                raw,
                days=span.days,
                now=span.end,
                fallback_time=span.start,
                own_fields=own_fields(settings),
                conversion=conversion(settings),
            )
            check_rejected_share(result, max_share=settings.max_rejected_share)
            # Before the transactions: their readers must not take an unknown label for a legitimate one.
            if len(result.unknown_labels) or store.days(UNKNOWN):
                store.write_days(UNKNOWN, result.unknown_labels, time_column="event_time", days=span.days)
            store.write_days("transactions", result.accepted, time_column="event_time", days=span.days, notes=notes)
            store.write_days("rejected_transactions", result.rejected, time_column="event_time", days=span.days)
        amounts = result.accepted["amount_cents"] / 100
        yield dg.MaterializeResult(
            "transactions",
            data_version=stored_version(store, "transactions", span),
            metadata={
                "dagster/row_count": len(result.accepted),
                "customers": int(result.accepted["customer_id"].nunique()),
                "merchants": int(result.accepted["merchant_id"].nunique()),
                "labels_unknown_to_the_source": len(result.unknown_labels),
                "unusable_cells_now_missing": counts_table(result.emptied),
                "amount_median": float(amounts.median()),
                "amount_99th_percentile": float(amounts.quantile(0.99)),
                "normalised": counts_table(
                    {
                        f"{name}: {rule}": rows
                        for name, rules in result.normalised.items()
                        for rule, rows in rules.items()
                    }
                ),
            },
        )
        yield dg.MaterializeResult(
            "rejected_transactions",
            data_version=stored_version(store, "rejected_transactions", span),
            metadata={"dagster/row_count": len(result.rejected), "reasons": counts_table(result.summary())},
        )

    @dg.asset(
        **shared,
        deps=[raw_transactions],
        description="What was said about a transaction, by the day it was said. A label exists only from then on.",
    )
    def fraud_reports(
        context: dg.AssetExecutionContext, tables: TablesResource, source: SourceResource
    ) -> dg.MaterializeResult:
        span, origin = span_of(context), source.source()
        versions = origin.day_versions(start=span.start, end=span.end)
        reports = origin.reports(start=span.start, end=span.end)
        if broken := broken_rules(reports, FRAUD_REPORTS):
            raise ValueError(f"reports break the schema of the table, so reading them misses a rule: {broken}")
        notes = source_notes(versions, reports=True)
        tables.store().write_days("fraud_reports", reports, time_column="reported_at", days=span.days, notes=notes)
        delay = (reports["reported_at"] - reports["event_time"]).dt.total_seconds() / 86_400
        return dg.MaterializeResult(
            data_version=stored_version(tables.store(), "fraud_reports", span),
            metadata={
                "dagster/row_count": len(reports),
                "frauds": int(reports["is_fraud"].sum()),
                "delay_days_median": float(delay.median()) if len(delay) else 0.0,
                "delay_days_90th_percentile": float(delay.quantile(0.9)) if len(delay) else 0.0,
            },
        )

    return [raw_transactions, validated_transactions, fraud_reports]
