"""The Python API gives the bits of the service, and refuses input that it would not use."""

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import fraud_pipeline
from fraud_pipeline import (
    FraudModel,
    compute_features,
    explain,
    load_champion,
    load_model,
    read_transactions,
    score,
)
from fraud_pipeline.database import Database
from fraud_pipeline.database.history import load_history
from fraud_pipeline.database.merchant_day_refresh import refresh_merchant_days
from fraud_pipeline.features.definitions import FEATURE_NAMES
from fraud_pipeline.features.own_inputs import FIXED_INPUTS, OwnInputs
from fraud_pipeline.modeling.model_directory import IncompatibleModelError
from fraud_pipeline.modeling.training import TrainedModel
from fraud_pipeline.policy.decisions import Policy
from fraud_pipeline.schema.own_fields import OwnField
from fraud_pipeline.schema.transactions import OPTIONAL_COLUMNS
from fraud_pipeline.scoring.decision_record import ScoringResult
from fraud_pipeline.scoring.scorer import Scorer
from fraud_pipeline_tests.support.loaded import Loaded
from fraud_pipeline_tests.support.small_world import LABEL_MATURITY, Tables
from fraud_pipeline_tests.support.transaction_rows import transaction_rows


@pytest.fixture(scope="module")
def model(trained: TrainedModel) -> FraudModel:
    """A model with some reviews and blocks."""
    return replace(trained.model, policy=Policy(review_threshold=0.03, block_threshold=0.5))


@pytest.fixture(scope="module")
def last_day(tables: Tables) -> pd.Timestamp:
    return tables.as_of.floor("D") - pd.Timedelta(days=1)


@pytest.mark.slow
def test_scores_are_the_services(tables: Tables, model: FraudModel, last_day: pd.Timestamp, tmp_path: Path) -> None:
    """One day, served in micro-batches after the days before it were loaded, and scored at once by the API."""
    before = tables.transactions["event_time"] < last_day
    history, new = tables.transactions[before], tables.transactions[~before].sort_values("event_time")
    reports = tables.reports[tables.reports["reported_at"] < last_day]
    probabilities = score(new, reports, history=history, model=model)["probability"]
    every_decision = Policy(review_threshold=probabilities.quantile(0.9), block_threshold=probabilities.max())
    model = replace(model, policy=every_decision)
    answers: list[ScoringResult] = []
    with closing(Database(f"sqlite:///{tmp_path / 'fraud.db'}")) as database:
        database.upgrade()
        load_history(database, transactions=history, reports=reports)
        refresh_merchant_days(
            database,
            now=last_day,
            lookback=model.feature_config.engineer().lookback,
            label_maturity=LABEL_MATURITY,
        )
        scorer = Scorer(database=database, champion=lambda: Loaded(model))
        rows = transaction_rows(new)
        for position in range(0, len(rows), 97):
            answers += [row for row in scorer.score(rows[position : position + 97]) if isinstance(row, ScoringResult)]
    scored = score(new, reports, history=history, model=model)
    assert scored["transaction_id"].tolist() == [answer.transaction_id for answer in answers]
    assert scored["probability"].tolist() == [answer.probability for answer in answers]
    assert scored["decision"].tolist() == [answer.decision for answer in answers]
    assert scored["reasons"].tolist() == [tuple(reason.text for reason in answer.reasons) for answer in answers]
    assert set(scored["decision"]) == {"allow", "review", "block"}
    assert scored.index.equals(new.index)


def test_features_are_those_of_training(tables: Tables, model: FraudModel) -> None:
    features = compute_features(tables.transactions, tables.reports, model=model)
    pd.testing.assert_frame_equal(features, tables.model_rows[features.columns], check_exact=True)
    assert tuple(features.columns[2:]) == model.features == (*FEATURE_NAMES, *FIXED_INPUTS)


def test_the_model_decides_how_its_features_are_computed(tables: Tables, model: FraudModel) -> None:
    other = replace(
        model,
        features=("merchant_cleared_count_30d", "amount", *FIXED_INPUTS),
        feature_config=replace(model.feature_config, label_maturity=LABEL_MATURITY / 2),
    )
    features = compute_features(tables.transactions, tables.reports, model=other)
    assert list(features.columns[2:]) == ["merchant_cleared_count_30d", "amount", *FIXED_INPUTS]
    known = tables.features["merchant_cleared_count_30d"]
    assert not features["merchant_cleared_count_30d"].equals(known)


def test_explain_orders_what_moved_a_score(tables: Tables, model: FraudModel) -> None:
    features = compute_features(tables.transactions.tail(50), model=model)
    table = explain(features, model=model, top=len(model.features))
    contributions = model.contributions(features)
    sums = table.groupby("transaction_id", sort=False)["contribution"].sum().to_numpy()
    np.testing.assert_allclose(sums + contributions["bias"], model.margin(features), atol=1e-4)
    first = table[table["transaction_id"] == features["transaction_id"].iloc[0]]
    assert first["contribution"].abs().is_monotonic_decreasing
    amount = first.loc[first["feature"] == "amount", "value"].item()
    assert amount == features["amount"].iloc[0]
    assert len(explain(features, model=model, top=3)) == 3 * len(features)
    assert table["text"].str.len().min() > 0


def test_the_champion_is_the_one_of_the_home_directory(
    home: Path, trained: TrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FRAUD_HOME", str(home))
    models = [load_champion(), load_champion(home), load_model(home / "champion")]
    assert {model.policy for model in models} == {trained.model.policy}
    with pytest.raises(FileNotFoundError, match="champion: no champion is exported here; run `fraud-detect train`"):
        load_champion(tmp_path)
    with pytest.raises(IncompatibleModelError, match="holds no model.json"):
        load_model(tmp_path)


class TestInput:
    @pytest.fixture
    def rows(self, tables: Tables) -> pd.DataFrame:
        return tables.transactions.head(20)

    def test_optional_columns_may_be_absent(self, rows: pd.DataFrame, model: FraudModel) -> None:
        features = compute_features(rows.drop(columns=list(OPTIONAL_COLUMNS)), model=model)
        assert features["is_online"].isna().all()
        assert features["amount"].tolist() == rows["amount_cents"].tolist()

    def test_own_fields_are_those_that_the_model_knows(self, rows: pd.DataFrame, model: FraudModel) -> None:
        fields = (OwnField(name="device", type="identifier"), OwnField(name="age", type="number"))
        own_inputs = OwnInputs(fields=fields, inputs=model.feature_config.own_inputs.inputs)
        knowing = replace(model, feature_config=replace(model.feature_config, own_inputs=own_inputs))
        own = rows.assign(device=" d-1 ", age=31)
        scores = [score(own, model=knowing), score(rows, model=knowing), score(rows, model=model)]
        assert scores[0].equals(scores[1])
        assert scores[1].equals(scores[2])
        with pytest.raises(ValueError, match="transactions: unknown columns device, age; drop them"):
            score(own, model=model)
        with pytest.raises(ValueError, match="transactions: column age holds values that are no number; convert"):
            score(own.assign(age="31"), model=knowing)
        with pytest.raises(ValueError, match="transactions: device lost_digits: the id was written as a rounded"):
            score(own.assign(device="4.51E+15"), model=knowing)

    def test_amounts_may_be_in_units(self, rows: pd.DataFrame, model: FraudModel) -> None:
        raw = rows.drop(columns="amount_cents").assign(amount=rows["amount_cents"] / 100)
        pd.testing.assert_frame_equal(compute_features(raw, model=model), compute_features(rows, model=model))

    def test_what_would_not_be_used_is_refused_by_name(self, rows: pd.DataFrame, model: FraudModel) -> None:
        with pytest.raises(ValueError, match="transactions: unknown columns is_fraud, colour; drop them or rename"):
            score(rows.assign(is_fraud=False, colour="red"), model=model)

    def test_invalid_rows_are_refused_with_their_cause(self, rows: pd.DataFrame, model: FraudModel) -> None:
        raw = rows.drop(columns="amount_cents").assign(amount=1e12)
        with pytest.raises(ValueError, match=r"transactions: 20 of 20 rows are invalid \(20 amount out_of_range\)"):
            score(raw, model=model)
        with pytest.raises(ValueError, match="history: .*amount_cents"):
            score(rows, history=rows.assign(amount_cents=10**15), model=model)

    def test_a_file_is_read_as_training_reads_it(self, tables: Tables, tmp_path: Path) -> None:
        frauds = tables.reports.loc[tables.reports["is_fraud"], "transaction_id"]
        day = tables.transactions[tables.transactions["event_time"] < tables.transactions["event_time"].iloc[2_000]]
        file = day.assign(amount=day["amount_cents"] / 100, is_fraud=day["transaction_id"].isin(frauds))
        file = file.drop(columns="amount_cents").rename(columns={"amount": "EUR"})
        file.to_parquet(tmp_path / "bank.parquet")
        transactions, reports = read_transactions(tmp_path / "bank.parquet", columns="amount=EUR")
        assert set(transactions["transaction_id"]) == set(day["transaction_id"])
        assert set(reports["transaction_id"]) == set(frauds) & set(day["transaction_id"])
        assert len(reports) > 0
        file.loc[file.index[:3], "EUR"] = 1e12
        file.to_parquet(tmp_path / "typos.parquet")
        with pytest.warns(UserWarning, match=r"typos.parquet: 3 of .* \(3 amount out_of_range\) and left"):
            transactions, _ = read_transactions(tmp_path / "typos.parquet", columns="amount=EUR")
        assert len(transactions) == len(day) - 3

    def test_a_declared_file_has_its_own_fields(self, tables: Tables, tmp_path: Path) -> None:
        day = tables.transactions.head(200)
        ids = ["transaction_id", "event_time", "customer_id", "merchant_id"]
        file = day[ids].assign(EUR=day["amount_cents"] / 100, is_fraud=0, Age=31.5)
        file.to_parquet(tmp_path / "bank.parquet")
        plain = "".join(f'{name} = "{name}"\n' for name in (*ids, "is_fraud"))
        declared = f'version = 1\n[fields]\n{plain}amount = "EUR"\n[own_fields.age]\ntype = "number"\ncolumn = "Age"\n'
        (tmp_path / "fraud.toml").write_text(declared)
        transactions, _ = read_transactions(tmp_path / "bank.parquet", declaration=tmp_path / "fraud.toml")
        assert transactions["age"].tolist() == [31.5] * 200
        assert transactions["amount_cents"].tolist() == day["amount_cents"].tolist()


def test_every_name_is_there_and_no_other() -> None:
    assert {name for name in fraud_pipeline.__all__ if callable(getattr(fraud_pipeline, name))} == set(
        fraud_pipeline.__all__
    )
    assert set(fraud_pipeline.__all__) <= set(dir(fraud_pipeline))
    with pytest.raises(AttributeError, match="has no attribute 'scores'"):
        fraud_pipeline.scores  # type: ignore[attr-defined]  # noqa: B018 - no such name
