"""The command `fraud-detect lists`.

Belongs here: one function for each action, CSV, words for a person. Must not be here: membership
(`policy/value_lists.py`), statements (`database/value_lists.py`).
"""

import argparse
import csv
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from pydantic_core import to_json

from fraud_pipeline.cli.rule_commands import checked_name, person
from fraud_pipeline.database import Database, open_database
from fraud_pipeline.database.analyst_rules import RuleChangeError
from fraud_pipeline.database.value_lists import (
    Entry,
    NewEntry,
    add_values,
    all_lists,
    create_list,
    list_match,
    remove_values,
    values_of,
)
from fraud_pipeline.policy.value_lists import NO_END, Match, stored_value
from fraud_pipeline.settings import load_settings

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_COLUMNS: Final = ("value", "comment", "ends_at")
Result = tuple[Any, list[str]]


def lists(arguments: argparse.Namespace) -> int:
    """Run one action on lists."""
    with open_database(load_settings().database) as database:
        result, lines = _ACTIONS[arguments.action](database, arguments)
    print(to_json(result).decode() if arguments.json else "\n".join(lines))
    return 0


def read_entries(path: Path, match: Match) -> Iterator[NewEntry]:
    """The entries of a CSV file with the columns value and, if any, comment and ends_at.

    Raises RuleChangeError with the line of the first wrong row.
    """
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        names = reader.fieldnames or []
        if "value" not in names or not set(names) <= set(_COLUMNS):
            raise RuleChangeError(f"{path}: the first line must name the columns value, comment and ends_at")
        for row in reader:
            try:
                value = stored_value((row["value"] or "").strip(), match)
                if not value:
                    raise ValueError("the value is empty; remove the line")  # noqa: TRY301 - one message for all
                yield NewEntry(value, row.get("comment") or "", _end(row.get("ends_at") or ""))
            except ValueError as error:
                raise RuleChangeError(f"{path}, line {reader.line_num}: {error}") from None


def _end(text: str) -> int:
    if not text:
        return NO_END
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is no time; write 2026-12-24 or 2026-12-24T18:00Z") from None
    return _microseconds(moment if moment.tzinfo else moment.replace(tzinfo=UTC))


def _microseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // _MICROSECOND


def _shown_end(ends_at: int) -> str:
    return "" if ends_at == NO_END else (_EPOCH + ends_at * _MICROSECOND).isoformat()


def _list(database: Database, _arguments: argparse.Namespace) -> Result:
    rows = all_lists(database)
    lines = [f"{row.name:<28}{row.match:<8}{row.values:>10,}  {row.comment}" for row in rows]
    return rows, lines or ["There are no lists."]


def _create(database: Database, arguments: argparse.Namespace) -> Result:
    name = checked_name(arguments.name)
    create_list(database, name, match=arguments.match, comment=arguments.comment, who=person(arguments))
    return {"name": name, "match": arguments.match}, [f"Created {name}; add values, and use list('{name}') in a rule."]


def _show(database: Database, arguments: argparse.Namespace) -> Result:
    rows = list(values_of(database, arguments.name, limit=arguments.limit))
    return [_plain(row) for row in rows], [_line(row) for row in rows] or [f"{arguments.name} is empty."]


def _add(database: Database, arguments: argparse.Namespace) -> Result:
    ends_at = NO_END
    if arguments.until is not None:
        ends_at = _microseconds(arguments.until)
    elif arguments.lasts is not None:
        ends_at = _microseconds(datetime.now(UTC) + arguments.lasts)
    entries = [NewEntry(value, arguments.comment, ends_at) for value in arguments.values]
    number = add_values(database, arguments.name, entries, who=person(arguments))
    return {"added": number}, [f"{arguments.name}: {number} added; every service takes them over within seconds."]


def _remove(database: Database, arguments: argparse.Namespace) -> Result:
    number = remove_values(database, arguments.name, arguments.values, who=person(arguments), reason=arguments.reason)
    return {"removed": number}, [f"{arguments.name}: {number} of {len(arguments.values)} removed."]


def _import(database: Database, arguments: argparse.Namespace) -> Result:
    match = list_match(database, arguments.name)
    for _entry in read_entries(arguments.file, match):
        pass  # a wrong line is refused before anything is stored
    number = add_values(database, arguments.name, read_entries(arguments.file, match), who=person(arguments))
    return {"added": number}, [f"{arguments.name}: {number:,} added from {arguments.file}."]


def _export(database: Database, arguments: argparse.Namespace) -> Result:
    list_match(database, arguments.name)
    number = 0
    with arguments.file.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(_COLUMNS)
        for row in values_of(database, arguments.name):
            writer.writerow([row.value, row.comment, _shown_end(row.ends_at)])
            number += 1
    return {"file": str(arguments.file), "values": number}, [f"{arguments.file}: {number:,} values written."]


def _plain(row: Entry) -> Mapping[str, object]:
    return {"value": row.value, "comment": row.comment, "ends_at": _shown_end(row.ends_at) or None, "who": row.who}


def _line(row: Entry) -> str:
    end = f"until {_shown_end(row.ends_at)}" if row.ends_at != NO_END else "without an end"
    return f"{row.value:<32}{end:<34}{row.who:<16}{row.comment}"


_ACTIONS: Final[Mapping[str, Callable[[Database, argparse.Namespace], Result]]] = {
    "list": _list,
    "create": _create,
    "show": _show,
    "add": _add,
    "remove": _remove,
    "import": _import,
    "export": _export,
}
