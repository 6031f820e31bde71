"""Out of fold, no customer is scored by trees that saw it."""

import numpy as np
import pandas as pd

from fraud_pipeline.modeling.fitting import LabelledRows
from fraud_pipeline.modeling.model_directory import fit_booster
from fraud_pipeline.modeling.out_of_fold import contradicted, out_of_fold_margins

PARAMETERS = {"max_depth": 4, "min_child_weight": 0, "reg_lambda": 0, "learning_rate": 0.5, "base_score": 0.5}


def test_what_is_known_by_heart_only_does_not_help() -> None:
    """Each customer is recognised by its number, and its label is drawn: nothing can be learned about others."""
    generator = np.random.default_rng(0)
    customers = np.repeat(np.arange(60), 5)
    labels = np.repeat((generator.random(60) < 0.5).astype(np.float64), 5)
    features = pd.DataFrame({"number": customers.astype(np.float32), "noise": generator.random(300, np.float32)})
    rows = LabelledRows(features=features, labels=labels, customers=customers)

    by_heart = fit_booster(features, labels, parameters=PARAMETERS, rounds=40, threads=1)
    seen = by_heart.inplace_predict(features.to_numpy(np.float32), predict_type="margin")
    unseen = out_of_fold_margins(rows, parameters=PARAMETERS, rounds=40, seed=1)

    assert ((seen > 0) == labels).mean() > 0.95
    assert 0.3 < ((unseen > 0) == labels).mean() < 0.7
    again = out_of_fold_margins(rows, parameters=PARAMETERS, rounds=40, seed=1)
    np.testing.assert_array_equal(unseen, again)


def test_newer_rows_contradict_only_beyond_chance() -> None:
    generator, customers = np.random.default_rng(3), np.repeat(np.arange(200), 10)
    expected = np.full(2_000, 0.02)
    as_many = (generator.random(2_000) < expected).astype(np.float64)
    three_times = (generator.random(2_000) < 3 * expected).astype(np.float64)
    of_one_customer = np.where(customers == 7, 1.0, as_many)

    assert not contradicted(expected, as_many, customers=customers, seed=0)
    assert contradicted(expected, three_times, customers=customers, seed=0)
    assert contradicted(expected, np.zeros(2_000), customers=customers, seed=0)
    assert not contradicted(expected, of_one_customer, customers=customers, seed=0)
