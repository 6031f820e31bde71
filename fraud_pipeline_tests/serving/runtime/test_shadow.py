"""The shadow: compares what both models decide, and can harm nothing."""

import sys
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import timedelta
from itertools import chain, cycle, repeat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sqlalchemy as sa
from numpy.typing import NDArray

from fraud_pipeline.database import Database
from fraud_pipeline.database.performance import ShadowRow, add_shadow_rows
from fraud_pipeline.database.tables import SHADOW_DECISIONS
from fraud_pipeline.features.config import FeatureConfig
from fraud_pipeline.features.definitions import FEATURE_NAMES
from fraud_pipeline.modeling.model_directory import FraudModel
from fraud_pipeline.modeling.training import TrainedModel
from fraud_pipeline.policy.decisions import CostModel, Decision, Policy, decide
from fraud_pipeline.scoring.decision_record import ScoringResult
from fraud_pipeline_tests.support.waiting import LIMIT_SECONDS, until
from serving.runtime.champion import LoadedModel
from serving.runtime.shadow import MAX_WAITING, Shadow

CHAMPION = Policy(review_threshold=0.02, block_threshold=0.5)
CHALLENGER = Policy(0.0, 0.6, CostModel(), review_price_cents=100.0)
AMOUNT = FEATURE_NAMES.index("amount")


@pytest.fixture(scope="module")
def values(trained: TrainedModel) -> NDArray[np.float32]:
    """Feature rows of the reference."""
    model = trained.model
    return np.ascontiguousarray(model.reference[list(model.features)].to_numpy(np.float32))


@pytest.fixture(scope="module")
def other(trained: TrainedModel) -> LoadedModel:
    """A challenger, version 2, that finds fraud more likely than the champion does, and acts later on it."""
    calibration = replace(trained.model.calibration, c=trained.model.calibration.c + 1)
    return loaded(replace(trained.model, calibration=calibration), CHALLENGER, version="2")


def loaded(model: FraudModel, policy: Policy, *, version: str) -> LoadedModel:
    return LoadedModel(replace(model, policy=policy), version=version, sha256=version * 64, loaded_at="")


def decided(model: FraudModel, values: NDArray[np.float32]) -> list[ScoringResult]:
    """What the champion said."""
    probabilities = model.probabilities(values)
    return [
        ScoringResult(f"t-{number}", choice, float(p), (), "model", "full", (), "1", 0)
        for number, (choice, p) in enumerate(
            zip(decide(probabilities, CHAMPION, amounts_cents=values[:, AMOUNT]), probabilities, strict=True)
        )
    ]


def with_a_lost_feature(model: FraudModel) -> FraudModel:
    """A model of a feature that nobody computes."""
    return replace(model, features=("no_such_feature", *model.feature_config.own_inputs.names))


def champion_of(trained: TrainedModel) -> LoadedModel:
    """Version 1, which decided."""
    return loaded(trained.model, CHAMPION, version="1")


@contextmanager
def threads_taking_turns_at_every_step() -> Iterator[None]:
    """What can go wrong between threads soon does."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)


def test_it_counts_how_often_the_challenger_would_decide_otherwise(
    trained: TrainedModel, other: LoadedModel, values: NDArray[np.float32]
) -> None:
    compared: list[tuple[Decision, Decision]] = []
    shadow = Shadow(
        lambda: other,
        on_compared=lambda *decisions: compared.extend(zip(*decisions, strict=True)),
    )
    scored = decided(trained.model, values)
    for start in range(0, len(values), 100):
        shadow(values[start : start + 100], scored[start : start + 100], champion_of(trained))
    shadow.close()
    report = shadow.report()
    assert report is not None
    probabilities = other.model.probabilities(values)
    both = list(
        zip(
            [result.decision for result in scored],
            decide(probabilities, CHALLENGER, amounts_cents=values[:, AMOUNT]),
            strict=True,
        )
    )
    assert compared == both
    assert report.decisions == Counter(both)
    assert report.compared == len(values)
    assert 0 < report.disagreements == sum(len(set(pair)) > 1 for pair in both)
    difference = probabilities - trained.model.probabilities(values)
    assert report.mean_difference == pytest.approx(difference.mean())
    assert difference.min() > 0
    assert (report.champion, report.challenger) == ("1", "2")
    assert sum(report.to_dict()["decisions"].values()) == len(values)


def test_another_challenger_starts_anew(trained: TrainedModel, values: NDArray[np.float32]) -> None:
    versions = iter(["2", "3"])
    shadow = Shadow(lambda: loaded(trained.model, CHALLENGER, version=next(versions)))
    scored = decided(trained.model, values)
    shadow(values, scored, champion_of(trained))
    shadow(values[:10], scored[:10], champion_of(trained))
    shadow.close()
    report = shadow.report()
    assert report is not None
    assert (report.challenger, report.compared) == ("3", 10)


def test_every_row_is_kept_for_the_day_its_label_is_known(
    trained: TrainedModel, other: LoadedModel, values: NDArray[np.float32], tmp_path: Path
) -> None:
    database = Database(f"sqlite:///{tmp_path / 'fraud.db'}")
    database.upgrade()
    kept: list[Any] = []

    def keep(rows: Sequence[Any]) -> None:
        kept.extend(rows)
        add_shadow_rows(database, rows)

    shadow = Shadow(lambda: other, keep=keep)
    by_rules = ScoringResult("t-rules", "review", None, (), "rules", "rules", (), None, 0)
    scored = decided(trained.model, values[:20])
    shadow(values[:21], [*scored, by_rules], champion_of(trained))
    shadow.close()
    assert [row.transaction_id for row in kept] == [result.transaction_id for result in scored]
    probabilities = other.model.probabilities(values[:20])
    assert [row.challenger_probability for row in kept] == probabilities.tolist()
    assert [row.champion_probability for row in kept] == [result.probability for result in scored]
    assert [row.champion_decision for row in kept] == [result.decision for result in scored]
    assert [row.challenger_decision for row in kept] == decide(
        probabilities, CHALLENGER, amounts_cents=values[:20, AMOUNT]
    ).tolist()
    assert {(row.champion, row.challenger) for row in kept} == {("1", "2")}
    add_shadow_rows(database, kept)  # scored again after a crash
    with database.transaction(read_only=True) as connection:
        stored = connection.execute(sa.select(SHADOW_DECISIONS)).mappings().all()
    database.close()
    assert {row["transaction_id"]: dict(row) for row in stored} == {row.transaction_id: asdict(row) for row in kept}
    assert len(stored) == len(kept)


def test_without_a_challenger_any_more_there_is_no_report(trained: TrainedModel, values: NDArray[np.float32]) -> None:
    challengers = iter([loaded(trained.model, CHALLENGER, version="2"), None])
    shadow = Shadow(lambda: next(challengers))
    scored = decided(trained.model, values)
    shadow(values, scored, champion_of(trained))
    shadow(values, scored, champion_of(trained))
    shadow.close()
    assert shadow.report() is None


def test_what_goes_wrong_is_told_once_and_the_next_batch_is_compared(
    trained: TrainedModel, values: NDArray[np.float32], caplog: pytest.LogCaptureFixture
) -> None:
    good = loaded(trained.model, CHALLENGER, version="3")
    broken = replace(good, model=with_a_lost_feature(good.model), version="2")
    challengers = iter([broken, broken, good])
    shadow = Shadow(lambda: next(challengers))
    scored = decided(trained.model, values)
    for _ in range(4):  # the last time there is not even an answer who is challenger
        shadow(values, scored, champion_of(trained))
    shadow.close()
    report = shadow.report()
    assert report is not None
    assert (report.challenger, report.compared) == ("3", len(values))
    assert [record.args for record in caplog.records] == [("2",), ("unknown",)]


def test_a_report_is_whole_while_batches_are_compared(trained: TrainedModel, values: NDArray[np.float32]) -> None:
    both = [loaded(trained.model, CHALLENGER, version=version) for version in ("2", "3")]
    challengers = cycle(both)
    rows = 50
    shadow = Shadow(lambda: next(challengers))
    scored = decided(trained.model, values[:rows])
    with threads_taking_turns_at_every_step():
        for _ in range(300):
            shadow(values[:rows], scored, champion_of(trained))
            report = shadow.report()
            assert report is None or report.compared == rows  # each batch has another challenger than the one before
    shadow.close()


@pytest.mark.parametrize("challenger", [None, "broken"])
def test_without_a_challenger_or_with_a_broken_one_nothing_happens(
    trained: TrainedModel, values: NDArray[np.float32], challenger: str | None
) -> None:
    broken = with_a_lost_feature(trained.model)
    model = loaded(broken, CHALLENGER, version="2") if challenger else None
    shadow = Shadow(lambda: model)
    shadow(values, decided(trained.model, values), champion_of(trained))
    shadow.close()
    assert shadow.report() is None


def test_a_stuck_challenger_does_not_keep_the_service_from_ending(
    trained: TrainedModel, values: NDArray[np.float32]
) -> None:
    stuck, go_on = threading.Event(), threading.Event()

    def never() -> None:
        stuck.set()
        go_on.wait()

    shadow = Shadow(never)
    scored = decided(trained.model, values[:1])
    shadow(values[:1], scored, champion_of(trained))
    stuck.wait()
    for _ in range(MAX_WAITING):
        shadow(values[:1], scored, champion_of(trained))
    closing = threading.Thread(target=shadow.close, daemon=True)
    closing.start()
    closing.join(60)
    ended = not closing.is_alive()
    go_on.set()
    assert ended


def test_drops_of_many_threads_are_all_counted_and_forgotten_with_the_challenger(
    trained: TrainedModel, values: NDArray[np.float32]
) -> None:
    go_on = threading.Event()
    versions = chain(["2"], repeat("3"))

    def slow() -> LoadedModel:
        go_on.wait()
        return loaded(trained.model, CHALLENGER, version=next(versions))

    shadow = Shadow(slow)
    scored = decided(trained.model, values[:1])

    def add() -> None:
        for _ in range(5_000):
            shadow(values[:1], scored, champion_of(trained))

    threads = [threading.Thread(target=add) for _ in range(4)]
    with threads_taking_turns_at_every_step():
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    # One may be at the challenger already.
    assert 20_000 - shadow._dropped - MAX_WAITING in {0, 1}
    go_on.set()
    shadow.close()
    report = shadow.report()
    assert report is not None
    assert (report.challenger, report.dropped) == ("3", 0)


def test_a_slow_challenger_holds_nobody_up_and_what_it_missed_is_counted(
    trained: TrainedModel, values: NDArray[np.float32]
) -> None:
    go_on = threading.Event()
    challenger = loaded(trained.model, CHALLENGER, version="2")

    def slow() -> LoadedModel:
        go_on.wait(LIMIT_SECONDS)
        return challenger

    shadow = Shadow(slow)
    scored = decided(trained.model, values[:1])
    for _ in range(MAX_WAITING + 50):
        shadow(values[:1], scored, champion_of(trained))
    go_on.set()
    shadow.close()
    report = shadow.report()
    assert report is not None
    assert report.dropped >= 49
    assert report.compared + report.dropped == MAX_WAITING + 50


def test_a_model_does_not_shadow_itself(trained: TrainedModel, values: NDArray[np.float32]) -> None:
    """As after a promotion, when the exported challenger is the new champion for a moment, under any number."""
    champion = champion_of(trained)
    check_refused(trained, values, replace(champion, version="7"), refusal="same_model", why="the champion itself")


def test_a_challenger_whose_features_are_made_otherwise_is_not_compared_on_wrong_values(
    trained: TrainedModel, other: LoadedModel, values: NDArray[np.float32]
) -> None:
    maturity = trained.model.feature_config.label_maturity + timedelta(days=1)
    model = replace(other.model, feature_config=FeatureConfig(label_maturity=maturity))
    challenger = replace(other, model=model)
    check_refused(trained, values, challenger, refusal="other_features", why="another label maturity")


def check_refused(
    trained: TrainedModel, values: NDArray[np.float32], challenger: LoadedModel, *, refusal: str, why: str
) -> None:
    """It is counted and said, nothing is kept, and the next challenger is compared."""
    counts, kept = Counter[str](), list[ShadowRow]()
    challengers = chain([challenger, challenger], repeat(loaded(trained.model, CHALLENGER, version="2")))
    shadow = Shadow(lambda: next(challengers), on_refused=lambda name, n: counts.update({name: n}), keep=kept.extend)
    scored, champion = decided(trained.model, values), champion_of(trained)
    shadow(values, scored, champion)
    shadow(values, scored, champion)
    report = until(shadow.report)
    assert report is not None
    assert report.compared == 0
    assert why in str(report.to_dict()["refused"])
    shadow(values[:10], scored[:10], champion)
    shadow.close()
    assert counts == {refusal: 2 * len(scored)}
    assert [row.transaction_id for row in kept] == [result.transaction_id for result in scored[:10]]
    report = shadow.report()
    assert report is not None
    assert (report.challenger, report.compared, report.refused) == ("2", 10, None)
