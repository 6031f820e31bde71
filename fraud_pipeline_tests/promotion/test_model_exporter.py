"""Following the registry's aliases with a real MLflow: the link follows, and what goes wrong changes nothing."""

import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from fraud_pipeline.modeling.model_directory import BOOSTER_FILE, FraudModel
from fraud_pipeline.modeling.training import TrainedModel
from fraud_pipeline.policy.decisions import Policy
from fraud_pipeline.promotion.model_exporter import PATIENCE, export_aliases
from fraud_pipeline.promotion.published_model import published_version
from fraud_pipeline.promotion.registry import Registry
from fraud_pipeline_tests.support.waiting import until
from serving.runtime.champion import ChampionHolder

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


@pytest.fixture
def registry(tmp_path: Path, trained: TrainedModel) -> Registry:
    """A registry with two versions, the first of them champion and the second challenger."""
    registry_ = Registry(
        tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}",
        model_name="fraud_model",
        artifact_directory=tmp_path / "artifacts",
    )
    experiment = registry_.ensure_experiment("training")
    for number, threshold in enumerate((0.2, 0.3)):
        model = replace(trained.model, policy=Policy(review_threshold=threshold, block_threshold=0.9))
        model.save(tmp_path / f"model-{number}")
        run = registry_._client.create_run(experiment)
        registry_.register(tmp_path / f"model-{number}", run_id=run.info.run_id, tags={})
    registry_.decide(1, action="promote", reasons=["first"])
    return registry_


@contextmanager
def following(registry: Registry, **links: Path) -> Iterator[list[str]]:
    """The follower at work, and what it told."""
    lines: list[str] = []
    stop = threading.Event()
    thread = threading.Thread(
        target=export_aliases,
        args=(registry, links),
        kwargs={"interval": 0.05, "stop": stop, "on_progress": lines.append},
    )
    thread.start()
    try:
        yield lines
    finally:
        stop.set()
        thread.join()


def change_registered(directory: Path, threshold: str, by: str) -> None:
    """What the registry keeps of the version with this review threshold is no longer what was registered."""
    for manifest in (directory / "artifacts").rglob("model.json"):
        old = f'"review_threshold": {threshold},'
        manifest.write_text(manifest.read_text().replace(old, f'"review_threshold": {by},'))


def wait_for(*, lines: list[str], line: str) -> None:
    """Until a line was told."""
    until(lambda: any(line in text for text in lines), what=line)


def test_the_link_and_then_the_service_follow_the_alias(registry: Registry, tmp_path: Path) -> None:
    link = tmp_path / "champion"
    holder = ChampionHolder(link)
    with following(registry, champion=link) as lines:
        wait_for(lines=lines, line="champion is version 1")
        holder.check_now()
        first = holder.current()
        registry.decide(2, action="promote", reasons=["better"])
        wait_for(lines=lines, line="champion is version 2")
    holder.check_now()
    second = holder.current()
    assert first is not None
    assert second is not None
    assert (first.version, second.version) == ("1", "2")
    assert second.model.policy.review_threshold == 0.3
    assert published_version(link) == (2, second.sha256)


def test_a_challenger_that_is_gone_is_taken_away_and_the_champion_never_is(registry: Registry, tmp_path: Path) -> None:
    links = {"champion": tmp_path / "champion", "challenger": tmp_path / "challenger"}
    with following(registry, **links) as lines:
        wait_for(lines=lines, line="challenger is version 2")
        for alias in links:
            registry._client.delete_registered_model_alias("fraud_model", alias)
        wait_for(lines=lines, line="no challenger")
    assert not links["challenger"].exists()
    assert FraudModel.load(links["champion"])


def test_a_registry_that_is_away_is_told_once_and_the_export_stays(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in PATIENCE.items():
        monkeypatch.setenv(name, value)
    link = tmp_path / "champion"
    with following(registry, champion=link) as lines:
        wait_for(lines=lines, line="champion is version 1")
    away = Registry(tracking_uri="http://127.0.0.1:1", model_name="fraud_model")
    with following(away, champion=link) as lines:
        wait_for(lines=lines, line="what was exported stays")
        time.sleep(1)  # it tries several times more
    assert len(lines) == 1
    assert published_version(link) is not None


def test_the_password_of_the_server_is_not_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in PATIENCE.items():
        monkeypatch.setenv(name, value)
    away = Registry(tracking_uri="http://ann:s3cret@127.0.0.1:1", model_name="fraud_model")
    with following(away, champion=tmp_path / "champion") as lines:
        wait_for(lines=lines, line="http://127.0.0.1:1")
    assert "s3cret" not in " ".join(lines)


def test_a_bad_champion_does_not_hold_up_the_challenger(registry: Registry, tmp_path: Path) -> None:
    change_registered(tmp_path, "0.2", "0.21")
    with following(registry, champion=tmp_path / "champion", challenger=tmp_path / "challenger") as lines:
        wait_for(lines=lines, line="challenger is version 2")
    assert "version 1 was changed after registration" in lines[0]
    assert not (tmp_path / "champion").exists()


def test_files_that_are_gone_from_the_registry_are_told_and_it_goes_on(registry: Registry, tmp_path: Path) -> None:
    shutil.move(tmp_path / "artifacts", tmp_path / "elsewhere")
    with following(registry, champion=tmp_path / "champion") as lines:
        wait_for(lines=lines, line="what was exported stays")
        shutil.move(tmp_path / "elsewhere", tmp_path / "artifacts")
        wait_for(lines=lines, line="champion is version 1")


def test_an_export_that_was_damaged_is_renewed(registry: Registry, tmp_path: Path) -> None:
    link = tmp_path / "champion"
    with following(registry, champion=link) as lines:
        wait_for(lines=lines, line="champion is version 1")
        lines.clear()
        (link / BOOSTER_FILE).write_bytes(b"no booster")
        wait_for(lines=lines, line="champion is version 1")
    assert FraudModel.load(link)


def test_a_version_changed_after_registration_is_not_exported(registry: Registry, tmp_path: Path) -> None:
    link = tmp_path / "champion"
    with following(registry, champion=link) as lines:
        wait_for(lines=lines, line="champion is version 1")
        change_registered(tmp_path, "0.3", "0.31")
        registry.decide(2, action="promote", reasons=["better"])
        wait_for(lines=lines, line="changed after registration")
    published = published_version(link)
    assert published is not None
    assert published[0] == 1
