"""Readers of the published link see one whole model or another, whoever publishes and whatever breaks."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from fraud_pipeline.modeling.model_directory import (
    BOOSTER_FILE,
    MANIFEST_FILE,
    REFERENCE_FILE,
    FraudModel,
    IncompatibleModelError,
    file_hash,
)
from fraud_pipeline.modeling.training import TrainedModel, part
from fraud_pipeline.policy.decisions import Policy
from fraud_pipeline.promotion.published_model import (
    KEPT_COPIES,
    REGISTERED_FILE,
    activate,
    publish,
    published_version,
    stage,
)

FILES = (BOOSTER_FILE, MANIFEST_FILE, REFERENCE_FILE)
POLICY = Policy(review_threshold=0.2, block_threshold=0.7)


@pytest.fixture(scope="module")
def model(trained: TrainedModel) -> FraudModel:
    return replace(trained.model, policy=POLICY)


@pytest.fixture(scope="module")
def other(trained: TrainedModel) -> FraudModel:
    """A model with other probabilities and another policy."""
    calibration = replace(trained.model.calibration, c=-1.0)
    return replace(trained.model, calibration=calibration, policy=Policy(review_threshold=0.5, block_threshold=0.9))


@pytest.fixture(scope="module")
def rows(training_set: pd.DataFrame) -> pd.DataFrame:
    """Rows that nothing was fitted on; many of their features are missing."""
    return part(training_set, "test").head(500)


class TestStaging:
    def test_a_staged_model_is_served_only_once_it_is_activated(
        self, model: FraudModel, other: FraudModel, tmp_path: Path
    ) -> None:
        model.save(tmp_path / "a")
        other.save(tmp_path / "b")
        link = tmp_path / "champion"
        publish(tmp_path / "a", link=link, version=1)
        copy = stage(tmp_path / "b", link=link)
        assert FraudModel.load(copy).policy == other.policy
        assert FraudModel.load(link).policy == POLICY
        assert published_version(link) == (1, file_hash(tmp_path / "a" / MANIFEST_FILE))
        activate(copy, link=link, version=2)
        assert published_version(link) == (2, file_hash(tmp_path / "b" / MANIFEST_FILE))

    def test_a_model_is_loaded_once_on_its_way_to_the_link(
        self, model: FraudModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        model.save(tmp_path / "a")
        loaded = []
        booster_of = FraudModel.__init__

        def counted(self: FraudModel, *values: object, **fields: object) -> None:
            loaded.append(1)
            booster_of(self, *values, **fields)  # type: ignore[arg-type]

        monkeypatch.setattr(FraudModel, "__init__", counted)
        publish(tmp_path / "a", link=tmp_path / "champion")
        publish(tmp_path / "a", link=tmp_path / "champion")
        assert len(loaded) == 2


class TestPublishing:
    def test_readers_see_one_model_or_the_other_and_never_an_error(
        self, model: FraudModel, other: FraudModel, rows: pd.DataFrame, tmp_path: Path
    ) -> None:
        directories = [tmp_path / "a", tmp_path / "b"]
        expected = {}
        for saved, directory in zip((model, other), directories, strict=True):
            saved.save(directory)
            expected[saved.policy] = saved.predict(rows).tobytes()
        link = tmp_path / "served" / "champion"
        publish(directories[0], link=link)
        seen: set[Policy] = set()
        problems: list[str] = []
        stop = threading.Event()

        def read() -> None:
            while not stop.is_set():
                try:
                    loaded = FraudModel.load(link)
                    if expected[loaded.policy] != loaded.predict(rows).tobytes():
                        problems.append("a mixture")
                    seen.add(loaded.policy)
                except Exception as error:  # noqa: BLE001 - any error is a finding
                    problems.append(repr(error))

        readers = [threading.Thread(target=read) for _ in range(2)]
        for reader in readers:
            reader.start()
        for number in range(30):
            publish(directories[number % 2], link=link)
        stop.set()
        for reader in readers:
            reader.join()
        assert problems == []
        assert seen == set(expected)

    def test_a_reader_who_began_before_the_link_moved_finishes(
        self, model: FraudModel, other: FraudModel, tmp_path: Path
    ) -> None:
        model.save(tmp_path / "a")
        other.save(tmp_path / "b")
        link = tmp_path / "champion"
        first = publish(tmp_path / "a", link=link)
        second = publish(tmp_path / "b", link=link)
        assert link.resolve() == second.resolve()
        assert FraudModel.load(first).policy == POLICY

    def test_a_broken_directory_is_refused_before_the_link_moves(
        self, model: FraudModel, other: FraudModel, tmp_path: Path
    ) -> None:
        model.save(tmp_path / "a")
        other.save(tmp_path / "b")
        (tmp_path / "b" / BOOSTER_FILE).write_bytes(b"no booster")
        link = tmp_path / "champion"
        publish(tmp_path / "a", link=link)
        with pytest.raises(IncompatibleModelError, match="booster.ubj"):
            publish(tmp_path / "b", link=link)
        assert FraudModel.load(link).policy == POLICY

    def test_a_copy_that_was_damaged_since_is_renewed(self, model: FraudModel, tmp_path: Path) -> None:
        model.save(tmp_path / "a")
        link = tmp_path / "champion"
        copy = publish(tmp_path / "a", link=link)
        (copy / BOOSTER_FILE).unlink()
        assert publish(tmp_path / "a", link=link) == copy
        assert FraudModel.load(link).policy == POLICY

    def test_the_registry_s_version_stands_beside_the_copy(self, model: FraudModel, tmp_path: Path) -> None:
        digest = model.save(tmp_path / "a")
        link = tmp_path / "champion"
        publish(tmp_path / "a", link=link)
        assert published_version(link) is None
        for version in (3, 4):
            publish(tmp_path / "a", link=link, version=version)
            assert published_version(link) == (version, digest)
        assert FraudModel.load(link, expected_sha256=digest).policy == POLICY

    @pytest.mark.parametrize("name", [*FILES, REGISTERED_FILE])
    @pytest.mark.parametrize("content", [None, b"", b"[]", b"no JSON"])
    def test_the_version_of_damaged_files_is_not_known(
        self, model: FraudModel, tmp_path: Path, name: str, content: bytes | None
    ) -> None:
        model.save(tmp_path / "a")
        link = tmp_path / "champion"
        publish(tmp_path / "a", link=link, version=3)
        if content is None:
            (link / name).unlink()
        else:
            (link / name).write_bytes(content)
        assert published_version(link) is None

    def test_the_newest_copies_stay_and_the_served_one_always(self, model: FraudModel, tmp_path: Path) -> None:
        link = tmp_path / "champion"
        copies = []
        for number in range(KEPT_COPIES + 3):
            replace(model, lineage={"number": number}).save(tmp_path / "a")
            copies.append(publish(tmp_path / "a", link=link, version=number))
        assert [copy.exists() for copy in copies] == [False] * 3 + [True] * KEPT_COPIES
        for copy in copies[3:]:
            os.utime(copy, (2**33, 2**33))  # written while the clock was wrong
        replace(model, lineage={"number": "last"}).save(tmp_path / "a")
        last = publish(tmp_path / "a", link=link)
        assert link.resolve() == last.resolve()
        assert len([copy for copy in (*copies, last) if copy.exists()]) == KEPT_COPIES

    def test_a_model_that_was_gone_back_to_counts_as_new(self, model: FraudModel, tmp_path: Path) -> None:
        link = tmp_path / "champion"
        directories = [tmp_path / str(number) for number in range(KEPT_COPIES + 1)]
        for number, directory in enumerate(directories):
            replace(model, lineage={"number": number}).save(directory)
        for directory in directories[:-1]:
            publish(directory, link=link)
        back = publish(directories[0], link=link)
        publish(directories[-1], link=link)
        assert FraudModel.load(back).lineage["number"] == 0

    def test_many_may_publish_at_once(self, model: FraudModel, tmp_path: Path) -> None:
        """A promotion exports the champion while the follower does."""
        numbers = range(4)
        for number in numbers:
            replace(model, lineage={"number": number}).save(tmp_path / str(number))
        for round_ in range(3):
            link = tmp_path / f"served-{round_}" / "champion"
            with ThreadPoolExecutor(8) as threads:
                done = [
                    threads.submit(publish, tmp_path / str(number), link=link, version=number)
                    for number in [*numbers] * 2
                ]
            for copy in {future.result() for future in done}:
                loaded = FraudModel.load(copy)
                assert published_version(copy) == (loaded.lineage["number"], file_hash(copy / MANIFEST_FILE))

    def test_everything_may_move_to_another_place(self, model: FraudModel, tmp_path: Path) -> None:
        (tmp_path / "here").mkdir()
        model.save(tmp_path / "model")
        publish(tmp_path / "model", link=tmp_path / "here" / "champion")
        (tmp_path / "here").rename(tmp_path / "there")
        assert FraudModel.load(tmp_path / "there" / "champion").policy == POLICY
