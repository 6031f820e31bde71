"""Feature rows as a model sees them, wherever a batch job scores with a model.

Belongs here: when the feature table differs from the model's features. Must not be here: uses of its scores.

The feature table is computed with the deployment's configuration, for the next model. A champion that was trained with
another label maturity never sees these values, and would be judged on wrong ones.
"""

import pandas as pd

from fraud_pipeline.defs.calendar import Span
from fraud_pipeline.defs.features import engineer, feature_config, history_before
from fraud_pipeline.modeling.model_directory import FraudModel
from fraud_pipeline.schema.joins import rows_of
from fraud_pipeline.settings import Settings
from fraud_pipeline.storage.tables import TableStore


def features_for(model: FraudModel, store: TableStore, rows: pd.DataFrame, *, settings: Settings) -> pd.DataFrame:
    """Rows of the feature table, in their order, with features that are made with the model's configuration.

    Where that is the deployment's, they are the rows themselves. Otherwise features are made a day at a time, since a
    day's history is as much as has to be in memory.
    """
    if model.feature_config == feature_config(settings) or rows.empty:
        return rows
    like_model = settings.model_copy(update={"label_maturity": model.feature_config.label_maturity})
    parts = []
    for day, of_day in rows.groupby(rows["event_time"].dt.date):
        new = rows_of(store.read("transactions", day, day), of_day["transaction_id"], table="transactions")
        history = history_before(store, Span(day, day), settings=like_model, stored_merchant_days=False)
        parts.append(engineer(like_model).compute(history=history, new=new))
    return rows_of(pd.concat(parts, ignore_index=True), rows["transaction_id"], table="features")
