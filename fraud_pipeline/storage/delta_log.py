"""The log of a Delta table: which files are its present version, and how a version replaces another.

Belongs here: snapshots, commits, removal of files that no kept version needs. Must not be here: rows
(`table_files.py`), the meaning of a table (`tables.py`).

A commit replaces days, or the whole table, at once: a reader sees all of it or nothing. Delta Lake's own rules decide
between two writers; one that comes second commits on top of the first, unless it must not.
"""

import os
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

import pyarrow as pa

from fraud_pipeline.host.data_location import DataLocation, DataUrl, below
from fraud_pipeline.storage.delta_schema import PARTITION, delta_schema, merged_columns
from fraud_pipeline.storage.object_store import filesystem, translated
from fraud_pipeline.storage.table_files import exists, quoted, sync_directory

if TYPE_CHECKING:
    from deltalake import DeltaTable

LOG: Final = "_delta_log"
WHOLE: Final = ""
"""The partition of the file of a table without days."""
_ATTEMPTS: Final = 20
_VACUUM_EVERY: Final = 25
# A store of plain HTTP is used where a person names one; credentials come from the environment.
_STORE_OPTIONS: Final[Mapping[str, str]] = MappingProxyType({"allow_http": "true"})


class ConcurrentWriteError(RuntimeError):
    """Another writer changed a table that this one had to find unchanged; nothing was written."""

    def __init__(self, location: DataLocation) -> None:
        super().__init__(f"{location}: another run changed this table meanwhile, nothing was written: run it again")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One version of a table: its file of each partition, relative to the table, and its rows' columns."""

    version: int
    files: Mapping[str, str]
    columns: pa.Schema
    rows: int


@dataclass(frozen=True, slots=True)
class NewFile:
    """A written file that a commit adds; `statistics` are in the words of Delta Lake."""

    partition: str
    path: str
    size: int
    statistics: str


def snapshot(location: DataLocation, version: int | None = None) -> Snapshot | None:
    """The present version of a table, or an earlier one; None where there is no table.

    Raises ValueError for a version that is not kept.
    """
    if version is not None:
        return _read_version(location, version)
    kept = _SNAPSHOTS.get(str(location))
    if kept is not None and kept[0] is not None and kept[0] == _state(location, kept[1].version):
        return kept[1]
    if not exists(below(location, LOG)):
        _SNAPSHOTS.pop(str(location), None)
        return None
    read = _snapshot_of(open_table(location))
    _SNAPSHOTS[str(location)] = (_state(location, read.version), read)
    return read


def commit(
    location: DataLocation,
    added: Sequence[NewFile],
    *,
    columns: pa.Schema,
    partitioned: bool,
    on_top_of: int | None = None,
    keep: timedelta,
) -> None:
    """Replace the partitions of the added files, or the whole table where it has none, in one new version.

    It is tried again after another writer's commit. With `on_top_of` it raises ConcurrentWriteError instead, unless the
    present version is that one; -1 is a table that does not exist. Files that only versions older than `keep` need are
    removed from time to time.
    """
    for attempt in range(_ATTEMPTS):
        present = snapshot(location)
        if on_top_of is not None and on_top_of != (present.version if present else -1):
            raise ConcurrentWriteError(location)
        if _committed(location, present, added, columns=columns, partitioned=partitioned, strict=on_top_of is not None):
            break
        time.sleep(random.uniform(0, 0.05 * (attempt + 1)))  # noqa: S311 - a pause is no secret
    else:
        raise ConcurrentWriteError(location)
    written = snapshot(location)
    if written is None:
        return
    if isinstance(location, Path):
        _sync_log(location, written.version)
    if written.version % _VACUUM_EVERY == _VACUUM_EVERY - 1:
        vacuum(location, keep=keep)


def vacuum(location: DataLocation, *, keep: timedelta, orphans: bool = True) -> int:
    """Remove files that only versions older than `keep` need; returns their number.

    `orphans` are files of that age that no version needs, as a killed writer leaves them. A writer at work has such
    files, too, so a short `keep` needs orphans=False.
    """
    removed = open_table(location).vacuum(
        retention_hours=int(keep.total_seconds() // 3600),
        dry_run=False,
        enforce_retention_duration=False,
        full=orphans,
    )
    return len(removed)


_SNAPSHOTS: Final[dict[str, tuple[object, Snapshot]]] = {}


def _state(location: DataLocation, version: int) -> object | None:
    """The entry of a version in the log, which another table at the same place would not have; None where a newer
    version exists, also if it came while this one was read.
    """
    entry, following = (_stat(below(location, f"{LOG}/{number:020d}.json")) for number in (version, version + 1))
    return None if following else entry


def _stat(location: DataLocation) -> tuple[object, ...] | None:
    if isinstance(location, DataUrl):
        with translated(location):
            info = filesystem(location).get_file_info(location.path)
        return (info.mtime_ns, info.size) if info.is_file else None
    try:
        of_file = location.stat()
    except FileNotFoundError:
        return None
    return of_file.st_ino, of_file.st_mtime_ns, of_file.st_size


def open_table(location: DataLocation, version: int | None = None) -> "DeltaTable":
    """A Delta table of anybody's. Raises deltalake's errors, and ImportError where the package is not installed."""
    from deltalake import DeltaTable  # noqa: PLC0415 - serving has no tables

    return DeltaTable(str(location), version=version, storage_options=_options(location))


def _options(location: DataLocation) -> dict[str, str] | None:
    return {**_STORE_OPTIONS} if isinstance(location, DataUrl) else None


def _read_version(location: DataLocation, version: int) -> Snapshot | None:
    from deltalake.exceptions import DeltaError  # noqa: PLC0415 - serving has no tables

    if not exists(below(location, LOG)):
        return None
    try:
        return _snapshot_of(open_table(location, version))
    except (DeltaError, OSError):
        present = snapshot(location)
        newest = present.version if present else -1
        raise ValueError(
            f"{location}: version {version} is not kept: versions are numbered up to {newest}, and old ones are removed"
        ) from None


def _snapshot_of(table: "DeltaTable") -> Snapshot:
    actions: list[dict[str, Any]] = pa.table(table.get_add_actions()).to_pylist()
    files = {}
    for action in actions:
        day = (action.get("partition") or {}).get(PARTITION)
        files[WHOLE if day is None else day.isoformat()] = unquote(action["path"])
    columns = pa.schema(table.schema().to_arrow())
    position = columns.get_field_index(PARTITION)
    return Snapshot(
        version=int(table.version()),
        files=files,
        columns=columns if position < 0 else columns.remove(position),
        rows=sum(action["num_records"] or 0 for action in actions),
    )


def _committed(
    location: DataLocation,
    present: Snapshot | None,
    added: Sequence[NewFile],
    *,
    columns: pa.Schema,
    partitioned: bool,
    strict: bool,
) -> bool:
    """Commit on top of `present`; False where another writer came first and that forbids it."""
    from deltalake import CommitProperties  # noqa: PLC0415 - serving has no tables
    from deltalake.exceptions import CommitFailedError, DeltaError  # noqa: PLC0415
    from deltalake.transaction import create_table_with_add_actions  # noqa: PLC0415

    partition_by = [PARTITION] if partitioned else []
    if present is None:
        try:
            create_table_with_add_actions(
                str(location),
                delta_schema(columns, partitioned=partitioned),
                _actions(added),
                mode="error",
                partition_by=partition_by,
                storage_options=_options(location),
            )
        except DeltaError:
            if not exists(below(location, LOG)):
                raise
            return False
        return True
    merged = merged_columns(present.columns, columns, empty=not present.rows)
    try:
        open_table(location, present.version).create_write_transaction(
            _actions(added),
            mode="overwrite",
            schema=delta_schema(merged, partitioned=partitioned),
            partition_by=partition_by,
            partition_filters=[(PARTITION, "in", [file.partition for file in added])] if partitioned else None,
            commit_properties=CommitProperties(max_commit_retries=0) if strict else None,
        )
    except CommitFailedError:
        return False
    return True


def _actions(added: Sequence[NewFile]) -> list[Any]:
    from deltalake.transaction import AddAction  # noqa: PLC0415 - serving has no tables

    now = int(time.time() * 1000)
    return [
        AddAction(
            path=quoted(file.path),
            size=file.size,
            partition_values={PARTITION: file.partition} if file.partition else {},
            modification_time=now,
            data_change=True,
            stats=file.statistics,
        )
        for file in added
    ]


def _sync_log(location: Path, version: int) -> None:
    """Make a commit survive a power cut."""
    log = location / LOG
    with (log / f"{version:020d}.json").open("rb") as entry:
        os.fsync(entry.fileno())
    sync_directory(log)
