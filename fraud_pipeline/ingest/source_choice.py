"""The chosen training source, stored in the home directory beside `settings.env`.

Belongs here: the record, its file, and the settings that follow from it. Must not be here: other settings
(`settings.py`), reading a source.

`fraud-detect train` writes the file after it has read the source. Loading settings reads it, so that the Dagster UI,
the daemon and each command use the same source.
"""

import os
import uuid
from datetime import date, timedelta
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    TypeAdapter,
    ValidationError,
)

from fraud_pipeline.host.data_location import DataUrl, data_location, database_url
from fraud_pipeline.ingest.declaration import Declaration

CHOICE_FILE: Final = "source.json"
_DAYS: Final = ("first_day", "last_day")

DataPath = Annotated[
    Path | DataUrl, PlainValidator(data_location), PlainSerializer(str, return_type=str, when_used="json")
]
"""The location of a source as a field, stored as text."""
DatabaseUrl = Annotated[str, AfterValidator(lambda text: database_url(text) if text else "")]
"""The URL of a bank's database as a field; it holds no password."""


class SourceChoiceError(ValueError):
    """The stored choice cannot be read; the message names the file and the remedy."""


class _Choice(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    chosen_at: AwareDatetime


class SyntheticChoice(_Choice):
    """The synthetic world, with its first day; None in choices of releases whose world always began on the same day."""

    kind: Literal["synthetic"] = "synthetic"
    first_day: date | None = None

    def settings(self) -> dict[str, Any]:
        """Values of settings by name."""
        if self.first_day is None:
            return {"synthetic": True}
        return {"synthetic": True, "first_day": self.first_day, "world_first_day": self.first_day}


class FileChoice(_Choice):
    """A file, its reading options, and its days. A `label_maturity` or `gap` of None leaves it to the settings.

    `declaration` is the content of fraud.toml at the time of the choice. A later change of that file has no effect.
    """

    kind: Literal["file"] = "file"
    data_path: DataPath
    data_url: DatabaseUrl = ""
    columns: str
    declaration: Declaration | None = None
    label_delay: timedelta = Field(ge=timedelta(0))
    label_maturity: timedelta | None = Field(None, ge=timedelta(0))
    gap: timedelta | None = Field(None, ge=timedelta(0))
    first_day: date
    last_day: date | None = None

    def settings(self) -> dict[str, Any]:
        """Values of settings by name."""
        names = ("data_path", "data_url", "columns", "declaration", "label_delay", "label_maturity", "gap", *_DAYS)
        values = {name: getattr(self, name) for name in names}
        return {name: value for name, value in values.items() if value is not None}


SourceChoice = SyntheticChoice | FileChoice
_ADAPTER: Final = TypeAdapter[SourceChoice](Annotated[SourceChoice, Field(discriminator="kind")])


def read_choice(home: Path) -> SourceChoice | None:
    """The choice stored in a home directory, or None. Raises SourceChoiceError for a damaged file."""
    path = home / CHOICE_FILE
    try:
        return _ADAPTER.validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise SourceChoiceError(
            f"{path} is damaged or of another release ({error.errors()[0]['msg']}): choose the source again by "
            "`fraud-detect train --data-path FILE` or `fraud-detect train --synthetic`"
        ) from error


def save_choice(choice: SourceChoice, *, home: Path) -> None:
    """Store a choice and replace an earlier one, in one atomic step."""
    home.mkdir(parents=True, exist_ok=True)
    path = home / CHOICE_FILE
    unfinished = path.with_name(f".{CHOICE_FILE}.{uuid.uuid4().hex}")
    try:
        with unfinished.open("w") as file:
            file.write(choice.model_dump_json(indent=2) + "\n")
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
