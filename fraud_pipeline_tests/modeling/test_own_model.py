"""A model with own fields: trained, saved and loaded, it scores the same bits from tables and from requests."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fraud_pipeline.defs.checks import label_leak_verdicts
from fraud_pipeline.features.config import FeatureConfig
from fraud_pipeline.features.engineer import FEATURE_NAMES
from fraud_pipeline.features.own_inputs import FIXED_INPUTS, not_inputs, with_own_inputs
from fraud_pipeline.modeling.model_card import model_card
from fraud_pipeline.modeling.model_directory import FraudModel
from fraud_pipeline.modeling.training import (
    PolicySettings,
    TrainedModel,
    TuningSettings,
    build_training_set,
    evaluate_model,
    part,
    train_model,
    training_set_schema,
)
from fraud_pipeline.monitoring.drift import Sample, drift_report, judgeable
from fraud_pipeline.schema.own_fields import OwnField, own_fields_json, own_values, with_own_columns
from fraud_pipeline.schema.transactions import microseconds, times
from fraud_pipeline_tests.support.small_world import LABEL_MATURITY, Tables

OWN = (
    OwnField(name="device", type="identifier"),
    OwnField(name="browser", type="category", description="what the customer used"),
    OwnField(name="risk", type="number"),
    OwnField(name="is_new", type="boolean"),
    OwnField(name="opened_at", type="time"),
)


@pytest.fixture(scope="module")
def own_tables(tables: Tables) -> Tables:
    """The small world with own fields; the browser of most frauds is rare among other rows."""
    rows, generator = tables.transactions, np.random.default_rng(5)
    fraud = rows["transaction_id"].isin(tables.reports.loc[tables.reports["is_fraud"], "transaction_id"]).to_numpy()
    count = len(rows)
    browser = generator.choice(["edge", "firefox", "safari"], count)
    browser = np.where(generator.random(count) < np.where(fraud, 0.7, 0.05), "lynx", browser).astype(object)
    browser[generator.random(count) < 0.1] = None
    ages = generator.integers(0, 10**15, count)
    own: dict[str, Any] = {
        "device": [f"d-{number}" for number in generator.integers(0, 500, count)],
        "browser": browser,
        "risk": np.where(generator.random(count) < 0.2, np.nan, generator.normal(size=count) + fraud),
        "is_new": pd.array(generator.random(count) < 0.5, dtype="boolean"),
        "opened_at": times(microseconds(rows["event_time"]) - ages),
    }
    return replace(tables, transactions=rows.assign(**own))


@pytest.fixture(scope="module")
def own_rows(own_tables: Tables) -> pd.DataFrame:
    """The training set."""
    rows, _ = build_training_set(
        own_tables.features,
        own_tables.transactions,
        own_tables.reports,
        as_of=own_tables.as_of,
        label_maturity=LABEL_MATURITY,
        gap=timedelta(days=1),
        warm_up=timedelta(days=5),
        own_fields=OWN,
    )
    return rows


@pytest.fixture(scope="module")
def own_trained(own_rows: pd.DataFrame, policy_settings: PolicySettings) -> TrainedModel:
    return train_model(
        own_rows,
        tuning=TuningSettings(n_trials=1, seed=0),
        policy=policy_settings,
        feature_config=FeatureConfig(label_maturity=LABEL_MATURITY),
        own_fields=OWN,
        lineage={},
    )


@pytest.fixture(scope="module")
def loaded(own_trained: TrainedModel, tmp_path_factory: pytest.TempPathFactory) -> FraudModel:
    directory = tmp_path_factory.mktemp("own") / "model"
    own_trained.model.save(directory)
    return FraudModel.load(directory)


def as_requests(rows: pd.DataFrame, model: FraudModel) -> Iterator[np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    """The model's row of each transaction, its own fields as one text."""
    own = model.feature_config.own_inputs
    for position in range(len(rows)):
        row = rows.iloc[[position]]
        present = {
            name: row[name].iloc[0] for name in ("device", "browser", "risk", "is_new") if row[name].notna().all()
        }
        text = own_fields_json(
            {name: value.item() if hasattr(value, "item") else value for name, value in present.items()}
            | {"opened_at": int(microseconds(row["opened_at"])[0])}
        )
        fixed = {name: [None if pd.isna(row[name].iloc[0]) else row[name].iloc[0]] for name in FIXED_INPUTS}
        encoded = own.values(fixed | own_values([text], own.fields), microseconds(row["event_time"]))
        features = row[list(FEATURE_NAMES)].to_numpy(np.float32)
        yield model.feature_config.whole_rows(features, encoded)


def test_the_training_set_holds_the_raw_columns(own_rows: pd.DataFrame) -> None:
    assert list(own_rows.columns[-5:]) == [own.name for own in OWN]
    training_set_schema(OWN).validate(own_rows)


def test_own_inputs_are_used(own_trained: TrainedModel, own_rows: pd.DataFrame) -> None:
    model = own_trained.model
    assert model.features == (*FEATURE_NAMES, *FIXED_INPUTS, "browser", "risk", "is_new", "opened_at")
    assert model.importance()["browser"] > 0.2
    test = part(own_rows, "test")
    lynx = model.predict(test.assign(browser="lynx")).mean()
    assert lynx > 5 * model.predict(test.assign(browser="edge")).mean()


def test_a_loaded_model_scores_requests_as_tables_to_the_bit(
    own_trained: TrainedModel, loaded: FraudModel, own_rows: pd.DataFrame
) -> None:
    rows = part(own_rows, "test").head(200)
    online = np.concatenate(list(as_requests(rows, loaded)))
    assert online.tobytes() == np.ascontiguousarray(own_trained.model.values(rows)).tobytes()
    scores = np.concatenate([loaded.probabilities(online[[position]]) for position in range(len(rows))])
    assert scores.tobytes() == own_trained.model.predict(rows).tobytes()
    alone = np.concatenate([loaded.contributions_of(online[[position]]) for position in range(50)])
    assert alone.tobytes() == own_trained.model.contributions(rows).to_numpy(np.float32)[:50].tobytes()


def test_an_unseen_category_is_missing(loaded: FraudModel, own_rows: pd.DataFrame) -> None:
    rows = part(own_rows, "test").head(100)
    unseen = loaded.predict(rows.assign(browser="mosaic"))
    assert unseen.tobytes() == loaded.predict(rows.assign(browser=None)).tobytes()
    assert unseen.tobytes() != loaded.predict(rows).tobytes()


def test_a_champion_of_another_declaration_judges_the_same_frame(
    trained: TrainedModel, own_trained: TrainedModel, own_rows: pd.DataFrame, training_set: pd.DataFrame
) -> None:
    """The old champion reads what it knows of the new frame; of an old frame, the new model lacks its own fields."""
    test = part(own_rows, "test")
    assert trained.model.predict(test).tobytes() == trained.model.predict(part(training_set, "test")).tobytes()
    of_old = with_own_inputs(
        part(training_set, "test"), part(training_set, "test"), own_trained.model.feature_config.own_inputs
    )
    missing = with_own_columns(test.drop(columns=[own.name for own in OWN]), OWN)
    assert own_trained.model.predict(of_old).tobytes() == own_trained.model.predict(missing).tobytes()


def test_the_card_says_what_the_model_sees_and_what_not(
    own_trained: TrainedModel, own_rows: pd.DataFrame, policy_settings: PolicySettings
) -> None:
    model = own_trained.model
    card = model_card(model, evaluate_model(model, part(own_rows, "test"), policy=policy_settings))
    assert "country, latitude, longitude, browser, risk, is_new, opened_at. Not used: device (a field of type" in card
    assert set(not_inputs(model.feature_config.own_inputs)) == {"device"}


class TestLeaks:
    def test_honest_own_fields_pass(self, own_rows: pd.DataFrame, own_tables: Tables) -> None:
        ordered = own_rows.sort_values("event_time")
        verdicts = label_leak_verdicts(ordered, own_tables.transactions, own_fields=OWN)
        assert [verdict.check for verdict in verdicts if not verdict.passed] == []

    @pytest.mark.parametrize("field", ["browser", "risk", "is_new"])
    def test_a_field_that_is_the_label_is_named(self, own_rows: pd.DataFrame, own_tables: Tables, field: str) -> None:
        rows, transactions = own_rows.sort_values("event_time"), own_tables.transactions
        fraud = transactions["transaction_id"].isin(rows.loc[rows["label"] == 1, "transaction_id"])
        leaks: dict[str, Any] = {
            "browser": np.where(fraud, "chargeback desk", "shop"),
            "risk": fraud.astype("float64"),
            "is_new": fraud.astype("boolean"),
        }
        verdict = label_leak_verdicts(rows, transactions.assign(**{field: leaks[field]}), own_fields=OWN)[0]
        assert not verdict.passed
        assert verdict.detail.startswith(f"{field} alone")


class TestDrift:
    def sample(self, model: FraudModel, rows: pd.DataFrame) -> Sample:
        values = model.values(rows)
        encoded = pd.DataFrame(values, columns=pd.Index(model.features)).assign(score=model.probabilities(values))
        return Sample.of(encoded, customers=rows["customer_id"], merchants=rows["transaction_id"])

    @pytest.mark.parametrize("changed", ["browser", "risk"])
    def test_new_categories_and_missing_values_show(
        self, own_trained: TrainedModel, own_rows: pd.DataFrame, changed: str
    ) -> None:
        model, test = own_trained.model, part(own_rows, "test")
        today = test.assign(browser="mosaic") if changed == "browser" else test.assign(risk=np.nan)
        report = drift_report(
            pd.Timestamp("2026-01-31").date(),
            self.sample(model, today),
            champion=model.reference,
            champion_customers=200.0,
            weeks_before=self.sample(model, test),
            features=judgeable(history=timedelta(days=90), features=model.features),
        )
        assert (changed, "missing") in {(shift.feature, shift.kind) for shift in report.drifted}
