"""Own fields of tables as the texts that the database holds, and of the database as typed columns.

Belongs here: both conversions of frames. Must not be here: types of own fields (`schema/own_fields.py`), statements.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import pandas as pd

from fraud_pipeline.schema.own_fields import OwnField, one_spelling, own_columns, own_fields_json
from fraud_pipeline.schema.transactions import TRANSACTION_COLUMNS


def own_texts(rows: pd.DataFrame) -> list[str | None]:
    """The text of the own fields of each row, which are the columns beside those of TRANSACTIONS; None for none.

    A value is spelled as a request would: times as RFC 3339, whole numbers as integers.
    """
    names = [str(name) for name in rows.columns if name not in TRANSACTION_COLUMNS]
    if not names:
        return [None] * len(rows)
    columns = [_sent(rows[name]) for name in names]
    texts: list[str | None] = []
    for values in zip(*columns, strict=True):
        present = {name: value for name, value in zip(names, values, strict=True) if value is not None}
        texts.append(own_fields_json(present) if present else None)
    return texts


def typed(rows: pd.DataFrame, fields: Sequence[OwnField]) -> pd.DataFrame:
    """The rows with a typed column for each of these fields in place of the texts of `own_fields`."""
    columns = own_columns([text or None for text in rows["own_fields"]], fields).set_axis(rows.index)
    return pd.concat([rows.drop(columns="own_fields"), columns], axis=1)


def with_types_of(rows: pd.DataFrame, fields: Sequence[OwnField]) -> pd.DataFrame:
    """The fixed columns of stored rows, and those of `fields` whose column has the declared type.

    A table may be of another declaration than `fields`, for example those of an earlier model.
    """
    fitting = [
        own.name
        for own in fields
        if own.name in rows and rows[own.name].dtype == own_columns([], [own])[own.name].dtype
    ]
    return rows[[*TRANSACTION_COLUMNS, *fitting]]


def _sent(column: pd.Series) -> list[Any]:
    """JSON values of a typed column; a missing value is None."""
    missing = column.isna()
    return [None if absent else _json_value(value) for value, absent in zip(column, missing, strict=True)]


def _json_value(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    return one_spelling(value.item() if hasattr(value, "item") else value)
