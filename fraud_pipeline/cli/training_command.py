"""The command `fraud-detect train`.

Belongs here: words for a person. Must not be here: which source wins (`training_plan.py`), the summary of a run
(`training_summary.py`).
"""

import argparse
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from fraud_pipeline.cli.init_command import time_options
from fraud_pipeline.cli.training_plan import Flags, Plan, UsageError, plan_training
from fraud_pipeline.cli.training_summary import short, summary
from fraud_pipeline.ingest.inspection_overrides import parse_overrides
from fraud_pipeline.ingest.source_choice import SourceChoiceError, read_choice, save_choice
from fraud_pipeline.settings import Settings, explicit_settings, home_directory

if TYPE_CHECKING:
    from fraud_pipeline.defs.instance import PipelineFailedError


def train(arguments: argparse.Namespace) -> int:
    """Train a model, judge it and promote it, with progress and a summary; 2 for a model that the gate rejects."""
    started, home = time.monotonic(), home_directory()
    flags = Flags(
        data_path=arguments.data_path,
        data_url=arguments.data_url,
        synthetic=arguments.synthetic,
        columns=arguments.columns,
        declaration=arguments.declaration,
        overrides=parse_overrides(arguments.set or []),
        time=time_options(arguments),
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
    if plan.outlook is not None:
        print(f"{plan.outlook.table()}\n", flush=True)
        if plan.outlook.problems:
            print(f"fraud-detect train: {plan.settings.source_name} cannot be trained on yet", file=sys.stderr)
            return 1
    from fraud_pipeline.defs.instance import PipelineFailedError, run_pipeline  # noqa: PLC0415 - dagster takes seconds

    settings, say = plan.settings, partial(print, flush=True)
    print(f"Training on the {settings.source_name}{plan.origin}, {plan.first} to {plan.last}", end="; ")
    print(f"everything is kept in {short(settings.home)}", *plan.notes, "", sep="\n", flush=True)

    def remember() -> None:
        if plan.choice is not None and plan.choice != remembered:
            save_choice(plan.choice, home=home)

    try:
        run_id = run_pipeline(
            settings,
            first=plan.first,
            last=plan.last,
            on_progress=say,
            history_last=plan.history_last,
            n_trials=arguments.n_trials,
            accept_other_source=arguments.accept_other_source,
            on_usable=remember,
        )
        _make_reports(plan, on_progress=say)
    except PipelineFailedError as error:
        return _stopped(error, settings, started=started)
    print(summary(settings, run_id=run_id, seconds=time.monotonic() - started))
    if plan.choice is not None and plan.choice != remembered:
        print("A Dagster UI or code location that is running now sees this source once it is reloaded (Deployment).")
    return 0


def _make_reports(plan: Plan, *, on_progress: Callable[[str], None]) -> None:
    """The reports of days that the champion did not learn from, if there are such days. Raises PipelineFailedError."""
    from fraud_pipeline.defs.instance import make_reports  # noqa: PLC0415 - as above

    if plan.judged is None or not plan.settings.champion_directory.exists():
        return
    first, last = plan.judged
    on_progress(f"\nReports of {first} to {last}, days that the model did not learn from:")
    make_reports(plan.settings, first=first, last=last, on_progress=on_progress)


def _stopped(error: "PipelineFailedError", settings: Settings, *, started: float) -> int:
    """Say why a training stopped, for a rejected model with the summary of its figures; the exit status."""
    from fraud_pipeline.defs.instance import ModelRejectedError  # noqa: PLC0415 - as above

    if isinstance(error, ModelRejectedError):
        print(summary(settings, run_id=error.run_id, seconds=time.monotonic() - started))
        print("\nTraining stopped: the gate rejected this model; the reasons are above.", file=sys.stderr)
        return 2
    print(f"\nTraining stopped: {error}", file=sys.stderr)
    return 1
