"""A model with local time in the scorer: stored features are those that training computes, and reasons are right."""

from dataclasses import replace

import numpy as np
import pandas as pd

from fraud_pipeline.database import Database
from fraud_pipeline.database.history import read_merchant_days, read_newest_decisions, read_reports, read_transactions
from fraud_pipeline.database.own_fields import typed
from fraud_pipeline.features.config import FeatureConfig
from fraud_pipeline.features.engineer import FEATURE_NAMES
from fraud_pipeline.monitoring.skew_audit import VersionedHistory, audit
from fraud_pipeline.schema.local_time import OFFSET_FIELD, UTC_OFFSET
from fraud_pipeline.schema.own_fields import own_fields_json
from fraud_pipeline.schema.transactions import DAY
from fraud_pipeline.scoring.scorer import Scorer
from fraud_pipeline_tests.support.loaded import Loaded
from fraud_pipeline_tests.support.own_models import OWN_FIELDS, own_model
from fraud_pipeline_tests.support.streams import transactions

BEGINNING, END = pd.Timestamp(0, tz="UTC"), pd.Timestamp("2200-01-01", tz="UTC")


def known(database: Database, config: FeatureConfig) -> VersionedHistory:
    online = read_transactions(database, start=BEGINNING, end=END, with_version=True, with_own_fields=True)
    return VersionedHistory(
        transactions=typed(online, config.own_inputs.fields),
        reports=read_reports(database, start=BEGINNING, end=END, with_version=True),
        merchant_days=read_merchant_days(database, start=BEGINNING, end=END, label_maturity=config.label_maturity),
    )


def test_stored_features_are_local_and_those_that_training_computes(database: Database) -> None:
    model = own_model((*OWN_FIELDS[:4], OFFSET_FIELD))
    config = replace(model.feature_config, local_time=True)
    champion = Loaded(replace(model, feature_config=config))
    offsets = [None, -300, 0, 60, 345]
    rows = [
        row._replace(own_fields=None if (offset := offsets[n % 5]) is None else own_fields_json({UTC_OFFSET: offset}))
        for n, row in enumerate(transactions(40, customers=5, end=20_000 * DAY))
    ]
    scorer = Scorer(database=database, champion=lambda: champion)
    for first in range(0, 40, 7):
        answers = scorer.score(rows[first : first + 7])
        assert all(answer.unused_fields == () for answer in answers if hasattr(answer, "unused_fields"))
    decisions = read_newest_decisions(database, limit=100)
    verdict = audit(decisions, known(database, config), config=config)
    assert (verdict.compared, verdict.different, verdict.explained_by_later_knowledge) == (40, 0, 0)
    stored = np.frombuffer(b"".join(decisions["features"]), np.float32).reshape(40, -1)
    hours = dict(zip(decisions["transaction_id"], stored[:, FEATURE_NAMES.index("hour_of_day")], strict=True))
    for n, row in enumerate(rows):
        clock = row.event_time + (offsets[n % 5] or 0) * 60_000_000
        assert hours[row.transaction_id] == np.float32(clock % DAY / (DAY / 24))
    in_utc = audit(decisions, known(database, config), config=replace(config, local_time=False))
    assert in_utc.different > 20
    assert in_utc.features[:2] == ("hour_of_day", "day_of_week")
