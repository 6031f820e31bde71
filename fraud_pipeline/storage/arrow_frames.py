"""Frames as Arrow tables, as they are stored, and back.

Belongs here: conversion of types. Must not be here: files, versions.
"""

from collections.abc import Sequence
from typing import Final

import pandas as pd
import pyarrow as pa

NULLABLE: Final = {b"fraud_detect.dtype": b"boolean"}
"""What the field of a column of pandas' nullable booleans carries."""


def to_arrow(frame: pd.DataFrame) -> pa.Table:
    """A frame as it is stored: object columns are text, and any other Python value is `str(value)`."""
    arrays = {str(name): _array(column) for name, column in frame.items()}
    fields = [
        pa.field(name, array.type, metadata=NULLABLE if isinstance(frame[name].dtype, pd.BooleanDtype) else None)
        for name, array in arrays.items()
    ]
    return pa.Table.from_arrays(list(arrays.values()), schema=pa.schema(fields))


def _array(column: pd.Series) -> pa.Array:
    if column.dtype != object:
        return pa.array(column, from_pandas=True)
    try:
        return pa.array(column, type=pa.string(), from_pandas=True)
    except (pa.ArrowInvalid, pa.ArrowTypeError, UnicodeEncodeError):
        # UTF-8 has no lone surrogates; a visible escape keeps the row, and different text stays different.
        texts = [None if missing else str(value) for value, missing in zip(column, column.isna(), strict=True)]
        return pa.array([text and text.encode(errors="backslashreplace").decode() for text in texts], type=pa.string())


def concatenate(tables: Sequence[pa.Table]) -> pa.Table:
    """One table. Empty days have no say in the types; a column that is text on some days becomes text on all."""
    tables = [table for table in tables if len(table)] or tables[:1]
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        text = {field.name for table in tables for field in table.schema if field.type == pa.string()}
        return pa.concat_tables([_as_text(table, text) for table in tables], promote_options="permissive")


def _as_text(table: pa.Table, names: set[str]) -> pa.Table:
    fields = [pa.field(field.name, pa.string()) if field.name in names else field for field in table.schema]
    return table.cast(pa.schema(fields))


def to_pandas(table: pa.Table) -> pd.DataFrame:
    """A stored table as a frame, with the dtypes that it had."""
    frame: pd.DataFrame = table.unify_dictionaries().to_pandas(split_blocks=True)
    nullable = {field.name: "boolean" for field in table.schema if (field.metadata or {}).items() >= NULLABLE.items()}
    return frame.astype(nullable) if nullable else frame
