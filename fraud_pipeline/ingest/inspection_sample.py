"""A sample of a source's rows from its head, middle and end, and whole columns where a sample is not enough.

Belongs here: reading little of much. Must not be here: what columns mean.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from fraud_pipeline.host.data_location import DataLocation
from fraud_pipeline.ingest import csv_files
from fraud_pipeline.ingest.column_mapping import ROW, Header, SourceError
from fraud_pipeline.ingest.column_profiles import Profile
from fraud_pipeline.ingest.file_parts import parts_of
from fraud_pipeline.ingest.file_reading import OpenPart, open_part
from fraud_pipeline.storage.object_store import open_file

SMALL_BYTES: Final = 24 << 20
"""A source up to this size is read as a whole."""
_PIECE_BYTES: Final = 3 << 20
PIECE_ROWS: Final = 10_000


@dataclass(frozen=True)
class Sample:
    """The columns of a source. `table` holds sampled rows, and their row numbers in ROW (-1: not known).

    `read` gives all rows of some columns, the first of which has the number `first_row`, if it is known. A `whole`
    sample has all rows.
    """

    names: tuple[str, ...]
    table: pa.Table
    read: Callable[[Sequence[str]], pa.Table]
    headers: tuple[Header, ...] = ()
    first_row: int | None = None
    whole: bool = False
    windows_encoding: bool = False

    @property
    def certain(self) -> bool:
        """Whether the names are names, and no data."""
        return all(header.certain for header in self.headers)

    @cached_property
    def profiles(self) -> tuple[Profile, ...]:
        """One profile for each column, in the order of the source."""
        rows = np.asarray(self.table.column(ROW).to_numpy(), dtype=np.int64)
        return tuple(Profile(name, _combined(self.table, name), rows) for name in self.names)

    def columns(self, names: Sequence[str]) -> pa.Table:
        """All rows of these columns; Arrow types as in a profile."""
        return self.read(list(dict.fromkeys(names)) or [self.names[0]])

    def rows_known(self, table: pa.Table) -> NDArray[np.int64]:
        """Row numbers of a table of `columns`, the header of a CSV being row 1; only where there is one part."""
        if self.first_row is None:
            return np.full(len(table), -1)
        return np.arange(self.first_row, self.first_row + len(table))


def sample_of(path: DataLocation) -> Sample:
    """Open a source and read a sample. Raises SourceError, whose message names the file and quotes no cell."""
    parts = [part for part in parts_of(path) if part.size]
    if not parts:
        raise SourceError(f"{path}: the file is empty (0 bytes): export it again")
    opened: list[OpenPart] = []
    for part in parts:
        try:
            opened.append(open_part(part))
        except SourceError as error:
            raise SourceError(f"{path.name if len(parts) == 1 else part.name}: {error}") from None
    names = tuple(dict.fromkeys(name for part in opened for name in part.header.names))
    header = opened[0].header
    if repeated := sorted({name for name in header.names if header.names.count(name) > 1}):
        shown = ", ".join(repeated) if header.certain else f"{len(repeated)} names"
        raise SourceError(f"{path.name}: the file has more than one column named {shown}: rename one")
    try:
        if sum(part.size for part in parts) <= SMALL_BYTES:
            content = _read(opened, names)
            table = thinned(content, rows=_row_numbers(opened, content))
        else:
            content, table = None, _pieces(opened, names)
    except SourceError as error:
        raise SourceError(f"{path.name}: {error}") from None
    if not len(table):
        raise SourceError(f"{path.name}: the file has a header and no rows: export it again")
    first_row = None
    if len(opened) == 1:
        first_row = 1 if opened[0].text is None else opened[0].text.hint_lines + 2
    return Sample(
        names,
        table,
        partial(_read, opened) if content is None else content.select,
        headers=tuple(part.header for part in opened),
        first_row=first_row,
        whole=content is not None and len(table) == len(content),
        windows_encoding=any(part.text is not None and part.text.encoding == csv_files.WINDOWS for part in opened),
    )


def _read(parts: Sequence[OpenPart], names: Sequence[str]) -> pa.Table:
    tables = []
    for part in parts:
        present = [name for name in names if name in part.header.names]
        # Rows without one of the wanted columns still count.
        table = part.read(present or [part.header.names[0]]).table
        tables.append(_aligned(table, names))
    return concatenated(tables)


def _row_numbers(parts: Sequence[OpenPart], content: pa.Table) -> NDArray[np.int64]:
    if len(parts) > 1:
        return np.full(len(content), -1, dtype=np.int64)
    first = 1 if parts[0].text is None else parts[0].text.hint_lines + 2
    return np.arange(first, first + len(content), dtype=np.int64)


def thinned(content: pa.Table, *, rows: NDArray[np.int64]) -> pa.Table:
    """Rows of head, middle and end."""
    content = content.append_column(ROW, pa.array(rows))
    if len(content) <= 3 * PIECE_ROWS:
        return content
    middle = (len(content) - PIECE_ROWS) // 2
    starts = (0, middle, len(content) - PIECE_ROWS)
    return pa.concat_tables([content.slice(start, PIECE_ROWS) for start in starts])


def _pieces(parts: Sequence[OpenPart], names: Sequence[str]) -> pa.Table:
    """Rows from the head of the first part, the middle of the middle one, and the end of the last one."""
    places = ((parts[0], 0.0), (parts[len(parts) // 2], 0.5), (parts[-1], 1.0))
    tables = []
    for part, place in places:
        piece = (
            _parquet_piece(part, place) if part.text is None else csv_files.read_piece(part.text, place, _PIECE_BYTES)
        )
        if piece is None:
            continue
        piece = piece.slice(0, PIECE_ROWS) if place < 1 else piece.slice(max(0, len(piece) - PIECE_ROWS))
        for name, value in part.part.constants:
            if name not in piece.column_names:
                piece = piece.append_column(name, pa.repeat(pa.scalar(value, pa.string()), len(piece)))
        first = 1 if part.text is None else part.text.hint_lines + 2
        known = len(parts) == 1 and place == 0
        rows = np.arange(first, first + len(piece)) if known else np.full(len(piece), -1)
        tables.append(_aligned(piece, names).append_column(ROW, pa.array(rows, type=pa.int64())))
    if not tables:
        raise SourceError("no rows could be read: the file is cut off or damaged; copy or export it again")
    return concatenated(tables)


def _parquet_piece(part: OpenPart, place: float) -> pa.Table | None:
    with suppress(OSError, pa.ArrowException), pq.ParquetFile(open_file(part.part.path)) as file:
        groups = file.metadata.num_row_groups
        batches = file.iter_batches(batch_size=PIECE_ROWS, row_groups=[round(place * (groups - 1))])
        return pa.Table.from_batches([next(batches)])
    return None


def _aligned(table: pa.Table, names: Sequence[str]) -> pa.Table:
    """A table with exactly these columns; absent ones are empty."""
    return pa.table(
        {name: table.column(name) if name in table.column_names else pa.nulls(len(table)) for name in names}
    )


def concatenated(tables: Sequence[pa.Table]) -> pa.Table:
    """Tables of the same names under each other; a column of different types becomes text."""
    if len({table.schema for table in tables}) == 1:
        return pa.concat_tables(tables)
    columns = {}
    for name in tables[0].column_names:
        kinds = {table.column(name).type for table in tables} - {pa.null()}
        kind = kinds.pop() if len(kinds) == 1 else pa.string()
        columns[name] = pa.chunked_array(
            [chunk.cast(kind) for table in tables for chunk in table.column(name).chunks], type=kind
        )
    return pa.table(columns)


def _combined(table: pa.Table, name: str) -> pa.Array:
    column = table.column(name)
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
