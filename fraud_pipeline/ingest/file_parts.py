"""The files of a data path: one file, a directory of parts, a Hive layout, a Delta table, or a pattern of these.

Belongs here: paths and URLs. Must not be here: the content of files.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import takewhile
from pathlib import Path
from typing import Final

from pyarrow.fs import FileInfo, FileType

from fraud_pipeline.host.data_location import DataLocation, DataUrl
from fraud_pipeline.ingest.column_mapping import SourceError
from fraud_pipeline.ingest.delta_parts import delta_parts
from fraud_pipeline.ingest.source_part import Part, hive_columns, is_data
from fraud_pipeline.storage.delta_log import LOG
from fraud_pipeline.storage.object_store import ObjectStoreError, files_below, info_of

_PATTERN: Final = re.compile(r"[*?\[]")
_OTHER_FORMATS: Final = {".hoodie": "Hudi", "metadata": "Iceberg"}


def parts_of(location: DataLocation) -> tuple[Part, ...]:
    """The files of a data path in order of their names, without hidden files, `_SUCCESS` and the like.

    Raises SourceError without any file, and for table formats that are not read.
    """
    if location.suffix.lower() == ".sql":
        raise SourceError(
            f"{location}: the file looks like SQL: give the database of a query by --data-url, or export its rows as "
            "CSV or Parquet"
        )
    if isinstance(location, DataUrl):
        try:
            return _parts_of_url(location)
        except ObjectStoreError as error:
            raise SourceError(str(error)) from None
    if location.is_file():
        return (_part(location, base=location.parent),)
    if location.is_dir():
        return _parts_of_directory(location)
    if _PATTERN.search(str(location)):
        return _parts_of_pattern(location)
    raise SourceError(f"{location}: no such file; check the data path")


def _parts_of_pattern(path: Path) -> tuple[Part, ...]:
    base = Path(*_before_pattern(path.parts))
    pattern = str(path.relative_to(base))
    entries = [entry for entry in base.glob(pattern) if is_data(entry.relative_to(base).parts)]
    files = {entry for entry in entries if entry.is_file()}
    # A pattern that names directories means the parts inside them.
    files |= {file for entry in entries if entry.is_dir() for file in _files_below(entry)}
    if not files:
        raise SourceError(f"{path}: no file has such a name; check the pattern")
    return _parts_of_files(files, base=base)


def _parts_of_directory(directory: Path) -> tuple[Part, ...]:
    tops = {entry.name for entry in directory.iterdir() if entry.is_dir()}
    if parts := _table_parts(directory, tops):
        return parts
    files = _files_below(directory)
    if not files:
        raise SourceError(f"{directory}: the directory holds no data files; check the data path")
    return _parts_of_files(files, base=directory)


def _files_below(directory: Path) -> set[Path]:
    return {file for file in directory.rglob("*") if file.is_file() and is_data(file.relative_to(directory).parts)}


def _parts_of_files(files: Collection[Path], *, base: Path) -> tuple[Part, ...]:
    for directory in {parent for file in files for parent in (base, *_between(file, base))}:
        if (directory / LOG).is_dir():
            raise _table_among_files(directory)
    return tuple(_part(file, base=base) for file in sorted(files))


def _between(file: Path, base: Path) -> list[Path]:
    return [parent for parent in file.parents if parent.is_relative_to(base)]


def _part(file: Path, *, base: Path) -> Part:
    status = file.stat()
    relative = file.relative_to(base)
    return Part(file, str(relative), status.st_mtime_ns, status.st_size, hive_columns(relative.parts[:-1]))


def _parts_of_url(url: DataUrl) -> tuple[Part, ...]:
    if _PATTERN.search(url.key):
        before = _before_pattern(url.key.split("/"))
        pattern = url.key.split("/")[len(before) :]
        base = DataUrl(url.scheme, url.bucket, "/".join(before))
        objects = [each for each in _objects_below(base) if _matches_start(each.steps, pattern)]
        if not any(is_data(each.steps) for each in objects):
            raise SourceError(f"{url}: no file has such a name; check the pattern")
        return _parts_of_objects(objects, base=base)
    info = info_of(url)
    if info.type == FileType.File:
        return (_Object(info, (url.name,)).part(url.scheme),)
    objects = _objects_below(url)
    if parts := _table_parts(url, {each.steps[0] for each in objects if len(each.steps) > 1}):
        return parts
    if not any(is_data(each.steps) for each in objects):
        problem = "the directory holds no data files" if objects else "the bucket holds no such file or directory"
        raise SourceError(f"{url}: {problem}; check the data path")
    return _parts_of_objects(objects, base=url)


@dataclass(frozen=True, slots=True)
class _Object:
    """A file of a store with the steps of its path from a directory."""

    info: FileInfo
    steps: tuple[str, ...]

    def part(self, scheme: str) -> Part:
        bucket, _, key = self.info.path.partition("/")
        return Part(
            DataUrl(scheme, bucket, key),
            "/".join(self.steps),
            self.info.mtime_ns or 0,
            self.info.size or 0,
            hive_columns(self.steps[:-1]),
        )


def _objects_below(base: DataUrl) -> list[_Object]:
    start = len(base.path) + 1
    return [_Object(info, tuple(info.path[start:].split("/"))) for info in files_below(base)]


def _parts_of_objects(objects: Sequence[_Object], *, base: DataUrl) -> tuple[Part, ...]:
    for steps in (each.steps for each in objects):
        if LOG in steps[:-1]:
            raise _table_among_files("/".join([str(base), *steps[: steps.index(LOG)]]))
    return tuple(each.part(base.scheme) for each in objects if is_data(each.steps))


def _matches_start(steps: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether a file, or a directory above it, has the pattern."""
    return any(_matches(steps[:length], pattern) for length in range(1, len(steps) + 1))


def _matches(steps: Sequence[str], pattern: Sequence[str]) -> bool:
    if not pattern:
        return not steps
    if pattern[0] == "**":
        return _matches(steps, pattern[1:]) or (bool(steps) and _matches(steps[1:], pattern))
    return bool(steps) and fnmatchcase(steps[0], pattern[0]) and _matches(steps[1:], pattern[1:])


def _before_pattern(steps: Sequence[str]) -> list[str]:
    return list(takewhile(lambda step: not _PATTERN.search(step), steps))


def _table_parts(location: DataLocation, directories: Collection[str]) -> tuple[Part, ...]:
    """The parts of a Delta table, by the directories inside it; none for plain files. Raises SourceError for others."""
    if LOG in directories:
        return delta_parts(location)
    for name, table_format in _OTHER_FORMATS.items():
        if name in directories:
            raise SourceError(
                f"{location}: this is a {table_format} table, whose files are not all of its present content: export "
                "it as Parquet files"
            )
    return ()


def _table_among_files(location: object) -> SourceError:
    return SourceError(f"{location}: this is a Delta Lake table, which is a source by itself: name it and nothing else")
