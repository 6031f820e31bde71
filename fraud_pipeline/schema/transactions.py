"""The vocabulary: what a transaction and a fraud report are, and the schema of every table that carries them.

Belongs here: column names, dtypes, value ranges, closed sets. Must not be here: reading, writing, checking policy.

Money is integer cents. Time is whole microseconds UTC: `datetime64[us, UTC]` in frames, int64 in kernels.
Absent optional values are missing (`None` or NaN), never zero and never an empty string.
"""

from typing import Final, Literal, NamedTuple, get_args

import numpy as np
import pandas as pd
import pandera.pandas as pa
from numpy.typing import NDArray

Channel = Literal["chip", "contactless", "online", "atm", "transfer"]
CHANNELS: Final[tuple[str, ...]] = get_args(Channel)

MICROSECOND: Final = 1
MILLISECOND: Final = 1_000
SECOND: Final = 1_000_000
HOUR: Final = 3_600 * SECOND
DAY: Final = 24 * HOUR

MAX_AMOUNT_CENTS: Final = 100_000_000_00
MAX_ID_LENGTH: Final = 64
EARLIEST_EVENT_TIME: Final = pd.Timestamp("1990-01-01", tz="UTC")
TIME_DTYPE: Final = "datetime64[us, UTC]"

_ID_PATTERN: Final = r"^[^\x00-\x1f\x7f\ud800-\udfff]+$"


class TransactionRow(NamedTuple):
    """One accepted transaction in the columns of TRANSACTIONS; `event_time` in microseconds since 1970-01-01 UTC."""

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


def _time(*, nullable: bool = False) -> pa.Column:
    return pa.Column(TIME_DTYPE, pa.Check.ge(EARLIEST_EVENT_TIME), nullable=nullable)


def _identifier(*, unique: bool = False, nullable: bool = False) -> pa.Column:
    return pa.Column(
        str,
        [pa.Check.str_length(1, MAX_ID_LENGTH), pa.Check.str_matches(_ID_PATTERN)],
        unique=unique,
        nullable=nullable,
    )


TRANSACTIONS: Final = pa.DataFrameSchema(
    {
        "transaction_id": _identifier(unique=True),
        "event_time": _time(),
        "customer_id": _identifier(),
        "merchant_id": _identifier(),
        "amount_cents": pa.Column("int64", pa.Check.in_range(1, MAX_AMOUNT_CENTS)),
        "category": _identifier(nullable=True),
        "channel": pa.Column(str, pa.Check.isin(CHANNELS), nullable=True),
        "country": pa.Column(str, pa.Check.str_matches(r"^[A-Z]{2}$"), nullable=True),
        "latitude": pa.Column("float64", pa.Check.in_range(-90, 90), nullable=True),
        "longitude": pa.Column("float64", pa.Check.in_range(-180, 180), nullable=True),
    },
    strict=True,
    ordered=True,
    name="transactions",
)

FRAUD_REPORTS: Final = pa.DataFrameSchema(
    {
        "transaction_id": _identifier(),
        "reported_at": _time(),
        "is_fraud": pa.Column(bool),
        "event_time": _time(),
        "customer_id": _identifier(),
        "merchant_id": _identifier(),
        "amount_cents": pa.Column("int64", pa.Check.in_range(1, MAX_AMOUNT_CENTS)),
    },
    strict=True,
    ordered=True,
    name="fraud_reports",
)

REJECTED_TRANSACTIONS: Final = pa.DataFrameSchema(
    {
        "row": pa.Column("int64"),
        "event_time": _time(nullable=True),
        "transaction_id": pa.Column(str, nullable=True),
        "field": pa.Column(str),
        "reason": pa.Column(str),
        "place": pa.Column(str, nullable=True),
    },
    strict=True,
    ordered=True,
    name="rejected_transactions",
)

TRANSACTION_COLUMNS: Final[tuple[str, ...]] = tuple(TRANSACTIONS.columns)
OPTIONAL_COLUMNS: Final = tuple(name for name, column in TRANSACTIONS.columns.items() if column.nullable)
REPORT_COLUMNS: Final[tuple[str, ...]] = tuple(FRAUD_REPORTS.columns)


def microseconds(times: pd.Series) -> NDArray[np.int64]:
    """Whole microseconds since 1970-01-01 UTC of a timezone-aware time column, shape (n,)."""
    return np.asarray(times.astype(TIME_DTYPE).astype("int64"), dtype=np.int64)


def microsecond(moment: pd.Timestamp) -> int:
    """The instant as microseconds since 1970-01-01 UTC."""
    return int(moment.value // 1_000)


def times(values: NDArray[np.int64]) -> pd.Series:
    """A `datetime64[us, UTC]` column from whole microseconds since 1970-01-01 UTC, shape (n,)."""
    return pd.Series(values.astype("datetime64[us]")).dt.tz_localize("UTC")


def empty(schema: pa.DataFrameSchema) -> pd.DataFrame:
    """A frame of no rows with the columns and dtypes of `schema`."""
    return pd.DataFrame({name: pd.Series(dtype=str(column.dtype)) for name, column in schema.columns.items()})
