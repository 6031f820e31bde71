"""The vocabulary: what a transaction and a fraud report are, and the schema of every table that carries them.

Belongs here: rows, the schemas of tables made from the table of fields, units of time. Must not be here: a limit of a
field (`fields.py`), reading, writing.

Money is integer cents. Time is whole microseconds UTC: `datetime64[us, UTC]` in frames, int64 in kernels.
Absent optional values are missing (`None` or NaN), never zero and never an empty string.
"""

import time
from math import ceil, floor
from typing import Final, NamedTuple

import numpy as np
import pandas as pd
import pandera.pandas as pa
from numpy.typing import NDArray

from fraud_pipeline.schema.fields import FIELDS, Field, transaction_fields
from fraud_pipeline.schema.reasons import REASONS

MICROSECOND: Final = 1
MILLISECOND: Final = 1_000
SECOND: Final = 1_000_000
HOUR: Final = 3_600 * SECOND
DAY: Final = 24 * HOUR

CHANNELS: Final = tuple(FIELDS["channel"].allowed)
MIN_AMOUNT_CENTS: Final = ceil(FIELDS["amount"].minimum * 100)
MAX_AMOUNT_CENTS: Final = floor(FIELDS["amount"].maximum * 100)
EARLIEST_EVENT_TIME: Final = pd.Timestamp(FIELDS["event_time"].earliest).as_unit("us")
TIME_DTYPE: Final = "datetime64[us, UTC]"

TEXT_PATTERN: Final = r"^[^\x00-\x1f\x7f\ud800-\udfff]+\Z"


class TransactionRow(NamedTuple):
    """One accepted transaction in the columns of TRANSACTIONS; `event_time` in microseconds since 1970-01-01 UTC.

    `own_fields` are the bank's own fields as canonical JSON (see `own_fields.py`).
    """

    transaction_id: str
    event_time: int
    customer_id: str
    merchant_id: str
    amount_cents: int
    category: str | None = None
    channel: str | None = None
    country: str | None = None
    latitude: float | None = None
    longitude: float | None = None
    own_fields: str | None = None


def stored_column(field: Field, *, unique: bool = False, nullable: bool | None = None) -> pa.Column:
    """The column of a stored table that holds accepted values of a field; a required field is not nullable."""
    nullable = not field.required if nullable is None else nullable
    dtype: object = str
    checks: list[pa.Check] = []
    match field.kind:
        case "identifier" | "text":
            checks = [pa.Check.str_length(1, field.max_length), pa.Check.str_matches(TEXT_PATTERN)]
        case "choice":
            checks = [pa.Check.isin(tuple(field.allowed))]
        case "code":
            checks = [pa.Check.str_matches(rf"^(?:{field.pattern})\Z")]
        case "time":
            dtype, checks = TIME_DTYPE, [pa.Check.ge(pd.Timestamp(field.earliest))]
        case "amount":
            dtype, checks = "int64", [pa.Check.in_range(MIN_AMOUNT_CENTS, MAX_AMOUNT_CENTS)]
        case "coordinate":
            dtype, checks = "float64", [pa.Check.in_range(field.minimum, field.maximum)]
        case "flag":
            dtype = bool
        case "currency":
            raise ValueError(f"{field.name}: a currency is no column, because all stored amounts have the same one")
    return pa.Column(dtype, checks, unique=unique, nullable=nullable)


def table_schema(name: str, columns: dict[str, pa.Column]) -> pa.DataFrameSchema:
    """The schema of a stored table: exactly these columns in this order."""
    return pa.DataFrameSchema(columns, strict=True, ordered=True, name=name)


TRANSACTIONS: Final = table_schema(
    "transactions",
    {field.stored_as: stored_column(field, unique=field.name == "transaction_id") for field in transaction_fields()},
)

FRAUD_REPORTS: Final = table_schema(
    "fraud_reports",
    {
        "transaction_id": stored_column(FIELDS["transaction_id"]),
        "reported_at": stored_column(FIELDS["reported_at"], nullable=False),
        "is_fraud": stored_column(FIELDS["is_fraud"], nullable=False),
        **{
            FIELDS[name].stored_as: stored_column(FIELDS[name])
            for name in ("event_time", "customer_id", "merchant_id", "amount")
        },
    },
)

REJECTED_TRANSACTIONS: Final = table_schema(
    "rejected_transactions",
    {
        "row": pa.Column("int64"),
        "event_time": stored_column(FIELDS["event_time"], nullable=True),
        "transaction_id": pa.Column(str, nullable=True),
        "field": pa.Column(str, pa.Check.isin([*(field.name for field in transaction_fields()), "currency"])),
        "reason": pa.Column(str, pa.Check.isin(tuple(REASONS))),
        "place": pa.Column(str, nullable=True),
    },
)

UNKNOWN_LABELS: Final = table_schema(
    "unknown_labels", {name: stored_column(FIELDS[name]) for name in ("transaction_id", "event_time")}
)
"""Accepted transactions whose label the source itself does not know: they are neither fraud nor legitimate, ever."""

TRANSACTION_COLUMNS: Final[tuple[str, ...]] = tuple(TRANSACTIONS.columns)
OPTIONAL_COLUMNS: Final = tuple(name for name, column in TRANSACTIONS.columns.items() if column.nullable)
ROW_COLUMNS: Final = TransactionRow._fields
"""The columns of a TransactionRow: those of TRANSACTIONS, then the own fields."""
REPORT_COLUMNS: Final[tuple[str, ...]] = tuple(FRAUD_REPORTS.columns)


def microseconds(times: pd.Series) -> NDArray[np.int64]:
    """Whole microseconds since 1970-01-01 UTC of a timezone-aware time column, shape (n,)."""
    return np.asarray(times.astype(TIME_DTYPE).astype("int64"), dtype=np.int64)


def microsecond(moment: pd.Timestamp) -> int:
    """The instant as microseconds since 1970-01-01 UTC."""
    return int(moment.value // 1_000)


def now_microseconds() -> int:
    """The present instant as microseconds since 1970-01-01 UTC."""
    return time.time_ns() // 1_000


def times(values: NDArray[np.int64]) -> pd.Series:
    """A `datetime64[us, UTC]` column from whole microseconds since 1970-01-01 UTC, shape (n,)."""
    return pd.Series(values.astype("datetime64[us]")).dt.tz_localize("UTC")


def empty(schema: pa.DataFrameSchema) -> pd.DataFrame:
    """A frame of no rows with the columns and dtypes of `schema`."""
    return pd.DataFrame({name: pd.Series(dtype=str(column.dtype)) for name, column in schema.columns.items()})
