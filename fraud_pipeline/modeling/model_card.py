"""The model card: one Markdown page about a model's use, training, evaluation and limits.

Belongs here: text around given figures. Must not be here: the computation of figures.
Source of the format: Mitchell et al., "Model Cards for Model Reporting", FAT* 2019.
"""

from datetime import timedelta

from fraud_pipeline.features.own_inputs import not_inputs
from fraud_pipeline.modeling.evaluation import Evaluation
from fraud_pipeline.modeling.model_directory import FraudModel
from fraud_pipeline.policy.block_bound import BlockEvidence


def _own_inputs(model: FraudModel) -> str:
    """Which fields the model sees as they are, and which it does not see."""
    own = model.feature_config.own_inputs
    seen = ", ".join(own.names) or "none"
    unseen = "; ".join(f"{name} ({reason})" for name, reason in not_inputs(own).items())
    return f"**Fields as they are.** {seen}." + (f" Not used: {unseen}." if unseen else "")


def _currencies(model: FraudModel) -> str:
    """The rates at which the model's amounts were converted, and at which it is served."""
    conversion = model.feature_config.conversion
    if conversion is None:
        return ""
    rates = ", ".join(f"{code} {rate:g}" for code, rate in conversion.rates) or "none"
    of_row = ", where a transaction brings no rate of its own" if conversion.rate_of_row else ""
    return f"\n**Currencies.** Amounts are in {conversion.reporting}. Rates of others{of_row}: {rates}.\n"


def model_card(model: FraudModel, evaluation: Evaluation) -> str:
    """The card of a model and its evaluation on rows that the training did not see."""
    lineage, decisions = model.lineage, str(model.policy).capitalize()
    if proof := lineage.get("blocks"):
        decisions += f". The model {BlockEvidence.from_dict(proof)}"
    maturity = model.feature_config.label_maturity / timedelta(days=1)
    top = "\n".join(f"| {name} | {share:.1%} |" for name, share in model.importance().head(10).items())
    return f"""# Card fraud model

**Use.** Rank and decide on card transactions at the moment they happen. Not for credit, not for judging people.

**Training.** {lineage.get("training_rows", 0):,} transactions with {lineage.get("training_frauds", 0):,} known frauds
from {lineage.get("trained_from")} to {lineage.get("trained_to")}; source: {lineage.get("source")}. A transaction counts
as legitimate {maturity:g} days after it happened when nobody reported it.

{_own_inputs(model)}
{_currencies(model)}
**Decisions.** {decisions}.

**Evaluation** on {evaluation.counts["rows"]:,} later transactions with {evaluation.counts["frauds"]:,} known frauds;
95 % intervals from resampled customers.

{evaluation.to_markdown()}

**Most important features.**

| feature | share of gain |
|---|---:|
{top}

**Limits.** Frauds that nobody reports are invisible to training and to these figures, which hold for the weeks they
were measured on.

**Lineage.** data {lineage.get("data_sha256", "")[:16]}, feature code {lineage.get("feature_code", "")[:16]}, MLflow run
{lineage.get("mlflow_run_id")}, Dagster run {lineage.get("dagster_run_id")}.
"""
