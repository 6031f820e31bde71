"""The files of a data path: one file, a directory of parts, a Hive layout, or a pattern.

Belongs here: paths. Must not be here: the content of files.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from fraud_pipeline.ingest.column_mapping import SourceError

_PATTERN: Final = re.compile(r"[*?\[]")
_HIVE_NULL: Final = "__HIVE_DEFAULT_PARTITION__"
_TABLE_FORMATS: Final = {"_delta_log": "Delta Lake", ".hoodie": "Hudi", "metadata": "Iceberg"}


@dataclass(frozen=True, slots=True)
class Part:
    """One file of a source; `name` is for messages, `constants` are the columns of its Hive directories."""

    path: Path
    name: str
    modified: int
    size: int
    constants: tuple[tuple[str, str | None], ...] = ()


def parts_of(path: Path) -> tuple[Part, ...]:
    """The files of a data path in order of their names, without hidden files, `_SUCCESS` and the like.

    Raises SourceError without any file, and for table formats.
    """
    if path.is_file():
        return (_part(path, base=path.parent),)
    if path.is_dir():
        return _parts_of_directory(path)
    if _PATTERN.search(str(path)):
        base = Path(*_before_pattern(path))
        pattern = str(path.relative_to(base))
        files = sorted(file for file in base.glob(pattern) if file.is_file() and _is_data(file, base=base))
        # A pattern that names directories means the parts inside them.
        directories = sorted(entry for entry in base.glob(pattern) if entry.is_dir() and _is_data(entry, base=base))
        files += [part.path for directory in directories for part in _parts_of_directory(directory)]
        if files:
            return tuple(_part(file, base=base) for file in sorted(set(files)))
        raise SourceError(f"{path}: no file has such a name; check the pattern")
    raise SourceError(f"{path}: no such file; check the data path")


def _parts_of_directory(directory: Path) -> tuple[Part, ...]:
    for name, table_format in _TABLE_FORMATS.items():
        if (directory / name).is_dir():
            raise SourceError(
                f"{directory}: this is a {table_format} table, whose files are not all of its present content: export "
                "it as Parquet files"
            )
    files = sorted(file for file in directory.rglob("*") if file.is_file() and _is_data(file, base=directory))
    if not files:
        raise SourceError(f"{directory}: the directory holds no data files; check the data path")
    return tuple(_part(file, base=directory) for file in files)


def _is_data(file: Path, *, base: Path) -> bool:
    """Whether a file is data: Spark, Hadoop and macOS add files of their own with a hidden name."""
    return not any(step.startswith((".", "_")) and "=" not in step for step in file.relative_to(base).parts)


def _part(file: Path, *, base: Path) -> Part:
    status = file.stat()
    relative = file.relative_to(base)
    pairs = (step.partition("=") for step in relative.parts[:-1])
    constants = {
        unquote(key): None if value == _HIVE_NULL else unquote(value) for key, equals, value in pairs if equals
    }
    return Part(file, str(relative), status.st_mtime_ns, status.st_size, tuple(constants.items()))


def _before_pattern(path: Path) -> list[str]:
    steps: list[str] = []
    for step in path.parts:
        if _PATTERN.search(step):
            break
        steps.append(step)
    return steps
