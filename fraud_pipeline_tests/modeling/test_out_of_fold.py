"""Out of fold, no customer is scored by trees that saw it."""

import numpy as np
import pandas as pd

from fraud_pipeline.modeling.fitting import LabelledRows
from fraud_pipeline.modeling.model_directory import fit_booster
from fraud_pipeline.modeling.out_of_fold import out_of_fold_margins

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
