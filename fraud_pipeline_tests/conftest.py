"""What many tests share: one small synthetic world, its training set and one trained model, each built once.

Nothing here is changed by a test; who needs another model makes a copy with `dataclasses.replace`.
"""

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import pandas as pd
import pytest

from fraud_pipeline.decisions import CostModel
from fraud_pipeline.features import FeatureEngineer, History, merchant_days
from fraud_pipeline.generator import SyntheticWorld, WorldConfig
from fraud_pipeline.training import (
    PolicySettings,
    TrainedModel,
    TuningSettings,
    build_training_set,
    train_model,
)
from fraud_pipeline.validation import validate

DAYS: Final = 40
LABEL_MATURITY: Final = timedelta(days=14)


@dataclass(frozen=True, slots=True)
class Tables:
    """What the pipeline knows about a small world at `as_of`."""

    transactions: pd.DataFrame
    reports: pd.DataFrame
    features: pd.DataFrame
    as_of: pd.Timestamp

    def training_set(self, *, reports: pd.DataFrame | None = None) -> pd.DataFrame:
        """The labelled rows, with these reports or with others."""
        rows, _ = build_training_set(
            self.features,
            self.transactions,
            self.reports if reports is None else reports,
            as_of=self.as_of,
            label_maturity=LABEL_MATURITY,
            gap=timedelta(days=1),
            warm_up=timedelta(days=5),
        )
        return rows


@pytest.fixture(scope="session")
def tables() -> Tables:
    """About 39,000 transactions of 600 customers in 40 days, with their features."""
    config = WorldConfig(seed=7, customers=600, fraud_rate=0.01)
    world = SyntheticWorld(config)
    start = pd.Timestamp(config.first_day, tz="UTC")
    end = start + pd.Timedelta(days=DAYS)
    transactions = validate(world.transactions(start=start, end=end), now=end).accepted
    reports = world.reports(start=start, end=end)
    history = History(
        transactions=transactions.iloc[:0],
        reports=reports,
        merchant_days=merchant_days(transactions, reports, label_maturity=LABEL_MATURITY),
    )
    features = FeatureEngineer(label_maturity=LABEL_MATURITY).compute(history=history, new=transactions)
    return Tables(transactions=transactions, reports=reports, features=features, as_of=end)


@pytest.fixture(scope="session")
def training_set(tables: Tables) -> pd.DataFrame:
    """Labelled feature rows in four parts."""
    return tables.training_set()


@pytest.fixture(scope="session")
def policy_settings() -> PolicySettings:
    """What the bank wants of decisions."""
    return PolicySettings(costs=CostModel(), precision_floor=0.85, alert_budget_per_day=20)


@pytest.fixture(scope="session")
def trained(training_set: pd.DataFrame, policy_settings: PolicySettings) -> TrainedModel:
    """A model trained as the pipeline does, with the least of a search."""
    return train_model(
        training_set,
        tuning=TuningSettings(n_trials=1, seed=0),
        policy=policy_settings,
        lineage={"source": "synthetic world", "data_sha256": "0123456789abcdef" * 4, "label_maturity_days": 14},
    )
