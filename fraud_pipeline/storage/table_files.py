"""The Parquet files of tables, on this machine or in an object store: each is written once and never changed.

Belongs here: writing, reading and describing one file. Must not be here: which files are a table (`delta_log.py`).
"""

import json
import os
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pyarrow.types as pt
from pyarrow import fs

from fraud_pipeline.host.data_location import DataLocation, DataUrl, below
from fraud_pipeline.storage.object_store import filesystem, open_file, translated

SUFFIX: Final = ".parquet"
_FOOTERS: Final = 100_000


def exists(location: DataLocation) -> bool:
    """Whether there is a file or directory."""
    if isinstance(location, DataUrl):
        with translated(location):
            return bool(filesystem(location).get_file_info(location.path).type)
    return location.exists()


def directories_below(location: DataLocation) -> list[DataLocation]:
    """The directories in a directory, in order of their names; none where it does not exist."""
    if isinstance(location, Path):
        return [path for path in sorted(location.glob("[!.]*")) if path.is_dir()]
    with translated(location):
        infos = filesystem(location).get_file_info(fs.FileSelector(location.path, allow_not_found=True))
    return [below(location, info.base_name) for info in infos if info.type == fs.FileType.Directory]


def write_file(directory: DataLocation, rows: pa.Table, *, footer: Mapping[bytes, bytes]) -> tuple[str, int]:
    """Write rows to a new file below `directory`; returns its name and its size in bytes.

    A file of this machine is on the disk when this returns.
    """
    name = f"{uuid.uuid4().hex}{SUFFIX}"
    path, stored = below(directory, name), rows.replace_schema_metadata(dict(footer))
    if isinstance(path, DataUrl):
        buffer = pa.BufferOutputStream()
        pq.write_table(stored, buffer)
        content = buffer.getvalue()
        with translated(path), filesystem(path).open_output_stream(path.path) as stream:
            stream.write(content)
        return name, content.size
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("xb") as file:
        pq.write_table(stored, file)
        file.flush()
        os.fsync(file.fileno())
        size = os.fstat(file.fileno()).st_size
    sync_directory(path.parent)
    return name, size


def read_rows(location: DataLocation, *, columns: Sequence[str] | None = None) -> pa.Table:
    """The rows of a file, of `columns` or of all."""
    with open_file(location) as source, pq.ParquetFile(source) as file:
        return file.read(columns=columns, use_threads=False)


@lru_cache(maxsize=_FOOTERS)
def footer_of(location: DataLocation) -> Mapping[bytes, bytes]:
    """What the writer of a file put beside its rows; it is read once, because a file never changes."""
    with open_file(location) as source:
        return pq.read_metadata(source).metadata or {}


def statistics(rows: pa.Table) -> str:
    """The statistics of a file in the words of Delta Lake, for readers that skip files: counts, and bounds of numbers
    and times.
    """
    low: dict[str, Any] = {}
    high: dict[str, Any] = {}
    for field, column in zip(rows.schema, rows.columns, strict=True):
        if pt.is_integer(field.type) or pt.is_timestamp(field.type):
            # A time after the year 9999 has no text.
            with suppress(OverflowError, ValueError):
                bounds = pc.min_max(column).as_py()
                if bounds["min"] is not None:
                    low[field.name], high[field.name] = _bound(bounds["min"]), _bound(bounds["max"], up=True)
    missing = {field.name: column.null_count for field, column in zip(rows.schema, rows.columns, strict=True)}
    return json.dumps({"numRecords": len(rows), "minValues": low, "maxValues": high, "nullCount": missing})


def _bound(value: Any, *, up: bool = False) -> Any:
    if not isinstance(value, datetime):
        return value
    # Statistics know milliseconds, so an upper bound is rounded up.
    whole = value.replace(microsecond=value.microsecond // 1000 * 1000)
    whole += timedelta(milliseconds=1) if up and whole < value else timedelta()
    return whole.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def quoted(relative: str) -> str:
    """A relative path as the log of a Delta table spells it."""
    return quote(relative, safe="/=")


def sync_directory(directory: Path) -> None:
    """Make the names in a directory survive a power cut."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
