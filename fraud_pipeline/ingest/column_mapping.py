"""The mapping of a file's columns to fields: by obvious names, or by an explicit mapping.

Belongs here: column names. Must not be here: files, values.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from fraud_pipeline.schema.fields import FIELDS, fields_of

REQUIRED_FIELDS: Final = tuple(field.name for field in fields_of("file") if field.required)
OPTIONAL_FIELDS: Final = tuple(field.name for field in fields_of("file") if not field.required)
COLUMN_FIELDS: Final = (*REQUIRED_FIELDS, *OPTIONAL_FIELDS)

ROW: Final = "#row"
"""The column for row numbers; no field and no synonym has this name."""


class SourceError(ValueError):
    """A file cannot be used as it is; the message gives problem and remedy."""


@dataclass(frozen=True, slots=True)
class Header:
    """The names of a file's columns. A first line that may be data is not `certain`, and messages never show it.

    `guess` describes such a file in words, with a remedy.
    """

    names: tuple[str, ...]
    certain: bool = True
    guess: str = ""

    def listing(self) -> str:
        """The names for a message; only their number when they are not certain."""
        if self.certain:
            return f"The file's columns: {', '.join(self.names)}."
        return f"The file has {len(self.names)} columns, and {self.guess}."


def known_names(names: Sequence[str]) -> int:
    """The number of fields that these names match without a mapping."""
    spellings = {_normalised(name) for name in names}
    return sum(not spellings.isdisjoint((field, *FIELDS[field].synonyms)) for field in COLUMN_FIELDS)


def parse_columns(text: str) -> dict[str, str]:
    """Parse `"transaction_id=TX_ID,event_time=WHEN"` into {field: file column}. Raises SourceError."""
    mapping: dict[str, str] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        field, equals, column = (piece.strip() for piece in part.partition("="))
        if not (equals and field and column):
            raise SourceError(f"column mapping: '{part}' is not of the form field=FILE_COLUMN. {_example({})}")
        if field in mapping:
            raise SourceError(f"column mapping: '{field}' is given twice; keep one of them")
        mapping[field] = column
    _check_fields(mapping)
    return mapping


def resolve_columns(header: Header, *, columns: Mapping[str, str] | None = None) -> dict[str, str]:
    """Map fields to columns of a file as {field: file column}: the given mapping first, obvious names for the rest.

    Raises SourceError when a required field has no column, a name is ambiguous, or a mapped column does not exist. Its
    message lists the columns and an example mapping; names that may be data are only counted.
    """
    chosen, names = dict(columns or {}), header.names
    _check_fields(chosen)
    listing = header.listing()
    if absent := [f"{field}={column}" for field, column in chosen.items() if column not in names]:
        raise SourceError(f"column mapping: no such column for {', '.join(absent)}. {listing}")
    if len(set(chosen.values())) < len(chosen):
        raise SourceError(f"column mapping: one column is given for two fields; each needs its own. {listing}")
    free = {name: _normalised(name) for name in names if name not in chosen.values()}
    for field in COLUMN_FIELDS:
        if field in chosen:
            continue
        exact = [name for name, normalised in free.items() if normalised == field]
        candidates = exact or [name for name, normalised in free.items() if normalised in FIELDS[field].synonyms]
        if len(candidates) > 1:
            raise SourceError(
                f"'{field}' could be any of the columns {', '.join(candidates)}: say which one. "
                f"{_example({**chosen, field: candidates[0]})} {listing}"
            )
        if candidates:
            chosen[field] = candidates[0]
    if missing := [field for field in REQUIRED_FIELDS if field not in chosen]:
        example = f" {_example(chosen)}" if header.certain else ""
        raise SourceError(f"no column found for {', '.join(missing)}. {listing}{example}")
    if repeated := [name for name in chosen.values() if names.count(name) > 1]:
        raise SourceError(f"the file has more than one column named {', '.join(repeated)}: rename one. {listing}")
    return chosen


def _check_fields(mapping: Mapping[str, str]) -> None:
    if unknown := [field for field in mapping if field not in COLUMN_FIELDS]:
        raise SourceError(
            f"column mapping: unknown field {', '.join(unknown)}. Required: {', '.join(REQUIRED_FIELDS)}; "
            f"optional: {', '.join(OPTIONAL_FIELDS)}. The field stands left of '=', the file's column right of it"
        )


def _normalised(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.strip().lower()).strip("_")


def _example(known: Mapping[str, str]) -> str:
    fields = [*REQUIRED_FIELDS, *(field for field in known if field not in REQUIRED_FIELDS)]
    return 'Example: --columns "' + ",".join(f"{field}={known.get(field, 'YOUR_COLUMN')}" for field in fields) + '"'
