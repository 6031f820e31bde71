"""The command `fraud-detect train`.

Belongs here: words for a person. Must not be here: which source wins (`training_plan.py`).
"""

import argparse
import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from fraud_pipeline.cli.training_plan import Flags, UsageError, plan_training
from fraud_pipeline.ingest.source_choice import CHOICE_FILE, SourceChoiceError, read_choice, save_choice
from fraud_pipeline.settings import Settings, explicit_settings, home_directory


def train(arguments: argparse.Namespace) -> int:
    """Train a model, judge it and promote it, with progress and a summary."""
    started, home = time.monotonic(), home_directory()
    flags = Flags(
        data_path=arguments.data_path,
        synthetic=arguments.synthetic,
        columns=arguments.columns,
        label_delay=arguments.label_delay,
        transactions=arguments.transactions,
    )
    try:
        remembered = read_choice(home)
    except SourceChoiceError:
        if not (flags.synthetic or flags.data_path):
            raise
        remembered = None
    try:
        plan = plan_training(flags, explicit=explicit_settings(), remembered=remembered, now=datetime.now(UTC))
    except UsageError as error:
        print(f"fraud-detect train: {error}", file=sys.stderr)
        return 2
    from fraud_pipeline.defs.instance import PipelineFailedError, run_pipeline  # noqa: PLC0415 - dagster takes seconds

    settings = plan.settings
    print(f"Training on the {settings.source_name}{plan.origin}, {plan.first} to {plan.last}", end="; ")
    print(f"everything is kept in {_short(settings.home)}", *plan.notes, "", sep="\n", flush=True)

    def remember() -> None:
        if plan.choice is not None and plan.choice != remembered:
            save_choice(plan.choice, home=home)

    try:
        run_id = run_pipeline(
            settings,
            first=plan.first,
            last=plan.last,
            on_progress=lambda line: print(line, flush=True),
            n_trials=arguments.n_trials,
            accept_other_source=arguments.accept_other_source,
            on_usable=remember,
        )
    except PipelineFailedError as error:
        print(f"\nTraining stopped: {error}", file=sys.stderr)
        return 1
    print(_summary(settings, run_id=run_id, seconds=time.monotonic() - started))
    if plan.choice is not None and plan.choice != remembered:
        print("A Dagster UI or code location that is running now sees this source once it is reloaded (Deployment).")
    return 0


def _short(directory: Path) -> str:
    """Relative to the working directory where that is shorter."""
    return os.path.relpath(directory) if directory.is_relative_to(Path.cwd()) else str(directory)


def _summary(settings: Settings, *, run_id: str, seconds: float) -> str:
    """What came out of this run, where it is, and what to do next."""
    from fraud_pipeline.modeling.evaluation import Evaluation  # noqa: PLC0415 - only here
    from fraud_pipeline.promotion.registry import Registry  # noqa: PLC0415 - mlflow takes seconds

    registry = Registry(
        tracking_uri=settings.tracking_uri,
        model_name=settings.model_name,
        artifact_directory=settings.artifact_directory,
    )
    model = registry.of_run(run_id)
    evaluation = Evaluation.from_dict(registry.evaluation(model) or {})
    verdict = next(entry for entry in registry.history() if entry.version == model.version)
    meaning = {
        "average_precision": "ranking quality for rare fraud; chance is the fraud rate",
        "roc_auc": "a fraud is scored above a legitimate row this often",
        "precision": "alerts of the policy (review and block) that are right",
        "recall": "frauds that the policy reviews or blocks",
        "recall_at_precision": f"frauds caught when {settings.precision_floor:.0%} of alerts must be right",
        "recall_at_budget": f"frauds caught with {settings.alert_budget_per_day:g} alerts a day",
        "cost_saved": "share of the cost of doing nothing that the policy saves",
        "calibration_error": "mean distance of probability and observed rate",
        "brier": "mean squared error of the probability",
        "observed_over_expected": "known frauds for each predicted one",
        "card_precision": "compromised cards among the 100 most suspicious of a day",
    }
    rows, frauds = evaluation.counts["rows"], evaluation.counts["frauds"]
    tested = f"Tested on {rows:,} later transactions with {frauds:,} known frauds"
    lines = [
        "",
        f"{tested} (95 % intervals from resampled customers):",
        *(f"  {name:<24}{metric!s:<26}{meaning[name]}" for name, metric in evaluation.metrics.items()),
        "",
        f"Verdict on version {verdict.version}: {verdict.action}; champion is version {verdict.champion or '-'}.",
        *(f"  - {reason}" for reason in verdict.reasons),
        "",
        f"Champion directory  {_short(settings.champion_directory)}",
        "MLflow              fraud-detect mlflow",
        "Dagster UI          make ui          (or: fraud-detect ui)",
        "Versions            fraud-detect models, promote, rollback",
        f"Source              a plain `fraud-detect train` repeats this one ({_short(settings.home / CHOICE_FILE)})",
        f"Done in {seconds:.0f} s.",
    ]
    return "\n".join(lines)
