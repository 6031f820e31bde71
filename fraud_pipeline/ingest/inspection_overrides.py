"""Overrides of the inspection's guesses: `field=COLUMN`, `field=-`.

Belongs here: reading and checking the options. Must not be here: guesses.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from typing import Final, get_args

from fraud_pipeline.ingest.column_mapping import SourceError
from fraud_pipeline.ingest.declaration import FIELDS_OF_A_FILE
from fraud_pipeline.schema.own_fields import OWN_TYPES, OwnType

NONE: Final = "-"
_OWN: Final = re.compile(r"([a-z][a-z0-9_]{0,62})(?::([a-z]+))?")


@dataclass(frozen=True, slots=True)
class Overrides:
    """`columns` maps fields to columns, `refused` are fields without a column, `unused` are columns to leave out.

    `own` maps names of own fields to their column and, where it was given, their type.
    """

    columns: Mapping[str, str] = dataclass_field(default_factory=dict)
    refused: frozenset[str] = frozenset()
    unused: frozenset[str] = frozenset()
    own: Mapping[str, tuple[str, OwnType | None]] = dataclass_field(default_factory=dict)

    @property
    def plain(self) -> dict[str, str]:
        """Fields that one column gives."""
        return {field: name for field, name in self.columns.items() if field not in ("event_time", "is_fraud")}

    @property
    def time_columns(self) -> tuple[str, ...]:
        """The columns of the event time: `DATE+TIME` names two."""
        given = self.columns.get("event_time")
        return tuple(part.strip() for part in given.split("+")) if given else ()

    @property
    def own_columns(self) -> dict[str, tuple[str, OwnType | None]]:
        """{column: (own name, type)} of the columns that a person declared as own fields."""
        return {column: (name, type_) for name, (column, type_) in self.own.items()}

    @property
    def names_something(self) -> bool:
        """Whether a person named a column, so that the first line holds names."""
        return bool(self.columns or self.unused or self.own)

    def check(self, names: Sequence[str]) -> None:
        """Raise SourceError for a column that the file does not have."""
        given = [*self.plain.values(), *self.unused, *(column for column, _ in self.own.values())]
        given += [*self.time_columns, *([self.columns["is_fraud"]] if "is_fraud" in self.columns else [])]
        if twice := sorted(name for name, count in Counter(given).items() if count > 1):
            raise SourceError(f"--set: column {', '.join(twice)} is given more than once; each has one place")
        if absent := sorted({name for name in given if name not in names}):
            raise SourceError(
                f"--set: the file has no column {', '.join(absent)}; `fraud-detect init FILE` lists its columns"
            )


def parse_overrides(texts: Sequence[str]) -> Overrides:
    """The overrides of several `--set` options. Raises SourceError for one that cannot be read."""
    columns: dict[str, str] = {}
    refused: set[str] = set()
    unused: set[str] = set()
    own: dict[str, tuple[str, OwnType | None]] = {}
    for text in texts:
        left, equals, right = (part.strip() for part in text.partition("="))
        if not (left and equals and right):
            raise SourceError(f"--set '{text}': write field=COLUMN, field=- or COLUMN=-")
        if right == NONE:
            (refused if left in FIELDS_OF_A_FILE else unused).add(left)
        elif left in FIELDS_OF_A_FILE:
            columns[left] = right
        else:
            own |= _own(left, right)
    return Overrides(columns, frozenset(refused), frozenset(unused), own)


def _own(left: str, right: str) -> dict[str, tuple[str, OwnType | None]]:
    match = _OWN.fullmatch(left)
    if match is None:
        raise SourceError(
            f"--set '{left}={right}': '{left}' is no field and no name for an own one. Fields: "
            f"{', '.join(FIELDS_OF_A_FILE)}; an own field is NAME=COLUMN or NAME:type=COLUMN, in small letters"
        )
    given = next((type_ for type_ in get_args(OwnType) if type_ == match[2]), None)
    if match[2] and given is None:
        raise SourceError(f"--set '{left}={right}': type '{match[2]}' is none of {', '.join(OWN_TYPES)}")
    return {match[1]: (right, given)}
