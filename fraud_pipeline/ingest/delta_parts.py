"""The files of the present version of a Delta table.

Belongs here: what its log says. Must not be here: listing other files, the content of files.
"""

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import unquote

import pyarrow as pa

from fraud_pipeline.host.data_location import DataLocation, below
from fraud_pipeline.ingest.column_mapping import SourceError
from fraud_pipeline.ingest.source_part import Part
from fraud_pipeline.storage.delta_log import open_table

_INSTALL: Final = "reading Delta tables needs the package deltalake: pip install 'fraud-pipeline[training]'"


def delta_parts(location: DataLocation) -> tuple[Part, ...]:
    """The files of a Delta table in order of their paths. A column that a file lacks is empty in its rows.

    Raises SourceError for a table without rows, and for one whose files are not its rows as they are.
    """
    try:
        from deltalake.exceptions import DeltaError  # noqa: PLC0415 - serving has no Delta tables
    except ImportError:
        raise SourceError(f"{location}: {_INSTALL}") from None
    try:
        table = open_table(location)
        actions: list[dict[str, Any]] = pa.table(table.get_add_actions()).to_pylist()
        names = [field.name for field in pa.schema(table.schema().to_arrow())]
        features = {*(table.protocol().reader_features or ())}
        mapped = table.metadata().configuration.get("delta.columnMapping.mode", "none") != "none"
    except (DeltaError, OSError, ValueError):
        raise SourceError(
            f"{location}: the log of this Delta table cannot be read, perhaps it is damaged or of a later protocol: "
            "export the table as Parquet files"
        ) from None
    if unread := [*sorted(features & _NOT_READ), *(["columnMapping"] if mapped else [])]:
        raise SourceError(
            f"{location}: this Delta table uses {', '.join(dict.fromkeys(unread))}, so its files are not its rows as "
            "they are: rewrite it without (REORG TABLE ... APPLY (PURGE), then drop the feature), or export it"
        )
    if not actions:
        raise SourceError(
            f"{location}: this Delta table has no rows in its present version: write some, or name another"
        )
    return tuple(_part(location, action, names) for action in sorted(actions, key=lambda action: str(action["path"])))


_NOT_READ: Final = frozenset(("deletionVectors", "columnMapping", "typeWidening", "catalogManaged"))


def _part(location: DataLocation, action: Mapping[str, Any], names: list[str]) -> Part:
    relative = unquote(action["path"])
    if "://" in relative:
        raise SourceError(
            f"{location}: this Delta table is a shallow clone, whose files lie elsewhere: name the original"
        )
    values: Mapping[str, object] = action.get("partition") or {}
    constants = {name: _text(values.get(name)) for name in names}
    return Part(
        below(location, relative),
        relative,
        modified=int(action["modification_time"]),
        size=int(action["size_bytes"]),
        constants=tuple(constants.items()),
        ordered=False,
    )


def _text(value: object) -> str | None:
    return None if value is None else str(value)
