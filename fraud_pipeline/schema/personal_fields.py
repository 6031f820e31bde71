"""Personal fields: own fields whose values are replaced by pseudonyms before anything stores them.

Belongs here: the replacement in requests, texts of the database, tables and JSON documents. Must not be here: the hash
(`pseudonyms.py`), the doors that call this.

A value is normalised first, so a file, a request and a message give the same pseudonym.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, Self

import numpy as np
import pandas as pd

from fraud_pipeline.schema.own_fields import OwnField, OwnValueError, own_fields_json, read_own_value
from fraud_pipeline.schema.pseudonyms import UNREADABLE, PersonalKey, is_pseudonym
from fraud_pipeline.schema.transactions import TransactionRow

_NONE: Final[Mapping[str, OwnField]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class PersonalFields:
    """The personal fields by name, and the key of their pseudonyms. Without a key every value counts as unreadable."""

    fields: Mapping[str, OwnField] = field(default_factory=lambda: _NONE)
    key: PersonalKey | None = None

    @classmethod
    def among(cls, fields: Iterable[OwnField], *, key: PersonalKey | None) -> Self:
        """The personal ones among some own fields."""
        return cls({own.name: own for own in fields if own.personal}, key)

    def value(self, name: str, value: object) -> str | None:
        """What is stored of a personal field's value; None where it says nothing."""
        try:
            read = read_own_value(self.fields[name], value)
        except OwnValueError:
            return UNREADABLE
        if read is None or is_pseudonym(read):
            return None if read is None else str(read)
        return self.key.pseudonym(str(read)) if self.key else UNREADABLE

    def values(self, sent: Mapping[str, Any]) -> Mapping[str, Any]:
        """Own fields of one transaction, with pseudonyms."""
        if self.fields.keys().isdisjoint(sent):
            return sent
        return {name: self.value(name, value) if name in self.fields else value for name, value in sent.items()}

    def row(self, row: TransactionRow) -> TransactionRow:
        """A transaction as it would be stored now."""
        if not self.fields or not row.own_fields:
            return row
        sent = self.values(json.loads(row.own_fields))
        present = {name: value for name, value in sent.items() if value is not None}
        return row._replace(own_fields=own_fields_json(present) if present else None)

    def rows(self, rows: pd.DataFrame) -> pd.DataFrame:
        """A table with pseudonyms in the columns of personal fields; each different value is hashed once."""
        names = [name for name in self.fields if name in rows]
        return rows.assign(**{name: self._column(name, rows[name]) for name in names}) if names else rows

    def document(self, content: bytes) -> bytes | None:
        """A JSON object with pseudonyms wherever it has the name of a personal field, unchanged where it has none.

        None for other content, of which nobody knows where personal values are.
        """
        replaced = False

        def checked(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
            nonlocal replaced
            safe = [(name, self.value(name, value) if name in self.fields else value) for name, value in pairs]
            # A name that is repeated would otherwise leave its first value in the bytes.
            replaced |= safe != pairs or len({name for name, _ in pairs}) < len(pairs)
            return dict(safe)

        try:
            document = json.loads(content, object_pairs_hook=checked)
        except (ValueError, RecursionError):
            return None
        if not isinstance(document, dict):
            return None
        return json.dumps(document).encode() if replaced else content

    def _column(self, name: str, cells: pd.Series) -> pd.Series:
        present = cells.notna()
        known = {value: self.value(name, value) for value in cells[present].unique()}
        values = [known[value] if filled else None for value, filled in zip(cells, present, strict=True)]
        return pd.Series(np.array(values, dtype=object), index=cells.index, dtype=object)


NOTHING_PERSONAL: Final = PersonalFields()
PersonalNow = Callable[[], PersonalFields]
"""The personal fields of this moment: another champion may declare others."""


def nothing_personal() -> PersonalFields:
    """The personal fields of a deployment that declares none."""
    return NOTHING_PERSONAL
