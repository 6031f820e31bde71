"""The columns of a Delta table, for tools that read it; our own reading takes types from the files.

Belongs here: types that Delta Lake has, and one type for a column whose days differ. Must not be here: the log.
"""

from typing import Any, Final

import pyarrow as pa
import pyarrow.types as pt

PARTITION: Final = "table_day"
"""The column that readers of the Delta table see beside those of the rows: the day of a daily table."""


def merged_columns(present: pa.Schema, columns: pa.Schema, *, empty: bool) -> pa.Schema:
    """The columns of a table and of new rows; those of an `empty` table do not count."""
    columns = _plain(columns)
    if empty:
        return columns
    fields = {field.name: field.type for field in present}
    for field in columns:
        fields[field.name] = _common(fields.get(field.name, field.type), field.type)
    return pa.schema(list(fields.items()))


def _common(first: pa.DataType, second: pa.DataType) -> pa.DataType:
    if first == second:
        return first
    try:
        both = [pa.schema([("column", type_)]) for type_ in (first, second)]
        return pa.unify_schemas(both, promote_options="permissive").field(0).type
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.string()


def _plain(columns: pa.Schema) -> pa.Schema:
    """The types as Delta Lake has them."""
    return pa.schema([(field.name, _plain_type(field.type)) for field in columns])


def _plain_type(type_: pa.DataType) -> pa.DataType:
    if pt.is_dictionary(type_):
        return _plain_type(type_.value_type)
    if pt.is_timestamp(type_):
        return pa.timestamp("us", type_.tz)
    if pt.is_unsigned_integer(type_):
        return pa.int64()
    return pa.string() if pt.is_large_string(type_) or pt.is_null(type_) else type_


def delta_schema(columns: pa.Schema, *, partitioned: bool) -> Any:
    """The schema of a Delta table, with the day of a daily one."""
    from deltalake import Schema  # noqa: PLC0415 - serving has no tables

    columns = _plain(columns)
    return Schema.from_arrow(columns.append(pa.field(PARTITION, pa.date32())) if partitioned else columns)
