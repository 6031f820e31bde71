"""The model card shows use, training, figures and limits of a model."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from fraud_pipeline.modeling.evaluation import Evaluation
from fraud_pipeline.modeling.model_card import model_card
from fraud_pipeline.modeling.training import PolicySettings, TrainedModel, evaluate_model, part
from fraud_pipeline.policy.block_bound import BlockEvidence
from fraud_pipeline.policy.decisions import CostModel, Policy


@pytest.fixture(scope="module")
def evaluation(trained: TrainedModel, training_set: pd.DataFrame, policy_settings: PolicySettings) -> Evaluation:
    return evaluate_model(trained.model, part(training_set, "test"), policy=policy_settings)


class TestCard:
    def test_it_shows_the_training_data(self, trained: TrainedModel, evaluation: Evaluation) -> None:
        lineage = trained.model.lineage
        card = model_card(trained.model, evaluation)
        assert f"{lineage['training_rows']:,} transactions with {lineage['training_frauds']:,} known frauds" in card
        assert f"{lineage['trained_from']} to {lineage['trained_to']}; source: synthetic world." in card
        assert "legitimate 14 days after it happened" in card.replace("\n", " ")

    def test_it_shows_every_metric_with_its_interval(self, trained: TrainedModel, evaluation: Evaluation) -> None:
        card = model_card(trained.model, evaluation)
        assert f"on {evaluation.counts['rows']:,} later transactions" in card
        for name, metric in evaluation.metrics.items():
            assert name.replace("_", " ") in card
            assert str(metric) in card

    def test_it_lists_the_ten_most_used_features(self, trained: TrainedModel, evaluation: Evaluation) -> None:
        _, _, after = model_card(trained.model, evaluation).partition("share of gain |\n|---|---:|\n")
        table, _, _ = after.partition("\n\n")
        top = trained.model.importance().head(10)
        assert table.splitlines() == [f"| {name} | {share:.1%} |" for name, share in top.items()]

    @pytest.mark.parametrize(
        ("policy", "sentence"),
        [
            (Policy(0.25, 0.5), "Review from probability 0.2500; block from probability 0.500."),
            (Policy(0.25, np.inf), "Review from probability 0.2500; block never."),
            (Policy(np.inf, np.inf), "Review never; block never."),
            (
                Policy(0, np.inf, CostModel()),
                "Review from an expected loss (probability x amount) of 3.33; ",
            ),
        ],
    )
    def test_it_says_when_the_model_reviews_and_blocks(
        self, trained: TrainedModel, evaluation: Evaluation, policy: Policy, sentence: str
    ) -> None:
        assert sentence in model_card(replace(trained.model, policy=policy), evaluation)

    def test_it_says_why_nothing_is_blocked(self, trained: TrainedModel, evaluation: Evaluation) -> None:
        proof = BlockEvidence(None, looked_at=3, rows=40, frauds=30, owners=20, lower_bound=0.5, floor=0.85)
        model = replace(trained.model, lineage={**trained.model.lineage, "blocks": proof.to_dict()})
        assert f"The model {proof}." in model_card(model, evaluation)

    def test_it_names_its_limits_and_its_lineage(self, trained: TrainedModel, evaluation: Evaluation) -> None:
        card = model_card(trained.model, evaluation)
        assert "Frauds that nobody reports are invisible" in card
        assert f"data {trained.model.lineage['data_sha256'][:16]}," in card
        assert f"feature code {trained.model.lineage['feature_code'][:16]}," in card

    def test_a_model_of_unknown_origin_has_a_card_all_the_same(
        self, trained: TrainedModel, evaluation: Evaluation
    ) -> None:
        assert "0 transactions with 0 known frauds" in model_card(replace(trained.model, lineage={}), evaluation)
