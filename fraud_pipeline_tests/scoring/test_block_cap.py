"""The cap on blocks is shared by all entrances of a database, per minute of event time."""

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta

import pandas as pd
import pytest
import sqlalchemy as sa

from fraud_pipeline.database import Database, scoring_batch
from fraud_pipeline.database.block_minutes import MINUTE
from fraud_pipeline.database.retention import remove_expired
from fraud_pipeline.database.tables import BLOCK_MINUTES
from fraud_pipeline.modeling.training import TrainedModel
from fraud_pipeline.policy.decisions import Policy
from fraud_pipeline.schema.transactions import DAY, SECOND, TransactionRow
from fraud_pipeline.scoring.block_overrides import BLOCK_CAP
from fraud_pipeline.scoring.decision_record import ScoringResult
from fraud_pipeline.scoring.scorer import Scorer
from fraud_pipeline_tests.support.loaded import Loaded
from fraud_pipeline_tests.support.metrics_text import metric_value
from fraud_pipeline_tests.support.waiting import LIMIT_SECONDS
from serving.runtime.prometheus_metrics import Metrics

SOME_DAY = 20_000 * DAY


@pytest.fixture
def entrance(database: Database, trained: TrainedModel) -> Iterator[Callable[..., Scorer]]:
    """Makes scorers with their own connections to one database, like separate processes."""
    opened = []
    blocking = Loaded(replace(trained.model, policy=Policy(review_threshold=0.0, block_threshold=0.0)))

    def make(most: int | None) -> Scorer:
        url = database.engine.url.render_as_string(hide_password=False)
        opened.append(Database(url, statement_timeout=timedelta(seconds=20)))
        return Scorer(
            database=opened[-1],
            champion=lambda: blocking,
            max_blocks_per_minute=most,
        )

    yield make
    for opened_database in opened:
        opened_database.close()


def row(number: int, *, at: int = SOME_DAY) -> TransactionRow:
    return TransactionRow(f"t-{number}", at, f"c-{number}", "m-1", 1_000)


def decisions(answers: list[ScoringResult]) -> Counter[str]:
    return Counter(answer.decision for answer in answers)


def score(scorer: Scorer, rows: list[TransactionRow]) -> list[ScoringResult]:
    answers = [answer for answer in scorer.score(rows) if isinstance(answer, ScoringResult)]
    assert len(answers) == len(rows)
    return answers


def test_all_entrances_share_the_cap_and_blocks_beyond_it_are_counted_reviews(
    entrance: Callable[..., Scorer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    first, second = entrance(3), entrance(3)
    answers = [*score(first, [row(1), row(2)]), *score(second, [row(3), row(4)]), *score(first, [row(5)])]
    assert [answer.decision for answer in answers] == ["block", "block", "block", "review", "review"]
    assert [answer.reasons[-1].code == BLOCK_CAP for answer in answers] == [False, False, False, True, True]
    metrics = Metrics()
    metrics.decided([*answers, *score(second, [row(5)])])
    assert metric_value(metrics, "fraud_blocks_demoted_total") == 2


def test_concurrent_entrances_share_the_cap(entrance: Callable[..., Scorer]) -> None:
    entrances, together = [entrance(50) for _ in range(4)], threading.Barrier(4, timeout=LIMIT_SECONDS)

    def attack(number: int) -> Counter[str]:
        together.wait()
        first = 100 * number
        return sum(
            (
                decisions(score(entrances[number], [row(n) for n in range(start, start + 5)]))
                for start in range(first, first + 30, 5)
            ),
            Counter(),
        )

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(attack, range(4)), Counter()) == {"block": 50, "review": 70}


@pytest.mark.parametrize("seed", range(3))
def test_a_backlog_counts_in_its_own_minutes_in_any_order(entrance: Callable[..., Scorer], seed: int) -> None:
    """Ten minutes of a busy stream, decided within seconds, have as many blocks as without the delay."""
    chance = random.Random(seed)  # noqa: S311 - no secret
    rows = [row(number, at=SOME_DAY + number * 3 * SECOND) for number in range(200)]
    chance.shuffle(rows)
    scorers, answers = [entrance(20), entrance(20)], []
    while rows:
        size = chance.randint(1, 60)
        answers += score(chance.choice(scorers), rows[:size])
        del rows[:size]
    assert decisions(answers) == {"block": 200}
    assert decisions(score(scorers[0], [row(200 + n, at=SOME_DAY + n * MINUTE) for n in range(11)])) == {
        "review": 10,
        "block": 1,
    }


def test_repeated_and_failed_transactions_do_not_count(entrance: Callable[..., Scorer]) -> None:
    scorer = entrance(2)

    for _ in range(3):
        with suppress(ZeroDivisionError), scorer.transaction([row(1)]):
            raise ZeroDivisionError
    for _ in range(3):
        assert decisions(score(scorer, [row(1), row(1)])) == {"block": 2}
    assert decisions(score(scorer, [row(2), row(3)])) == {"block": 1, "review": 1}


def test_without_a_cap_nothing_is_counted_and_old_counts_expire(
    database: Database, entrance: Callable[..., Scorer]
) -> None:
    def minutes() -> list[int]:
        with database.transaction(read_only=True) as connection:
            return list(connection.execute(sa.select(BLOCK_MINUTES.c.minute)).scalars())

    assert decisions(score(entrance(None), [row(n) for n in range(9)])) == {"block": 9}
    assert minutes() == []
    score(entrance(1), [row(10), row(11, at=SOME_DAY + 30 * DAY)])
    remove_expired(database, limits={"history_retention": pd.Timestamp(SOME_DAY + DAY, unit="us", tz="UTC")})
    assert minutes() == [SOME_DAY + 30 * DAY]
    with scoring_batch(database) as batch:
        assert batch.blocks.take([], most=1) == []
