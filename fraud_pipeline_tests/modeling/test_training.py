"""Training: each step sees only its part of the data, and nothing sees the future."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fraud_pipeline.features.config import FeatureConfig
from fraud_pipeline.features.engineer import FEATURE_NAMES, FeatureEngineer
from fraud_pipeline.features.own_inputs import FIXED_INPUTS
from fraud_pipeline.modeling.dataset import PART_NAMES, SplitError
from fraud_pipeline.modeling.evaluation import RARE, Evaluation
from fraud_pipeline.modeling.model_directory import FraudModel
from fraud_pipeline.modeling.training import (
    PolicySettings,
    TrainedModel,
    TuningSettings,
    days,
    evaluate_model,
    part,
    segments,
    train_model,
)
from fraud_pipeline_tests.support.small_world import LABEL_MATURITY, Tables


@pytest.fixture(scope="module")
def evaluation(trained: TrainedModel, training_set: pd.DataFrame, policy_settings: PolicySettings) -> Evaluation:
    return evaluate_model(trained.model, part(training_set, "test"), policy=policy_settings)


class TestTrainingSet:
    def test_each_row_has_its_label_and_its_part(self, training_set: pd.DataFrame) -> None:
        described = ["transaction_id", "event_time", "customer_id", "amount_cents", "channel", "label", "part"]
        assert list(training_set.columns) == [*described, *FEATURE_NAMES, *FIXED_INPUTS]
        assert training_set["transaction_id"].is_unique
        assert set(training_set["label"]) == {0.0, 1.0}

    def test_the_parts_follow_each_other_with_a_gap(self, training_set: pd.DataFrame) -> None:
        times = training_set.groupby("part")["event_time"].agg(["min", "max"]).loc[list(PART_NAMES)]
        gaps = times["min"].to_numpy()[1:] - times["max"].to_numpy()[:-1]
        assert (gaps >= np.timedelta64(1, "D")).all()
        assert list(training_set["part"].unique()) == list(PART_NAMES)

    def test_every_row_has_a_matured_label(self, training_set: pd.DataFrame, tables: Tables) -> None:
        assert training_set["event_time"].max() < tables.as_of - LABEL_MATURITY

    def test_features_and_labels_stay_with_their_transaction(self, training_set: pd.DataFrame, tables: Tables) -> None:
        features = tables.features.set_index("transaction_id").loc[training_set["transaction_id"], list(FEATURE_NAMES)]
        np.testing.assert_array_equal(training_set[list(FEATURE_NAMES)].to_numpy(), features.to_numpy())
        frauds = set(tables.reports.loc[tables.reports["is_fraud"], "transaction_id"])
        assert (training_set["transaction_id"].isin(frauds) == (training_set["label"] == 1)).all()

    def test_the_order_of_the_tables_does_not_matter(self, training_set: pd.DataFrame, tables: Tables) -> None:
        shuffled = replace(tables, transactions=tables.transactions.sample(frac=1, random_state=0))
        pd.testing.assert_frame_equal(shuffled.training_set(), training_set)

    def test_later_reports_change_nothing(self, training_set: pd.DataFrame, tables: Tables) -> None:
        later = tables.reports.assign(reported_at=tables.as_of, is_fraud=~tables.reports["is_fraud"])
        honest = tables.transactions.sample(500, random_state=1)
        accused = later.head(1).merge(honest[["transaction_id"]], how="cross", suffixes=("_", ""))[later.columns]
        everything = pd.concat([tables.reports, later, accused], ignore_index=True)
        pd.testing.assert_frame_equal(tables.training_set(reports=everything), training_set)

    def test_without_fraud_the_part_at_fault_is_named(self, tables: Tables) -> None:
        with pytest.raises(SplitError, match="train: no fraud among .* matured rows"):
            tables.training_set(reports=tables.reports.head(0))


class TestTraining:
    def test_the_test_part_is_never_fitted_on(
        self, trained: TrainedModel, training_set: pd.DataFrame, policy_settings: PolicySettings
    ) -> None:
        """Other labels, amounts and features in the test part leave trees, calibration and thresholds as they are."""
        tampered = training_set.copy()
        test = (tampered["part"] == "test").to_numpy()
        generator = np.random.default_rng(0)
        tampered.loc[test, "label"] = generator.permutation(tampered.loc[test, "label"].to_numpy())
        tampered.loc[test, "amount_cents"] = generator.integers(1, 10**6, test.sum())
        tampered.loc[test, list(FEATURE_NAMES)] = generator.normal(size=(test.sum(), len(FEATURE_NAMES))).astype("f4")
        again = train_model(
            tampered,
            tuning=TuningSettings(n_trials=1, seed=0),
            policy=policy_settings,
            feature_config=trained.model.feature_config,
            lineage=dict(trained.model.lineage),
        )
        assert again.model.booster.save_raw() == trained.model.booster.save_raw()
        assert again.model.calibration == trained.model.calibration
        assert again.model.policy == trained.model.policy
        assert again.model.lineage == trained.model.lineage

    def test_the_trees_are_fitted_on_train_and_tune(self, trained: TrainedModel, training_set: pd.DataFrame) -> None:
        fitted = training_set[training_set["part"].isin(["train", "tune"])]
        lineage = trained.model.lineage
        assert lineage["training_rows"] == len(fitted)
        assert lineage["training_frauds"] == fitted["label"].sum()
        assert lineage["trained_from"] == fitted["event_time"].min().isoformat()
        assert lineage["trained_to"] == fitted["event_time"].max().isoformat()
        test = training_set[training_set["part"] == "test"]
        assert lineage["evaluated_to"] == test["event_time"].max().isoformat() > lineage["trained_to"]
        assert trained.model.booster.num_boosted_rounds() == trained.tuning.rounds == lineage["rounds"]

    def test_the_lineage_records_code_and_data(self, trained: TrainedModel) -> None:
        lineage = trained.model.lineage
        assert lineage["feature_code"] == FeatureEngineer.code_version()
        assert lineage["source"] == "synthetic world"
        assert lineage["parameters"] == dict(trained.tuning.parameters)

    def test_the_policy_keeps_to_the_alert_budget_on_the_rows_it_was_chosen_on(
        self, trained: TrainedModel, policy_settings: PolicySettings
    ) -> None:
        report = trained.policy_report
        assert 0 < report.chosen_alerts_per_day <= policy_settings.alert_budget_per_day
        assert report.chosen_cents_per_day <= report.do_nothing_cents_per_day

    def test_every_part_before_the_test_has_a_say_in_the_policy(
        self, trained: TrainedModel, training_set: pd.DataFrame
    ) -> None:
        before = training_set[training_set["part"] != "test"]
        rows_per_day = len(part(training_set, "calibrate")) / len(np.unique(days(part(training_set, "calibrate"))))
        lost = before.loc[before["label"] == 1, "amount_cents"].sum()
        per_day = lost / (len(before) / rows_per_day)
        assert trained.policy_report.do_nothing_cents_per_day == pytest.approx(per_day, rel=1e-6)

    def test_the_reference_holds_scores_of_unseen_rows(self, trained: TrainedModel, training_set: pd.DataFrame) -> None:
        reference = trained.model.reference
        unseen = training_set[training_set["part"].isin(["calibrate", "test"])]
        assert list(reference.columns) == [*trained.model.features, "score"]
        assert trained.model.features == (*FEATURE_NAMES, *FIXED_INPUTS)
        assert len(reference) == len(unseen)
        scores = trained.model.probabilities(reference[list(trained.model.features)].to_numpy())
        np.testing.assert_array_equal(scores, reference["score"])

    def test_another_seed_searches_elsewhere_in_the_same_journal(
        self, training_set: pd.DataFrame, policy_settings: PolicySettings, tmp_path: Path
    ) -> None:
        few = training_set.groupby(["part", "label"], sort=False).head(60).sort_values("event_time")
        results = [
            train_model(
                few,
                tuning=TuningSettings(n_trials=3, seed=seed, journal=tmp_path / "studies.journal"),
                policy=policy_settings,
                feature_config=FeatureConfig(label_maturity=LABEL_MATURITY),
                lineage={"data_sha256": "0"},
            )
            for seed in (0, 1, 0)
        ]
        first, second, again = (result.tuning.trials["params_learning_rate"].tolist() for result in results)
        assert first == again
        assert first[:2] == second[:2], "the fixed trials are the same in every search"
        assert first[2] != second[2]


class TestEvaluation:
    def test_every_metric_has_a_value_inside_its_interval(self, evaluation: Evaluation) -> None:
        assert set(evaluation.metrics) == {
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
            *RARE,
            "block_precision",
            "money_recall",
            "saved_per_day",
            "alerts_per_day",
            "blocks_per_day",
            "incident_recall",
            "incident_recall_at_once",
            "customer_recall",
        }
        defined = {name: m for name, m in evaluation.metrics.items() if name != "block_precision"}
        assert all(np.isfinite([m.value, m.low, m.high]).all() for m in defined.values())
        assert all(m.low <= m.high for m in defined.values())
        blocks = evaluation.metrics["blocks_per_day"].value
        assert np.isfinite(evaluation.metrics["block_precision"].value) == (blocks > 0)

    def test_the_model_is_far_better_than_chance(self, evaluation: Evaluation) -> None:
        fraud_rate = evaluation.counts["frauds"] / evaluation.counts["rows"]
        assert evaluation.metrics["average_precision"].low > 3 * fraud_rate
        assert evaluation.metrics["roc_auc"].low > 0.7

    def test_rows_of_segments_add_up(self, evaluation: Evaluation) -> None:
        assert set(evaluation.segments) == {"amount", "channel"}
        for groups in evaluation.segments.values():
            assert sum(group.counts["rows"] for group in groups.values()) == evaluation.counts["rows"]

    def test_a_loaded_model_is_judged_the_same(
        self,
        trained: TrainedModel,
        evaluation: Evaluation,
        training_set: pd.DataFrame,
        policy_settings: PolicySettings,
        tmp_path: Path,
    ) -> None:
        directory = tmp_path / "model"
        trained.model.save(directory)
        again = evaluate_model(FraudModel.load(directory), part(training_set, "test"), policy=policy_settings)
        assert again.to_dict() == evaluation.to_dict()


class TestSegments:
    def test_amounts_fall_into_bands_that_hold_their_lower_edge(self) -> None:
        rows = pd.DataFrame({"amount_cents": [1, 9_99, 10_00, 199_99, 200_00, 99_999_99], "channel": "chip"})
        bands = ["0 to 10", "0 to 10", "10 to 50", "50 to 200", "200 to 1000", "1000 to inf"]
        assert segments(rows)["amount"].tolist() == bands

    def test_data_without_channels_have_no_segment_of_them(self) -> None:
        assert set(segments(pd.DataFrame({"amount_cents": [1], "channel": [None]}))) == {"amount"}


def test_days_are_numbered_in_utc() -> None:
    late = pd.Timestamp("1970-01-02 23:59:59.999999", tz="UTC")
    assert days(pd.DataFrame({"event_time": [late, late + pd.Timedelta(microseconds=1)]})).tolist() == [1, 2]
