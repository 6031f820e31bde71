"""The holdout: the draw, held out decisions, and estimates that correct for censored labels."""

from contextlib import closing
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError

from fraud_pipeline.database import Database, scoring_batch
from fraud_pipeline.database.performance import would_be_blocks
from fraud_pipeline.modeling.model_directory import FraudModel
from fraud_pipeline.modeling.training import PolicySettings, TrainedModel
from fraud_pipeline.monitoring.performance import NO_BLOCKS, Assessment, EvaluationPeriod, assess
from fraud_pipeline.policy.decisions import Policy, decide
from fraud_pipeline.policy.holdout import MIN_HELD_OUT, Holdout, held_out
from fraud_pipeline.schema.transactions import DAY, HOUR, TransactionRow
from fraud_pipeline.scoring.decision_record import ScoringResult
from fraud_pipeline.scoring.scorer import Scorer
from fraud_pipeline.settings import Settings
from fraud_pipeline_tests.support.loaded import Loaded
from fraud_pipeline_tests.support.metrics_text import metric_value
from fraud_pipeline_tests.support.reports import LAST_DAY, NOTHING_SERVED, deployment_in
from fraud_pipeline_tests.support.small_world import LABEL_MATURITY, Tables
from fraud_pipeline_tests.support.transaction_rows import transaction_rows
from serving.runtime.prometheus_metrics import Metrics

WINDOW: Final = EvaluationPeriod("matured", date(2026, 1, 13), date(2026, 1, 26))
SHARE: Final = 0.2


class TestDraw:
    @given(share=st.floats(0.01, 0.2), key=st.text(min_size=1, max_size=64))
    def test_a_share_of_all_ids_is_drawn_whatever_the_key(self, share: float, key: str) -> None:
        drawn = sum(held_out(f"t-{number}", share=share, key=key) for number in range(5_000))
        assert abs(drawn - 5_000 * share) < 6 * np.sqrt(5_000 * share * (1 - share))

    @given(id_=st.text(), key=st.text(), shares=st.tuples(st.floats(0, 1), st.floats(0, 1)))
    def test_a_larger_share_contains_a_smaller_one(self, id_: str, key: str, shares: tuple[float, float]) -> None:
        small, large = (held_out(id_, share=share, key=key) for share in sorted(shares))
        assert small <= large
        assert not held_out(id_, share=0, key=key)
        assert held_out(id_, share=1, key=key)

    def test_another_key_draws_other_ids(self) -> None:
        ids = [f"t-{number}" for number in range(2_000)]
        first, second = ({id_ for id_ in ids if held_out(id_, share=SHARE, key=key * 64)} for key in "ab")
        assert len(first & second) < 2_000 * SHARE * SHARE * 2

    def test_it_is_off_by_default_and_never_more_than_a_fifth(self) -> None:
        assert Settings().holdout_share == 0
        with pytest.raises(ValidationError, match="holdout_share"):
            Settings(holdout_share=0.21)


class TestWeights:
    @given(
        held=st.integers(0, 40), blocked=st.integers(0, 200), further=st.integers(0, 50), seed=st.integers(0, 2**32 - 1)
    )
    def test_the_weights_sum_to_the_number_of_rows(self, held: int, blocked: int, further: int, seed: int) -> None:
        kinds = np.random.default_rng(seed).permutation(np.repeat([0, 1, 2], [held, blocked, further]))
        ids = pd.Series([f"t-{number}" for number in range(len(kinds))], dtype=object)
        drawn = drawn_of(ids, kinds == 0)[kinds < 2]
        holdout = Holdout.of(ids, drawn.sample(frac=1, random_state=seed), days=np.zeros(len(ids), np.int64))
        assert holdout.weights.sum() == pytest.approx(len(kinds))
        assert (holdout.weights[kinds == 2] == 1).all()
        if held < MIN_HELD_OUT:
            assert (holdout.weights == 1).all()
        else:
            assert (holdout.weights[kinds == 1] == 0).all()
            assert holdout.weights[kinds == 0] == pytest.approx((held + blocked) / held)

    def test_would_be_blocks_of_other_days_are_ignored(self) -> None:
        ids = pd.Series(["t-1", "t-2"])
        elsewhere = drawn_of(pd.Series([f"u-{n}" for n in range(50)]), np.ones(50, bool))
        assert Holdout.of(ids, elsewhere, days=np.zeros(2, np.int64)).weights.tolist() == [1.0, 1.0]

    def test_rows_are_weighed_by_the_share_of_their_draw(self) -> None:
        """Blocks are right nine times in ten while one in twenty is held out, and every other time at one in five."""
        generator = np.random.default_rng(1)
        days = np.repeat(np.arange(20), 500)
        share = np.where(days < 10, 0.05, 0.2)
        fraud = generator.random(len(days)) < np.where(days < 10, 0.9, 0.5)
        ids = pd.Series([f"t-{number}" for number in range(len(days))])
        estimates = []
        for _ in range(50):
            weights = Holdout.of(
                ids, drawn_of(ids, generator.random(len(days)) < share, share=share), days=days
            ).weights
            assert weights.sum() == pytest.approx(len(days))
            estimates.append((weights * fraud).sum() / weights.sum())
        assert np.mean(estimates) == pytest.approx(fraud.mean(), abs=0.01)

    def test_days_before_the_holdout_are_left_out(self) -> None:
        """No held out row represents the blocks of these days."""
        generator = np.random.default_rng(1)
        days = np.repeat(np.arange(20), 500)
        on = np.arange(len(days)) >= 5_250  # in the middle of the eleventh day
        fraud = generator.random(len(days)) < np.where(on, 0.5, 0.9)
        ids = pd.Series([f"t-{number}" for number in range(len(days))])
        held = on & (generator.random(len(days)) < 0.1)
        weights = Holdout.of(ids, drawn_of(ids, held, share=np.where(on, 0.1, np.nan)), days=days).weights
        assert (weights[days <= 10] == 0).all()
        assert weights.sum() == pytest.approx((days > 10).sum())
        assert (weights * fraud).sum() / weights.sum() == pytest.approx(fraud[days > 10].mean(), abs=0.05)

    def test_a_block_by_rules_censors_its_label_and_keeps_its_day(self) -> None:
        ids = pd.Series([f"t-{number}" for number in range(41)])
        drawn = drawn_of(ids[:40], np.arange(40) < 20)
        by_rules = pd.DataFrame(
            {"transaction_id": ["t-40"], "held_out": [False], "by_model": [False], "share": [np.nan]}
        )
        weights = Holdout.of(ids, pd.concat([drawn, by_rules]), days=np.zeros(41, np.int64)).weights
        assert weights.tolist() == [2.0] * 20 + [0.0] * 21


def drawn_of(ids: pd.Series, held: NDArray[np.bool_], *, share: float | NDArray[np.float64] = SHARE) -> pd.DataFrame:
    """Would-be blocks of a model, and which of them were held out."""
    return pd.DataFrame({"transaction_id": ids, "held_out": held, "by_model": True, "share": share})


def blocking(model: FraudModel, at: float) -> FraudModel:
    return replace(model, policy=Policy(review_threshold=0.0, block_threshold=at))


def rows(count: int) -> list[TransactionRow]:
    return [
        TransactionRow(f"t-{n}", 20_000 * DAY + n * HOUR, f"c-{n % 7}", "m-1", 1_000, channel="online")
        for n in range(count)
    ]


def scorer(
    database: Database, model: FraudModel, *, share: float = SHARE, most: int | None = None, sha256: str = "0" * 64
) -> Scorer:
    loaded = Loaded(model, sha256=sha256)
    return Scorer(
        database=database,
        champion=lambda: loaded,
        max_blocks_per_minute=most,
        holdout_share=share,
    )


def key_of(database: Database) -> str:
    with scoring_batch(database, read_only=True) as batch:
        return batch.holdout_key()


def decided(made: Scorer, requests: list[TransactionRow]) -> dict[str, ScoringResult]:
    answers = [answer for answer in made.score(requests) if isinstance(answer, ScoringResult)]
    return {answer.transaction_id: answer for answer in answers}


class TestServed:
    def test_a_held_out_block_is_a_review_with_the_reason(self, database: Database, trained: TrainedModel) -> None:
        answers = decided(scorer(database, blocking(trained.model, 0.0)), rows(100))
        drawn = {id_ for id_ in answers if held_out(id_, share=SHARE, key=key_of(database))}
        assert 5 < len(drawn) < 40
        assert {id_ for id_, answer in answers.items() if answer.decision == "review"} == drawn
        assert {
            id_ for id_, answer in answers.items() if "holdout" in {reason.code for reason in answer.reasons}
        } == drawn
        metrics = Metrics()
        metrics.decided(list(answers.values()))
        assert metric_value(metrics, "fraud_blocks_held_out_total") == len(drawn)

    def test_a_second_delivery_over_another_entrance_gets_the_same_answer(
        self, database: Database, trained: TrainedModel
    ) -> None:
        model = blocking(trained.model, 0.0)
        first = decided(scorer(database, model), rows(40))
        again = decided(scorer(database, model, share=0.0), rows(40)[::-1])
        assert {id_: replace(answer, replayed=False) for id_, answer in again.items()} == first

    def test_answers_do_not_reveal_the_draw(self, database: Database, trained: TrainedModel) -> None:
        """`GET /model` reveals the hash of the model to the party that chooses the ids."""
        key, model = key_of(database), blocking(trained.model, 0.0)
        assert len(key) == 64
        answers = decided(scorer(database, model, sha256=key[::-1]), rows(400))
        held = {id_ for id_, result in answers.items() if result.decision == "review"}
        foreseen = {f"t-{n}" for n in range(400) if held_out(f"t-{n}", share=SHARE, key=key[::-1])}
        assert len(held & foreseen) < 400 * SHARE * SHARE * 2

    def test_the_draw_does_not_depend_on_the_model(self, database: Database, trained: TrainedModel) -> None:
        model = blocking(trained.model, 0.0)
        for entrance, part in (("a", rows(100)[::2]), ("b", rows(100)[1::2])):
            answers = decided(scorer(database, model, sha256=entrance * 64), part)
            held = {id_ for id_, result in answers.items() if result.decision == "review"}
            assert held == {id_ for id_ in answers if held_out(id_, share=SHARE, key=key_of(database))}

    def test_each_decision_stores_the_share_of_its_draw(self, database: Database, trained: TrainedModel) -> None:
        requests = rows(50)
        for share, first, last, model in (
            (0.0, 0, 10, blocking(trained.model, 0.0)),
            (0.1, 10, 20, blocking(trained.model, 0.0)),
            (SHARE, 20, 40, blocking(trained.model, 0.0)),
            (SHARE, 40, 45, blocking(trained.model, 1.0)),
        ):
            decided(scorer(database, model, share=share), requests[first:last])
        decided(scorer(database, blocking(trained.model, 0.0), most=0), requests[45:])
        with scoring_batch(database, read_only=True) as batch:
            stored = batch.stored([row.transaction_id for row in requests])
        shares = [
            decision.holdout_share for row in requests for decision in [stored[row.transaction_id][1]] if decision
        ]
        assert shares == [None] * 10 + [0.1] * 10 + [SHARE] * 20 + [None] * 10
        start = pd.Timestamp(20_000, unit="D", tz="UTC")
        blocks = would_be_blocks(database, start=start, end=start + pd.Timedelta(days=30)).set_index("transaction_id")
        shares = blocks["share"].reindex([row.transaction_id for row in requests[:40]]).tolist()
        assert shares == pytest.approx([np.nan] * 10 + [0.1] * 10 + [SHARE] * 20, nan_ok=True)
        assert blocks["by_model"].all()

    def test_only_would_be_blocks_are_held_out(self, database: Database, trained: TrainedModel) -> None:
        model = blocking(trained.model, 1.0)
        plain = decided(scorer(database, model, share=1.0), rows(20))
        assert {answer.decision for answer in plain.values()} == {"review"}
        assert not any(reason.code == "holdout" for answer in plain.values() for reason in answer.reasons)

    def test_a_block_beyond_the_cap_is_not_drawn(self, database: Database, trained: TrainedModel) -> None:
        """Otherwise held out rows would also represent capped blocks, whose labels are known."""
        made = scorer(database, blocking(trained.model, 0.0), share=1.0, most=0)
        assert {answer.reasons[-1].code for answer in decided(made, rows(5)).values()} == {"block_cap"}

    def test_without_a_holdout_every_block_is_a_block(self, database: Database, trained: TrainedModel) -> None:
        answers = decided(scorer(database, blocking(trained.model, 0.0), share=0.0), rows(100))
        assert {answer.decision for answer in answers.values()} == {"block"}

    def test_the_report_reads_the_would_be_blocks(self, database: Database, trained: TrainedModel) -> None:
        blocks = decided(scorer(database, blocking(trained.model, 0.0)), rows(100)[:60])
        decided(scorer(database, blocking(trained.model, 1.0)), rows(100)[60:])
        start = pd.Timestamp(20_000, unit="D", tz="UTC")
        stopped = would_be_blocks(database, start=start, end=start + pd.Timedelta(days=30))
        held = {id_: answer.decision == "review" for id_, answer in blocks.items()}
        assert dict(zip(stopped["transaction_id"], stopped["held_out"], strict=True)) == held
        early = would_be_blocks(database, start=start, end=start + pd.Timedelta(hours=10))
        assert set(early["transaction_id"]) == {f"t-{n}" for n in range(10)}


@dataclass(frozen=True, slots=True)
class Life:
    """Two weeks of a world in which a model blocked; `context` and `features` are their rows."""

    tables: Tables
    context: pd.DataFrame
    features: pd.DataFrame
    model: FraudModel
    policy: PolicySettings

    def stopped(self, key: object) -> pd.DataFrame:
        """The would-be blocks, and those that this key holds out."""
        decision = decide(
            self.model.predict(self.features), self.model.policy, amounts_cents=self.features["amount"].to_numpy()
        )
        ids = self.features.loc[decision == "block", "transaction_id"]
        return drawn_of(ids, np.array([held_out(id_, share=SHARE, key=str(key)) for id_ in ids], bool))

    def judged(
        self,
        *,
        hidden: pd.DataFrame = NO_BLOCKS,
        known: pd.DataFrame = NO_BLOCKS,
        served: pd.DataFrame = NOTHING_SERVED,
        replicates: int = 0,
    ) -> Assessment:
        """The evaluation when frauds in `hidden` are not reported and the report knows the blocks `known`."""
        blocked = hidden["transaction_id"][~hidden["held_out"].to_numpy(bool)]
        return assess(
            self.model,
            self.features,
            self.context,
            self.tables.reports[~self.tables.reports["transaction_id"].isin(blocked)],
            served,
            window=WINDOW,
            label_maturity=LABEL_MATURITY,
            as_of=self.tables.as_of,
            policy=self.policy,
            would_be_blocks=known,
            replicates=replicates,
        )


@pytest.fixture(scope="module")
def life(tables: Tables, trained: TrainedModel, policy_settings: PolicySettings) -> Life:
    """About 200 would-be blocks, 85 of them frauds, of 134 frauds in all."""
    first, end = (pd.Timestamp(day, tz="UTC") for day in (WINDOW.first, WINDOW.last + timedelta(days=1)))
    in_period = tables.transactions["event_time"].between(first, end, inclusive="left").to_numpy()
    return Life(
        tables=tables,
        context=tables.transactions[in_period],
        features=tables.model_rows[in_period].reset_index(drop=True),
        model=replace(trained.model, policy=Policy(review_threshold=0.05, block_threshold=0.2)),
        policy=policy_settings,
    )


class TestEstimates:
    def test_censored_labels_make_a_good_model_look_bad(self, life: Life) -> None:
        truth, naive = (life.judged(hidden=of).evaluation.metrics for of in (NO_BLOCKS, life.stopped("key")))
        assert naive["recall"].value < truth["recall"].value - 0.2
        assert naive["precision"].value < truth["precision"].value / 2

    @pytest.mark.slow
    def test_over_many_draws_the_weighted_figures_are_those_of_all_labels(self, life: Life) -> None:
        truth = life.judged().evaluation.metrics
        draws = [life.stopped(key) for key in range(100)]
        estimates = [life.judged(hidden=draw, known=draw).evaluation.metrics for draw in draws]
        for name in ("precision", "recall"):
            values = np.array([metrics[name].value for metrics in estimates])
            error = values.std(ddof=1) / np.sqrt(len(values))
            assert 0 < error < 0.005
            assert abs(values.mean() - truth[name].value) < 4 * error

    @pytest.mark.slow
    def test_the_interval_of_one_draw_holds_the_truth(self, life: Life) -> None:
        truth = life.judged().evaluation.metrics
        draws = [life.stopped(key) for key in range(20)]
        estimates = [life.judged(hidden=draw, known=draw, replicates=60).evaluation.metrics for draw in draws]
        for name in ("precision", "recall"):
            held = [metrics[name].low <= truth[name].value <= metrics[name].high for metrics in estimates]
            assert sum(held) >= 18
            assert all(metrics[name].high - metrics[name].low < 0.4 for metrics in estimates)

    def test_a_held_out_row_counts_as_a_block(self, life: Life) -> None:
        draw = life.stopped("key")
        probability = life.model.predict(life.features)
        decision = decide(probability, life.model.policy, amounts_cents=life.features["amount"].to_numpy())
        decision[life.features["transaction_id"].isin(draw["transaction_id"][draw["held_out"]])] = "review"
        served = pd.DataFrame(
            {"transaction_id": life.features["transaction_id"], "decision": decision, "probability": probability}
        )
        as_served, offline = (life.judged(hidden=draw, known=draw, served=of) for of in (served, NOTHING_SERVED))
        assert as_served.evaluation.to_dict() == offline.evaluation.to_dict()
        assert as_served.served == len(served) - (~draw["held_out"]).sum()

    def test_the_report_shows_weight_and_cost_of_held_out_rows(self, life: Life) -> None:
        draw = life.stopped("key")
        assessment = life.judged(hidden=draw, known=draw)
        held = draw["held_out"].sum()
        assert assessment.held_out.rows == held
        assert f"{held} would-be blocks were held out and count for {len(draw) / held:.1f} each" in assessment.basis
        costs = life.policy.costs
        rows = life.context.set_index("transaction_id").loc[draw["transaction_id"][draw["held_out"]]]
        amounts = rows["amount_cents"].to_numpy(np.int64)
        frauds = life.tables.reports.query("is_fraud")["transaction_id"]
        labels = rows.index.isin(frauds).astype(np.float64)
        review, block = (costs.cost(of, labels=labels, amounts_cents=amounts).sum() for of in ("review", "block"))
        assert assessment.held_out.cents_per_day == pytest.approx((review - block) / 14)

    def test_too_few_held_out_rows_are_not_weighed_and_the_report_says_so(self, life: Life) -> None:
        draw = life.stopped("key")
        few = draw.assign(held_out=np.arange(len(draw)) < MIN_HELD_OUT - 1)
        assessment = life.judged(hidden=few, known=few)
        assert "9 would-be blocks were held out, too few" in assessment.basis
        assert assessment.evaluation.to_dict() == life.judged(hidden=few).evaluation.to_dict()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_the_daily_report_weighs_what_the_scorer_held_out(
    tmp_path: Path, tables: Tables, trained: TrainedModel
) -> None:
    deployment = deployment_in(tmp_path, tables, blocking(trained.model, 0.0))
    deployment.promote(None)
    champion = deployment.registry.with_alias("champion")
    assert champion is not None
    served = transaction_rows(
        tables.transactions[tables.transactions["event_time"] >= pd.Timestamp("2026-01-25", tz="UTC")]
    )
    with closing(Database(deployment.settings.database, statement_timeout=timedelta(minutes=1))) as database:
        database.upgrade()
        answers = decided(scorer(database, deployment.model, sha256=champion.sha256), served[:200])
    held = sum(answer.decision == "review" for answer in answers.values())
    metadata, _ = deployment.report(LAST_DAY)
    assert metadata["held_out"] == held > MIN_HELD_OUT
    assert f"{held} would-be blocks were held out and count for {200 / held:.1f} each" in metadata["table"]
