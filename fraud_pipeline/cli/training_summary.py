"""The summary at the end of `fraud-detect train`: the model's figures, plain XGBoost's figures, the verdict.

Belongs here: words around figures that the run recorded. Must not be here: computing figures.
"""

import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fraud_pipeline.ingest.source_choice import CHOICE_FILE
from fraud_pipeline.settings import Settings

if TYPE_CHECKING:
    from fraud_pipeline.modeling.comparison import Comparison  # pandas takes a second
    from fraud_pipeline.modeling.model_directory import FraudModel

PROGRAM: Final = "fraud-detect"


def short(directory: Path) -> str:
    """Relative to the working directory where that is shorter."""
    return os.path.relpath(directory) if directory.is_relative_to(Path.cwd()) else str(directory)


def summary(settings: Settings, *, run_id: str, seconds: float) -> str:
    """The result of this run, its place, and the next step."""
    from fraud_pipeline.modeling.comparison import Comparison  # noqa: PLC0415 - pandas takes a second
    from fraud_pipeline.modeling.evaluation import Evaluation  # noqa: PLC0415 - the same
    from fraud_pipeline.promotion.registry import open_registry  # noqa: PLC0415 - mlflow takes seconds

    registry = open_registry(settings)
    model = registry.of_run(run_id)
    record = registry.evaluation(model) or {}
    evaluation = Evaluation.from_dict(record)
    verdict = next(entry for entry in registry.history() if entry.version == model.version)
    meaning = {
        "average_precision": "ranking quality for rare fraud; chance is the fraud rate",
        "average_precision_1_in_1000": "the same, if 1 transaction in 1,000 were fraud",
        "average_precision_15_in_100000": "the same, if 15 transactions in 100,000 were fraud",
        "roc_auc": "a fraud is scored above a legitimate row this often",
        "precision": "alerts of the policy (review and block) that are right",
        "block_precision": "blocks that are right",
        "recall": "frauds that the policy reviews or blocks",
        "money_recall": "amount of these frauds, as a share of the amount of all frauds",
        "recall_at_precision": f"frauds caught when {settings.precision_floor:.0%} of alerts must be right",
        "recall_at_budget": f"frauds caught with {settings.alert_budget_per_day:g} alerts a day",
        "cost_saved": "share of the cost of doing nothing that the policy saves",
        "saved_per_day": f"the same in {settings.currency} a day",
        "alerts_per_day": f"reviews and blocks; {settings.alert_budget_per_day:g} are the budget",
        "blocks_per_day": "blocks",
        "calibration_error": "mean distance of probability and observed rate",
        "brier": "mean squared error of the probability",
        "observed_over_expected": "known frauds for each predicted one",
        "incident_recall": "incidents (frauds of one customer, each within 3 days of the last) with any alert",
        "incident_recall_at_once": "incidents whose first fraud raised the alert",
        "customer_recall": "defrauded customers with any alert on a fraud",
        "card_precision": "compromised cards among the 100 most suspicious of a day",
    }
    rows, frauds = evaluation.counts["rows"], evaluation.counts["frauds"]
    tested = f"Tested on {rows:,} later transactions with {frauds:,} known frauds"
    lines = [
        "",
        f"{tested} (95 % intervals from resampled customers):",
        *(f"  {name:<32}{metric!s:<26}{meaning[name]}" for name, metric in evaluation.metrics.items()),
        *decisions(registry.load(model)),
        *beside_plain(Comparison.from_dict(record["beside_plain"]), columns=record["beside_plain"]["columns"]),
        "",
        f"Verdict on version {verdict.version}: {verdict.action}; champion is version {verdict.champion or '-'}.",
        *(f"  - {reason}" for reason in verdict.reasons),
        *next_steps(settings),
        f"Done in {seconds:.0f} s.",
    ]
    return "\n".join(lines)


def next_steps(settings: Settings) -> list[str]:
    """Commands to paste, and where the champion and the choice of the source are."""
    steps = {
        "serve": "answers over HTTP",
        "dashboard": "alerts, traffic, drift, performance, models",
        "ui": "Dagster: runs, tables, plots, schedules   (or: make ui)",
        "mlflow": "MLflow: trainings and models",
        "models": "versions; `promote` and `rollback` change the champion",
        "train": f"repeats this training on the source in {short(settings.home / CHOICE_FILE)}",
    }
    program = fraud_detect()
    width = max(map(len, steps)) + 3
    return [
        "",
        f"The champion is in {short(settings.champion_directory)}. Next:",
        *(f"  {program} {command:<{width}}{text}" for command, text in steps.items()),
        "",
    ]


def fraud_detect() -> str:
    """The program as a person types it: its name if the shell finds it by that, or else its path."""
    script = Path(sys.executable).with_name(PROGRAM)
    in_path = shutil.which(PROGRAM)
    known = in_path is not None and Path(in_path).resolve() == script.resolve()
    return PROGRAM if known else shlex.quote(short(script))


def decisions(model: "FraudModel") -> list[str]:
    """When the model reviews, and what it blocks or why it blocks nothing."""
    from fraud_pipeline.policy.block_bound import BlockEvidence  # noqa: PLC0415 - scipy takes a second

    lines = ["", f"Decisions: {model.policy}."]
    if proof := model.lineage.get("blocks"):
        lines.append(f"  The model {BlockEvidence.from_dict(proof)}.")
    return lines


def beside_plain(compared: "Comparison", *, columns: Sequence[str]) -> list[str]:
    """Our line, that of the plain model, and what history added."""
    gain = compared.gain
    words = "level"
    if gain.low > 0:
        words = "history and search add this"
    elif gain.high < 0:
        words = "plain is better: history and search add nothing here"
    signed = f"{gain.value:+.3f} ({gain.low:+.3f} to {gain.high:+.3f})"
    return [
        "",
        f"Average precision beside plain XGBoost on the row's own {len(columns)} columns, same rows:",
        f"  {'ours':<24}{compared.model}",
        f"  {'plain':<24}{compared.plain}",
        f"  {'difference':<24}{signed:<26}{words}",
    ]
