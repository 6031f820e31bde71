"""What MLflow shows of one training: its name, data, parameters, trials as charts, evaluation, plots and model card.

Belongs here: what is written to the MLflow run of a training.
Must not be here: the registry (`registry.py`), when a run begins and ends (dagster-mlflow, in `defs/resources.py`),
computing any figure.
"""

import io
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pandas as pd
from mlflow.entities import Dataset, DatasetInput, Metric, Param, RunTag
from mlflow.tracking import MlflowClient

from fraud_pipeline.modeling.evaluation import Evaluation

if TYPE_CHECKING:
    from fraud_pipeline.modeling.training import TrainedModel  # Optuna: the exporter needs none of it

NOTE_TAG: Final = "mlflow.note.content"
NAME_TAG: Final = "mlflow.runName"
_DIGEST: Final = 36


@dataclass(frozen=True, slots=True)
class TrainingRun:
    """The MLflow run of one training."""

    client: MlflowClient
    run_id: str

    def log_training(self, trained: "TrainedModel", *, plots: Mapping[str, bytes]) -> None:
        """Log what was searched and found; trials become charts with one step each. `plots` are PNG files by name."""
        lineage, tuning, policy = trained.model.lineage, trained.tuning, trained.model.policy
        learned = f"{_day(lineage['trained_from'])} to {_day(lineage['trained_to'])}"
        tags = {
            NAME_TAG: f"{lineage['source']}, {learned}, {len(tuning.trials)} trials",
            "source": lineage["source"],
            "learned_from": learned,
            "data_sha256": lineage["data_sha256"],
            "feature_code": lineage["feature_code"],
        }
        thresholds = {"review_threshold": policy.review_threshold, "block_threshold": policy.block_threshold}
        thresholds |= {"review_price_cents": policy.review_price_cents} if policy.costs else {}
        parameters = {**tuning.parameters, "rounds": tuning.rounds, "features": len(trained.model.features)}
        values = {"tuning_average_precision": tuning.average_precision, "training_rows": lineage["training_rows"]}
        values |= {"training_frauds": lineage["training_frauds"], **thresholds}
        self.client.log_batch(
            self.run_id,
            metrics=[*trial_metrics(tuning.trials), *_metrics(values)],
            params=[Param(name, str(value)) for name, value in parameters.items()],
            tags=[RunTag(name, str(value)) for name, value in tags.items()],
        )
        data = Dataset(
            name="training_set", digest=lineage["data_sha256"][:_DIGEST], source_type="local", source=lineage["source"]
        )
        self.client.log_inputs(self.run_id, [DatasetInput(data)])
        self.client.log_text(self.run_id, tuning.trials.to_csv(index=False), "trials.csv")
        self._log_plots(plots)

    def log_evaluation(
        self, evaluation: Evaluation, *, record: Mapping[str, Any], model_card: str, plots: Mapping[str, bytes]
    ) -> None:
        """Log the evaluation; the model card becomes the description of the run."""
        self.client.log_batch(
            self.run_id, metrics=_metrics({name: metric.value for name, metric in evaluation.metrics.items()})
        )
        self.client.set_tag(self.run_id, NOTE_TAG, model_card)
        self.client.log_text(self.run_id, model_card, "model_card.md")
        self.client.log_dict(self.run_id, dict(record), "evaluation.json")
        self._log_plots(plots)

    def _log_plots(self, plots: Mapping[str, bytes]) -> None:
        for name, png in plots.items():
            # log_image expects pixels; the bytes are a finished file.
            self.client.log_stream(self.run_id, io.BytesIO(png), f"plots/{name}.png")


def trial_metrics(trials: pd.DataFrame) -> list[Metric]:
    """The average precision of each finished trial and the best one so far, one step per trial."""
    finished = trials[trials["state"] == "COMPLETE"].sort_values("number")
    charts = {"trial_average_precision": finished["value"], "best_average_precision": finished["value"].cummax()}
    return [
        _metric(name, value, step=step)
        for name, values in charts.items()
        for step, value in zip(finished["number"], values, strict=True)
    ]


def _metrics(values: Mapping[str, float]) -> list[Metric]:
    """Finite values; MLflow charts no others."""
    return [_metric(name, value) for name, value in values.items() if np.isfinite(value)]


def _metric(name: str, value: float, *, step: int = 0) -> Metric:
    return Metric(name, float(value), timestamp=round(time.time() * 1_000), step=int(step))


def _day(moment: str) -> str:
    return f"{pd.Timestamp(moment):%Y-%m-%d}"
