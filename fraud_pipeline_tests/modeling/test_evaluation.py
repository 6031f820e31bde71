"""Metrics equal their definitions, intervals have their coverage, records survive JSON."""

import json
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from fraud_pipeline.modeling.evaluation import Evaluation, evaluate, segment_rows
from fraud_pipeline.modeling.metrics import (
    Floats,
    average_precision,
    budget_shares,
    calibration_error,
    card_precision,
    customer_resamples,
    rank_frauds,
    recall_at_precision,
    roc_auc,
)
from fraud_pipeline.policy.decisions import CostModel, Policy
from fraud_pipeline.schema.transactions import DAY

COSTS = CostModel(review_cost_cents=100, false_block_cost_cents=1_000, recovered_on_review=0.5, recovered_on_block=1)


@dataclass(frozen=True)
class Sample:
    """Scored transactions; coarse scores make many ties."""

    scores: Floats
    labels: Floats
    customers: NDArray[np.int64]
    days: NDArray[np.int64]
    weights: NDArray[np.int64]

    @property
    def size(self) -> int:
        return len(self.scores)


@st.composite
def samples(draw: st.DrawFn) -> Sample:
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    size = draw(st.integers(2, 60))
    levels = draw(st.sampled_from([2, 5, 1_000]))
    labels = (generator.random(size) < draw(st.sampled_from([0.1, 0.5]))).astype(np.float64)
    labels[:2] = [0, 1]
    return Sample(
        scores=generator.integers(1, levels + 1, size) / (levels + 1),
        labels=labels,
        customers=generator.integers(0, 6, size),
        days=generator.integers(0, 4, size),
        weights=generator.integers(0, 3, size) + (np.arange(size) < 2),
    )


def repeated(sample: Sample) -> Sample:
    """Each row repeated by its weight."""
    rows = np.repeat(np.arange(sample.size), sample.weights)
    return Sample(
        sample.scores[rows],
        sample.labels[rows],
        sample.customers[rows],
        sample.days[rows],
        np.ones(len(rows), np.int64),
    )


def row(weights: NDArray[np.int64]) -> Floats:
    return weights[None, :].astype(np.float64)


class TestRankingMetrics:
    @given(samples())
    def test_weighted_metrics_equal_scikit_learn(self, sample: Sample) -> None:
        ranks = rank_frauds(sample.scores, sample.labels, row(sample.weights))
        arguments = {"y_true": sample.labels, "y_score": sample.scores, "sample_weight": sample.weights}
        assert average_precision(ranks)[0] == pytest.approx(average_precision_score(**arguments))
        assert roc_auc(ranks)[0] == pytest.approx(roc_auc_score(**arguments))

    @given(samples(), st.sampled_from([0.3, 0.5, 0.85, 1.0]))
    def test_recall_at_precision_is_the_best_point_of_the_curve(self, sample: Sample, floor: float) -> None:
        rows = repeated(sample)
        precision, recall, _ = precision_recall_curve(rows.labels, rows.scores)
        best = max(r for p, r in zip(precision, recall, strict=True) if p >= floor - 1e-12)
        ranks = rank_frauds(sample.scores, sample.labels, row(sample.weights))
        assert recall_at_precision(ranks, precision=floor)[0] == pytest.approx(best)

    @given(samples())
    def test_replicates_are_independent_of_each_other(self, sample: Sample) -> None:
        weights = np.vstack([sample.weights, np.ones(sample.size), sample.weights]).astype(np.float64)
        together = average_precision(rank_frauds(sample.scores, sample.labels, weights))
        apart = [
            average_precision(rank_frauds(sample.scores, sample.labels, row_weights[None, :]))[0]
            for row_weights in weights
        ]
        np.testing.assert_allclose(together, apart, rtol=1e-12)

    @pytest.mark.parametrize("label", [0.0, 1.0])
    def test_one_kind_alone_has_no_ranking(self, label: float) -> None:
        ranks = rank_frauds(np.array([0.1, 0.2]), np.full(2, label), np.ones((1, 2)))
        assert np.isnan(roc_auc(ranks)[0])
        assert np.isnan(average_precision(ranks)[0]) == (label == 0)


class TestBudget:
    def test_each_day_has_its_own_budget_and_ties_share_what_is_left(self) -> None:
        #                  day 0: fraud first, then a tie of three for one place    day 1: one fraud in third place
        scores = np.array([0.9, 0.5, 0.5, 0.5, 0.1, 0.8, 0.7, 0.6])
        labels = np.array([1.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0])
        days = np.array([0, 0, 0, 0, 0, 1, 1, 1])
        shares = budget_shares(scores, labels, days, np.ones((1, 8)), budget=2)
        assert shares[0].tolist() == pytest.approx([1, 1 / 3, 0, 0])

    def test_equal_scores_of_two_days_are_no_tie(self) -> None:
        shares = budget_shares(np.full(2, 0.5), np.ones(2), np.array([0, 1]), np.ones((1, 2)), budget=1)
        assert shares[0].tolist() == [1, 1]

    @given(samples(), st.integers(1, 8))
    def test_the_best_rows_of_each_day_are_taken(self, sample: Sample, budget: int) -> None:
        distinct = sample.scores + np.linspace(0, 1e-6, sample.size)
        shares = budget_shares(distinct, sample.labels, sample.days, np.ones((1, sample.size)), budget=budget)[0]
        taken = np.zeros(sample.size)
        for day in set(sample.days.tolist()):
            of_day = np.flatnonzero(sample.days == day)
            taken[of_day[np.argsort(-distinct[of_day])[:budget]]] = 1
        np.testing.assert_allclose(shares, taken[sample.labels == 1])


def handbook_card_precision(sample: Sample, *, cards: int) -> float:
    """Card precision as the handbook defines it, card by card."""
    caught: set[int] = set()
    precisions = []
    for day in sorted(set(sample.days.tolist())):
        best: dict[int, tuple[float, float]] = {}
        for i in np.flatnonzero(sample.days == day):
            card = int(sample.customers[i])
            if card not in caught:
                score, label = best.get(card, (0.0, 0.0))
                best[card] = (max(score, sample.scores[i]), max(label, sample.labels[i]))
        top = sorted(best, key=lambda card: -best[card][0])[:cards]
        hits = {card for card in top if best[card][1] == 1}
        caught |= hits
        precisions.append(len(hits) / cards)
    return float(np.mean(precisions))


class TestCardPrecision:
    @given(samples(), st.integers(1, 4))
    def test_equals_the_handbook(self, sample: Sample, cards: int) -> None:
        scores = sample.scores + np.linspace(0, 1e-6, sample.size)
        distinct = Sample(scores, sample.labels, sample.customers, sample.days, sample.weights)
        result = card_precision(
            scores, sample.labels, sample.customers, sample.days, np.ones((1, 6)), cards_per_day=cards
        )
        assert result[0] == pytest.approx(handbook_card_precision(distinct, cards=cards))

    def test_a_caught_card_is_not_counted_again(self) -> None:
        days, labels = np.array([0, 1]), np.ones(2)
        same = card_precision(labels, labels, np.array([0, 0]), days, np.ones((1, 2)), cards_per_day=1)
        other = card_precision(labels, labels, np.array([0, 1]), days, np.ones((1, 2)), cards_per_day=1)
        assert (same[0], other[0]) == (0.5, 1.0)


class TestCalibrationError:
    def test_is_zero_when_rates_match_and_the_distance_when_not(self) -> None:
        labels = np.tile([1.0, 0.0, 0.0, 0.0], 100)
        weights = np.ones((1, 400))
        assert calibration_error(np.full(400, 0.25), labels, weights)[0] == pytest.approx(0)
        assert calibration_error(np.full(400, 0.45), labels, weights)[0] == pytest.approx(0.2)

    def test_errors_of_opposite_sign_do_not_cancel_across_bins(self) -> None:
        probability = np.repeat([0.3, 0.7], 100)
        labels = np.repeat([0.0, 1.0], 100)
        assert calibration_error(probability, labels, np.ones((1, 200)), bins=2)[0] == pytest.approx(0.3)

    @given(samples(), st.integers(1, 20))
    def test_equals_the_definition_without_ties(self, sample: Sample, bins: int) -> None:
        probability = np.sort(sample.scores + np.linspace(0, 1e-6, sample.size))
        bin_of = np.arange(sample.size) * bins // sample.size
        excess = [((sample.labels - probability) * sample.weights)[bin_of == b].sum() for b in range(bins)]
        result = calibration_error(probability, sample.labels, row(sample.weights), bins=bins)
        assert result[0] == pytest.approx(np.abs(excess).sum() / sample.weights.sum())


class TestResamples:
    def test_first_is_the_sample_itself_and_the_rest_draw_as_many_customers(self) -> None:
        weights = np.concatenate(list(customer_resamples(40, 1_000, replicates=30, seed=1)))
        assert weights.shape == (31, 40)
        assert (weights[0] == 1).all()
        assert (weights.sum(axis=1) == 40).all()
        assert (weights[1:] != weights[1]).any()

    def test_block_size_does_not_change_the_draw(self) -> None:
        whole = np.concatenate(list(customer_resamples(40, 1, replicates=30, seed=1)))
        parted = np.concatenate(list(customer_resamples(40, 500_000, replicates=30, seed=1)))
        np.testing.assert_array_equal(whole, parted)


def world(rows: int = 3_000, *, seed: int = 0, episode: int = 1) -> dict[str, NDArray[np.generic]]:
    """Calibrated scores; each customer is compromised as a whole for `episode` rows in a row."""
    generator = np.random.default_rng(seed)
    base = generator.beta(0.5, 12, rows // episode)
    fraud = (generator.random(rows // episode) < base).astype(np.float64)
    return {
        "probability": np.repeat(base, episode),
        "labels": np.repeat(fraud, episode),
        "amounts_cents": generator.integers(1_00, 500_00, rows),
        "customers": np.repeat(np.arange(rows // episode), episode).astype(str).astype(object),
        "days": np.arange(rows, dtype=np.int64) * 10 // rows,
    }


def judged(data: dict[str, NDArray[np.generic]], **changes: object) -> Evaluation:
    settings_ = {"policy": Policy(0.2, 0.6), "costs": COSTS, "alert_budget_per_day": 20, "replicates": 100}
    return evaluate(**{**data, **settings_, **changes})  # type: ignore[arg-type]  # keywords of several types in one dict


class TestEvaluate:
    def test_every_metric_has_its_value_inside_its_interval(self) -> None:
        result = judged(world())
        assert set(result.metrics) == {
            "average_precision",
            "roc_auc",
            "recall_at_precision",
            "recall_at_budget",
            "cost_saved",
            "calibration_error",
            "brier",
            "observed_over_expected",
            "precision",
            "recall",
            "card_precision",
            "average_precision_1_in_1000",
            "average_precision_15_in_100000",
            "block_precision",
            "money_recall",
            "saved_per_day",
            "alerts_per_day",
            "blocks_per_day",
            "incident_recall",
            "incident_recall_at_once",
            "customer_recall",
        }
        for name in ("average_precision", "roc_auc", "recall_at_budget", "cost_saved", "card_precision"):
            interval = result.metrics[name]
            assert interval.low < interval.value < interval.high

    def test_cost_saved_is_the_share_of_the_cost_of_doing_nothing(self) -> None:
        data = {
            "probability": np.array([0.9, 0.3, 0.1, 0.3]),
            "labels": np.array([1.0, 1.0, 1.0, 0.0]),
            "amounts_cents": np.array([5_000, 3_000, 2_000, 10]),
            "customers": np.arange(4),
            "days": np.zeros(4, np.int64),
        }
        # Blocked: all 5000 back. Reviewed fraud: half of 3000 back for 100. Reviewed in vain: 100. The rest is lost.
        saved = judged(data).metrics["cost_saved"].value
        assert saved == pytest.approx((5_000 + 1_500 - 100 - 100) / 10_000)

    def test_taken_decisions_count_instead_of_the_policy(self) -> None:
        data = {
            "probability": np.array([0.9, 0.3, 0.1, 0.3]),
            "labels": np.array([1.0, 1.0, 1.0, 0.0]),
            "amounts_cents": np.array([5_000, 3_000, 2_000, 10]),
            "customers": np.arange(4),
            "days": np.zeros(4, np.int64),
        }
        by_policy = judged(data).metrics
        assert [by_policy[name].value for name in ("precision", "recall")] == pytest.approx([2 / 3, 2 / 3])
        assert (by_policy["block_precision"].value, by_policy["blocks_per_day"].value) == (1, 1)
        assert (by_policy["alerts_per_day"].value, by_policy["money_recall"].value) == (3, 0.8)
        assert by_policy["saved_per_day"].value == pytest.approx((5_000 + 1_500 - 100 - 100) / 100)
        served = judged(data, decided=np.array(["review", "allow", "allow", "review"], dtype=object)).metrics
        assert [served[name].value for name in ("precision", "recall")] == pytest.approx([1 / 2, 1 / 3])
        assert served["cost_saved"].value == pytest.approx((2_500 - 100 - 100) / 10_000)
        assert served["brier"].value == pytest.approx((0.1**2 + 0.7**2 + 0.9**2 + 0.3**2) / 4)
        assert served["observed_over_expected"].value == pytest.approx(3 / 1.6)

    def test_average_precision_at_another_prevalence_is_that_of_more_legitimate_rows(self) -> None:
        data = world(2_000)
        fraud = data["labels"] == 1
        copies = np.where(fraud, 1, 50)
        many = judged({name: np.repeat(values, copies) for name, values in data.items()}, replicates=0)
        rate = fraud.sum() / copies.sum()
        scores, labels = (data[name].astype(np.float64) for name in ("probability", "labels"))
        ranks = rank_frauds(scores, labels, np.ones((1, 2_000)))
        assert average_precision(ranks, prevalence=rate)[0] == pytest.approx(many.metrics["average_precision"].value)
        assert average_precision(ranks, prevalence=fraud.mean()) == pytest.approx(average_precision(ranks))

    def test_incidents_count_once_however_many_frauds_they_hold(self) -> None:
        days = np.array([0, 1, 9, 0, 0], np.int64)
        data = {
            "probability": np.array([0.1, 0.9, 0.1, 0.9, 0.1]),
            "labels": np.array([1.0, 1, 1, 1, 0]),
            "amounts_cents": np.full(5, 5_000),
            "customers": np.array(["a", "a", "a", "b", "c"], dtype=object),
            "days": days,
        }
        # Customer a has an incident that its second fraud gives away, and a later one that nobody noticed.
        metrics = judged(data, times=days * DAY).metrics
        shares = [metrics[name].value for name in ("incident_recall", "incident_recall_at_once", "customer_recall")]
        assert shares == pytest.approx([2 / 3, 1 / 3, 1])

    def test_intervals_cover_the_truth_with_their_nominal_frequency(self) -> None:
        truth = judged(world(200_000, seed=99), replicates=0).metrics["average_precision"].value
        intervals = [judged(world(seed=seed)).metrics["average_precision"] for seed in range(40)]
        assert sum(interval.low <= truth <= interval.high for interval in intervals) >= 33

    def test_rows_of_one_episode_widen_the_interval(self) -> None:
        single, episodes = judged(world()), judged(world(episode=10))
        widths = [
            evaluation.metrics["roc_auc"].high - evaluation.metrics["roc_auc"].low for evaluation in (single, episodes)
        ]
        assert widths[1] > 2 * widths[0]

    def test_segments_partition_the_rows_and_share_the_budget_of_the_bank(self) -> None:
        data = world()
        channel = np.where(np.arange(3_000) % 3 == 0, "online", "chip").astype(object)
        channel[:30] = None
        result = judged(data, segments={"channel": channel})
        groups = result.segments["channel"]
        assert set(groups) == {"online", "chip", "missing"}
        assert sum(part.counts["rows"] for part in groups.values()) == 3_000
        caught = [part.metrics["recall_at_budget"].value * part.counts["frauds"] for part in groups.values()]
        overall = result.metrics["recall_at_budget"].value * result.counts["frauds"]
        assert np.nansum(caught) == pytest.approx(overall)

    def test_without_fraud_metrics_are_undefined_rather_than_zero(self) -> None:
        data = world() | {"labels": np.zeros(3_000)}
        result = judged(data)
        for name in ("average_precision", "roc_auc", "recall_at_precision", "recall_at_budget", "cost_saved"):
            assert np.isnan(result.metrics[name].value)
            assert str(result.metrics[name]) == "undefined"
        assert np.isnan(result.metrics["card_precision"].value)
        assert result.metrics["calibration_error"].value > 0

    def test_no_rows_at_all_are_undefined_too(self) -> None:
        result = judged({name: values[:0] for name, values in world().items()})
        assert result.counts == {"rows": 0, "frauds": 0, "customers": 0}
        assert np.isnan([interval.value for interval in result.metrics.values()]).all()

    @pytest.mark.parametrize(("column", "bad"), [("probability", np.nan), ("labels", np.nan), ("labels", 0.5)])
    def test_unknown_labels_and_missing_scores_are_refused(self, column: str, bad: float) -> None:
        data = world()
        changed = data[column].copy()
        changed[5] = bad
        with pytest.raises(ValueError, match="finite score and a known label"):
            judged(data | {column: changed})

    @settings(max_examples=20)
    @given(st.integers(0, 1_000))
    def test_row_order_does_not_matter(self, seed: int) -> None:
        data = world(300)
        data["probability"] = np.round(data["probability"].astype(np.float64), 1)
        order = np.random.default_rng(seed).permutation(300)
        straight, mixed = judged(data), judged({name: values[order] for name, values in data.items()})
        for name, interval in straight.metrics.items():
            assert mixed.metrics[name].value == pytest.approx(interval.value, nan_ok=True)
            assert mixed.metrics[name].high == pytest.approx(interval.high, nan_ok=True)


class TestRecord:
    def test_survives_json_also_where_undefined(self) -> None:
        segment = np.where(np.arange(3_000) < 20, "tiny", "large")
        data = world()
        data["labels"][:20] = 0
        result = judged(data, segments={"size": segment})
        assert np.isnan(result.segments["size"]["tiny"].metrics["roc_auc"].value)
        text = json.dumps(result.to_dict(), allow_nan=False)
        again = Evaluation.from_dict(json.loads(text))
        assert json.dumps(again.to_dict(), allow_nan=False) == text
        assert again.to_markdown() == result.to_markdown()

    def test_markdown_is_one_table_of_equal_rows(self) -> None:
        lines = judged(world(), segments={"a|b": np.arange(3_000) % 2}).to_markdown().splitlines()
        assert [line.split("|")[1].strip() for line in lines] == ["", "---", "all", "a/b: 0", "a/b: 1"]
        assert {line.count("|") for line in lines} == {lines[0].count("|")}


def test_segment_rows_keep_missing_labels_apart() -> None:
    rows = segment_rows({"band": np.array([1.0, np.nan, 2.0, 1.0])})
    assert {group: mask.tolist() for (_, group), mask in rows.items()} == {
        "1.0": [True, False, False, True],
        "2.0": [False, False, True, False],
        "missing": [False, True, False, False],
    }
