"""Random own fields, and transactions that hold values of them, for properties.

Belongs here: Hypothesis strategies. Must not be here: what must hold.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import pandas as pd
from hypothesis import strategies as st
from numpy.typing import NDArray

from fraud_pipeline.schema.own_fields import (
    OWN_TYPES,
    OwnField,
    OwnType,
    own_columns,
    own_fields_json,
    read_own_value,
)
from fraud_pipeline.schema.transactions import times

WORDS: Final = st.sampled_from(["a", "b", "grün", "visa electron", "007", "日本"])
NUMBERS: Final = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False), st.integers(-(2**70), 2**70), st.sampled_from([0.0, -0.0, 0.1])
)
MOMENTS: Final = st.datetimes(datetime(1900, 1, 1), datetime(2199, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - Hypothesis wants naive bounds
VALUES: Final[dict[OwnType, st.SearchStrategy[Any]]] = {
    "identifier": WORDS,
    "category": WORDS,
    "number": NUMBERS,
    "boolean": st.booleans(),
    "time": st.one_of(MOMENTS.map(lambda at: at.isoformat()), st.dates().map(str)),
    "money": NUMBERS,
    "country": st.sampled_from(["DE", "SE", "JP"]),
    "ip": st.ip_addresses().map(str),
    "email": st.sampled_from(["a@example.com", "Ä.b@example.org"]),
    "text": WORDS,
}


@dataclass(frozen=True, slots=True)
class OwnWorld:
    """n transactions: their fixed inputs, the JSON of their own fields, and their times in microseconds."""

    fields: tuple[OwnField, ...]
    texts: tuple[str | None, ...]
    fixed: pd.DataFrame
    event_time: NDArray[np.int64]

    def rows(self, fields: Sequence[OwnField] | None = None) -> pd.DataFrame:
        """The transactions as a table with typed columns of these own fields, by default the declared ones."""
        own = own_columns(self.texts, self.fields if fields is None else fields)
        return pd.concat([self.fixed, own], axis=1).assign(event_time=times(self.event_time))


@st.composite
def own_fields(draw: st.DrawFn, *, prefix: str = "own") -> tuple[OwnField, ...]:
    """Up to eight declared fields of any type."""
    types = draw(st.lists(st.sampled_from(OWN_TYPES), max_size=8))
    return tuple(OwnField(name=f"{prefix}_{number}", type=type_) for number, type_ in enumerate(types))


@st.composite
def own_worlds(draw: st.DrawFn) -> OwnWorld:
    """Transactions with values of random own fields, many of them missing."""
    fields = draw(own_fields())
    count = draw(st.integers(1, 12))
    texts = [_text(draw, fields) for _ in range(count)]
    fixed = pd.DataFrame(
        {
            "category": [draw(st.none() | WORDS) for _ in range(count)],
            "country": [draw(st.none() | VALUES["country"]) for _ in range(count)],
            "latitude": np.array([draw(st.none() | st.floats(-90, 90)) for _ in range(count)], float),
            "longitude": np.array([draw(st.none() | st.floats(-180, 180)) for _ in range(count)], float),
        }
    ).astype({"category": object, "country": object})
    event_time = np.array([draw(st.integers(631_152_000_000_000, 4_102_444_800_000_000)) for _ in range(count)])
    return OwnWorld(fields=fields, texts=tuple(texts), fixed=fixed, event_time=event_time)


def _text(draw: st.DrawFn, fields: Sequence[OwnField]) -> str | None:
    sent = {field.name: draw(st.none() | VALUES[field.type]) for field in fields}
    values = {field.name: read_own_value(field, sent[field.name]) for field in fields}
    present = {name: value for name, value in values.items() if value is not None}
    return own_fields_json(present) if present else None
