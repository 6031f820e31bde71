"""The Dagster instance of a home directory, and running the whole pipeline on it from the shell.

Belongs here: preparing $DAGSTER_HOME, launching the job, printing its progress. Must not be here: the job's steps.
"""

import os
import shutil
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

import dagster as dg
import yaml
from dagster._core.definitions.repository_definition import SINGLETON_REPOSITORY_NAME
from dagster._core.events import RunFailureReason
from dagster._core.remote_origin import RegisteredCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin

from fraud_pipeline.defs.automation import due_runs
from fraud_pipeline.defs.build import build_defs
from fraud_pipeline.defs.calendar import RANGE_END_TAG, RANGE_START_TAG
from fraud_pipeline.defs.event_batches import BATCH_SIZE, BATCH_VARIABLE, write_in_batches
from fraud_pipeline.defs.promotion import GATE
from fraud_pipeline.defs.resources import build_resources
from fraud_pipeline.settings import Settings

__all__ = [
    "INSTANCE_FILE",
    "POSTGRES_VARIABLE",
    "RANGE_END_TAG",
    "RANGE_START_TAG",
    "WORKSPACE_FILE",
    "ModelRejectedError",
    "PipelineFailedError",
    "ingest",
    "make_reports",
    "migrate_dagster",
    "prepare_dagster_home",
    "refresh_history",
    "run_pipeline",
]

POSTGRES_VARIABLE: Final = "DAGSTER_POSTGRES_URL"
INSTANCE_FILE: Final = "dagster.yaml"
CODE_LOCATION: Final = "fraud_pipeline"  # its name in workspace.yaml
WORKSPACE_FILE: Final = Path(__file__).with_name("workspace.yaml")


class PipelineFailedError(RuntimeError):
    """The run failed; the message is the first cause and where to read more."""


class ModelRejectedError(PipelineFailedError):
    """The run trained and registered a model, and the gate rejected it; `run_id` is the run."""

    def __init__(self, message: str, *, run_id: str) -> None:
        super().__init__(message)
        self.run_id = run_id


def prepare_dagster_home(settings: Settings) -> Path:
    """Put `dagster.yaml` where Dagster reads it, with PostgreSQL storage when DAGSTER_POSTGRES_URL is set."""
    home = settings.dagster_home
    home.mkdir(parents=True, exist_ok=True)
    template = Path(__file__).with_name(INSTANCE_FILE)
    if not os.environ.get(POSTGRES_VARIABLE):
        shutil.copyfile(template, home / INSTANCE_FILE)
    else:
        config = yaml.safe_load(template.read_text())
        config["storage"] = {"postgres": {"postgres_url": {"env": POSTGRES_VARIABLE}}}
        (home / INSTANCE_FILE).write_text(yaml.safe_dump(config, sort_keys=False))
    os.environ["DAGSTER_HOME"] = str(home)
    os.environ.setdefault(BATCH_VARIABLE, str(BATCH_SIZE))
    return home


def migrate_dagster(settings: Settings) -> Path:
    """Prepare the home and bring Dagster's own database to the installed Dagster; where the home is."""
    home = prepare_dagster_home(settings)
    with dg.DagsterInstance.get() as instance:
        instance.upgrade()
    return home


def run_pipeline(
    settings: Settings,
    *,
    first: date,
    last: date,
    on_progress: Callable[[str], None],
    history_last: date | None = None,
    n_trials: int | None = None,
    accept_other_source: bool = False,
    on_usable: Callable[[], None] | None = None,
) -> str:
    """Materialize everything from the source to the champion for `first` to `last` in one run; returns its id.

    `on_progress` receives a line for each step as it ends. Days up to `history_last` are ingested too, but not learned
    from. `on_usable` is called once the source has proved to be large enough for a training. `accept_other_source` lets
    history and champion be followed by those of another source.
    Raises PipelineFailedError with the cause of the first failure, and ModelRejectedError for the gate's verdict.
    """
    prepare_dagster_home(settings)
    job = build_defs(settings).resolve_job_def("source_to_champion_job")
    steps: dict[str, dict[str, Any]] = {
        "training_set": {"first_day": first.isoformat(), "last_day": last.isoformat()},
        "fraud_model": {"n_trials": n_trials},
        "online_history": {"accept_other_source": accept_other_source},
        "champion": {"accept_other_source": accept_other_source},
    }
    tags = {RANGE_START_TAG: first.isoformat(), RANGE_END_TAG: (history_last or last).isoformat()}
    return _run(job, tags=tags, steps=steps, progress=_Progress(on_progress, on_usable=on_usable))


def ingest(settings: Settings, *, on_progress: Callable[[str], None]) -> None:
    """Run the schedule daily_ingest now: bring days that are missing or differ, renew stale features.

    `on_progress` receives a line for each step as it ends. A failed run does not keep the others from running; at the
    end PipelineFailedError is raised with the causes. Raises SourceError when there is no source, or it cannot be read.
    """
    prepare_dagster_home(settings)
    failures: list[str] = []
    done: list[dg.RunRequest] = []
    resources: dict[str, Any] = build_resources(settings)
    due = partial(due_runs, settings, tables=resources["tables"], source=resources["source"])
    job = build_defs(settings).resolve_job_def("ingest_job")
    # A day whose rows were rejected for another day's ids is due again once that day changed.
    while (requests := due(now=datetime.now(UTC))) and requests != done:
        failures, done = [], requests
        for request in requests:
            on_progress(f"{request.tags[RANGE_START_TAG]} to {request.tags[RANGE_END_TAG]}")
            try:
                _run(job, tags=request.tags, assets=request.asset_selection, progress=_Progress(on_progress))
            except PipelineFailedError as error:
                failures.append(str(error))
    if failures:
        raise PipelineFailedError("\n".join(failures))


def refresh_history(settings: Settings, *, on_progress: Callable[[str], None]) -> None:
    """Run the schedule daily_online_history now: the database gets the days that changed, and merchant days.

    Raises PipelineFailedError.
    """
    prepare_dagster_home(settings)
    job = build_defs(settings).resolve_job_def("online_history_job")
    _run(job, tags={}, progress=_Progress(on_progress))


def make_reports(settings: Settings, *, first: date, last: date, on_progress: Callable[[str], None]) -> None:
    """Make the three daily reports of `first` to `last`, as the sensor does after the features of a day.

    Raises PipelineFailedError.
    """
    prepare_dagster_home(settings)
    job = build_defs(settings).resolve_job_def("drift_job")
    tags = {RANGE_START_TAG: first.isoformat(), RANGE_END_TAG: last.isoformat()}
    _run(job, tags=tags, progress=_Progress(on_progress))


def _run(
    job: dg.JobDefinition,
    *,
    tags: Mapping[str, str],
    progress: "_Progress",
    steps: Mapping[str, dict[str, Any]] | None = None,
    assets: Sequence[dg.AssetKey] | None = None,
) -> str:
    """Run a job, or these assets of it, in this process, with the configuration of its `steps`; the run's id.

    Raises PipelineFailedError, and KeyboardInterrupt after a signal: Dagster ends the run in order, and returns.
    """
    run_id = str(uuid.uuid4())
    with dg.DagsterInstance.get() as instance:
        _show_in_overview(instance, job)
        write_in_batches(instance)
        instance.add_event_listener(run_id, progress)
        result = job.execute_in_process(
            instance=instance,
            run_id=run_id,
            run_config={
                "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
                "ops": {step: {"config": config} for step, config in (steps or {}).items()},
            },
            tags=dict(tags),
            asset_selection=assets,
            raise_on_error=False,
        )
    if _was_interrupted(result):
        raise KeyboardInterrupt
    if not result.success:
        message = f"{progress.failure or 'the run failed'}\nrun {run_id}; `fraud-detect ui` shows its log under Runs"
        raise ModelRejectedError(message, run_id=run_id) if progress.rejected else PipelineFailedError(message)
    return run_id


def _was_interrupted(result: dg.ExecuteInProcessResult) -> bool:
    failures = (event.job_failure_data for event in result.all_events if event.is_job_failure)
    return any(failure.failure_reason is RunFailureReason.UNEXPECTED_TERMINATION for failure in failures)


def _show_in_overview(instance: dg.DagsterInstance, job: dg.JobDefinition) -> None:
    """Give runs that this instance creates the job's origin in the code location of `workspace.yaml`.

    Dagster records no origin for a run in this process. Its first page then leaves the run out, and the run cannot be
    repeated there. No public API sets an origin (dagster-io/dagster issues 17707 and 19458).
    """
    repository = RemoteRepositoryOrigin(RegisteredCodeLocationOrigin(CODE_LOCATION), SINGLETON_REPOSITORY_NAME)
    create_run = partial(instance.create_run_for_job, remote_job_origin=RemoteJobOrigin(repository, job.name))
    instance.create_run_for_job = create_run  # type: ignore[method-assign]


class _Progress:
    """Turns Dagster's events into lines for a person."""

    def __init__(self, on_progress: Callable[[str], None], *, on_usable: Callable[[], None] | None = None) -> None:
        self._on_progress = on_progress
        self._on_usable = on_usable
        self._started: dict[str, float] = {}
        self._listed: set[str] = set()
        self.failure = ""
        self.rejected = False

    def __call__(self, entry: dg.EventLogEntry) -> None:
        event = entry.dagster_event
        if event is None:
            if entry.user_message.startswith(("trial ", "Another training ")):
                self._on_progress(f"    {entry.user_message}")
            return
        step = event.step_key or ""
        if event.event_type is dg.DagsterEventType.STEP_START:
            self._started[step] = time.monotonic()
            # The training set is made, and its blocking checks have passed.
            if step == "fraud_model" and self._on_usable is not None:
                self._on_usable()
        elif event.event_type is dg.DagsterEventType.ASSET_MATERIALIZATION:
            # A run over many days reports each of them; a person wants one line.
            name = event.asset_key.to_user_string() if event.asset_key else step
            if name not in self._listed:
                self._listed.add(name)
                count = event.step_materialization_data.materialization.metadata.get("dagster/row_count")
                rows = f"{getattr(count, 'value', 0):>12,} rows" if count is not None else " " * 17
                self._on_progress(f"  {name:<24}{rows}  {time.monotonic() - self._started[step]:6.1f} s")
        elif event.event_type is dg.DagsterEventType.ASSET_CHECK_EVALUATION:
            check = event.asset_check_evaluation_data
            if not check.passed and check.blocking and check.severity is dg.AssetCheckSeverity.ERROR:
                finding = check.metadata.get("finding")
                failed_check = (
                    f"check {check.check_name} of {check.asset_key.to_user_string()}: {getattr(finding, 'value', '')}"
                )
                self.failure = f"{self.failure}\n{failed_check}".strip()
                self.rejected |= check.check_name == GATE
        elif event.event_type is dg.DagsterEventType.STEP_FAILURE and not self.failure:
            error = event.step_failure_data.error
            cause = error.cause or error if error else None
            self.failure = f"{step}: {cause.message.strip() if cause else event.message}"
