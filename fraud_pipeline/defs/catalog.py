"""What the catalog shows of every asset: its columns, the place of its table, and the version of its code.

Belongs here: schemas and places as Dagster metadata, by name of the asset.
Must not be here: schemas themselves, checks of rows (`checks.py`).
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import dagster as dg
from pandera.pandas import DataFrameSchema

from fraud_pipeline.database import tables as database_tables
from fraud_pipeline.database.urls import address
from fraud_pipeline.features.code_version import package_hash
from fraud_pipeline.features.definitions import FEATURES, features_schema
from fraud_pipeline.features.merchant_days import FINAL_MERCHANT_DAYS
from fraud_pipeline.host.data_location import below
from fraud_pipeline.modeling.training import training_set_schema
from fraud_pipeline.schema.money import Conversion
from fraud_pipeline.schema.own_fields import OwnField, transactions_schema
from fraud_pipeline.schema.raw_transactions import RAW_TRANSACTIONS
from fraud_pipeline.schema.transactions import FRAUD_REPORTS, REJECTED_TRANSACTIONS, TRANSACTIONS, UNKNOWN_LABELS
from fraud_pipeline.settings import Settings

STORED_TABLES: Final[Mapping[str, DataFrameSchema]] = {
    "raw_transactions": RAW_TRANSACTIONS,
    "transactions": TRANSACTIONS,
    "rejected_transactions": REJECTED_TRANSACTIONS,
    "fraud_reports": FRAUD_REPORTS,
    "merchant_days": FINAL_MERCHANT_DAYS,
    "features": features_schema(),
    "training_set": training_set_schema(),
}
"""The schema of each table of the table store, by the asset that writes it, where no own fields are declared."""

HIDDEN_ROWS: Final = "hidden_rows"
"""Feature rows that were blocked and never reported, and are therefore not in the training set."""
UNKNOWN: Final = "unknown_labels"
"""The accepted transactions whose label the source does not know; the table exists where there are some."""
TABLES_BESIDE: Final[Mapping[str, tuple[str, DataFrameSchema]]] = {
    HIDDEN_ROWS: ("training_set", features_schema()),
    UNKNOWN: ("transactions", UNKNOWN_LABELS),
}
"""Each table that an asset writes beside its own: that asset, and the schema of the table."""

DATABASE_TABLES: Final = {
    "online_history": database_tables.TRANSACTIONS,
    "scored_transactions": database_tables.DECISIONS,
    "decisions": database_tables.DECISIONS,
    "alerts": database_tables.ALERTS,
    "drift_report": database_tables.DRIFT,
    "performance_report": database_tables.PERFORMANCE,
    "missed_fraud_report": database_tables.REPORT_VERDICTS,
}
"""The main table of each asset that is written to the database."""

# The code that decides the values of an asset; assets of the features group hash theirs to the function.
_CODE: Final[Mapping[str, tuple[str, ...]]] = {
    "raw_transactions": ("ingest", "generator", "schema"),
    "transactions": ("ingest", "schema"),
    "rejected_transactions": ("ingest", "schema"),
    "fraud_reports": ("ingest", "generator", "schema"),
    "training_set": ("modeling.dataset", "modeling.training", "features.own_inputs", "schema"),
    "fraud_model": ("modeling", "features.own_inputs", "policy"),
    "evaluation": ("modeling", "features.own_inputs", "policy"),
    "registered_model": ("promotion",),
    "champion": ("promotion", "policy"),
    "online_history": ("database", "scoring"),
    "retention": ("database.retention", "storage.expired_files"),
    "scored_transactions": ("scoring", "policy", "features"),
    "drift_report": ("monitoring",),
    "performance_report": ("monitoring",),
    "missed_fraud_report": ("monitoring",),
}


def own_fields(settings: Settings) -> tuple[OwnField, ...]:
    """The own fields that this deployment declares."""
    return settings.declaration.own_fields if settings.declaration else ()


def conversion(settings: Settings) -> Conversion | None:
    """How amounts of other currencies are converted; None where no currency is declared."""
    return settings.declaration.conversion if settings.declaration else None


def stored_tables(own_fields: Sequence[OwnField]) -> Mapping[str, DataFrameSchema]:
    """The schema of each table of the table store, with the own fields that this deployment declares."""
    own = {"transactions": transactions_schema(own_fields), "training_set": training_set_schema(own_fields)}
    return {**STORED_TABLES, **own}


def in_catalog(
    assets: Iterable[dg.AssetsDefinition | dg.AssetSpec], *, settings: Settings
) -> list[dg.AssetsDefinition | dg.AssetSpec]:
    """The assets with columns, place and code version, as far as each has them and does not say them itself."""
    return list(dg.map_asset_specs(lambda spec: _described(spec, settings), list(assets)))


def _described(spec: dg.AssetSpec, settings: Settings) -> dg.AssetSpec:
    name = spec.key.to_user_string()
    code_version = spec.code_version or (package_hash(*_CODE[name])[:16] if name in _CODE else None)
    described = spec.replace_attributes(code_version=code_version)
    return described.merge_attributes(metadata=_metadata(spec, settings))


def _metadata(spec: dg.AssetSpec, settings: Settings) -> dict[str, Any]:
    name = spec.key.to_user_string()
    columns, uri = None, _places(settings).get(name)
    if name in STORED_TABLES:
        own = own_fields(settings)
        columns = _columns_of_schema(stored_tables(own)[name], own=own)
        table = below(settings.tables_location, name)
        uri = table.as_uri() if isinstance(table, Path) else str(table)
    elif name in DATABASE_TABLES:
        columns = _columns_of_table(DATABASE_TABLES[name])
        uri = f"{address(settings.database)}#{DATABASE_TABLES[name].name}"
    shown = {"dagster/column_schema": columns and dg.TableSchema(columns=columns), "dagster/uri": uri}
    return {key: value for key, value in shown.items() if value is not None}


def _places(settings: Settings) -> dict[str, str]:
    """Where assets are that are no tables."""
    return {
        "fraud_model": (settings.model_directory / "candidate").as_uri(),
        "evaluation": (settings.model_directory / "evaluation.json").as_uri(),
        "registered_model": f"models:/{settings.model_name}@challenger",
        "champion": settings.champion_directory.as_uri(),
    }


def _columns_of_schema(schema: DataFrameSchema, *, own: Sequence[OwnField]) -> list[dg.TableColumn]:
    meanings = {feature.name: f"{feature.description} ({feature.unit})" for feature in FEATURES}
    meanings |= {field.name: f"{field.description} ({field.type})".strip() for field in own}
    return [
        dg.TableColumn(
            name,
            type=str(column.dtype or "any"),
            description=meanings.get(name),
            constraints=dg.TableColumnConstraints(nullable=column.nullable, unique=column.unique),
        )
        for name, column in schema.columns.items()
    ]


def _columns_of_table(table: Any) -> list[dg.TableColumn]:
    # SQLAlchemy's tables; only database/ imports their types.
    return [
        dg.TableColumn(
            column.name,
            type=str(column.type),
            constraints=dg.TableColumnConstraints(nullable=bool(column.nullable), unique=bool(column.unique)),
        )
        for column in table.columns
    ]
