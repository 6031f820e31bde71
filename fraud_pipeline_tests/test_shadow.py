"""The shadow: compares what both models decide, and can harm nothing."""

import threading
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from fraud_pipeline.decisions import Policy, decide
from fraud_pipeline.model import FraudModel
from fraud_pipeline.scoring import Scored
from fraud_pipeline.training import TrainedModel
from serving.champion import LoadedModel
from serving.shadow import MAX_WAITING, Shadow

CHAMPION, CHALLENGER = Policy(review_threshold=0.02, block_threshold=0.5), Policy(0.1, 0.6)


@pytest.fixture(scope="module")
def values(trained: TrainedModel) -> NDArray[np.float32]:
    """Feature rows of the reference."""
    model = trained.model
    return np.ascontiguousarray(model.reference[list(model.features)].to_numpy(np.float32))


def loaded(model: FraudModel, policy: Policy, *, version: str) -> LoadedModel:
    return LoadedModel(replace(model, policy=policy), version=version, sha256="0" * 64, loaded_at="")


def decided(model: FraudModel, values: NDArray[np.float32]) -> list[Scored]:
    """What the champion said."""
    probabilities = model.probabilities(values)
    return [
        Scored(f"t-{number}", choice, float(p), (), "model", "full", (), "1", 0)
        for number, (choice, p) in enumerate(zip(decide(probabilities, CHAMPION), probabilities, strict=True))
    ]


def test_it_counts_how_often_the_challenger_would_decide_otherwise(
    trained: TrainedModel, values: NDArray[np.float32]
) -> None:
    told: list[tuple[NDArray[np.object_], NDArray[np.object_]]] = []
    challenger = loaded(trained.model, CHALLENGER, version="2")
    shadow = Shadow(lambda: challenger, told=lambda one, other: told.append((one, other)))
    scored = decided(trained.model, values)
    shadow(values, scored)
    shadow.close()
    report = shadow.report()
    assert report is not None
    theirs = decide(trained.model.probabilities(values), CHALLENGER)
    expected = sum(one.decision != other for one, other in zip(scored, theirs, strict=True))
    assert (report.compared, report.disagreements) == (len(values), expected)
    assert expected > 0
    assert report.mean_difference == 0  # the same booster: only the policy differs
    assert (report.champion, report.challenger, len(told)) == ("1", "2", 1)
    assert sum(report.to_dict()["decisions"].values()) == len(values)


def test_another_challenger_starts_anew(trained: TrainedModel, values: NDArray[np.float32]) -> None:
    versions = iter(["2", "3"])
    shadow = Shadow(lambda: loaded(trained.model, CHALLENGER, version=next(versions)))
    scored = decided(trained.model, values)
    shadow(values, scored)
    shadow(values[:10], scored[:10])
    shadow.close()
    report = shadow.report()
    assert report is not None
    assert (report.challenger, report.compared) == ("3", 10)


@pytest.mark.parametrize("challenger", [None, "broken"])
def test_without_a_challenger_or_with_a_broken_one_nothing_happens(
    trained: TrainedModel, values: NDArray[np.float32], challenger: str | None
) -> None:
    broken = replace(trained.model, features=("no_such_feature",))
    model = loaded(broken, CHALLENGER, version="2") if challenger else None
    shadow = Shadow(lambda: model)
    shadow(values, decided(trained.model, values))
    shadow.close()
    assert shadow.report() is None


def test_a_slow_challenger_holds_nobody_up_and_what_it_missed_is_counted(
    trained: TrainedModel, values: NDArray[np.float32]
) -> None:
    go_on = threading.Event()
    challenger = loaded(trained.model, CHALLENGER, version="2")

    def slow() -> LoadedModel:
        go_on.wait(30)
        return challenger

    shadow = Shadow(slow)
    scored = decided(trained.model, values[:1])
    for _ in range(MAX_WAITING + 50):
        shadow(values[:1], scored)
    go_on.set()
    shadow.close()
    report = shadow.report()
    assert report is not None
    assert report.dropped >= 49
    assert report.compared + report.dropped == MAX_WAITING + 50
