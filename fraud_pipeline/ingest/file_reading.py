"""Reads one part of a source as an Arrow table.

Belongs here: the choice of the reader, columns of Hive directories. Must not be here: the meaning of columns.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fraud_pipeline.host.data_location import DataUrl
from fraud_pipeline.ingest import csv_files
from fraud_pipeline.ingest.column_mapping import ROW, Header, SourceError
from fraud_pipeline.ingest.file_formats import damaged, is_parquet, open_bytes, start_of
from fraud_pipeline.ingest.source_part import Part
from fraud_pipeline.storage.object_store import open_file


@dataclass(frozen=True, slots=True)
class PartRows:
    """Rows of one part with their row numbers as the column ROW; `repeated_headers` lines were left out."""

    table: pa.Table
    repeated_headers: int = 0


@dataclass(frozen=True, slots=True)
class OpenPart:
    """A part with known columns; `text` is the layout of a text table, and None for Parquet."""

    part: Part
    stored: Header
    text: csv_files.TextTable | None

    def read(self, names: Sequence[str]) -> PartRows:
        """Read these columns. Columns of a text table are read as text, so that ids keep their leading zeros."""
        stored = [name for name in names if name in self.stored.names]
        if self.text is None:
            rows = PartRows(_read_parquet(self.part, stored))
        else:
            rows = PartRows(*csv_files.read(self.text, stored))
        table = rows.table
        for name in names:
            if name not in self.stored.names:
                value = pa.scalar(dict(self.part.constants)[name], type=pa.string())
                table = table.append_column(name, pa.repeat(value, len(table)))
        return PartRows(table, rows.repeated_headers)

    @property
    def header(self) -> Header:
        """The columns of the file, and those of its Hive directories that the file does not have."""
        added = tuple(name for name, _ in self.part.constants if name not in self.stored.names)
        return replace(self.stored, names=self.stored.names + added)


def open_part(part: Part) -> OpenPart:
    """Open a part to learn its columns. Raises SourceError when it is not a readable CSV or Parquet file."""
    start = start_of(part.path)
    if is_parquet(part.path, start):
        with _open_parquet(part) as file:
            return OpenPart(part, Header(tuple(map(str, file.schema_arrow.names))), None)
    text = csv_files.inspect(part.path, start)
    return OpenPart(part, text.header, text)


def _read_parquet(part: Part, names: Sequence[str]) -> pa.Table:
    with _open_parquet(part) as file:
        try:
            table = file.read(columns=list(names))
        except (OSError, pa.ArrowException) as error:
            raise _damaged_parquet(part, error) from None
    return table.append_column(ROW, pa.array(np.arange(1, len(table) + 1)))


def _open_parquet(part: Part) -> pq.ParquetFile:
    try:
        with open_file(part.path) as file:
            plain = file.read(4) == b"PAR1" or part.path.suffix.lower() in {".parquet", ".pq"}
        # Columns of a distant file are fetched in few large requests.
        distant = isinstance(part.path, DataUrl)
        opened = open_file(part.path) if plain else pa.BufferReader(open_bytes(part.path).read())
        return pq.ParquetFile(opened, pre_buffer=distant)
    except (OSError, pa.ArrowException) as error:
        raise _damaged_parquet(part, error) from None


def _damaged_parquet(part: Part, error: Exception) -> SourceError:
    return damaged(
        part.path,
        error,
        problem="the file is no complete Parquet file, perhaps cut off while copying: copy or export it again",
    )
