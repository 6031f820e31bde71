"""Following the registry's aliases with a real MLflow: the link follows, and what goes wrong changes nothing."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from fraud_pipeline.decisions import Policy
from fraud_pipeline.following import PATIENCE, follow
from fraud_pipeline.model import FraudModel, published_version
from fraud_pipeline.registry import Registry
from fraud_pipeline.training import TrainedModel
from serving.champion import ChampionHolder

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


@pytest.fixture
def registry(tmp_path: Path, trained: TrainedModel) -> Registry:
    """A registry with two versions, the first of them champion and the second challenger."""
    found = Registry(
        tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}",
        model_name="fraud_model",
        artifact_directory=tmp_path / "artifacts",
    )
    experiment = found.ensure_experiment("training")
    for number, threshold in enumerate((0.2, 0.3)):
        model = replace(trained.model, policy=Policy(review_threshold=threshold, block_threshold=0.9))
        model.save(tmp_path / f"model-{number}")
        run = found._client.create_run(experiment)
        found.register(tmp_path / f"model-{number}", run_id=run.info.run_id, tags={})
    found.decide(1, action="promote", reasons=["first"])
    return found


@contextmanager
def following(registry: Registry, **links: Path) -> Iterator[list[str]]:
    """The follower at work, and what it told."""
    told: list[str] = []
    stop = threading.Event()
    thread = threading.Thread(
        target=follow,
        args=(registry, links),
        kwargs={"interval": 0.05, "stop": stop, "tell": told.append},
    )
    thread.start()
    try:
        yield told
    finally:
        stop.set()
        thread.join()


def wait_for(condition: "threading.Event | None" = None, *, told: list[str], line: str) -> None:
    """Until a line was told."""
    waiting = condition or threading.Event()
    for _ in range(600):
        if any(line in one for one in told):
            return
        waiting.wait(0.05)
    pytest.fail(f"never told: {line}; told: {told}")


def test_the_link_and_then_the_service_follow_the_alias(registry: Registry, tmp_path: Path) -> None:
    link = tmp_path / "champion"
    holder = ChampionHolder(link)
    with following(registry, champion=link) as told:
        wait_for(told=told, line="champion is version 1")
        holder.check_now()
        first = holder.current()
        registry.decide(2, action="promote", reasons=["better"])
        wait_for(told=told, line="champion is version 2")
    holder.check_now()
    second = holder.current()
    assert first is not None
    assert second is not None
    assert (first.version, second.version) == ("1", "2")
    assert second.model.policy.review_threshold == 0.3
    assert published_version(link) == (2, second.sha256)


def test_a_challenger_that_is_gone_is_taken_away_and_the_champion_never_is(registry: Registry, tmp_path: Path) -> None:
    links = {"champion": tmp_path / "champion", "challenger": tmp_path / "challenger"}
    with following(registry, **links) as told:
        wait_for(told=told, line="challenger is version 2")
        for alias in links:
            registry._client.delete_registered_model_alias("fraud_model", alias)
        wait_for(told=told, line="no challenger")
    assert not links["challenger"].exists()
    assert FraudModel.load(links["champion"])


def test_a_registry_that_is_away_is_told_once_and_the_export_stays(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in PATIENCE.items():
        monkeypatch.setenv(name, value)
    link = tmp_path / "champion"
    with following(registry, champion=link) as told:
        wait_for(told=told, line="champion is version 1")
    away = Registry(tracking_uri="http://127.0.0.1:1", model_name="fraud_model")
    with following(away, champion=link) as told:
        wait_for(told=told, line="what was exported stays")
    assert len(told) == 1
    assert published_version(link) is not None


def test_a_version_changed_after_registration_is_not_exported(registry: Registry, tmp_path: Path) -> None:
    link = tmp_path / "champion"
    with following(registry, champion=link) as told:
        wait_for(told=told, line="champion is version 1")
        for manifest in (tmp_path / "artifacts").rglob("model.json"):
            manifest.write_text(manifest.read_text().replace("0.3", "0.31"))
        registry.decide(2, action="promote", reasons=["better"])
        wait_for(told=told, line="changed after registration")
    published = published_version(link)
    assert published is not None
    assert published[0] == 1
