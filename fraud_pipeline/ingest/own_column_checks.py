"""Own columns of raw rows as they are stored; a cell that is unusable becomes missing and is counted.

Belongs here: the same readings as `schema/own_fields.py` has for one value. Must not be here: rejecting rows.
"""

from datetime import datetime

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from fraud_pipeline.ingest.column_checks import flags_of, numbers_of, only, text_of
from fraud_pipeline.ingest.verdict import Flags, Objects, Verdict
from fraud_pipeline.schema.identifiers import read_identifiers
from fraud_pipeline.schema.own_fields import MAX_OWN_TEXT_LENGTH, OwnField, OwnValueError, read_own_value
from fraud_pipeline.schema.transactions import TIME_DTYPE


def check_own_column(raw: pd.DataFrame, field: OwnField, verdict: Verdict) -> pd.Series:
    """The values of an own field, typed as `own_fields.own_column` says."""
    cells = raw[field.name] if field.name in raw else pd.Series(np.full(len(raw), None, dtype=object))
    values: pd.Series
    match field.type:
        case "number" | "money":
            numbers, usable = numbers_of(cells)
            usable = usable & ~np.isinf(numbers)
            values = pd.Series(np.where(usable, numbers, np.nan) + 0.0)  # -0.0 is 0.0
        case "boolean":
            values, usable = _booleans(cells)
        case "time":
            values, usable = _times(cells)
        case _:
            texts, usable = _texts(cells, field)
            values = pd.Series(texts, dtype=object)
    verdict.empty(~usable & cells.notna().to_numpy(), field=field.name)
    return values.set_axis(raw.index)


def _booleans(cells: pd.Series) -> tuple[pd.Series, Flags]:
    if cells.dtype != object:
        usable = np.full(len(cells), pd.api.types.is_bool_dtype(cells.dtype))
        return (cells if usable.all() else pd.Series(np.full(len(cells), None))).astype("boolean"), usable
    flags = {True: True, False: False, "true": True, "false": False}
    known = [isinstance(value, bool | np.bool_ | str) and value in flags for value in cells]
    values = [flags[value] if readable else pd.NA for value, readable in zip(cells, known, strict=True)]
    return pd.Series(values, dtype="boolean"), np.array(known, dtype=bool)


def _times(cells: pd.Series) -> tuple[pd.Series, Flags]:
    usable = np.ones(len(cells), dtype=bool)
    if not pd.api.types.is_datetime64_any_dtype(cells.dtype):
        objects = cells.to_numpy(dtype=object)
        usable = np.fromiter((isinstance(value, datetime) for value in objects), dtype=bool, count=len(objects))
        cells = pd.Series(only(objects, usable))
    return pd.to_datetime(cells, utc=True, errors="coerce").astype(TIME_DTYPE), usable


def _texts(cells: pd.Series, field: OwnField) -> tuple[Objects, Flags]:
    text = text_of(cells)
    column = read_identifiers(text.arrow, exact=field.type == "identifier")
    unusable = text.broken.copy()
    for rows in column.problems.values():
        unusable |= rows
    unusable |= flags_of(pc.greater(pc.utf8_length(column.texts), MAX_OWN_TEXT_LENGTH))
    texts = only(column.texts.to_numpy(zero_copy_only=False), text.is_text & ~unusable)
    if field.type in ("country", "ip", "email") or field.personal:
        texts, refused = _of_type(texts, field)
        unusable |= refused
    return texts, (text.is_text | ~text.present) & ~unusable


def _of_type(texts: Objects, field: OwnField) -> tuple[Objects, Flags]:
    """Texts as `read_own_value` gives them, and which ones it refuses; each different text is read once."""
    encoded = pa.array(texts, type=pa.string()).dictionary_encode()
    values = [_value_of(text, field) for text in encoded.dictionary.to_pylist()]
    read = pa.array(values, type=pa.string()).take(encoded.indices).to_numpy(zero_copy_only=False)
    refused: Flags = pd.notna(texts) & pd.isna(read)
    return read, refused


def _value_of(text: str, field: OwnField) -> str | None:
    try:
        value = read_own_value(field, text)
    except OwnValueError:
        return None
    return value if isinstance(value, str) else None
