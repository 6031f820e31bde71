"""Resources: they pass plain domain objects to assets, so that the domain never imports dagster.

Belongs here: configuration to object. Must not be here: what assets do with them.
"""

import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager
from datetime import date, timedelta
from pathlib import Path
from typing import Any, cast

import dagster as dg
from dagster_mlflow.resources import CONFIG_SCHEMA, MlFlow

from fraud_pipeline.database import Database, open_database
from fraud_pipeline.database.history_source import HistorySource
from fraud_pipeline.database.query_source import data_source
from fraud_pipeline.database.source import DatabaseSource
from fraud_pipeline.defs.named_source import NO_SOURCE
from fraud_pipeline.generator import SyntheticWorld, WorldConfig
from fraud_pipeline.host.data_location import data_location
from fraud_pipeline.ingest.declaration import Declaration
from fraud_pipeline.ingest.pseudonymous_source import PseudonymousSource
from fraud_pipeline.ingest.sources import SourceError, TransactionSource, parse_columns
from fraud_pipeline.modeling.personal_key import personal_key
from fraud_pipeline.modeling.training_workspace import Workspace, locked_workspace
from fraud_pipeline.promotion.registry import Registry
from fraud_pipeline.schema.personal_fields import PersonalFields
from fraud_pipeline.settings import Settings, SourceKind
from fraud_pipeline.storage.tables import TableStore

logger = logging.getLogger(__name__)

# The library has no type for a resource that is a plain object.
HeldWorkspace = dg.ResourceParam[Workspace]


class TablesResource(dg.ConfigurableResource):
    """The Delta tables below a directory of this machine or of an object store."""

    directory: str

    def store(self) -> TableStore:
        return TableStore(data_location(self.directory))


class SourceResource(dg.ConfigurableResource):
    """The source of transactions, as `Settings.source_kind` says."""

    kind: str
    source_id: str
    source_name: str
    served_by: str = ""
    retention_seconds: float = 0
    data_path: str = ""
    data_url: str = ""
    columns: str = ""
    declaration: str = ""
    personal_key: str = ""
    personal_key_is_ours: bool = True
    champion: str = ""
    label_delay_seconds: float
    seed: int
    difficulty: float
    first_day: str

    def source(self) -> TransactionSource:
        """The source, with pseudonyms in personal fields.

        Raises SourceError when none is chosen, and PersonalKeyError without a usable key of personal fields.
        """
        declaration = Declaration.model_validate_json(self.declaration) if self.declaration else None
        source = self._source(declaration)
        if declaration is None or not any(own.personal for own in declaration.own):
            return source
        key = personal_key(Path(self.personal_key), ours=self.personal_key_is_ours, champion=Path(self.champion))
        return PseudonymousSource(source, PersonalFields.among(declaration.own_fields, key=key))

    def _source(self, declaration: Declaration | None) -> TransactionSource:
        match cast("SourceKind", self.kind):
            case "served":
                return DatabaseSource(
                    self.served_by,
                    retention=timedelta(seconds=self.retention_seconds),
                    source=HistorySource(self.source_id, self.source_name),
                    own_fields=declaration.own_fields if declaration else (),
                )
            case "file":
                return data_source(
                    data_location(self.data_path),
                    url=self.data_url,
                    columns=parse_columns(self.columns) if self.columns else None,
                    declaration=declaration,
                    label_delay=timedelta(seconds=self.label_delay_seconds),
                )
            case "synthetic":
                first_day = date.fromisoformat(self.first_day)
                return SyntheticWorld(WorldConfig(seed=self.seed, difficulty=self.difficulty, first_day=first_day))
            case "none":
                raise SourceError(NO_SOURCE)


class DatabaseResource(dg.ConfigurableResource):
    """The database of decisions; statements of a batch run may take minutes."""

    url: str

    def opened(self) -> AbstractContextManager[Database]:
        """The database with the tables of this release."""
        return open_database(self.url, statement_timeout=timedelta(minutes=10))


class RegistryResource(dg.ConfigurableResource):
    """The MLflow registry of the fraud model."""

    tracking_uri: str
    model_name: str
    artifact_directory: str

    def registry(self) -> Registry:
        return Registry(
            tracking_uri=self.tracking_uri,
            model_name=self.model_name,
            artifact_directory=Path(self.artifact_directory) if self.artifact_directory else None,
        )


@dg.resource(
    config_schema=CONFIG_SCHEMA,
    required_resource_keys={"registry"},
    description="The MLflow run of this Dagster run, by dagster-mlflow.",
)
def mlflow_run(context: dg.InitResourceContext) -> Iterator[MlFlow]:
    """dagster-mlflow's run, in an experiment whose files live in the home directory, ended when the Dagster run ends.

    The library's hook ends it only in the job it is attached to; *Materialize all* runs outside of any such job.
    """
    registry: Registry = context.resources.registry.registry()
    registry.ensure_experiment(context.resource_config["experiment_name"])
    run: Any = MlFlow(context)  # type: ignore[no-untyped-call]  # dagster-mlflow has no types
    yield run
    run.end_run()


@dg.resource(config_schema={"directory": str}, description="The working copies of the training that holds the lock.")
def training_workspace(context: dg.InitResourceContext) -> Iterator[Workspace]:
    """The workspace of this Dagster run, locked until the run ends; a run of another process waits for it."""
    log = context.log.info if context.log else logger.info
    directory = Path(context.resource_config["directory"])
    holder = f"Dagster run {context.run.run_id}" if context.run else "a process without a Dagster run"
    with locked_workspace(directory, holder=holder, on_wait=log) as workspace:
        yield workspace


def build_resources(settings: Settings) -> dict[str, object]:
    """The resources of one deployment, by the names that assets ask for."""
    return {
        "tables": TablesResource(directory=str(settings.tables_location)),
        "source": SourceResource(
            kind=settings.source_kind,
            source_id=settings.source_id,
            source_name=settings.source_name,
            served_by=settings.database if settings.learn_from_served else "",
            retention_seconds=settings.history_retention.total_seconds(),
            data_path=str(settings.data_path) if settings.data_path else "",
            data_url=settings.data_url,
            columns=settings.columns,
            declaration=settings.declaration.model_dump_json() if settings.declaration else "",
            personal_key=str(settings.personal_key_file),
            personal_key_is_ours=settings.personal_key is None,
            champion=str(settings.champion_directory),
            label_delay_seconds=settings.label_delay.total_seconds(),
            seed=settings.seed,
            difficulty=settings.difficulty,
            first_day=settings.world_begins.isoformat(),
        ),
        "database": DatabaseResource(url=settings.database),
        "workspace": training_workspace.configured({"directory": str(settings.model_directory)}),
        "registry": RegistryResource(
            tracking_uri=settings.tracking_uri,
            model_name=settings.model_name,
            artifact_directory=str(settings.artifact_directory or ""),
        ),
        "mlflow": mlflow_run.configured(
            {
                "experiment_name": settings.model_name,
                "mlflow_tracking_uri": settings.tracking_uri,
                "env": {},
                "extra_tags": {},
            }
        ),
    }
