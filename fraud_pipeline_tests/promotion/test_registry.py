"""Versions, aliases and the history of promotions, in a real MLflow database and with real files."""

import shutil
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Final

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from fraud_pipeline.features.definitions import FEATURE_NAMES
from fraud_pipeline.features.own_inputs import FIXED_INPUTS
from fraud_pipeline.modeling.model_directory import (
    BOOSTER_FILE,
    MANIFEST_FILE,
    FraudModel,
    IncompatibleModelError,
    file_hash,
)
from fraud_pipeline.modeling.training import TrainedModel
from fraud_pipeline.policy.decisions import Policy
from fraud_pipeline.promotion.promotion_history import Action
from fraud_pipeline.promotion.published_model import published_version
from fraud_pipeline.promotion.registry import RegisteredModel, Registry, RegistryError
from fraud_pipeline.scoring.decide import decide_with_model
from fraud_pipeline_tests.support.small_world import Tables

# MLflow and its dependencies warn about themselves; nothing here can mend that.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

NAMES: Final = count(1)


@dataclass(frozen=True)
class Place:
    """One registered name of the shared database, and a model to register under it."""

    registry: Registry
    model: FraudModel
    directory: Path

    @property
    def link(self) -> Path:
        """Where serving looks."""
        return self.directory / "champion"

    def save(self, review_threshold: float) -> Path:
        """A model directory that can be told from others by its threshold."""
        directory = self.directory / f"model-{review_threshold}"
        replace(self.model, policy=Policy(review_threshold=review_threshold, block_threshold=0.9)).save(directory)
        return directory

    def register(self, review_threshold: float = 0.1, **tags: str) -> RegisteredModel:
        """A new version, stored with a training run of its own."""
        client = MlflowClient(tracking_uri=self.registry.tracking_uri)
        run = client.create_run(self.registry.ensure_experiment("training"))
        return self.registry.register(self.save(review_threshold), run_id=run.info.run_id, tags=tags)

    def promote(self, version: int) -> None:
        self.registry.install_champion(version, action="promote", reasons=["better"], directory=self.link)

    def rollback(self) -> int:
        before = self.registry.previous_champion().version
        self.registry.install_champion(before, action="rollback", reasons=["worse"], directory=self.link)
        return before

    def champion(self) -> int | None:
        champion = self.registry.with_alias("champion")
        return champion.version if champion else None

    def served_version(self) -> int | None:
        """What a service that knows no MLflow says it serves."""
        published = published_version(self.link)
        return published[0] if published else None

    def served_threshold(self) -> float:
        return FraudModel.load(self.link).policy.review_threshold


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One directory for all: MLflow takes seconds to make its first tables."""
    return tmp_path_factory.mktemp("mlflow")


@pytest.fixture
def place(database: Path, trained: TrainedModel, tmp_path: Path) -> Place:
    registry = Registry(
        tracking_uri=f"sqlite:///{database / 'mlflow.db'}",
        model_name=f"fraud_model_{next(NAMES)}",
        artifact_directory=database / "artifacts",
    )
    small = replace(trained.model, reference=trained.model.reference.head(10))
    return Place(registry=registry, model=small, directory=tmp_path)


class TestRegistering:
    def test_before_the_first_there_is_nothing(self, place: Place) -> None:
        assert place.registry.versions() == ()
        assert place.registry.history() == ()
        assert place.champion() is None
        assert place.registry.champion_at(pd.Timestamp.now(tz="UTC")) is None

    def test_a_new_version_is_the_challenger_and_carries_its_hash(self, place: Place) -> None:
        first, second = place.register(0.1), place.register(0.2, average_precision="0.5")
        assert (first.version, second.version) == (1, 2)
        assert second.aliases == ("challenger",)
        assert second.sha256 == file_hash(place.directory / "model-0.2" / MANIFEST_FILE) == second.tags["sha256"]
        assert second.tags["average_precision"] == "0.5"
        assert [model.version for model in place.registry.versions()] == [2, 1]
        assert place.registry.get(1).aliases == ()
        assert second.created_at <= pd.Timestamp.now(tz="UTC")

    def test_its_files_are_kept_with_the_run_and_load_again(self, place: Place) -> None:
        version = place.register(0.3)
        shutil.rmtree(place.directory / "model-0.3")
        assert place.registry.load(version).policy.review_threshold == 0.3
        assert version.run_id in version.source

    @pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning")  # of MLflow's own types
    def test_mlflow_loads_the_champion_and_predicts_what_the_service_does(
        self, place: Place, tables: Tables, request: pytest.FixtureRequest
    ) -> None:
        place.promote(place.register(0.3).version)
        # A place that another test set in this process outdoes the environment.
        request.addfinalizer(partial(mlflow.set_tracking_uri, mlflow.get_tracking_uri()))
        request.addfinalizer(partial(mlflow.set_registry_uri, ""))
        mlflow.set_tracking_uri(place.registry.tracking_uri)
        mlflow.set_registry_uri(place.registry.tracking_uri)
        loaded = mlflow.pyfunc.load_model(f"models:/{place.registry.model_name}@champion")
        values = tables.model_rows.head(500)[list(place.model.features)]
        _, served, _ = decide_with_model(place.model.values(values), FraudModel.load(place.link))
        assert loaded.predict(values).tolist() == served
        assert loaded.predict(values.astype(dict.fromkeys(FEATURE_NAMES, np.float64))).tolist() == served
        assert loaded.metadata.get_input_schema().input_names() == [*FEATURE_NAMES, *FIXED_INPUTS]
        example = place.model.reference.head(len(loaded.input_example))
        assert len(example) > 0
        assert loaded.predict(loaded.input_example).tolist() == example["score"].tolist()
        with pytest.raises(MlflowException, match="missing inputs.*amount"):
            loaded.predict(values.drop(columns="amount"))

    def test_a_model_that_cannot_be_rebuilt_is_not_registered(self, place: Place) -> None:
        directory = place.save(0.1)
        (directory / BOOSTER_FILE).unlink()
        with pytest.raises(IncompatibleModelError, match="booster.ubj"):
            place.registry.register(directory, run_id="unused", tags={})
        assert place.registry.versions() == ()

    def test_an_unknown_version_names_the_known_ones(self, place: Place) -> None:
        with pytest.raises(RegistryError, match="has no version 1; versions are: none"):
            place.registry.get(1)
        place.register()
        place.register()
        with pytest.raises(RegistryError, match="has no version 7; versions are: 1, 2"):
            place.registry.install_champion(7, action="promote", reasons=[], directory=place.link)

    def test_a_version_registered_by_other_means_is_listed_and_refused(self, place: Place) -> None:
        source = place.register().source
        client = MlflowClient(tracking_uri=place.registry.tracking_uri)
        client.create_model_version(place.registry.model_name, source=source)
        assert place.registry.versions()[0].sha256 == ""
        with pytest.raises(RegistryError, match="version 2 was changed after registration"):
            place.promote(2)


class TestPromotion:
    def test_a_promoted_version_is_champion_and_served(self, place: Place) -> None:
        version = place.register(0.4).version
        decision = place.registry.install_champion(
            version, action="promote", reasons=["better", "cheaper"], directory=place.link
        )
        assert place.champion() == version
        assert place.served_threshold() == 0.4
        assert (decision.previous_champion, decision.champion, decision.confirmed) == (None, version, True)
        assert decision.reasons == ("better", "cheaper")
        assert place.registry.history() == (decision,)

    def test_a_rejected_challenger_changes_nothing_and_is_remembered(self, place: Place) -> None:
        place.promote(place.register(0.4).version)
        challenger = place.register(0.5)
        decision = place.registry.decide(challenger.version, action="reject", reasons=["worse"])
        assert (decision.champion, decision.previous_champion) == (1, 1)
        assert place.champion() == 1
        assert place.served_threshold() == 0.4
        assert [(entry.action, entry.version) for entry in place.registry.history()] == [("promote", 1), ("reject", 2)]

    @pytest.mark.parametrize("action", ["promote", "rollback", "reject"])
    def test_a_settled_version_is_challenger_no_more(self, place: Place, action: Action) -> None:
        for _ in range(2):
            place.register()
        place.registry.decide(2, action=action, reasons=["settled"])
        assert place.registry.with_alias("challenger") is None
        assert place.register().aliases == ("challenger",)

    def test_another_challenger_stays_one(self, place: Place) -> None:
        for _ in range(3):
            place.register()
        place.promote(1)
        place.registry.decide(2, action="promote", reasons=["by hand"])
        place.registry.decide(1, action="rollback", reasons=["by hand"])
        place.registry.decide(3, action="shadow_only", reasons=["inconclusive"])
        challenger = place.registry.with_alias("challenger")
        assert challenger is not None
        assert challenger.version == 3

    def test_a_registry_whose_champion_kept_the_alias_heals(self, place: Place) -> None:
        """Earlier releases left the alias of the challenger on what they promoted."""
        place.promote(place.register().version)
        place.register()
        place.registry._client.set_registered_model_alias(place.registry.model_name, "challenger", "1")
        assert place.registry.with_alias("challenger") is None
        assert place.registry.get(1).aliases == ("champion",)
        assert place.registry.waiting() is None
        assert place.register().aliases == ("challenger",)

    def test_who_was_champion_is_known_for_every_instant(self, place: Place) -> None:
        tick = pd.Timedelta(milliseconds=1)
        before = pd.Timestamp.now(tz="UTC")
        for _ in range(3):
            place.register()
        for version in (1, 3):
            place.promote(version)
        place.registry.decide(2, action="shadow_only", reasons=["not yet"])
        place.rollback()
        moments = [entry.decided_at for entry in place.registry.history()]
        assert moments == sorted(moments)
        for moment, earlier, later in zip(moments, [None, 1, 3, 3], [1, 3, 3, 1], strict=True):
            assert place.registry.champion_at(moment - tick) == earlier
            assert place.registry.champion_at(moment) == later
        assert place.registry.champion_at(before - tick) is None
        assert place.registry.champion_at(pd.Timestamp.now("Asia/Tokyo")) == 1

    def test_an_interrupted_decision_says_so_and_counts_for_nothing(self, place: Place) -> None:
        """The alias cannot move to a version that does not exist, so the record stays open, as after a crash."""
        place.promote(place.register().version)
        with pytest.raises(MlflowException):
            place.registry.decide(99, action="promote", reasons=["a crash"])
        interrupted = place.registry.history()[-1]
        assert (interrupted.version, interrupted.confirmed) == (99, False)
        assert place.champion() == place.registry.champion_at(pd.Timestamp.now(tz="UTC")) == 1


class TestRollback:
    def test_it_brings_the_former_champion_back_to_serving(self, place: Place) -> None:
        for threshold in (0.1, 0.2):
            place.promote(place.register(threshold).version)
        assert place.served_version() == 2
        assert place.rollback() == 1
        assert place.champion() == place.served_version() == 1
        assert place.served_threshold() == 0.1

    def test_twice_goes_back_two_promotions_and_not_to_the_bad_one(self, place: Place) -> None:
        for threshold in (0.1, 0.2, 0.3):
            place.promote(place.register(threshold).version)
        assert [place.rollback(), place.rollback()] == [2, 1]
        with pytest.raises(RegistryError, match="no earlier champion to go back to; promote a version by its number"):
            place.rollback()

    def test_a_champion_promoted_again_still_knows_what_came_before_it(self, place: Place) -> None:
        place.register()
        place.register()
        for version in (1, 2, 2):
            place.promote(version)
        assert place.registry.previous_champion().version == 1

    def test_the_only_champion_has_none_before(self, place: Place) -> None:
        with pytest.raises(RegistryError, match="no earlier champion"):
            place.registry.previous_champion()
        place.promote(place.register().version)
        with pytest.raises(RegistryError, match="no earlier champion"):
            place.registry.previous_champion()


class TestRefusal:
    @pytest.fixture
    def champion(self, place: Place) -> Place:
        place.promote(place.register(0.1).version)
        return place

    def stored(self, model: RegisteredModel) -> Path:
        return Path(model.source.removeprefix("file://"))

    def test_a_changed_manifest(self, champion: Place) -> None:
        version = champion.register(0.2)
        manifest = self.stored(version) / MANIFEST_FILE
        manifest.write_text(manifest.read_text().replace('"review_threshold": 0.2', '"review_threshold": 0.0'))
        with pytest.raises(RegistryError, match="version 2 was changed after registration; retrain, do not promote it"):
            champion.promote(version.version)
        assert (champion.champion(), champion.served_threshold()) == (1, 0.1)
        assert len(champion.registry.history()) == 1

    def test_a_changed_booster(self, champion: Place) -> None:
        version = champion.register(0.2)
        booster = self.stored(version) / BOOSTER_FILE
        booster.write_bytes(booster.read_bytes()[:-1] + b"?")
        with pytest.raises(IncompatibleModelError, match="booster.ubj is missing or was changed"):
            champion.promote(version.version)
        assert (champion.champion(), champion.served_threshold()) == (1, 0.1)
        assert len(champion.registry.history()) == 1

    def test_a_model_of_features_that_this_code_does_not_build(self, champion: Place) -> None:
        """It was registered by another release, whose feature list was longer."""
        directory = champion.save(0.2)
        manifest = directory / MANIFEST_FILE
        manifest.write_text(manifest.read_text().replace('"is_night"', '"is_full_moon"'))
        client = MlflowClient(tracking_uri=champion.registry.tracking_uri)
        client.create_model_version(
            champion.registry.model_name, source=directory.as_uri(), tags={"sha256": file_hash(manifest)}
        )
        with pytest.raises(IncompatibleModelError, match="is_full_moon"):
            champion.promote(2)
        assert (champion.champion(), champion.served_threshold()) == (1, 0.1)
        assert len(champion.registry.history()) == 1
