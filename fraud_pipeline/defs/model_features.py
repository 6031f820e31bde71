"""Feature rows as a model sees them, wherever a batch job scores with a model.

Belongs here: when the feature table differs from the model's features. Must not be here: uses of its scores.

The feature table is computed with the deployment's configuration, for the next model. A champion that was trained with
another label maturity, or with another clock, never sees these values, and would be judged on wrong ones. A model's
own inputs are columns of `transactions`.
"""

import pandas as pd

from fraud_pipeline.defs.calendar import Span
from fraud_pipeline.defs.features import feature_config, history_before
from fraud_pipeline.features.own_inputs import with_own_inputs
from fraud_pipeline.modeling.model_directory import FraudModel
from fraud_pipeline.schema.joins import rows_of
from fraud_pipeline.settings import Settings
from fraud_pipeline.storage.tables import TableStore


def features_for(model: FraudModel, store: TableStore, rows: pd.DataFrame, *, settings: Settings) -> pd.DataFrame:
    """Rows of the feature table, in their order, with features that are made with the model's configuration, and with
    the raw columns of the model's own inputs.

    Where the configuration is the deployment's, features are those of the rows. Otherwise they are made a day at a
    time, since a day's history is as much as has to be in memory.
    """
    rows, own = _with_features(model, store, rows, settings=settings), model.feature_config.own_inputs
    if set(own.names) <= set(rows.columns):
        return rows
    if rows.empty:
        return rows.reindex(columns=[*rows.columns, *(name for name in own.names if name not in rows)])
    stored = [store.read("transactions", day, day) for day in sorted(set(rows["event_time"].dt.date))]
    return with_own_inputs(rows, pd.concat(stored, ignore_index=True), own)


def _with_features(model: FraudModel, store: TableStore, rows: pd.DataFrame, *, settings: Settings) -> pd.DataFrame:
    if model.feature_config.of_history == feature_config(settings) or rows.empty:
        return rows
    like_model = settings.model_copy(update={"label_maturity": model.feature_config.label_maturity})
    parts = []
    for day, of_day in rows.groupby(rows["event_time"].dt.date):
        new = rows_of(store.read("transactions", day, day), of_day["transaction_id"], table="transactions")
        history = history_before(store, Span(day, day), settings=like_model, stored_merchant_days=False)
        parts.append(model.feature_config.engineer().compute(history=history, new=new))
    return rows_of(pd.concat(parts, ignore_index=True), rows["transaction_id"], table="features")
