"""Text tables: delimiter, header, and columns as Arrow text.

Belongs here: the layout of a text table. Must not be here: the meaning of columns. No message quotes a cell, so the
first line counts as names only when it cannot be data.
"""

import codecs
import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from fraud_pipeline.host.data_location import DataLocation
from fraud_pipeline.ingest.column_mapping import ROW, Header, SourceError, known_names
from fraud_pipeline.ingest.file_formats import SAMPLE_BYTES, damaged, encoding_of, looks_like, open_bytes, start_of
from fraud_pipeline.storage.object_store import open_file

# "NA" is not a null: it is Namibia's country code.
_NULLS: Final = ["", "NULL", "Null", "null", "NaN", "nan", "None", "N/A", "n/a", "#N/A", r"\N", "(null)", "<NA>", "nil"]
_DELIMITERS: Final = ",;\t|"
_HINT: Final = re.compile(r"\ufeff?\"?sep=(.)\"?\r?\n?", re.IGNORECASE)
_SAMPLE_ROWS: Final = 50
_NAME: Final = re.compile(r"[^\W\d][\w .\-/#%()\[\]]{0,59}")
_MANY_DIGITS: Final = re.compile(r"\d{3}")
_NUMBER: Final = re.compile(r"\W{0,3}\d[\d.,' ]*\W{0,3}")
_TIME: Final = re.compile(r"\d{1,4}[-/.]\d{1,2}[-/.]\d{1,4}.*")
_NOT_UTF8: Final = (
    "the file is not UTF-8 text, or damaged, because some of it is UTF-8 and some is not: save it as CSV in UTF-8, or "
    "as Parquet"
)
WINDOWS: Final = "cp1252"
_UTF8_LETTER: Final = re.compile(rb"[\xc2-\xf4][\x80-\xbf]")
"""Two bytes that are one letter in UTF-8, and hardly ever neighbours in Windows-1252 or Latin-1."""
_MALFORMED: Final = "the file is no well-formed CSV (open quotes, or a line longer than 1 MB): export it again"
_ENOUGH_KNOWN: Final = 3


@dataclass(frozen=True, slots=True)
class TextTable:
    """The layout of a text file; there are `hint_lines` lines before the header."""

    path: DataLocation
    header: Header
    delimiter: str
    encoding: str
    hint_lines: int


def inspect(path: DataLocation, start: bytes) -> TextTable:
    """Detect the layout of a text file from its first bytes. Raises SourceError."""
    encoding, text = _decoded(start)
    hint = _HINT.match(text)
    rows_text = text[hint.end() :] if hint else text.removeprefix("\ufeff")
    complete = len(start) < SAMPLE_BYTES
    layouts = {mark: _rows(rows_text, mark, complete=complete) for mark in (hint[1] if hint else _DELIMITERS)}
    delimiter = max(layouts, key=lambda mark: _plausibility(layouts[mark]))
    rows = layouts[delimiter]
    names = [name.strip() for name in rows[0]] if rows else []
    if len(names) < 2:
        raise SourceError(f"the first line is no header of several columns: {looks_like(rows_text)}")
    header = Header(tuple(rows[0]), certain=_is_header(names, rows[1:]), guess=looks_like(rows_text))
    return TextTable(path, header, delimiter, encoding, hint_lines=1 if hint else 0)


def read(table: TextTable, names: Sequence[str]) -> tuple[pa.Table, int]:
    """Read these columns as text, with row numbers in ROW (the header is row 1); also counts repeated headers.

    A file whose first bytes are ASCII may show only later that it is Windows-1252 and not UTF-8.
    """
    try:
        return _read(table, names)
    except _NotUtf8Error:
        with open_bytes(table.path) as file:
            if table.encoding != "utf8" or _UTF8_LETTER.search(file.read()):
                raise
        return _read(replace(table, encoding=WINDOWS), names)


def read_piece(table: TextTable, place: float, length: int) -> pa.Table | None:
    """About `length` bytes of rows from a place between 0 (the head) and 1 (the end), as text; None without rows.

    Only the head of a compressed or UTF-16 file can be read. Rows that the cut damaged are left out.
    """
    with open_file(table.path) as file:
        size = file.size()
        plain = start_of(table.path).startswith(file.read(64)) and table.encoding in ("utf8", WINDOWS)
        if place and not plain:
            return None
        start = int(place * max(0, size - length)) if plain else 0
        file.seek(start)
        content = file.read(length) if plain else b""
    if not plain:
        with open_bytes(table.path) as stream:
            content = stream.read(length)
    text = content.decode(table.encoding, errors="replace").removeprefix("\ufeff")
    lines = text if "\n" in text else text.replace("\r", "\n")
    if start:
        lines = lines[lines.find("\n") + 1 :]
    if start + length < size or not plain:
        lines = lines[: lines.rfind("\n") + 1]
    skipped = 0 if start else table.hint_lines + 1
    try:
        rows = pyarrow.csv.read_csv(
            pa.BufferReader(lines.encode()),
            read_options=pyarrow.csv.ReadOptions(column_names=list(table.header.names), skip_rows=skipped),
            parse_options=pyarrow.csv.ParseOptions(
                delimiter=table.delimiter, newlines_in_values=True, invalid_row_handler=lambda _row: "skip"
            ),
            convert_options=_as_text(table.header.names),
        )
    except pa.ArrowException:
        return None
    return rows if len(rows) else None


class _NotUtf8Error(SourceError):
    """The bytes are not of the encoding that the start of the file shows."""


def _as_text(names: Sequence[str]) -> pyarrow.csv.ConvertOptions:
    return pyarrow.csv.ConvertOptions(
        include_columns=list(names),
        column_types=dict.fromkeys(names, pa.string()),
        null_values=_NULLS,
        strings_can_be_null=True,
    )


def _read(table: TextTable, names: Sequence[str]) -> tuple[pa.Table, int]:
    ragged: list[int] = []

    def note(row: pyarrow.csv.InvalidRow) -> str:
        ragged.append(row.actual_columns)
        return "skip"

    try:
        with open_bytes(table.path) as file:
            content = pyarrow.csv.read_csv(
                file,
                read_options=pyarrow.csv.ReadOptions(encoding=table.encoding, skip_rows=table.hint_lines),
                parse_options=pyarrow.csv.ParseOptions(
                    delimiter=table.delimiter, newlines_in_values=True, invalid_row_handler=note
                ),
                convert_options=_as_text(names),
            )
    except OSError as error:
        raise damaged(table.path, error) from None
    except UnicodeError:
        raise _NotUtf8Error(_NOT_UTF8) from None
    except pa.ArrowException as error:
        # pyarrow's message quotes the row, which may hold card data.
        if "UTF8" in str(error):
            raise _NotUtf8Error(_NOT_UTF8) from None
        raise SourceError(_MALFORMED) from None
    if ragged:
        raise SourceError(
            f"lines whose number of values is not that of the header's columns: {len(ragged)}. The file was cut off, "
            "or a value holds the delimiter without quotes: export it again"
        )
    first_row = table.hint_lines + 2
    content = content.append_column(ROW, pa.array(np.arange(first_row, first_row + len(content))))
    return _without_headers(content, names)


def _without_headers(content: pa.Table, names: Sequence[str]) -> tuple[pa.Table, int]:
    """Remove rows that repeat the header, which concatenated files contain."""
    repeats = pc.equal(content.column(names[0]), names[0])
    if not pc.any(repeats).as_py():
        return content, 0
    cells = [content.column(name).filter(repeats) for name in names]
    alike = [pc.all(pc.equal(column, name).fill_null(False)).as_py() for column, name in zip(cells, names, strict=True)]
    if not all(alike):
        rows = content.column(ROW).filter(repeats)
        raise SourceError(
            f"row {rows[0]} looks like a second header with another order of columns: concatenate files with "
            "the same columns, or give their directory"
        )
    return content.filter(pc.fill_null(pc.invert(repeats), True)), len(cells[0])


def _decoded(start: bytes) -> tuple[str, str]:
    """The encoding of the first bytes, and their text. Raises SourceError."""
    encoding = encoding_of(start)
    try:
        return encoding, codecs.getincrementaldecoder(encoding)().decode(start)
    except UnicodeError:
        pass
    try:
        if encoding == "utf8" and not _UTF8_LETTER.search(start):
            return WINDOWS, start.decode(WINDOWS)
    except UnicodeError:
        pass
    raise SourceError(_NOT_UTF8)


def _rows(text: str, delimiter: str, *, complete: bool) -> list[list[str]]:
    lines = io.StringIO(text, newline=None)
    rows: list[list[str]] = []
    try:
        for row in csv.reader(lines, delimiter=delimiter):
            if row:
                rows.append(row)
            if len(rows) > _SAMPLE_ROWS:
                return rows
    except csv.Error:
        return rows
    return rows if complete else rows[:-1]


def _plausibility(rows: list[list[str]]) -> tuple[int, float, int]:
    """The plausibility of a delimiter: known names, rows of equal length, number of columns."""
    if not rows or len(rows[0]) < 2:
        return 0, 0.0, 0
    width = len(rows[0])
    return known_names(rows[0]), sum(len(row) == width for row in rows) / len(rows), width


def _is_header(names: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Whether a first line can only be names: known ones, or words above columns of times and numbers."""
    if known_names(names) >= _ENOUGH_KNOWN:
        return True
    words = all(_NAME.fullmatch(name) and not _MANY_DIGITS.search(name) for name in names)
    if not words or len(set(names)) < len(names) or not rows:
        return False
    columns = list(zip(*(row for row in rows if len(row) == len(names)), strict=True))
    times = sum(all(_TIME.fullmatch(cell.strip()) for cell in column) for column in columns)
    numbers = sum(all(_NUMBER.fullmatch(cell.strip()) for cell in column) for column in columns)
    several = times + numbers >= _ENOUGH_KNOWN and len(rows) >= _ENOUGH_KNOWN
    return several or (times >= 1 and numbers >= 1)
