"""The declaration in fraud.toml: which column is which field, and which columns are own fields.

Belongs here: the declaration as data, its rules, its TOML. Must not be here: files of transactions, guesses.
"""

import hashlib
import json
import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import ErrorDetails

from fraud_pipeline.ingest.column_mapping import SourceError
from fraud_pipeline.ingest.money_reading import (
    MONEY_KEYS,
    MoneyReading,
    money_document,
    money_fields_toml,
    money_key,
    rates_toml,
)
from fraud_pipeline.ingest.toml_text import KeyedError, KeyPath, lines_of_keys, toml_key, toml_value
from fraud_pipeline.schema.fields import FIELDS, fields_of
from fraud_pipeline.schema.local_time import OFFSET_FIELD, UTC_OFFSET
from fraud_pipeline.schema.money import MONEY_FIELDS, MONEY_NAMES, Conversion
from fraud_pipeline.schema.own_fields import OwnField, OwnType

TimeUnit = Literal["", "s", "ms", "us", "ns", "minutes", "hours", "days"]

PLAIN_FIELDS: Final = tuple(field.name for field in fields_of("file") if field.name not in {"event_time", "is_fraud"})
"""The fields that one column gives without further words."""

_NO_EPOCH_UNITS: Final = ("minutes", "hours", "days")
OWN_OFFSETS: Final = "offset"
"""In place of a zone: each time carries the offset of its local clock."""
_ZONE: Final = re.compile(r"[A-Za-z_]+(?:/[A-Za-z0-9_+-]+)*")

_ColumnName = Annotated[str, Field(min_length=1)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TimeReading(_Part):
    """How a time is read: text of one or several columns (joined by a blank), or a number with its `unit`.

    A number counts from `origin`, or from 1970 where there is none. `format` is of `datetime.strptime`. The local clock
    is that of the row's zone or offset in `zone_column`, or of `zone`; OWN_OFFSETS stands for each time's own offset. A
    time without an offset is one of `zone`, or else of the row's zone, or else of UTC.
    """

    columns: tuple[_ColumnName, ...] = Field(min_length=1, max_length=6)
    unit: TimeUnit = ""
    format: str = ""
    origin: datetime | None = None
    zone: str = ""
    zone_column: str = ""

    @field_validator("origin")
    @classmethod
    def _in_utc(cls, origin: datetime | None) -> datetime | None:
        if origin is None:
            return None
        return origin.replace(tzinfo=UTC) if origin.tzinfo is None else origin.astimezone(UTC)

    @model_validator(mode="after")
    def _go_together(self) -> Self:
        if self.unit and (self.format or len(self.columns) > 1):
            raise ValueError("a unit is for one column of numbers: remove format and the second column, or unit")
        if self.origin is not None and not self.unit:
            raise ValueError("an origin needs the unit of the numbers that count from it: add unit")
        if self.unit in _NO_EPOCH_UNITS and self.origin is None:
            raise ValueError(f"{self.unit} count from a start: add origin, such as 2026-01-01T00:00:00Z")
        if self.zone and not _ZONE.fullmatch(self.zone):
            raise ValueError(f'a zone is a name such as Europe/Berlin, or "{OWN_OFFSETS}": write one')
        others = [name for name in ("unit", "format", "zone_column") if getattr(self, name)]
        if self.zone == OWN_OFFSETS and others:
            raise ValueError(
                f'"{OWN_OFFSETS}" is for times such as 2026-01-31T13:45:00+01:00: remove {others[0]}, or zone'
            )
        if self.zone_column in self.columns:
            raise ValueError(f"column '{self.zone_column}' is the time: zone_column needs a column of its own")
        return self

    @property
    def all_columns(self) -> tuple[str, ...]:
        """Every column that is read; that of the zone comes last."""
        return (*self.columns, self.zone_column) if self.zone_column else self.columns

    @property
    def has_local_time(self) -> bool:
        """Whether the local clock of transactions is known."""
        return bool(self.zone or self.zone_column)

    @property
    def zone_name(self) -> str:
        """The zone of times without an offset of their own."""
        return "UTC" if self.zone in ("", OWN_OFFSETS) else self.zone


class LabelReading(_Part):
    """Which cells of a column mean fraud, and which legitimate; other cells, and empty ones, are unknown.

    A side without spellings has those of the table of fields.
    """

    column: _ColumnName
    fraud: tuple[str, ...] = ()
    legitimate: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _apart(self) -> Self:
        both = {spelling(word) for word in self.fraud} & {spelling(word) for word in self.legitimate}
        if both:
            raise ValueError(f"{', '.join(sorted(both))} cannot mean fraud and legitimate: keep it on one side")
        return self


class OwnColumn(_Part):
    """A column that is a field of the bank's own."""

    name: str
    type: OwnType
    column: _ColumnName
    description: str = ""
    personal: bool = False

    @model_validator(mode="after")
    def _is_field(self) -> Self:
        _ = self.field  # the field checks its own name
        return self

    @property
    def field(self) -> OwnField:
        """The field without its column."""
        return OwnField(name=self.name, type=self.type, description=self.description, personal=self.personal)


class Declaration(_Part):
    """Which column of a file is which field. Without `event_time` the order of the rows is their time.

    Without `money`, all amounts are in one currency that nobody names.
    """

    version: Literal[1] = 1
    fields: Mapping[str, _ColumnName] = Field(default_factory=dict)
    event_time: TimeReading | None = None
    label: LabelReading | None = None
    money: MoneyReading | None = None
    own: tuple[OwnColumn, ...] = ()
    not_used: Mapping[str, str] = Field(default_factory=dict)

    def __hash__(self) -> int:
        return hash(self.id)

    @model_validator(mode="after")
    def _check_fields(self) -> Self:
        for name in self.fields:
            if name not in PLAIN_FIELDS:
                known = ", ".join([*FIELDS_OF_A_FILE, *MONEY_KEYS])
                raise KeyedError(("fields", name), f"no such field: write one of {known}, or declare an own field")
            if (other := FIELDS[name].together_with) and other not in self.fields:
                problem = f"a position has two columns: give {other} as well, or declare an own number"
                raise KeyedError(("fields", name), problem)
        columns = [*self.fields.items(), *self._money_columns.items()]
        columns += [("is_fraud", column) for column in self._label_columns]
        if repeated := _repeated(column for _, column in columns):
            field = [name for name, column in columns if column == repeated[0]][-1]
            raise KeyedError(("fields", field), f"column '{repeated[0]}' is given to two fields: each needs its own")
        return self

    @model_validator(mode="after")
    def _check_columns(self) -> Self:
        if repeated := _repeated(own.name for own in self.own):
            raise KeyedError(("own_fields", repeated[0]), "this own field is declared twice: keep one")
        if self.money and "amount" not in self.fields:
            raise KeyedError(("fields", "currency"), "no amount is in this currency: add amount, or remove the key")
        answers = {*self._label_columns, self.fields.get("reported_at")}
        for own in self.own:
            if own.name == UTC_OFFSET or (self.money and own.name in MONEY_NAMES):
                what = "local clock" if own.name == UTC_OFFSET else "original amount"
                raise KeyedError(("own_fields", own.name), f"the {what} is stored by this name: rename the field")
            if own.column in answers:
                key = ("own_fields", own.name, "column")
                raise KeyedError(key, f"column '{own.column}' is the label, which no input may be: remove the field")
        for column in self.columns:
            if column in self.not_used:
                raise KeyedError(("not_used", column), "the column is used as well: remove it here, or its field")
        return self

    @property
    def own_fields(self) -> tuple[OwnField, ...]:
        """The bank's own fields in declared order, then what is stored of an original amount and of the local clock."""
        clock = (OFFSET_FIELD,) if self.local_time else ()
        return (*(own.field for own in self.own), *(MONEY_FIELDS if self.money else ()), *clock)

    @property
    def local_time(self) -> bool:
        """Whether the local clock of transactions is known, so that hour and weekday are those of it."""
        return self.event_time is not None and self.event_time.has_local_time

    @property
    def conversion(self) -> Conversion | None:
        """How amounts become cents of the reporting currency; None where they have no currency."""
        return self.money.conversion if self.money else None

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column that is read, once each."""
        time = self.event_time.all_columns if self.event_time else ()
        own = [*self._money_columns.values(), *(own.column for own in self.own)]
        return tuple(dict.fromkeys([*self.fields.values(), *time, *self._label_columns, *own]))

    @property
    def id(self) -> str:
        """Short hash of all that decides stored values; descriptions and reasons do not."""
        return self._hash(exclude={"not_used": True, "own": {"__all__": {"description"}}}, local_time=self.local_time)

    @property
    def fixed_id(self) -> str:
        """Short hash of all that decides whose transactions these are; rates change amounts, and not that."""
        by_row = self.event_time is not None and self.event_time.zone_column != ""
        return self._hash(exclude={"not_used": True, "own": True, "money": {"rates"}}, local_time=by_row)

    def _hash(self, *, exclude: dict[str, Any], local_time: bool) -> str:
        # Without a currency, and without local time, the hash is that of releases that knew none, so that no day is
        # read again.
        exclude = exclude if self.money else {**exclude, "money": True}
        exclude = exclude if local_time else {**exclude, "event_time": {"zone_column"}}
        values = self.model_dump(mode="json", exclude=exclude)
        for own in values.get("own", ()):
            if not own["personal"]:
                del own["personal"]  # as in releases that knew no personal fields
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]

    @property
    def _money_columns(self) -> dict[str, str]:
        return self.money.columns if self.money else {}

    @property
    def _label_columns(self) -> list[str]:
        return [self.label.column] if self.label else []


FIELDS_OF_A_FILE: Final = ("event_time", "is_fraud", *PLAIN_FIELDS)


def spelling(word: str) -> str:
    """A label as it is compared: without letter case and white space around it."""
    return word.strip().lower()


class DeclarationError(SourceError):
    """A fraud.toml cannot be used; each line of the message says file, line, key, problem and remedy."""


def read_declaration(text: str, *, path: Path | str = "fraud.toml") -> Declaration:
    """The declaration that a TOML text holds; `path` is for messages. Raises DeclarationError with every problem."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        place = re.search(r"at line (\d+)", str(error))
        line = place[1] if place else text.count("\n") + 1
        raise DeclarationError(f"{path}, line {line}: this is no TOML ({error}): correct the line") from None
    lines = lines_of_keys(text)
    own, fields = document.pop("own_fields", {}), document.pop("fields", {})
    try:
        _check_tables(document, own=own, fields=fields)
        money = money_document(fields, document)
        plain = {name: column for name, column in fields.items() if name not in {*_READINGS, *MONEY_KEYS}}
        return Declaration.model_validate(
            {
                **{key: value for key, value in document.items() if key in ("version", "not_used")},
                "fields": plain,
                "money": money,
                **{
                    argument: {key: [value] if key == "columns" else value} if isinstance(value, str) else value
                    for name, (argument, key) in _READINGS.items()
                    if (value := fields.get(name)) is not None
                },
                "own": [{**table, "name": name} for name, table in own.items()],
            }
        )
    except KeyedError as error:
        problems = [(error.key, error.problem)]
    except ValidationError as error:
        problems = [_problem(details, own=tuple(own)) for details in error.errors()]
    raise DeclarationError("\n".join(_sentence(path, key, lines, problem) for key, problem in problems)) from None


def declaration_toml(declaration: Declaration) -> str:
    """The TOML from which `read_declaration` gives an equal declaration."""
    out = [
        "# Which column of the file is which field; `fraud-detect train` reads it. Change what is wrong.",
        f"version = {declaration.version}",
    ]
    if declaration.money and declaration.money.reporting:
        out.append(f"reporting_currency = {toml_value(declaration.money.reporting)}")
    out += ["", "[fields]  # ours = the file's"]
    if declaration.event_time:
        out.append(f"event_time = {_inline(declaration.event_time, plain='columns')}")
    else:
        out.append("# event_time is given by no column: the order of the rows is their time")
    out += [f"{toml_key(name)} = {toml_value(column)}" for name, column in declaration.fields.items()]
    out += money_fields_toml(declaration.money) if declaration.money else []
    if declaration.label:
        out.append(f"is_fraud = {_inline(declaration.label, plain='column')}  # other cells, and empty ones: unknown")
    out += rates_toml(declaration.money) if declaration.money else []
    for own in declaration.own:
        out += ["", f"[own_fields.{toml_key(own.name)}]", f"type = {toml_value(own.type)}"]
        out += [f"column = {toml_value(own.column)}"]
        out += [f"description = {toml_value(own.description)}"] if own.description else []
        out += ["personal = true"] if own.personal else []
    if declaration.not_used:
        out += ["", "[not_used]  # column = why"]
        out += [f"{toml_key(column)} = {toml_value(reason)}" for column, reason in declaration.not_used.items()]
    return "\n".join(out) + "\n"


_READINGS: Final = {"event_time": ("event_time", "columns"), "is_fraud": ("label", "column")}
"""Field -> the argument that reads it, and the argument's key that a mere name of a column stands for."""
_LATER: Final = ("entities", "features")


def _check_tables(document: Mapping[str, Any], *, own: object, fields: object) -> None:
    """Raise KeyedError for what is no table, and for tables of a later release."""
    for name in document:
        if name in _LATER:
            raise KeyedError((name,), "entities and features are not declared in this release: remove the table")
        if name not in {"version", "not_used", "rates", "reporting_currency"}:
            known = "version, reporting_currency, [fields], [rates], [own_fields.NAME] or [not_used]"
            raise KeyedError((name,), f"no such key is known: write {known}")
    for name, table in (("fields", fields), ("own_fields", own)):
        if not isinstance(table, dict):
            raise KeyedError((name,), f"this must be a table: write [{name}] above its keys")
    for name, table in own.items() if isinstance(own, dict) else ():
        if not isinstance(table, dict):
            problem = f"this must be a table: write [own_fields.{name}], then type and column"
            raise KeyedError(("own_fields", name), problem)
        if "name" in table:
            raise KeyedError(("own_fields", name, "name"), "the table's name is the field's name: remove this key")


def _key_of(place: Sequence[int | str], own: Sequence[str]) -> KeyPath:
    """The key of fraud.toml that a place in the declaration stands for."""
    match place:
        case ("own", int(index), *rest):
            start: KeyPath = ("own_fields", own[index])
        case ("event_time" | "label" as argument, *rest):
            start = ("fields", "is_fraud" if argument == "label" else argument)
        case ("money", str(argument), *rest):
            return money_key(argument, [str(key) for key in rest])
        case _:
            start, rest = (), list(place)
    return (*start, *map(str, rest))


def _problem(details: ErrorDetails, *, own: Sequence[str]) -> tuple[KeyPath, str]:
    """Key and problem, with its remedy, of one of pydantic's errors."""
    cause = details.get("ctx", {}).get("error")
    if isinstance(cause, KeyedError):
        return cause.key, cause.problem
    remedies = {
        "extra_forbidden": "no such key is known: remove it, or check its spelling",
        "missing": "this key is missing: add it",
        "string_type": 'this must be text: write it in "quotes"',
    }
    problem = remedies.get(details["type"]) or details["msg"].removeprefix("Value error, ")
    return _key_of(details["loc"], own), problem


def _sentence(path: Path | str, key: KeyPath, lines: Mapping[KeyPath, int], problem: str) -> str:
    places = [lines[key[:length]] for length in range(len(key), 0, -1) if key[:length] in lines]
    line = f", line {places[0]}" if places else ""
    return f"{path}{line}{', ' if key else ''}{'.'.join(key)}: {problem}"


def _inline(reading: BaseModel, *, plain: str) -> str:
    """A reading as the name of its column, or as an inline table where it has more."""
    given = {name: value for name, value in reading if value not in ("", (), None)}
    column = given[plain] if isinstance(given[plain], str) else given[plain][0]
    if len(given) == 1 and given[plain] in (column, (column,)):
        return toml_value(column)
    return "{" + ", ".join(f"{name} = {toml_value(value)}" for name, value in given.items()) + "}"


def _repeated(names: Iterable[str]) -> list[str]:
    return [name for name, count in Counter(names).items() if count > 1]
