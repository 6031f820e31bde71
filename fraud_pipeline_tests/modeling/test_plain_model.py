"""The plain model is the floor: the row's own columns, fixed parameters, the same rows as ours, and never the test."""

from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
import pytest
from optuna.trial import FixedTrial

from fraud_pipeline.features.definitions import FEATURES
from fraud_pipeline.modeling.comparison import Comparison, compare
from fraud_pipeline.modeling.fitting import sensible_parameters
from fraud_pipeline.modeling.model_directory import FraudModel
from fraud_pipeline.modeling.plain_model import row_columns
from fraud_pipeline.modeling.training import PolicySettings, TrainedModel, TuningSettings, part, train_model
from fraud_pipeline.modeling.tuning import suggest_parameters

HISTORY: Final = [each.name for each in FEATURES if each.entity != "transaction"]


def retrained(rows: pd.DataFrame, trained: TrainedModel, policy: PolicySettings, *, n_trials: int = 1) -> TrainedModel:
    """A training with the configuration of `trained` on other rows."""
    return train_model(
        rows,
        tuning=TuningSettings(n_trials=n_trials, seed=0),
        policy=policy,
        feature_config=trained.model.feature_config.of_history,
        lineage=trained.plain.lineage,
    )


class TestPlainModel:
    def test_its_columns_are_the_rows_own_and_the_own_inputs(self, trained: TrainedModel) -> None:
        own = trained.model.feature_config.own_inputs.names
        assert {"amount", "hour_of_day", "day_of_week", "is_online"} < set(trained.plain.features)
        assert {"category", "country"} <= set(own) <= set(trained.plain.features)
        assert not [name for name in trained.plain.features if name.startswith(("customer_", "merchant_"))]
        assert trained.plain.features == row_columns(trained.model.feature_config)

    def test_history_and_the_test_part_change_nothing(
        self, trained: TrainedModel, training_set: pd.DataFrame, policy_settings: PolicySettings
    ) -> None:
        rows = training_set.copy()
        generator = np.random.default_rng(0)
        rows[HISTORY] = generator.normal(size=(len(rows), len(HISTORY))).astype("f4")
        test = (rows["part"] == "test").to_numpy()
        rows.loc[test, "label"] = generator.permutation(rows.loc[test, "label"].to_numpy())
        again = retrained(rows, trained, policy_settings)
        assert again.plain.booster.save_raw() == trained.plain.booster.save_raw()
        assert again.model.booster.save_raw() != trained.model.booster.save_raw()

    @pytest.mark.slow
    def test_it_learns_from_train_and_tune(
        self, trained: TrainedModel, training_set: pd.DataFrame, policy_settings: PolicySettings
    ) -> None:
        for name in ("train", "tune"):
            rows = training_set.copy()
            rows.loc[rows["part"] == name, "hour_of_day"] = 0.0
            again = retrained(rows, trained, policy_settings)
            assert again.plain.booster.save_raw() != trained.plain.booster.save_raw()

    def test_it_survives_its_directory(self, trained: TrainedModel, training_set: pd.DataFrame, tmp_path: Path) -> None:
        rows = part(training_set, "test")
        trained.plain.save(tmp_path / "plain")
        np.testing.assert_array_equal(FraudModel.load(tmp_path / "plain").predict(rows), trained.plain.predict(rows))

    @pytest.mark.parametrize("base_rate", [0.0001, 0.01, 0.4, 0.9])
    def test_its_parameters_lie_in_the_search_space(self, base_rate: float) -> None:
        parameters = sensible_parameters(np.array([base_rate]))
        assert suggest_parameters(FixedTrial(parameters)) == parameters


class TestWhereHistoryAddsNothing:
    def test_ours_leaves_it_out_and_is_the_plain_model(
        self, trained: TrainedModel, training_set: pd.DataFrame, policy_settings: PolicySettings
    ) -> None:
        """A label of the row alone, and history that is noise and tempts: it names the frauds of the train part."""
        rows = training_set.copy()
        generator = np.random.default_rng(1)
        rows["label"] = (generator.random(len(rows)) < 0.5 * (rows["hour_of_day"] < 3)).astype(np.float64)
        rows[HISTORY] = generator.normal(size=(len(rows), len(HISTORY))).astype("f4")
        in_train = (rows["part"] == "train").to_numpy()
        rows.loc[in_train, "customer_amount_sum_1h"] = rows.loc[in_train, "label"].to_numpy(np.float32)
        result = retrained(rows, trained, policy_settings, n_trials=2)
        assert not result.tuning.history
        assert result.model.features == result.plain.features
        assert result.model.lineage["history"] is False
        test = part(rows, "test")
        np.testing.assert_array_equal(result.model.margin(test), result.plain.margin(test))
        assert set(result.model.reference.columns) == {*result.model.features, "score"}

    def test_it_stays_where_it_tells_frauds(
        self, trained: TrainedModel, training_set: pd.DataFrame, policy_settings: PolicySettings
    ) -> None:
        rows = training_set.copy()
        rows["customer_amount_sum_1h"] = (rows["label"] + np.random.default_rng(1).normal(size=len(rows)) / 2).astype(
            "f4"
        )
        result = retrained(rows, trained, policy_settings, n_trials=2)
        assert result.tuning.history
        test = part(rows, "test")
        labels = test["label"].to_numpy(np.float64)
        compared = compare(
            result.model.predict(test), result.plain.predict(test), labels, customers=test["customer_id"].to_numpy()
        )
        assert compared.gain.low > 0.1


class TestComparison:
    @pytest.fixture
    def compared(self) -> Comparison:
        generator = np.random.default_rng(0)
        labels = (generator.random(4_000) < 0.05).astype(np.float64)
        noise = generator.normal(size=(2, 4_000))
        better, worse = noise[0] + 3 * labels, noise[1] + labels
        return compare(better, worse, labels, customers=generator.integers(0, 900, 4_000))

    def test_the_difference_is_paired(self, compared: Comparison) -> None:
        assert compared.gain.value == pytest.approx(compared.model.value - compared.plain.value)
        assert 0 < compared.gain.low < compared.gain.value < compared.gain.high
        same = compare(*(np.linspace(0, 1, 50),) * 2, np.repeat([0.0, 1.0], 25), customers=np.arange(50))
        assert (same.gain.low, same.gain.high) == (0, 0)

    def test_survives_its_record(self, compared: Comparison) -> None:
        assert Comparison.from_dict(compared.to_dict()) == compared
        nothing = compare(*(np.zeros(3),) * 3, customers=np.arange(3))
        assert nothing.to_dict()["gain"] == {"value": None, "low": None, "high": None}
        assert np.isnan(Comparison.from_dict(nothing.to_dict()).gain.value)

    def test_counts_rows_frauds_and_customers(self, compared: Comparison) -> None:
        assert (compared.rows, compared.customers) == (4_000, 891)
        assert compared.base_rate == compared.frauds / 4_000
        assert replace(compared, rows=0).base_rate != replace(compared, rows=0).base_rate
