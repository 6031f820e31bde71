"""Own inputs: fields of the transaction itself that the model sees as they are, and how a category becomes a number.

Belongs here: the choice and encoding of own inputs, for batch and online alike. Must not be here: features from history
(`engineer.py`), reading of values (`schema/own_fields.py`).

A category that the training part did not hold often enough, or not at all, is missing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas.api.types import is_bool_dtype, is_numeric_dtype, is_object_dtype

from fraud_pipeline.features.definitions import FEATURE_NAMES, FeatureDefinition, Unit
from fraud_pipeline.schema.joins import rows_of
from fraud_pipeline.schema.local_time import OFFSET_FIELD, UTC_OFFSET
from fraud_pipeline.schema.money import MONEY_FIELDS, ORIGINAL_CURRENCY, RATE
from fraud_pipeline.schema.own_fields import OwnField, OwnType, OwnValue, own_values, with_own_columns
from fraud_pipeline.schema.transactions import DAY, TransactionRow, microseconds

InputKind = Literal["number", "flag", "category", "age"]
KINDS: Final[Mapping[OwnType, InputKind]] = {
    "number": "number",
    "money": "number",
    "boolean": "flag",
    "category": "category",
    "country": "category",
    "time": "age",
}
"""How a model sees each type of own field; the other types are no inputs."""
FIXED_INPUTS: Final[Mapping[str, InputKind]] = {
    "category": "category",
    "country": "category",
    "latitude": "number",
    "longitude": "number",
}
"""The fixed fields that a model sees as they are, beside those that features use."""
INPUT_UNITS: Final[Mapping[InputKind, Unit]] = {
    "number": "number",
    "flag": "flag",
    "category": "category",
    "age": "days",
}
INPUT_MEANINGS: Final[Mapping[InputKind, str]] = {
    "number": "as it is",
    "flag": "as it is",
    "category": "as it is; missing where the training did not hold it often enough",
    "age": "from this time to the transaction",
}
"""What an input without a description is."""
MAX_CATEGORIES: Final = 256
_MISSING_TIME: Final = np.iinfo(np.int64).min
_LARGEST: Final = float(np.finfo(np.float32).max)


@dataclass(frozen=True, slots=True)
class OwnInput:
    """One input. An age is the days from that time to the transaction; `categories` are in the order of their codes."""

    name: str
    kind: InputKind
    categories: tuple[str, ...] = ()
    codes: Mapping[str, float] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # Made once, because a request encodes one row.
        object.__setattr__(self, "codes", {category: float(code) for code, category in enumerate(self.categories)})


@dataclass(frozen=True, slots=True)
class OwnInputs:
    """The own fields that are declared, and the inputs that a model has of them and of the fixed fields.

    `personal_key` is the id of the key of pseudonyms; it is empty without a personal field.
    """

    fields: tuple[OwnField, ...] = ()
    inputs: tuple[OwnInput, ...] = ()
    personal_key: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the inputs, in their order in a model's row."""
        return tuple(own.name for own in self.inputs)

    @property
    def feature_types(self) -> tuple[str, ...]:
        """XGBoost's type of each input: c for a category, q for everything else."""
        return tuple("c" if own.kind == "category" else "q" for own in self.inputs)

    @property
    def uses_event_time(self) -> bool:
        """Whether a value depends on the time of the transaction."""
        return any(own.kind == "age" for own in self.inputs)

    @property
    def definitions(self) -> tuple[FeatureDefinition, ...]:
        """Each input as a feature of the transaction."""
        described = {own.name: own.description for own in self.fields}
        return tuple(
            FeatureDefinition(
                own.name, "transaction", "", INPUT_UNITS[own.kind], described.get(own.name) or INPUT_MEANINGS[own.kind]
            )
            for own in self.inputs
        )

    def values(self, columns: Mapping[str, Any] | pd.DataFrame, event_time: NDArray[np.int64]) -> NDArray[np.float32]:
        """The inputs of n rows, shape (n, inputs), NaN where they are missing.

        `columns` holds a Series, array or list of length n for each input, as `own_columns` or `own_values` give it;
        `event_time` is in microseconds, shape (n,). Raises KeyError for a column that is not there.
        """
        out = np.empty((len(self.inputs), len(event_time)), np.float32)
        for row, own in zip(out, self.inputs, strict=True):
            row[:] = _encoded(own, columns[own.name], event_time)
        return out.T

    def values_of_rows(self, rows: Sequence[TransactionRow]) -> NDArray[np.float32]:
        """`values` of transactions as requests, messages and the database give them."""
        columns: dict[str, Sequence[OwnValue | None]] = {
            name: [getattr(row, name) for row in rows] for name in self.names if name in FIXED_INPUTS
        }
        if self.fields:
            columns |= own_values([row.own_fields for row in rows], self.fields)
        return self.values(columns, np.array([row.event_time for row in rows], np.int64))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "fields": [
                {
                    "name": own.name,
                    "type": own.type,
                    "description": own.description,
                    **({"personal": True} if own.personal else {}),
                }
                for own in self.fields
            ],
            "inputs": [
                {"name": own.name, "kind": own.kind, **({"categories": list(own.categories)} if own.categories else {})}
                for own in self.inputs
            ],
            **({"personal_key": self.personal_key} if self.personal_key else {}),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inputs that `to_dict` wrote. Raises KeyError, TypeError or ValueError for other values."""
        return cls(
            fields=tuple(OwnField(**own) for own in values["fields"]),
            inputs=tuple(
                OwnInput(own["name"], own["kind"], categories=tuple(own.get("categories", ())))
                for own in values["inputs"]
            ),
            personal_key=values.get("personal_key", ""),
        )


NO_OWN_INPUTS: Final = OwnInputs()


def check_own_names(fields: Sequence[OwnField]) -> None:
    """Raise ValueError for an own field that has the name of a feature or of another own field."""
    names = [own.name for own in fields]
    for name in names:
        if name in FEATURE_NAMES:
            raise ValueError(f"own field '{name}': a feature has this name; rename the field")
        if names.count(name) > 1:
            raise ValueError(f"own field '{name}': it is declared twice; rename one of them")


def fit_own_inputs(rows: pd.DataFrame, own_fields: Sequence[OwnField], *, min_count: int) -> OwnInputs:
    """The own inputs of a model, from rows of its train part only.

    `rows` hold the columns of FIXED_INPUTS and of the own fields. A category needs `min_count` rows; the most frequent
    MAX_CATEGORIES are kept, in alphabetical order. A column that holds nothing, or no frequent category, is no input.
    """
    check_own_names(own_fields)
    kinds = {**FIXED_INPUTS, **{own.name: KINDS[own.type] for own in own_fields if own.type in KINDS}}
    # The rate says nothing beside the currency, and a single currency nothing beside the amount.
    for own in set(own_fields) & set(MONEY_FIELDS):
        if own.name == RATE or rows[ORIGINAL_CURRENCY].nunique() < 2:
            del kinds[own.name]
    if OFFSET_FIELD in own_fields:
        del kinds[UTC_OFFSET]  # hour and weekday are made with it
    inputs = []
    for name, kind in kinds.items():
        if kind != "category":
            inputs += [OwnInput(name, kind)] if rows[name].notna().any() else []
        elif categories := _frequent(rows[name], min_count=min_count):
            inputs.append(OwnInput(name, kind, categories=categories))
    return OwnInputs(fields=tuple(own_fields), inputs=tuple(inputs))


def with_own_inputs(rows: pd.DataFrame, transactions: pd.DataFrame, own: OwnInputs) -> pd.DataFrame:
    """Feature rows with the columns of own inputs that they lack, from `transactions`; a field without one is missing.

    Raises JoinError when a transaction is missing or repeated.
    """
    absent = [name for name in own.names if name not in rows]
    if not absent:
        return rows
    raw = rows_of(with_own_columns(transactions, own.fields), rows["transaction_id"], table="transactions")
    return rows.assign(**raw[absent].set_axis(rows.index))


def not_inputs(own: OwnInputs) -> dict[str, str]:
    """The own fields that the model does not see, each with the reason."""
    return {field.name: _why_not(field) for field in own.fields if field.name not in own.names}


def _why_not(own: OwnField) -> str:
    if own == OFFSET_FIELD:
        return "hour and weekday are those of the local clock by it"
    if own in MONEY_FIELDS:
        return "the amount in the reporting currency says the same, and the rate nothing more"
    if own.type in KINDS:
        return "it held no value, or no category often enough, in the training part"
    return f"a field of type {own.type} is stored, and is no model input yet"


def _frequent(column: pd.Series, *, min_count: int) -> tuple[str, ...]:
    counts = column.value_counts()
    often = sorted((-int(count), str(category)) for category, count in counts.items() if count >= min_count)
    return tuple(sorted(category for _, category in often[:MAX_CATEGORIES]))


def _encoded(own: OwnInput, column: Any, event_time: NDArray[np.int64]) -> NDArray[np.float64]:
    match own.kind:
        case "category":
            return np.array([own.codes.get(category, np.nan) for category in _list(column)], np.float64)
        case "age":
            at = _microseconds(column)
            known = at != _MISSING_TIME
            return np.where(known, (event_time - np.where(known, at, event_time)) / DAY, np.nan)
        case _:
            # XGBoost refuses infinite values, which larger ones would be in 32 bits.
            return np.clip(_floats(column, flags=own.kind == "flag"), -_LARGEST, _LARGEST)


def _list(column: Any) -> list[Any]:
    return column.tolist() if hasattr(column, "tolist") else list(column)


def _floats(column: Any, *, flags: bool) -> NDArray[np.float64]:
    """Numbers or flags as float64. A value of another type is missing, as where another declaration made the column."""
    dtype = getattr(column, "dtype", None)
    if dtype is not None and not is_object_dtype(dtype):
        if not (is_bool_dtype(dtype) if flags else is_numeric_dtype(dtype) and not is_bool_dtype(dtype)):
            return np.full(len(column), np.nan)
        values: NDArray[np.float64] = pd.Series(column).to_numpy(np.float64, na_value=np.nan)
        return values
    kinds = (bool, np.bool_) if flags else (int, float, np.number)
    other = () if flags else (bool,)
    fits = [isinstance(value, kinds) and not isinstance(value, other) for value in column]
    return np.array([value if fit else np.nan for value, fit in zip(column, fits, strict=True)], np.float64)


def _microseconds(column: Any) -> NDArray[np.int64]:
    """Times in microseconds; a value that is no time is missing."""
    dtype = getattr(column, "dtype", None)
    if dtype is None:
        return np.array([_MISSING_TIME if at is None else at for at in column], np.int64)
    if not isinstance(dtype, pd.DatetimeTZDtype):
        return np.full(len(column), _MISSING_TIME)
    return microseconds(pd.Series(column))
