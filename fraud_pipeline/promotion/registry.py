"""The model registry: versions, and the `champion` and `challenger` aliases.

Belongs here: calls of MLflow's registry. Must not be here: the judgement (`gate.py`), the record of decisions
(`promotion_history.py`), training, serving.

No version is champion and challenger at once: a challenger that became champion, or that was rejected, is challenger no
more. Registries of earlier releases, where the champion kept the alias, read as if it had been removed.
"""

import json
import logging
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, get_args

import mlflow
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from fraud_pipeline.features.config import FeatureConfig
from fraud_pipeline.modeling.evaluation import Evaluation
from fraud_pipeline.modeling.model_card import model_card
from fraud_pipeline.modeling.model_directory import (
    MANIFEST_FILE,
    FraudModel,
    IncompatibleModelError,
    file_hash,
    read_feature_config,
)
from fraud_pipeline.promotion.mlflow_flavor import write_flavor
from fraud_pipeline.promotion.promotion_history import DECISIONS, Action, Promotion, PromotionHistory, moment
from fraud_pipeline.promotion.published_model import activate, stage
from fraud_pipeline.promotion.training_run import NOTE_TAG
from fraud_pipeline.settings import Settings

Alias = Literal["champion", "challenger"]

ARTIFACT_NAME: Final = "fraud_model"
PLAIN_ARTIFACT: Final = "plain_model"
SHA256_TAG: Final = "sha256"
RUN_TAG: Final = "dagster_run_id"
FEATURE_CONFIG_TAG: Final = "feature_config"
TRAININGS: Final = "Trainings of the fraud model, one run each, with the model card as description."
MODEL: Final = (
    "Card fraud model with its policy. `champion` decides about transactions; `challenger` waits for the gate."
)


class RegistryError(RuntimeError):
    """The registry cannot carry out a request; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class RegisteredModel:
    """One version of the model and where its directory is kept."""

    version: int
    run_id: str
    source: str
    sha256: str
    aliases: tuple[str, ...]
    created_at: pd.Timestamp
    tags: Mapping[str, str]


class Registry:
    """Versions and promotions of one named model in the MLflow server at `tracking_uri`.

    `artifact_directory` is where runs keep files when the tracking store is a local database file.
    """

    def __init__(self, *, tracking_uri: str, model_name: str, artifact_directory: Path | None = None) -> None:
        self.tracking_uri = tracking_uri
        self.model_name = model_name
        self._artifact_directory = artifact_directory
        self._client = MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)
        self._history = PromotionHistory(self._client, experiment=f"{model_name}_promotions")

    def ensure_experiment(self, name: str, *, description: str = TRAININGS) -> str:
        """The id of an experiment, created when missing."""
        # Without the kind MLflow opens an experiment as one of generative AI.
        tags = {"mlflow.experimentKind": "custom_model_development", NOTE_TAG: description}
        experiment = self._client.get_experiment_by_name(name)
        if experiment is None:
            location = self._artifact_directory.joinpath(name).as_uri() if self._artifact_directory else None
            return str(self._client.create_experiment(name, artifact_location=location, tags=tags))
        for tag in tags.keys() - experiment.tags.keys():  # an experiment of an earlier release
            self._client.set_experiment_tag(experiment.experiment_id, tag, tags[tag])
        return str(experiment.experiment_id)

    def register(
        self,
        directory: Path,
        *,
        run_id: str,
        tags: Mapping[str, str],
        evaluation: Evaluation | None = None,
        plain: Path | None = None,
    ) -> RegisteredModel:
        """Store a model directory with the MLflow run that trained it, as a new version and the `challenger`.

        With its `evaluation` the version is described by the model card. `plain` is the directory of the plain model
        that was trained beside it, for the gate. Raises IncompatibleModelError when this code
        cannot rebuild the model from the directory.
        """
        model = FraudModel.load(directory)
        self._client.log_artifacts(run_id, str(directory), ARTIFACT_NAME)
        if plain is not None:
            self._client.log_artifacts(run_id, str(plain), PLAIN_ARTIFACT)
        with tempfile.TemporaryDirectory() as flavor:
            write_flavor(model, Path(flavor))
            self._client.log_artifacts(run_id, flavor, ARTIFACT_NAME)
        source = f"{self._client.get_run(run_id).info.artifact_uri}/{ARTIFACT_NAME}"
        try:
            self._client.create_registered_model(self.model_name, description=MODEL)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        created = self._client.create_model_version(
            self.model_name,
            source=source,
            run_id=run_id,
            description=model_card(model, evaluation) if evaluation else None,
            tags={
                **tags,
                SHA256_TAG: file_hash(directory / MANIFEST_FILE),
                FEATURE_CONFIG_TAG: model.feature_config.of_history.to_json(),
            },
        )
        self._client.set_registered_model_alias(self.model_name, "challenger", str(created.version))
        return self.get(int(created.version))

    def get(self, version: int) -> RegisteredModel:
        """One version. Raises RegistryError when it does not exist."""
        by_number = {model.version: model for model in self.versions()}
        if version not in by_number:
            existing = ", ".join(map(str, sorted(by_number))) or "none"
            raise RegistryError(f"{self.model_name} has no version {version}; versions are: {existing}")
        return by_number[version]

    def of_run(self, dagster_run_id: str) -> RegisteredModel:
        """The version that a Dagster run registered. Raises RegistryError when it registered none."""
        for model in self.versions():
            if model.tags.get(RUN_TAG) == dagster_run_id:
                return model
        raise RegistryError(f"run {dagster_run_id} registered no version of {self.model_name}: see its log in Dagster")

    def versions(self) -> tuple[RegisteredModel, ...]:
        """All versions, newest first."""
        try:
            aliases = dict(self._client.get_registered_model(self.model_name).aliases)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return ()
        entries = self._client.search_model_versions(f"name = '{self.model_name}'", max_results=1_000)
        models = [
            RegisteredModel(
                version=int(entry.version),
                run_id=str(entry.run_id),
                source=str(entry.source),
                sha256=entry.tags.get(SHA256_TAG, ""),  # absent when somebody registered it by other means
                aliases=_aliases(aliases, version=int(entry.version)),
                created_at=moment(entry.creation_timestamp),
                tags=entry.tags,
            )
            for entry in entries
        ]
        return tuple(sorted(models, key=lambda model: -model.version))

    def with_alias(self, alias: Alias) -> RegisteredModel | None:
        """The version that carries an alias, if any."""
        return next((model for model in self.versions() if alias in model.aliases), None)

    def download(self, model: RegisteredModel) -> Path:
        """A local directory with the model's files, their hash checked against the registered one."""
        files = mlflow.artifacts.download_artifacts(artifact_uri=model.source, tracking_uri=self.tracking_uri)
        directory = Path(files)
        if file_hash(directory / MANIFEST_FILE) != model.sha256:
            raise RegistryError(f"version {model.version} was changed after registration; retrain, do not promote it")
        return directory

    def load(self, model: RegisteredModel) -> FraudModel:
        """The model itself. Raises IncompatibleModelError when this code cannot rebuild it."""
        return FraudModel.load(self.download(model), expected_sha256=model.sha256)

    def plain_model(self, model: RegisteredModel) -> FraudModel | None:
        """The plain model that was trained beside a version, or None where there is none.

        Raises IncompatibleModelError when this code cannot rebuild it.
        """
        directory = self._artifact(model, PLAIN_ARTIFACT)
        return FraudModel.load(directory) if directory else None

    def feature_config(self, model: RegisteredModel) -> FeatureConfig:
        """The configuration of a version's features from history, also of a version that this code cannot rebuild.

        Raises IncompatibleModelError when its files do not record it.
        """
        if FEATURE_CONFIG_TAG in model.tags:
            return FeatureConfig.from_json(model.tags[FEATURE_CONFIG_TAG])
        return read_feature_config(self.download(model)).of_history

    def judged_pair(self) -> tuple[str, str] | None:
        """The versions of the champion and of the challenger that is judged against it, None without both.

        Raises RegistryError when the registry cannot be read.
        """
        try:
            champion, challenger = self.with_alias("champion"), self.with_alias("challenger")
        except MlflowException as error:
            raise RegistryError(f"{self.model_name} cannot be looked up: {error}; see that MLflow runs") from error
        return (str(champion.version), str(challenger.version)) if champion and challenger else None

    def feature_configs(self) -> dict[Alias, FeatureConfig]:
        """The feature configurations of champion and challenger, as far as they exist.

        Raises RegistryError when the registry cannot be read.
        """
        aliases: tuple[Alias, ...] = get_args(Alias)
        try:
            models = {alias: self.with_alias(alias) for alias in aliases}
            return {alias: self.feature_config(model) for alias, model in models.items() if model}
        except (MlflowException, IncompatibleModelError) as error:
            raise RegistryError(f"{self.model_name} cannot be looked up: {error}; see that MLflow runs") from error

    def evaluation(self, model: RegisteredModel) -> dict[str, Any] | None:
        """The content of `evaluation.json` of the run that trained a version, or None where there is no such file."""
        file = self._artifact(model, "evaluation.json")
        figures: dict[str, Any] | None = json.loads(file.read_text()) if file else None
        return figures

    def _artifact(self, model: RegisteredModel, name: str) -> Path | None:
        """A local copy of a file or directory of the run that trained a version, or None where there is none."""
        if name not in {file.path for file in self._client.list_artifacts(model.run_id)}:
            return None
        return Path(
            mlflow.artifacts.download_artifacts(run_id=model.run_id, artifact_path=name, tracking_uri=self.tracking_uri)
        )

    def decide(self, version: int, *, action: Action, reasons: Sequence[str]) -> Promotion:
        """Record a decision about a version and, for `promote` and `rollback`, make it the champion.

        A version that is champion now, or is rejected, is not the challenger any more.
        """
        champion = self.with_alias("champion")
        moves, before = action in ("promote", "rollback"), champion.version if champion else None
        experiment = self.ensure_experiment(self._history.experiment, description=DECISIONS)
        after = version if moves else before
        with self._history.recorded(experiment, action, version, before=before, after=after, reasons=reasons) as run_id:
            if moves:
                self._client.set_registered_model_alias(self.model_name, "champion", str(version))
            if moves or action == "reject":
                self._settle(version)
        return self._history.read(run_id)

    def _settle(self, version: int) -> None:
        """Take the alias `challenger` from a version that carries it."""
        aliases = self._client.get_registered_model(self.model_name).aliases
        if int(aliases.get("challenger", 0)) == version:
            self._client.delete_registered_model_alias(self.model_name, "challenger")

    def install_champion(
        self, version: int, *, action: Literal["promote", "rollback"], reasons: Sequence[str], directory: Path
    ) -> Promotion:
        """Make a version the champion and publish it at the link `directory`.

        The copy that will be served is verified before anything changes. A model that this code cannot rebuild raises
        IncompatibleModelError, and the present champion stays.
        """
        model = self.get(version)
        copy = stage(self.download(model), link=directory)
        decision = self.decide(version, action=action, reasons=reasons)
        activate(copy, link=directory, version=version)
        return decision

    def history(self) -> tuple[Promotion, ...]:
        """All decisions, oldest first."""
        return self._history.read_all()

    def waiting(self) -> Promotion | None:
        """The first decision to keep the present challenger in shadow, or None when it was decided otherwise since."""
        challenger = self.with_alias("challenger")
        if challenger is None:
            return None
        decided = [entry for entry in self.history() if entry.confirmed and entry.version == challenger.version]
        return decided[0] if decided and all(entry.action == "shadow_only" for entry in decided) else None

    def champion_at(self, instant: pd.Timestamp) -> int | None:
        """The version that was champion at an instant, or None when there was none yet."""
        past = [entry for entry in self.history() if entry.confirmed and entry.decided_at <= instant]
        return past[-1].champion if past else None

    def previous_champion(self) -> RegisteredModel:
        """The champion that the present one was promoted over, so that two rollbacks go back two promotions.

        Raises RegistryError when there has been only one.
        """
        current = self.with_alias("champion")
        for entry in reversed(self.history()):
            promoted = current is not None and entry.action == "promote" and entry.version == current.version
            if promoted and entry.previous_champion not in (None, entry.version):
                return self.get(int(entry.previous_champion or 0))
        raise RegistryError("there is no earlier champion to go back to; promote a version by its number instead")


def _aliases(aliases: Mapping[str, str], *, version: int) -> tuple[str, ...]:
    """The aliases of a version; the champion is not its own challenger."""
    names = {name for name, carrier in aliases.items() if int(carrier) == version}
    return tuple(sorted(names - {"challenger"} if "champion" in names else names))


def open_registry(settings: Settings) -> Registry:
    """The registry of one deployment."""
    return Registry(
        tracking_uri=settings.tracking_uri,
        model_name=settings.model_name,
        artifact_directory=settings.artifact_directory,
    )


# Small downloads and the first creation of tables need no messages.
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
for _name in ("alembic", "mlflow.store.db.utils"):
    logging.getLogger(_name).setLevel(logging.WARNING)
