"""Own fields: what a bank declares beside the fixed fields, how a value is read, and how values are stored.

Belongs here: types, strict reading of one JSON value, the canonical JSON of a transaction, typed columns and their
schemas. Must not be here: which own fields a model sees (`features/own_inputs.py`), how a file spells a value.

Tables hold own fields as typed columns. Requests, Kafka messages and the database hold them as one JSON text. Both give
the same values, bit for bit.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from types import MappingProxyType
from typing import Any, Final, Literal, get_args

import numpy as np
import pandas as pd
import pandera.pandas as pa
from pandas.api.types import is_bool_dtype, is_numeric_dtype, is_object_dtype

from fraud_pipeline.schema.fields import FIELDS
from fraud_pipeline.schema.identifiers import read_identifier
from fraud_pipeline.schema.pseudonyms import PSEUDONYM_PATTERN, UNREADABLE, is_pseudonym
from fraud_pipeline.schema.reasons import REASONS
from fraud_pipeline.schema.transactions import TEXT_PATTERN, TIME_DTYPE, TRANSACTIONS, table_schema

OwnType = Literal["identifier", "category", "number", "boolean", "time", "money", "country", "ip", "email", "text"]
OWN_TYPES: Final[tuple[OwnType, ...]] = get_args(OwnType)
OwnValue = str | float | bool | int
"""A text, a number or an amount of money (float64), a flag, or a time in microseconds since 1970-01-01 UTC."""

PERSONAL_TYPES: Final[frozenset[OwnType]] = frozenset({"identifier", "ip", "email", "text"})
"""The types that may be personal: opaque texts, of which no feature needs more than whether two are equal."""
MAX_OWN_TEXT_LENGTH: Final = 1_024
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,62}")
# Columns of tables that carry own fields: the training set, drift samples, rows of files, `event_time` and its kin.
RESERVED_NAMES: Final = frozenset(
    {
        *(name for field in FIELDS.values() for name in (field.name, field.stored_as)),
        *("own_fields", "label", "part", "score", "file_row", "file_part", "day", "row", "field", "reason", "place"),
    }
)
_NUMBERS: Final = frozenset({"number", "money"})
_COUNTRY: Final = re.compile(FIELDS["country"].pattern)
_EMAIL: Final = re.compile(r"[^@\s]+@[^@\s]+")
_TIME: Final = re.compile(r"\d{4}-\d{2}-\d{2}([Tt ]\d{2}:\d{2}:\d{2}(\.\d{1,9})?([Zz]|[+-]\d{2}:\d{2}))?")
_EXACT_BELOW: Final = 2.0**53
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)

_REMEDIES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "wrong_type": "send texts as JSON strings, numbers and money as JSON numbers, booleans as true or false, and "
        "times as strings",
        "too_long": f"shorten the text to at most {MAX_OWN_TEXT_LENGTH:,} characters",
        "not_finite": "send a number that fits into a 64-bit float",
        "time_missing_or_unreadable": "write the time as 2026-01-31T13:45:00Z, or as the date 2026-01-31",
        "bad_country": "the country must be a two-letter ISO 3166 code such as DE, or empty",
        "bad_ip": "write the address as 192.0.2.17 or 2001:db8::17",
        "bad_email": "write the address as name@example.com",
    }
)


class OwnValueError(ValueError):
    """An own value that is refused; `own_remedy` says what to do about its `reason`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


def own_remedy(reason: str) -> str:
    """What to do about an own value that is refused for this reason."""
    return _REMEDIES.get(reason) or REASONS[reason]


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnField:
    """A field that the bank declares beside the fixed ones; of a `personal` one only pseudonyms are stored.

    Raises ValueError for a name or type that cannot be.
    """

    name: str
    type: OwnType
    description: str = ""
    personal: bool = False

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ValueError(
                f"own field '{self.name}': a name has 1 to 63 small letters, digits and underscores, and begins with a "
                "letter; rename it"
            )
        if self.name in RESERVED_NAMES:
            raise ValueError(f"own field '{self.name}': the name is taken by a field or column of ours; rename it")
        if self.type not in OWN_TYPES:
            raise ValueError(f"own field '{self.name}': type '{self.type}' is none of {', '.join(OWN_TYPES)}")
        if self.personal and self.type not in PERSONAL_TYPES:
            raise ValueError(
                f"own field '{self.name}': a field of type {self.type} cannot be personal, only one of "
                f"{', '.join(sorted(PERSONAL_TYPES))}; change its type, or remove personal"
            )


def read_own_value(field: OwnField, value: object) -> OwnValue | None:
    """The value of one own field in JSON, read strictly; None where it is null or says nothing.

    A pseudonym is a value of every personal field. Raises OwnValueError with the reason.
    """
    if value is None:
        return None
    if field.personal and is_pseudonym(value):
        return str(value)
    if field.personal and value == UNREADABLE:
        raise OwnValueError("wrong_type")
    if field.type == "boolean":
        if isinstance(value, bool):
            return value
        raise OwnValueError("wrong_type")
    if field.type in _NUMBERS:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise OwnValueError("wrong_type")
        return _number(value)
    if not isinstance(value, str):
        raise OwnValueError("wrong_type")
    reading = read_identifier(value, exact=field.type == "identifier")
    if reading.problem is not None:
        raise OwnValueError(reading.problem)
    return None if reading.text is None else _read_text(field.type, reading.text)


def _number(value: float) -> float:
    """The float64 of a number; negative zero is zero, so that equal values have equal texts."""
    try:
        number = float(value) + 0.0
    except OverflowError:
        raise OwnValueError("not_finite") from None
    if not math.isfinite(number):
        raise OwnValueError("not_finite")
    return number


def _read_text(type_: OwnType, text: str) -> str | int:
    """The stored value of a text that holds something."""
    if len(text) > MAX_OWN_TEXT_LENGTH:
        raise OwnValueError("too_long")
    match type_:
        case "time":
            return _time(text)
        case "country" if not _COUNTRY.fullmatch(text):
            raise OwnValueError("bad_country")
        case "email" if not _EMAIL.fullmatch(text):
            raise OwnValueError("bad_email")
        case "ip":
            try:
                return str(ip_address(text))
            except ValueError:
                raise OwnValueError("bad_ip") from None
        case _:
            return text


def _time(text: str) -> int:
    """Microseconds since 1970-01-01 UTC of a time with its offset, or of the midnight UTC of a date."""
    if not _TIME.fullmatch(text):
        raise OwnValueError("time_missing_or_unreadable")
    try:
        time = datetime.fromisoformat(text.upper())
        return ((time if time.tzinfo else time.replace(tzinfo=UTC)) - _EPOCH) // _MICROSECOND
    except ValueError:
        raise OwnValueError("time_missing_or_unreadable") from None


def one_spelling(value: Any) -> Any:
    """A JSON value in the one spelling of equal numbers: a whole float that is exact becomes an integer."""
    if isinstance(value, float) and abs(value) < _EXACT_BELOW and value.is_integer():
        return int(value)
    return value


def own_fields_json(values: Mapping[str, OwnValue]) -> str:
    """The one text of these values: sorted names, no spaces, ASCII. Leave missing values out.

    Values as `read_own_value` gives them have equal texts if and only if they are equal.
    """
    return json.dumps(values, sort_keys=True, separators=(",", ":"), allow_nan=False)


def own_values(texts: Sequence[str | None], fields: Sequence[OwnField]) -> dict[str, list[OwnValue | None]]:
    """The value of each field in each of n texts of `own_fields_json`, None where it is missing.

    Unknown names are ignored. A value that was stored before its field was declared is read as a request is, and is
    missing where it is not of the field's type. Raises ValueError for a text that is no JSON object.
    """
    if not fields:
        return {}
    documents: list[Mapping[str, object]] = [json.loads(text) if text else {} for text in texts]
    return {field.name: [_stored_value(field, document.get(field.name)) for document in documents] for field in fields}


def _stored_value(field: OwnField, value: object) -> OwnValue | None:
    if value is None:
        return None
    if field.type == "time" and isinstance(value, int) and not isinstance(value, bool):
        return value  # stored in microseconds
    try:
        return read_own_value(field, value)
    except OwnValueError:
        return None


def own_columns(texts: Sequence[str | None], fields: Sequence[OwnField]) -> pd.DataFrame:
    """The texts of n transactions as n rows with a typed column for each field; missing values are NaN, NaT or None."""
    values = own_values(texts, fields)
    return pd.DataFrame(
        {field.name: _typed(field, values[field.name]) for field in fields}, index=pd.RangeIndex(len(texts))
    )


def with_own_columns(rows: pd.DataFrame, fields: Sequence[OwnField]) -> pd.DataFrame:
    """The rows with a typed column for each field, of missing values where they lack it.

    Values of another type, which another declaration made, are missing.
    """
    missing = [None] * len(rows)
    columns = {
        field.name: _stored_column(field, rows[field.name]) if field.name in rows else _typed(field, missing)
        for field in fields
    }
    return rows.assign(**{name: column.set_axis(rows.index) for name, column in columns.items()}) if fields else rows


def _stored_column(field: OwnField, column: pd.Series) -> pd.Series:
    dtype = column.dtype
    typed: pd.Series | None
    match field.type:
        case "number" | "money":
            typed = column.astype("float64") if is_numeric_dtype(dtype) and not is_bool_dtype(dtype) else None
        case "boolean" if is_object_dtype(dtype):  # as days with and without values come back together
            typed = pd.Series([value if isinstance(value, bool) else None for value in column], dtype="boolean")
        case "boolean":
            typed = column.astype("boolean") if is_bool_dtype(dtype) else None
        case "time":
            typed = column.astype(TIME_DTYPE) if isinstance(dtype, pd.DatetimeTZDtype) else None
        case _:
            typed = column if is_object_dtype(dtype) else None
    return _typed(field, [None] * len(column)) if typed is None else typed


def _typed(field: OwnField, values: Sequence[Any]) -> pd.Series:
    match field.type:
        case "number" | "money":
            return pd.Series(np.array(values, dtype=np.float64))
        case "boolean":
            return pd.Series(values, dtype="boolean")
        case "time":
            missing = np.datetime64("NaT", "us")
            stamps = [missing if value is None else np.datetime64(value, "us") for value in values]
            return pd.Series(np.array(stamps, dtype="datetime64[us]")).dt.tz_localize("UTC")
        case _:
            return pd.Series(np.array(values, dtype=object), dtype=object)


def own_column(field: OwnField) -> pa.Column:
    """The column of a stored table that holds values of an own field."""
    if field.personal:
        return pa.Column(str, pa.Check.str_matches(rf"^{PSEUDONYM_PATTERN}\Z"), nullable=True)
    match field.type:
        case "number" | "money":
            return pa.Column("float64", pa.Check(np.isfinite), nullable=True)
        case "boolean":
            return pa.Column("boolean", nullable=True)
        case "time":
            return pa.Column(TIME_DTYPE, nullable=True)
        case "country":
            return pa.Column(str, pa.Check.str_matches(rf"^(?:{_COUNTRY.pattern})\Z"), nullable=True)
        case _:
            checks = [pa.Check.str_length(1, MAX_OWN_TEXT_LENGTH), pa.Check.str_matches(TEXT_PATTERN)]
            return pa.Column(str, checks, nullable=True)


def transactions_schema(own: Sequence[OwnField]) -> pa.DataFrameSchema:
    """The schema of stored transactions: the fixed columns, then the own ones in declared order."""
    if not own:
        return TRANSACTIONS
    return table_schema("transactions", {**TRANSACTIONS.columns, **{field.name: own_column(field) for field in own}})
