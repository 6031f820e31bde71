"""The version of a table's content: it changes exactly when rows, their order or columns change.

Belongs here: a hash over values. Must not be here: files, uses of a version.
"""

import hashlib
from typing import Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.types as pt

from fraud_pipeline.storage.arrow_frames import to_arrow

_DIGITS = 32
NO_ROWS: Final = f"0-{'0' * _DIGITS}"
"""The version of every table without rows."""


def content_version(table: pa.Table) -> str:
    """`<rows>-<hash>` of the rows in their order, with names and types of their columns.

    It depends on values only, and not on how they lie in memory or in a file. Tables without rows are all equal.
    """
    if not len(table):
        return NO_ROWS
    digest = hashlib.sha256()
    for field, column in zip(table.schema, table.columns, strict=True):
        array = _plain(column.combine_chunks())
        digest.update(f"{field.name}\0{array.type}\0".encode())
        digest.update(np.packbits(array.is_valid().to_numpy(zero_copy_only=False)).tobytes())
        if pt.is_large_string(array.type):
            array = pc.fill_null(array, "")
            digest.update(pc.binary_length(array).to_numpy(zero_copy_only=False).astype(np.int64).tobytes())
            digest.update("".join(array.to_pylist()).encode())
        else:
            digest.update(pc.fill_null(array, 0).to_numpy(zero_copy_only=False).tobytes())
    return f"{len(table)}-{digest.hexdigest()[:_DIGITS]}"


def frame_version(frame: pd.DataFrame) -> str:
    """`content_version` of a frame."""
    return content_version(to_arrow(frame))


def _plain(array: pa.Array) -> pa.Array:
    """The same values as numbers or text, whose bytes are the same for equal values."""
    if pt.is_dictionary(array.type):
        array = array.dictionary_decode()
    if pt.is_integer(array.type) or pt.is_floating(array.type):
        return array
    if pt.is_boolean(array.type):
        return array.cast(pa.uint8())
    if pt.is_timestamp(array.type):
        return array.cast(pa.int64())
    return array.cast(pa.large_string())
