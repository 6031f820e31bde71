"""The holder of the serving model: swaps for a better one, refuses a bad one, and never shows half of either."""

import json
import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fraud_pipeline.modeling.model_directory import MANIFEST_FILE, FraudModel, file_hash
from fraud_pipeline.modeling.training import TrainedModel
from fraud_pipeline.policy.decisions import Policy
from fraud_pipeline.promotion.published_model import publish
from serving.runtime.champion import ChampionHolder, LoadedModel


@pytest.fixture
def models(tmp_path: Path, trained: TrainedModel) -> tuple[Path, Path]:
    """Two model directories with different policies."""
    directories = (tmp_path / "a", tmp_path / "b")
    for threshold, directory in zip((0.2, 0.3), directories, strict=True):
        replace(trained.model, policy=Policy(review_threshold=threshold, block_threshold=0.9)).save(directory)
    return directories


class Heard:
    """The events of a holder."""

    def __init__(self) -> None:
        self.loaded: list[str] = []
        self.refused = 0

    def load(self, loaded: LoadedModel) -> None:
        self.loaded.append(loaded.version)

    def refuse(self) -> None:
        self.refused += 1


def holder_of(link: Path, heard: Heard | None = None) -> ChampionHolder:
    heard = heard or Heard()
    return ChampionHolder(link, poll_interval=0.01, on_loaded=heard.load, on_refused=heard.refuse)


def test_without_a_directory_there_is_no_model_until_one_comes(tmp_path: Path, models: tuple[Path, Path]) -> None:
    holder = holder_of(tmp_path / "champion")
    holder.check_now()
    assert holder.current() is None
    publish(models[0], link=tmp_path / "champion", version=7)
    holder.check_now()
    loaded = holder.current()
    assert loaded is not None
    assert loaded.version == "7"
    assert loaded.trained_to > 0


def damage_booster(directory: Path) -> None:
    booster = directory / "booster.ubj"
    booster.write_bytes(booster.read_bytes()[:500])


def damage_manifest(directory: Path) -> None:
    manifest = directory / MANIFEST_FILE
    manifest.write_text(manifest.read_text()[:-20])


def other_scores(directory: Path) -> None:
    """A whole model, whose reference was scored by another one."""
    model = FraudModel.load(directory)
    reference = model.reference.assign(score=model.reference["score"] * 1.001)
    replace(model, reference=reference).save(directory)


def text_for_a_number(directory: Path) -> None:
    manifest = json.loads((directory / MANIFEST_FILE).read_text())
    manifest["calibration"]["c"] = "a little"
    (directory / MANIFEST_FILE).write_text(json.dumps(manifest))


def no_manifest(directory: Path) -> None:
    (directory / MANIFEST_FILE).unlink()


def no_reference(directory: Path) -> None:
    replace(FraudModel.load(directory), reference=pd.DataFrame()).save(directory)


def no_reference_rows(directory: Path) -> None:
    model = FraudModel.load(directory)
    replace(model, reference=model.reference.head(0)).save(directory)


def no_reference_scores(directory: Path) -> None:
    model = FraudModel.load(directory)
    replace(model, reference=model.reference.drop(columns="score")).save(directory)


def other_features(directory: Path) -> None:
    manifest = json.loads((directory / MANIFEST_FILE).read_text())
    manifest["features"][0]["description"] = "something else"
    (directory / MANIFEST_FILE).write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    "damage",
    [
        damage_booster,
        damage_manifest,
        text_for_a_number,
        no_manifest,
        no_reference,
        no_reference_rows,
        no_reference_scores,
        other_scores,
        other_features,
    ],
)
def test_a_bad_model_is_refused_once_the_last_good_one_serves_on_and_a_mended_one_is_taken(
    tmp_path: Path, models: tuple[Path, Path], damage: Callable[[Path], None]
) -> None:
    link, heard = tmp_path / "champion", Heard()
    publish(models[0], link=link, version=1)
    holder = holder_of(link, heard)
    holder.check_now()
    good = holder.current()
    publish(models[1], link=link, version=2)
    damage(link.resolve())
    for _ in range(3):
        holder.check_now()
    assert holder.current() is good
    assert heard.refused == 1
    publish(models[1], link=link, version=2)
    holder.check_now()
    assert heard.loaded == ["1", "2"]


def test_a_service_starts_without_a_model_where_only_a_bad_one_is(tmp_path: Path, models: tuple[Path, Path]) -> None:
    link, heard = tmp_path / "champion", Heard()
    no_reference(models[0])
    publish(models[0], link=link, version=1)
    holder = holder_of(link, heard)
    holder.start()
    holder.close()
    assert holder.current() is None
    assert heard.refused == 1


def test_damage_to_what_serves_is_told_and_changes_nothing(tmp_path: Path, models: tuple[Path, Path]) -> None:
    link, heard = tmp_path / "champion", Heard()
    publish(models[0], link=link, version=1)
    holder = holder_of(link, heard)
    holder.check_now()
    good = holder.current()
    damage_booster(link.resolve())
    for _ in range(3):
        holder.check_now()
    assert holder.current() is good
    assert (heard.loaded, heard.refused) == (["1"], 1)
    publish(models[0], link=link, version=1)
    holder.check_now()
    assert holder.current() is good


def test_the_same_files_under_another_number_are_named_by_it(tmp_path: Path, models: tuple[Path, Path]) -> None:
    link, heard = tmp_path / "champion", Heard()
    holder = holder_of(link, heard)
    for version in (None, 1, 2, 2):
        publish(models[0], link=link, version=version)
        holder.check_now()
    assert heard.loaded == [file_hash(models[0] / MANIFEST_FILE)[:12], "1", "2"]


def test_a_number_that_was_given_to_other_files_is_not_believed(tmp_path: Path, models: tuple[Path, Path]) -> None:
    link = tmp_path / "champion"
    copy = publish(models[0], link=link, version=1)
    for file in models[1].iterdir():  # another process copies a model over it
        shutil.copy2(file, copy)
    holder = holder_of(link)
    holder.check_now()
    loaded = holder.current()
    assert loaded is not None
    assert loaded.version == loaded.sha256[:12] == file_hash(models[1] / MANIFEST_FILE)[:12]


@pytest.mark.parametrize("keep", [True, False])
def test_when_the_directory_is_gone_a_champion_stays_and_a_challenger_goes(
    tmp_path: Path, models: tuple[Path, Path], *, keep: bool
) -> None:
    link = tmp_path / "link"
    publish(models[0], link=link, version=1)
    holder = ChampionHolder(link, keep_when_gone=keep)
    holder.check_now()
    link.unlink()
    holder.check_now()
    assert (holder.current() is not None) == keep
    publish(models[0], link=link, version=1)
    holder.check_now()
    assert holder.current() is not None


def test_readers_see_one_whole_model_during_swaps(tmp_path: Path, models: tuple[Path, Path]) -> None:
    link = tmp_path / "champion"
    publish(models[0], link=link, version=1)
    holder = holder_of(link)
    holder.start()
    expected = {"1": 0.2, "2": 0.3}
    wrong: list[object] = []
    seen: set[str] = set()
    done = threading.Event()
    row = np.full((1, len(FraudModel.load(models[0]).features)), np.nan, np.float32)

    def read() -> None:
        while not done.is_set():
            loaded = holder.current()
            if loaded is None or expected[loaded.version] != loaded.model.policy.review_threshold:
                wrong.append(loaded)
            else:
                loaded.model.probabilities(row)
                seen.add(loaded.version)

    readers = [threading.Thread(target=read) for _ in range(4)]
    for reader in readers:
        reader.start()
    for swap in range(20):
        publish(models[(swap + 1) % 2], link=link, version=(swap + 1) % 2 + 1)
        holder.check_now()
    done.set()
    for reader in readers:
        reader.join()
    holder.close()
    assert not wrong
    assert seen == {"1", "2"}
