"""The columns of a training's file: from `--columns`, a fraud.toml, or an inspection.

Belongs here: the choice among the three. Must not be here: the source and its days (`training_plan.py`).
"""

from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Final

from fraud_pipeline.cli.outlook import Outlook, outlook_of
from fraud_pipeline.database.query_source import query_sample
from fraud_pipeline.host.data_location import DataLocation
from fraud_pipeline.ingest.declaration import Declaration, read_declaration
from fraud_pipeline.ingest.inspection import Inspection, inspect
from fraud_pipeline.ingest.inspection_overrides import Overrides
from fraud_pipeline.ingest.sources import SourceError
from fraud_pipeline.ingest.time_guesses import TimeOptions
from fraud_pipeline.settings import Settings

DECLARATION_FILE: Final = "fraud.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnFlags:
    """Options about columns; None or empty where they were not given."""

    columns: str | None = None
    declaration: Path | None = None
    overrides: Overrides = field(default_factory=Overrides)
    time: TimeOptions = field(default_factory=TimeOptions)

    @property
    def inspects(self) -> bool:
        """Whether a flag is for the inspection of a file."""
        return self.overrides != Overrides() or self.time != TimeOptions()


@dataclass(frozen=True, slots=True)
class ColumnPlan:
    """The columns of a file in one of two forms; `outlook` belongs to an inspection, `note` names the origin."""

    columns: str = ""
    declaration: Declaration | None = None
    outlook: Outlook | None = None
    note: str = ""


def plan_columns(
    flags: ColumnFlags, *, path: DataLocation, url: str, before: Settings, new: bool, label_delay: timedelta | None
) -> ColumnPlan:
    """The columns of a file, or of a query of the database at `url`.

    `before` holds explicit or remembered settings; a `new` file has none of its own.

    Raises SourceError for a fraud.toml or a file that cannot be used.
    """
    if flags.columns is not None:
        return ColumnPlan(columns=flags.columns)
    if flags.declaration is not None:
        return ColumnPlan(declaration=_read(flags.declaration), note=f"Columns: {flags.declaration}.")
    file = Path(DECLARATION_FILE)
    if file.exists() and not flags.inspects and (new or before.declaration is not None):
        return ColumnPlan(declaration=_read(file), note=f"Columns: {file} in this directory.")
    if new or flags.inspects:
        outlook = outlook_of(
            inspect_source(path, url=url, overrides=flags.overrides, options=flags.time),
            settings=before,
            label_delay=label_delay,
        )
        return ColumnPlan(declaration=outlook.inspection.declaration, outlook=outlook)
    return ColumnPlan(columns=before.columns, declaration=before.declaration)


def inspect_source(location: DataLocation, *, url: str, overrides: Overrides, options: TimeOptions) -> Inspection:
    """Inspect a file, or a query of the database at `url`. Raises SourceError."""
    sample = query_sample(location, url=url) if url else None
    return inspect(location, overrides=overrides, options=options, sample=sample)


def _read(path: Path) -> Declaration:
    try:
        return read_declaration(path.read_text(encoding="utf-8"), path=path)
    except (OSError, UnicodeError):
        raise SourceError(f"{path}: no such file can be read; `fraud-detect init FILE` writes one") from None
