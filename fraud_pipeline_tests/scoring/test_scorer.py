"""The Scorer against real databases: exact features, one decision per transaction, under concurrency and retries.

A world is served in order, in micro-batches by several entrances, and every stored feature is compared with the
one that training computes.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sa
from numpy.typing import NDArray

from fraud_pipeline.database import Database
from fraud_pipeline.database.history import (
    load_history,
    read_merchant_days,
    read_newest_decisions,
    read_reports,
    read_transactions,
)
from fraud_pipeline.database.merchant_day_refresh import refresh_merchant_days
from fraud_pipeline.database.retention import remove_expired
from fraud_pipeline.database.tables import ALERTS, DECISIONS, TRANSACTIONS
from fraud_pipeline.features.config import FeatureConfig
from fraud_pipeline.features.engineer import FEATURE_NAMES, FeatureEngineer
from fraud_pipeline.modeling.training import TrainedModel
from fraud_pipeline.monitoring.skew_audit import Audit, VersionedHistory, audit
from fraud_pipeline.policy.decisions import Policy
from fraud_pipeline.schema.money import Conversion
from fraud_pipeline.schema.own_fields import own_fields_json
from fraud_pipeline.schema.transactions import DAY, HOUR, TransactionRow, microseconds
from fraud_pipeline.scoring.decide import provisional_decisions
from fraud_pipeline.scoring.decision_record import Conflict, ScoringResult
from fraud_pipeline.scoring.errors import HistoryUnavailableError, ModelUnavailableError, StorageUnavailableError
from fraud_pipeline.scoring.scorer import Scorer
from fraud_pipeline_tests.support.loaded import Loaded
from fraud_pipeline_tests.support.small_world import LABEL_MATURITY, Tables
from fraud_pipeline_tests.support.transaction_rows import transaction_rows

ENGINEER = FeatureEngineer(label_maturity=LABEL_MATURITY)
BEGINNING, END = pd.Timestamp(0, tz="UTC"), pd.Timestamp("2200-01-01", tz="UTC")


@pytest.fixture(scope="module")
def loaded(trained: TrainedModel) -> Loaded:
    """A model with some reviews and blocks."""
    return Loaded(replace(trained.model, policy=Policy(review_threshold=0.03, block_threshold=0.5)))


@pytest.fixture
def make_scorer(database: Database, loaded: Loaded) -> Callable[..., Scorer]:
    """Scorers of one database, as several processes have them."""

    def make(**changes: object) -> Scorer:
        arguments: dict[str, object] = {"database": database, "champion": lambda: loaded}
        return Scorer(**{**arguments, **changes})  # type: ignore[arg-type]  # each test gives what it names

    return make


@pytest.fixture
def scorer(make_scorer: Callable[..., Scorer]) -> Scorer:
    return make_scorer()


def row(number: int, *, customer: str = "c-1", at: int = 20_000 * DAY, cents: int = 1_000) -> TransactionRow:
    return TransactionRow(f"t-{number}", at + number * HOUR, customer, "m-1", cents, channel="online")


def in_dollars(conversion: Conversion, amount: float) -> TransactionRow:
    paid = conversion.paid(amount, "USD")
    return row(1, cents=paid.cents)._replace(own_fields=own_fields_json(paid.own_values))


def decision(answer: ScoringResult | Conflict) -> ScoringResult:
    assert isinstance(answer, ScoringResult)
    return answer


def count(database: Database, of: sa.Table) -> int:
    with database.transaction() as connection:
        return connection.execute(sa.select(sa.func.count()).select_from(of)).scalar_one()


def stored_bits(database: Database) -> dict[str, NDArray[np.uint32]]:
    decisions = read_newest_decisions(database, limit=100_000)
    return {
        id_: np.frombuffer(features, np.uint32)
        for id_, features in zip(decisions["transaction_id"], decisions["features"], strict=True)
    }


def audited(database: Database, *, config: FeatureConfig) -> Audit:
    known = VersionedHistory(
        transactions=read_transactions(database, start=BEGINNING, end=END, with_version=True),
        reports=read_reports(database, start=BEGINNING, end=END, with_version=True),
        merchant_days=read_merchant_days(database, start=BEGINNING, end=END, label_maturity=LABEL_MATURITY),
    )
    return audit(read_newest_decisions(database, limit=100_000), known, config=config)


class TestExactness:
    @pytest.mark.slow
    def test_served_as_it_happened_every_feature_has_the_bits_that_training_sees(
        self, database: Database, make_scorer: Callable[..., Scorer], tables: Tables, loaded: Loaded
    ) -> None:
        """The last days of the world through two entrances with little memory, the days before them loaded."""
        start = tables.as_of.floor("D") - pd.Timedelta(days=4)
        past = tables.transactions["event_time"] < start
        reported = tables.reports["reported_at"] < start
        load_history(database, transactions=tables.transactions[past], reports=tables.reports[reported])
        entrances = [make_scorer(cache_events=2_000), make_scorer()]
        generator = np.random.default_rng(5)
        served = tables.transactions[~past].sort_values("event_time")
        for _, day in served.groupby(served["event_time"].dt.floor("D")):
            refresh_merchant_days(
                database,
                now=day["event_time"].iloc[0],
                lookback=ENGINEER.lookback,
                label_maturity=LABEL_MATURITY,
            )
            cuts = np.cumsum(generator.integers(1, 90, len(day)))
            for batch in (day.iloc[part] for part in np.split(np.arange(len(day)), cuts[cuts < len(day)])):
                known = tables.reports[tables.reports["reported_at"] < batch["event_time"].iloc[-1]]
                if len(known) > int(reported.sum()):
                    load_history(database, transactions=batch.iloc[:0], reports=known)
                    reported = tables.reports["reported_at"] < batch["event_time"].iloc[-1]
                rows = transaction_rows(batch)
                entrances[int(generator.integers(2))].score(rows)
        served_bits = stored_bits(database)
        assert len(served_bits) == len(served) > 2_000
        offline = tables.model_rows.set_index("transaction_id").loc[list(served_bits)]
        config = loaded.model.feature_config
        own = config.own_inputs.values(offline, microseconds(offline["event_time"]))
        values = config.whole_rows(offline[list(FEATURE_NAMES)].to_numpy(np.float32), own)
        expected = np.ascontiguousarray(values).view(np.uint32)
        wrong = (np.stack(list(served_bits.values())) != expected).sum(axis=0)
        assert {name: int(n) for name, n in zip(config.feature_names, wrong, strict=True) if n} == {}
        verdict = audited(database, config=loaded.model.feature_config)
        assert verdict.passed, verdict.finding
        assert verdict.compared == len(served)

    def test_entrances_at_the_same_time_see_each_others_events_or_wait(
        self, database: Database, make_scorer: Callable[..., Scorer], loaded: Loaded
    ) -> None:
        """Four entrances and few customers: each decision's version gives its history, and its features recompute."""
        rows = [row(number, customer=f"c-{number % 3}", cents=100 + number) for number in range(240)]
        errors: list[BaseException] = []

        def serve(part: Sequence[TransactionRow]) -> None:
            scorer = make_scorer()
            try:
                for position in range(0, len(part), 3):
                    scorer.score(part[position : position + 3])
            except BaseException as error:  # noqa: BLE001 - told below
                errors.append(error)

        threads = [threading.Thread(target=serve, args=(rows[k::4],)) for k in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []
        verdict = audited(database, config=loaded.model.feature_config)
        assert verdict.compared == len(rows)
        assert verdict.passed, verdict.finding

    def test_the_audit_distinguishes_a_late_event_from_skew(
        self, database: Database, scorer: Scorer, loaded: Loaded
    ) -> None:
        scorer.score([row(5)])
        scorer.score([row(3)])
        verdict = audited(database, config=loaded.model.feature_config)
        assert (verdict.compared, verdict.explained_by_later_knowledge, verdict.different) == (2, 1, 0)
        with database.transaction() as connection:
            connection.execute(
                sa.update(DECISIONS)
                .where(DECISIONS.c.transaction_id == "t-3")
                .values(features=np.ones(len(loaded.model.feature_config.feature_names), np.float32).tobytes())
            )
        verdict = audited(database, config=loaded.model.feature_config)
        assert not verdict.passed
        assert verdict.transaction_ids == ("t-3",)
        assert "amount" in verdict.features

    def test_a_report_changes_the_next_decision(self, database: Database, scorer: Scorer) -> None:
        scorer.score([row(1)])
        assert scorer.report("t-1", is_fraud=True) is not None
        later = row(2, at=scorer._clock() + DAY)
        scorer.score([later])
        values = stored_bits(database)["t-2"].view(np.float32)
        assert values[FEATURE_NAMES.index("customer_report_count_60d")] == 1


class TestOneDecision:
    def test_the_same_again_gives_the_stored_answer(self, database: Database, scorer: Scorer) -> None:
        first = decision(scorer.score([row(1)])[0])
        again = decision(scorer.score([row(1)])[0])
        assert not first.replayed
        assert again == replace(first, replayed=True)
        assert count(database, DECISIONS) == count(database, TRANSACTIONS) == 1
        assert scorer.find("t-1") == again
        assert scorer.find("t-2") is None

    def test_the_same_id_for_something_else_is_a_conflict_and_the_others_are_answered(self, scorer: Scorer) -> None:
        scorer.score([row(1)])
        answers = scorer.score([row(2), row(1, cents=5), row(3)])
        assert [type(answer) for answer in answers] == [ScoringResult, Conflict, ScoringResult]

    def test_the_same_money_at_another_rate_is_answered_from_the_store(self, scorer: Scorer) -> None:
        """Another model with other rates became champion between the two deliveries."""
        then, now = (Conversion(reporting="EUR", rates=(("USD", rate),)) for rate in (0.92, 0.87))
        first = decision(scorer.score([in_dollars(then, 10.0)])[0])

        again = decision(scorer.score([in_dollars(now, 10.0)])[0])
        other = scorer.score([in_dollars(now, 10.01)])[0]

        assert again == replace(first, replayed=True)
        assert isinstance(other, Conflict)

    def test_twice_in_one_batch(self, database: Database, scorer: Scorer) -> None:
        answers = scorer.score([row(1), row(1), row(1, cents=5), row(2)])
        assert [type(answer) for answer in answers] == [ScoringResult, ScoringResult, Conflict, ScoringResult]
        assert [decision(answers[k]).replayed for k in (0, 1)] == [False, True]
        assert count(database, DECISIONS) == 2

    def test_an_event_that_was_loaded_is_decided_once(self, database: Database, scorer: Scorer, tables: Tables) -> None:
        some = tables.transactions.tail(10)
        load_history(database, transactions=some, reports=tables.reports.iloc[:0])
        answers = scorer.score(transaction_rows(some))
        assert not any(decision(answer).replayed for answer in answers)
        assert count(database, DECISIONS) == count(database, TRANSACTIONS) == 10

    def test_an_id_whose_event_was_pruned_stays_taken(self, database: Database, scorer: Scorer) -> None:
        scorer.score([row(1)])
        remove_expired(database, limits={"history_retention": pd.Timestamp(30_000, unit="D", tz="UTC")})
        assert scorer.score([row(1, cents=77), row(2)])[0] == Conflict("t-1")
        assert count(database, DECISIONS) == 2

    def test_two_entrances_with_the_same_transactions_at_once(
        self, database: Database, make_scorer: Callable[..., Scorer]
    ) -> None:
        rows = [row(number, customer=f"c-{number % 7}") for number in range(200)]
        results: list[list[ScoringResult | Conflict]] = []

        def serve() -> None:
            scorer = make_scorer()
            results.append([answer for position in range(0, 200, 10) for answer in scorer.score(rows[position:][:10])])

        threads = [threading.Thread(target=serve) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(results) == 3
        for answers in zip(*results, strict=True):
            assert len({replace(decision(answer), replayed=False) for answer in answers}) == 1
            assert sum(not decision(answer).replayed for answer in answers) == 1
        assert count(database, DECISIONS) == 200

    def test_review_and_block_open_an_alert_with_reasons(
        self, database: Database, scorer: Scorer, tables: Tables
    ) -> None:
        answers = [decision(answer) for answer in scorer.score(transaction_rows(tables.transactions.tail(500)))]
        doubted = [answer for answer in answers if answer.decision != "allow"]
        assert 0 < len(doubted) < len(answers)
        assert count(database, ALERTS) == len(doubted)
        assert all(answer.reasons for answer in doubted)
        assert not any(answer.reasons for answer in answers if answer.decision == "allow")


class TestModes:
    def test_with_everything_the_model_decides(self, scorer: Scorer) -> None:
        answer = decision(scorer.score([row(1)])[0])
        assert (answer.decided_by, answer.mode, answer.model_version) == ("model", "full", "1")
        assert answer.missing == ("merchant_days",)
        assert answer.probability is not None

    @pytest.mark.parametrize(
        ("mode", "by", "missing"),
        [
            ("no_history", "model", {"history"}),
            ("rules", "rules", {"model", "merchant_days"}),
            ("fail_safe", "fail_safe", {"history", "model"}),
        ],
    )
    def test_each_level_names_what_was_missing(self, scorer: Scorer, mode: str, by: str, missing: set[str]) -> None:
        answer = decision(scorer.score([row(1)], mode=mode)[0])  # type: ignore[arg-type]  # the closed set above
        assert (answer.mode, answer.decided_by, set(answer.missing)) == (mode, by, missing)
        assert (answer.probability is None) == (by != "model")

    def test_without_a_model_rules_decide(self, make_scorer: Callable[..., Scorer]) -> None:
        scorer = make_scorer(champion=lambda: None)
        assert decision(scorer.score([row(1)])[0]).mode == "rules"
        assert decision(scorer.score([row(2)], mode="no_history")[0]).mode == "fail_safe"

    def test_a_failing_model_raises_and_nothing_is_stored(
        self, database: Database, make_scorer: Callable[..., Scorer], loaded: Loaded
    ) -> None:
        broken = Loaded(replace(loaded.model, features=("no_such_feature", *loaded.model.features[1:])))
        with pytest.raises(ModelUnavailableError):
            make_scorer(champion=lambda: broken).score([row(1)])
        assert count(database, DECISIONS) == count(database, TRANSACTIONS) == 0

    def test_a_failed_read_of_history_is_distinguished_from_failed_storage(
        self, empty_postgres_url: str, loaded: Loaded
    ) -> None:
        """A lock on the table blocks its readers, while writers of other tables continue."""
        other = Database(empty_postgres_url, statement_timeout=timedelta(seconds=20))
        other.upgrade()
        database = Database(empty_postgres_url, statement_timeout=timedelta(seconds=1))
        scorer = Scorer(database=database, champion=lambda: loaded)
        scorer.report("t-0", is_fraud=True)
        with other.transaction() as connection:
            connection.execute(sa.text("LOCK TABLE merchant_days IN ACCESS EXCLUSIVE MODE"))
            with pytest.raises(HistoryUnavailableError):
                scorer.score([row(1)])
            assert decision(scorer.score([row(1)], mode="no_history")[0]).mode == "no_history"
            connection.execute(sa.text("LOCK TABLE decisions IN ACCESS EXCLUSIVE MODE"))
            with pytest.raises(StorageUnavailableError):
                scorer.score([row(2)], mode="no_history")
        assert not decision(scorer.score([row(2)])[0]).replayed
        database.close()
        other.close()

    def test_a_transaction_that_cannot_be_stored_gets_a_provisional_decision(self) -> None:
        (small, no_reasons), (large, reasons) = provisional_decisions([row(1), row(1, cents=10_000_00)])
        assert (small, no_reasons) == ("allow", ())
        assert large == "review"
        assert reasons

    def test_the_time_of_each_stage_is_reported(self, make_scorer: Callable[..., Scorer]) -> None:
        seconds: dict[str, float] = {}
        make_scorer(observe=seconds.__setitem__).score([row(1)])
        assert set(seconds) == {"history", "features", "model", "store"}
        assert min(seconds.values()) > 0


class TestMemory:
    def test_a_rolled_back_batch_is_not_cached(
        self, database: Database, make_scorer: Callable[..., Scorer], loaded: Loaded
    ) -> None:
        answers = iter(
            [loaded, Loaded(replace(loaded.model, features=("no_such_feature", *loaded.model.features[1:]))), loaded]
        )
        scorer = make_scorer(champion=lambda: next(answers))
        scorer.score([row(1)])
        with pytest.raises(ModelUnavailableError):
            scorer.score([row(2)])
        scorer.score([row(3)])
        values = stored_bits(database)["t-3"].view(np.float32)
        assert values[FEATURE_NAMES.index("customer_transaction_count_24h")] == 1
        assert audited(database, config=loaded.model.feature_config).passed

    def test_months_of_events_leave_memory_bounded_and_features_exact(
        self, database: Database, make_scorer: Callable[..., Scorer], loaded: Loaded
    ) -> None:
        scorer = make_scorer(cache_events=50)
        for number in range(150):
            scorer.score([row(number, at=20_000 * DAY + number * 12 * HOUR, customer=f"c-{number % 2}")])
        assert scorer._cache.size < 200
        assert audited(database, config=loaded.model.feature_config).passed
