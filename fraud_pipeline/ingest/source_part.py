"""One file of a source, and which files are data.

Belongs here: names and directories. Must not be here: finding files (`file_parts.py`), their content.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

from fraud_pipeline.host.data_location import DataLocation

_HIVE_NULL: Final = "__HIVE_DEFAULT_PARTITION__"


@dataclass(frozen=True, slots=True)
class Part:
    """One file of a source; `name` is for messages, `constants` are columns with one value in all of its rows.

    Constants are the columns of Hive directories, and those of a Delta table that the file does not hold. The rows of
    a table are in no order.
    """

    path: DataLocation
    name: str
    modified: int
    size: int
    constants: tuple[tuple[str, str | None], ...] = ()
    ordered: bool = True


def is_data(steps: Sequence[str]) -> bool:
    """Whether a file is data, by the steps of its path: Spark, Hadoop and macOS add files with a hidden name."""
    return not any(step.startswith((".", "_")) and "=" not in step for step in steps)


def hive_columns(directories: Sequence[str]) -> tuple[tuple[str, str | None], ...]:
    """The columns that directories of the form `name=value` give."""
    pairs = (step.partition("=") for step in directories)
    columns = {unquote(key): None if value == _HIVE_NULL else unquote(value) for key, equals, value in pairs if equals}
    return tuple(columns.items())
