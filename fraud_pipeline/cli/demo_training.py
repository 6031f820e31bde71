"""Prepares the demo's home directory: a champion, every day up to yesterday, and their reports.

Belongs here: what is missing, in the order in which it is made. Must not be here: making it (`defs/`).
"""

from collections.abc import Callable
from contextlib import closing
from datetime import date, timedelta

from fraud_pipeline.cli.parser import build_parser
from fraud_pipeline.cli.training_plan import REPORT_DAYS
from fraud_pipeline.database import Database
from fraud_pipeline.database.verdicts import newest_reported
from fraud_pipeline.settings import Settings
from fraud_pipeline.storage.tables import TableStore


def train_if_needed(
    settings: Settings, *, transactions: int, n_trials: int, on_progress: Callable[[str], None]
) -> bool:
    """Train the first champion as `fraud-detect train` does, if the home has none. Raises RuntimeError."""
    if settings.champion_directory.exists():
        return False
    on_progress(
        f"First start: a model is trained on about {transactions:,} synthetic payments; that takes some minutes. "
        "Later starts skip this."
    )
    _command("train", f"--transactions={transactions}", f"--n-trials={n_trials}")
    if not settings.champion_directory.exists():
        _promote_newest(settings, on_progress=on_progress)
    return True


def _promote_newest(settings: Settings, *, on_progress: Callable[[str], None]) -> None:
    """Make the newest version the champion, although the gate did not; in a small world it may lack frauds to judge."""
    from fraud_pipeline.promotion.registry import open_registry  # noqa: PLC0415 - mlflow takes seconds

    versions = [model.version for model in open_registry(settings).versions()]
    if not versions:
        raise RuntimeError(f"the training failed; the reasons are above. Delete {settings.home} to begin again")
    on_progress("The gate did not promote this model; the reasons are above. The demo promotes it all the same.")
    _command("promote", str(max(versions)), "--reason=the demo needs a champion")


def _command(*words: str) -> None:
    arguments = build_parser().parse_args(words)
    arguments.run(arguments)


def bring_up_to_date(settings: Settings, *, today: date, on_progress: Callable[[str], None]) -> None:
    """Ingest the days since the last start, load them into the history, and make the reports of the last days."""
    yesterday = today - timedelta(days=1)
    with closing(Database(settings.database)) as database:
        database.prepare()
        reported = [verdict.day.date() for verdict in newest_reported(database) if verdict.report == "drift"]
    behind = max(TableStore(settings.tables_location).days("features")) < yesterday
    if not behind and reported and reported[0] >= yesterday:
        return
    from fraud_pipeline.defs import instance  # noqa: PLC0415 - dagster takes seconds

    if behind:
        on_progress("The days since the last start are ingested:")
        instance.ingest(settings, on_progress=on_progress)
        instance.refresh_history(settings, on_progress=on_progress)
    first = max([yesterday - timedelta(days=REPORT_DAYS - 1), *(day + timedelta(days=1) for day in reported)])
    on_progress(f"Reports of {first} to {yesterday}:")
    instance.make_reports(settings, first=first, last=yesterday, on_progress=on_progress)
