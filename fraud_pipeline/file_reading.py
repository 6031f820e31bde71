"""Bytes of a CSV or Parquet file in, an Arrow table out, with an error a person can act on.

Belongs here: file formats. Must not be here: what a column means.
"""

import csv
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq

from fraud_pipeline.column_mapping import SourceError

# "NA" is not among them: it is Namibia's country code.
_NULLS = ["", "NULL", "Null", "null", "NaN", "nan", "None", "N/A", "n/a", "#N/A"]
_DATA = re.compile(r"\s*([+-]?\d+(\.\d*)?|\d{4}-\d\d-\d\d.*)\s*")
_OTHER_DELIMITERS = {";": "semicolons", "\t": "tabs", "|": "bars"}


def column_names(path: Path) -> list[str]:
    """The names of a file's columns; SourceError when it is no readable CSV or Parquet file."""
    if _is_parquet(path):
        with _open_parquet(path) as file:
            return [str(name) for name in file.schema_arrow.names]
    try:
        with pa.input_stream(str(path), compression="detect") as file:
            start = file.read(1 << 16)
    except OSError as error:
        raise SourceError("the file is cut off or damaged: copy or export it again") from error
    try:
        header = start.partition(b"\n")[0].decode("utf-8-sig").rstrip("\r")
    except UnicodeDecodeError as error:
        raise SourceError("the file is not UTF-8 text: save it as CSV in UTF-8, or as Parquet") from error
    names = next(csv.reader([header]), [])
    if len(names) < 2:
        found = max(_OTHER_DELIMITERS, key=header.count)
        seems = f" It seems to be separated by {_OTHER_DELIMITERS[found]}." if found in header else ""
        raise SourceError(f"the first line is no comma-separated header.{seems} Save it with commas and a header line")
    if any(_DATA.fullmatch(name) for name in names):  # card data, not to be shown as names of columns
        raise SourceError("the first line looks like data: add a header line with the names of the columns")
    return names


def read_columns(path: Path, names: list[str]) -> pa.Table:
    """These columns of a file. All columns of a CSV come as text, so that ids keep their leading zeros."""
    if _is_parquet(path):
        with _open_parquet(path) as file:
            try:
                return file.read(columns=names)
            except (OSError, pa.ArrowException) as error:
                raise _damaged_parquet() from error
    ragged: list[int] = []

    def note(row: pyarrow.csv.InvalidRow) -> str:
        ragged.append(row.actual_columns)
        return "skip"

    try:
        table = pyarrow.csv.read_csv(
            path,
            parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True, invalid_row_handler=note),
            convert_options=pyarrow.csv.ConvertOptions(
                include_columns=names,
                column_types=dict.fromkeys(names, pa.string()),
                null_values=_NULLS,
                strings_can_be_null=True,
            ),
        )
    except OSError as error:
        raise SourceError("the file is cut off or damaged: copy or export it again") from error
    except pa.ArrowException as error:
        # pyarrow's message quotes the row, which holds card data.
        raise SourceError(_csv_cause(str(error))) from None
    if ragged:
        raise SourceError(
            f"lines whose number of values is not that of the header's columns: {len(ragged)}. The file was cut off, "
            "or a value holds a comma without quotes: export it again"
        )
    return table


def _csv_cause(message: str) -> str:
    if "UTF8" in message:
        return "the file is not UTF-8 text: save it as CSV in UTF-8, or as Parquet"
    return "the file is no well-formed CSV (open quotes, or a line longer than 1 MB): export it again"


def _is_parquet(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"PAR1" or path.suffix.lower() in {".parquet", ".pq"}


def _open_parquet(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except (OSError, pa.ArrowException) as error:
        raise _damaged_parquet() from error


def _damaged_parquet() -> SourceError:
    return SourceError("the file is no complete Parquet file, perhaps cut off while copying: copy or export it again")
