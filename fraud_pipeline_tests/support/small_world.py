"""The small synthetic world that most tests share.

Belongs here: its tables and its training set. Must not be here: fixtures, models.
"""

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

import pandas as pd

from fraud_pipeline.defs.features import final_merchant_days, window_of
from fraud_pipeline.features.engineer import FeatureEngineer, History, merchant_days
from fraud_pipeline.features.own_inputs import FIXED_INPUTS
from fraud_pipeline.ingest.day_state import notes_of_inputs
from fraud_pipeline.ingest.sources import TransactionSource
from fraud_pipeline.ingest.validation import validate
from fraud_pipeline.modeling.training import build_training_set
from fraud_pipeline.settings import Settings
from fraud_pipeline.storage.tables import TableStore

DAYS: Final = 40
LABEL_MATURITY: Final = timedelta(days=14)


@dataclass(frozen=True, slots=True)
class Tables:
    """The pipeline's tables of a small world, as known at `as_of`."""

    transactions: pd.DataFrame
    reports: pd.DataFrame
    features: pd.DataFrame
    as_of: pd.Timestamp

    @property
    def model_rows(self) -> pd.DataFrame:
        """The features, with the columns that a model sees as they are."""
        return self.features.assign(**self.transactions[list(FIXED_INPUTS)])

    def write(self, store: TableStore, settings: Settings, *, days: list[date]) -> None:
        """The daily tables as nightly runs leave them, features with the note about their inputs."""
        store.write_days("transactions", self.transactions, time_column="event_time", days=days)
        store.write_days("fraud_reports", self.reports, time_column="reported_at", days=days)
        window = window_of(settings)
        notes = notes_of_inputs(store, "merchant_days", days, window=window)
        final = final_merchant_days(store, days, window=window, label_maturity=settings.label_maturity)
        store.write_days("merchant_days", final, time_column="final_on", days=days, notes=notes)
        notes = notes_of_inputs(store, "features", days, window=window)
        store.write_days("features", self.features, time_column="event_time", days=days, notes=notes)

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


def tables_of(source: TransactionSource, *, start: pd.Timestamp, end: pd.Timestamp) -> Tables:
    """The pipeline's tables for the transactions and reports of a source."""
    transactions = validate(source.transactions(start=start, end=end), now=end).accepted
    reports = source.reports(start=start, end=end)
    history = History(
        transactions=transactions.iloc[:0],
        reports=reports,
        merchant_days=merchant_days(transactions, reports, label_maturity=LABEL_MATURITY),
    )
    features = FeatureEngineer(label_maturity=LABEL_MATURITY).compute(history=history, new=transactions)
    return Tables(transactions=transactions, reports=reports, features=features, as_of=end)
