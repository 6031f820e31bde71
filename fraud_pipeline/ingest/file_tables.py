"""Reads all parts of a source as one table of fields.

Belongs here: what parts must have in common, the location of a row. Must not be here: parsing of cells, order of time.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from fraud_pipeline.ingest.column_mapping import ROW, Header, SourceError
from fraud_pipeline.ingest.file_reading import OpenPart, PartRows, open_part
from fraud_pipeline.ingest.readings import Reading
from fraud_pipeline.ingest.source_part import Part

Choose = Callable[[Header], list[Reading]]
"""The readings of a file with this header; raises SourceError."""


@dataclass(frozen=True, slots=True)
class SourceTable:
    """`fields` by name, with `file_row` and, for several parts, `file_part`; `names` are the file's columns.

    `notes` count rows by what was recognised or normalised, as `field: what`.
    """

    fields: dict[str, pa.Array]
    names: Mapping[str, str]
    notes: dict[str, int]


def read_parts(parts: Sequence[Part], *, choose: Choose) -> SourceTable:
    """Read the rows of all parts, one after the other. A SourceError names the part if there are several."""
    several = len(parts) > 1
    # Spark writes an empty file for a part without rows.
    filled = [part for part in parts if part.size]
    if not filled:
        raise SourceError("the file is empty (0 bytes): export it again" if not several else "all files are empty")
    opened, readings = _opened(filled, choose=choose)
    names = list(dict.fromkeys(column for reading in readings for column in reading.columns))
    rows: list[PartRows] = []
    for opened_part in opened:
        with _naming(opened_part.part, several=several):
            rows.append(opened_part.read(names))
    if not any(len(part.table) for part in rows):
        raise SourceError("the file has a header and no rows: export it again")
    sizes = [len(part.table) for part in rows]
    file_rows = _joined([_whole(part, ROW) for part in rows], filled, name=ROW)
    starts = np.cumsum([0, *sizes])

    def place(row: int) -> str:
        index = int(np.searchsorted(starts, row, side="right")) - 1
        return f"row {file_rows[row]}" + (f" of {filled[index].name}" if several else "")

    notes = _repeated_headers(rows)
    fields: dict[str, pa.Array] = {}
    for reading in readings:
        joined: list[pa.Array] = []
        for name in reading.columns:
            pieces: list[pa.Array] = []
            for part, read in zip(filled, rows, strict=True):
                with _naming(part, several=several):
                    pieces.append(reading.typed(_whole(read, name), name))
            joined.append(_joined(pieces, filled, name=name))
        column = reading.converted(tuple(joined), place)
        fields[reading.field] = column.values
        notes |= {f"{reading.field}: {what}": count for what, count in column.notes.items()}
    fields["file_row"] = file_rows
    if several:
        codes = pa.array(np.repeat(np.arange(len(sizes), dtype=np.int32), sizes))
        fields["file_part"] = pa.DictionaryArray.from_arrays(codes, [part.name for part in filled]).dictionary_decode()
    return SourceTable(fields, _columns_of(readings), notes)


def _opened(parts: Sequence[Part], *, choose: Choose) -> tuple[list[OpenPart], list[Reading]]:
    """The parts, opened, and the readings that all of them have in common."""
    opened: list[OpenPart] = []
    readings: list[Reading] = []
    for part in parts:
        with _naming(part, several=len(parts) > 1):
            opened.append(open_part(part))
            own = choose(opened[-1].header)
        readings = readings or own
        if _columns_of(own) != _columns_of(readings):
            raise _other_columns(part, parts[0], own=_columns_of(own), names=_columns_of(readings))
    return opened, readings


def _columns_of(readings: Sequence[Reading]) -> dict[str, str]:
    return {reading.field: "+".join(reading.columns) for reading in readings}


@contextmanager
def _naming(part: Part, *, several: bool) -> Iterator[None]:
    """Make errors within the block name the part, if there are several."""
    try:
        yield
    except SourceError as error:
        if not several:
            raise
        raise SourceError(f"{part.name}: {error}") from None


def _other_columns(part: Part, first: Part, *, own: Mapping[str, str], names: Mapping[str, str]) -> SourceError:
    differing = sorted(field for field in {*own, *names} if own.get(field) != names.get(field))
    return SourceError(
        f"{part.name} has other columns than {first.name}; they differ in {', '.join(differing)}: export all parts "
        "with the same columns, or give them one by one"
    )


def _joined(pieces: Sequence[pa.Array], parts: Sequence[Part], *, name: str) -> pa.Array:
    if len(pieces) == 1:
        return pieces[0]
    with_values = [index for index, piece in enumerate(pieces) if piece.null_count < len(piece)]
    first = with_values[0] if with_values else 0
    for index in with_values:
        if pieces[index].type != pieces[first].type:
            raise SourceError(
                f"column '{name}' holds {pieces[index].type} in {parts[index].name} and {pieces[first].type} in "
                f"{parts[first].name}: export all parts with the same types"
            )
    kind = pieces[first].type
    return pa.concat_arrays([piece if piece.type == kind else pa.nulls(len(piece), kind) for piece in pieces])


def _whole(rows: PartRows, name: str) -> pa.Array:
    column = rows.table.column(name)
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _repeated_headers(rows: Sequence[PartRows]) -> dict[str, int]:
    repeated = sum(part.repeated_headers for part in rows)
    return {"repeated header lines left out": repeated} if repeated else {}
