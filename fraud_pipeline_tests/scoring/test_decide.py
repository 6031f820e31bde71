"""The model's decision on a feature row is the policy's on the probability and the amount of its transaction."""

from dataclasses import replace

import numpy as np

from fraud_pipeline.modeling.training import TrainedModel
from fraud_pipeline.policy.decisions import CostModel, Policy, decide
from fraud_pipeline.scoring.decide import decide_with_model
from fraud_pipeline_tests.support.small_world import Tables


def test_the_amount_of_the_transaction_decides(trained: TrainedModel, tables: Tables) -> None:
    policy = Policy(0.0, 0.5, CostModel(review_cost_cents=20), review_price_cents=10.0)
    model, newest = replace(trained.model, policy=policy), tables.model_rows.tail(2_000)
    values = model.feature_config.model_rows(newest, features=model.feature_config.feature_names)

    decisions, probabilities, reasons = decide_with_model(values, model)

    cents = tables.transactions.set_index("transaction_id").loc[newest["transaction_id"], "amount_cents"]
    expected = decide(np.array(probabilities), policy, amounts_cents=cents.to_numpy(np.int64))
    assert decisions.tolist() == expected.tolist()
    assert 20 < (expected == "review").sum() < 1_500
    assert [bool(why) for why in reasons] == [decision != "allow" for decision in decisions]
