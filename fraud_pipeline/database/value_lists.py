"""Statements about lists: their values, changes by hand and in bulk, and what changed since a version.

Belongs here: reading and writing. Must not be here: membership (`policy/value_lists.py`), CSV (`cli/list_commands.py`).
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final, TypeVar

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy.dialects import postgresql, sqlite

from fraud_pipeline.database.analyst_rules import RuleChangeError, add_event, next_rules_version
from fraud_pipeline.database.engine import Database
from fraud_pipeline.database.rule_tables import VALUE_LIST_ENTRIES, VALUE_LISTS
from fraud_pipeline.policy.value_lists import Match, ValueList, list_key, stored_value, width_of
from fraud_pipeline.schema.transactions import now_microseconds

T = TypeVar("T")
# One transaction of a bulk change. Scorers of SQLite wait for it, so it takes well under a second.
_AT_ONCE: Final = 5_000
_READ_AT_ONCE: Final = 100_000


@dataclass(frozen=True, slots=True)
class NewEntry:
    """A value to add; `ends_at` in microseconds since 1970-01-01 UTC."""

    value: str
    comment: str
    ends_at: int


@dataclass(frozen=True, slots=True)
class Entry:
    """A value of a list, who added it and why; times in microseconds since 1970-01-01 UTC."""

    value: str
    comment: str
    ends_at: int
    added_at: int
    who: str


@dataclass(frozen=True, slots=True)
class ListSummary:
    """A list and the number of values that have not ended."""

    name: str
    match: Match
    comment: str
    values: int


_ENTRY: Final = [VALUE_LIST_ENTRIES.c[name] for name in Entry.__slots__]


def create_list(database: Database, name: str, *, match: Match, comment: str, who: str) -> None:
    """Create an empty list. Raises RuleChangeError for a name that is taken."""
    with database.transaction() as connection:
        next_rules_version(connection)
        if connection.execute(sa.select(VALUE_LISTS.c.name).where(VALUE_LISTS.c.name == name)).one_or_none():
            raise RuleChangeError(f"{name}: a list of this name exists; add values to it, or choose another name")
        values = {"name": name, "match": match, "comment": comment, "created_at": now_microseconds()}
        connection.execute(sa.insert(VALUE_LISTS), [values])
        add_event(connection, who=who, what="list created", name=name, detail=match, reason=comment)


def add_values(database: Database, name: str, entries: Iterable[NewEntry], *, who: str) -> int:
    """Add values, or renew their comments and ends; returns their number.

    Thousands are stored in several transactions, each of which counts at once. Raises RuleChangeError for an unknown
    list, and ValueError for a network that is none.
    """
    match, count, first = list_match(database, name), 0, ""
    for some in _pieces(entries):
        now = now_microseconds()
        rows = {
            value: {
                "list": name,
                "value": value,
                "key": list_key(value, match),
                "width": width_of(value, match),
                "comment": entry.comment,
                "ends_at": entry.ends_at,
                "added_at": now,
                "who": who,
            }
            for entry in some
            for value in [stored_value(entry.value, match)]
        }
        with database.transaction() as connection:
            version = next_rules_version(connection)
            connection.execute(_upsert(database), [{**row, "version": version} for row in rows.values()])
        first = first or some[0].value
        count += len(rows)
    if count:
        _add_list_event(database, "values added", name, who=who, detail=first if count == 1 else f"{count:,} values")
    return count


def remove_values(database: Database, name: str, values: Iterable[str], *, who: str, reason: str) -> int:
    """Remove values; returns the number of those that were in the list. Raises RuleChangeError for an unknown list."""
    match, count, first = list_match(database, name), 0, ""
    for some in _pieces(values):
        with database.transaction() as connection:
            entries, version = VALUE_LIST_ENTRIES.c, next_rules_version(connection)
            removed = (
                sa.update(VALUE_LIST_ENTRIES)
                .where(entries.list == name, entries.value == sa.bindparam("given"), entries.ends_at > 0)
                .values(ends_at=0, version=version)
            )
            stored = [stored_value(value, match) for value in some]
            count += sum(connection.execute(removed, {"given": value}).rowcount for value in stored)
        first = first or some[0]
    if count:
        detail = first if count == 1 else f"{count:,} values"
        _add_list_event(database, "values removed", name, who=who, detail=detail, reason=reason)
    return count


def all_lists(database: Database) -> list[ListSummary]:
    """Every list by name, with the number of its values."""
    lists, entries = VALUE_LISTS.c, VALUE_LIST_ENTRIES.c
    held = sa.and_(entries.list == lists.name, entries.ends_at > now_microseconds())
    query = (
        sa.select(lists.name, lists.match, lists.comment, sa.func.count(entries.list))
        .outerjoin(VALUE_LIST_ENTRIES, held)
        .group_by(lists.name, lists.match, lists.comment)
        .order_by(lists.name)
    )
    return [ListSummary(*row) for row in database.rows(query)]


def list_match(database: Database, name: str) -> Match:
    """How a list matches values. Raises RuleChangeError for an unknown list."""
    rows = database.rows(sa.select(VALUE_LISTS.c.match).where(VALUE_LISTS.c.name == name))
    if not rows:
        raise RuleChangeError(f"{name}: there is no such list; `fraud-detect lists create {name}` makes it")
    match: Match = rows[0][0]
    return match


def list_names(database: Database) -> list[str]:
    """The names of all lists."""
    return [name for (name,) in database.rows(sa.select(VALUE_LISTS.c.name))]


def values_of(database: Database, name: str, *, ended: bool = False, limit: int | None = None) -> Iterator[Entry]:
    """The values of a list in order, a page at a time; with `ended` also those that have ended or were removed."""
    list_match(database, name)
    entries, after, left = VALUE_LIST_ENTRIES.c, "", limit
    while left is None or left > 0:
        page = _READ_AT_ONCE if left is None else min(left, _READ_AT_ONCE)
        query = sa.select(*_ENTRY).where(entries.list == name, entries.value > after).order_by(entries.value)
        if not ended:
            query = query.where(entries.ends_at > now_microseconds())
        rows = database.rows(query.limit(page))
        yield from (Entry(*row) for row in rows)
        if len(rows) < page:
            return
        after, left = rows[-1].value, None if left is None else left - len(rows)


def changed_lists(
    connection: sa.Connection, lists: dict[str, ValueList], *, above: int, up_to: int
) -> dict[str, ValueList]:
    """The lists after their changes of versions above one, up to another; `lists` are those before."""
    current = {
        name: lists.get(name) or ValueList(match=match)
        for name, match in connection.execute(sa.select(VALUE_LISTS.c.name, VALUE_LISTS.c.match))
    }
    entries = VALUE_LIST_ENTRIES.c
    place = sa.tuple_(entries.version, entries.list, entries.value)
    query = (
        sa.select(entries.list, entries.key, entries.ends_at, entries.width, entries.version, entries.value)
        .where(entries.version > above, entries.version <= up_to)
        .order_by(entries.version, entries.list, entries.value)
        .limit(_READ_AT_ONCE)
    )
    changes: dict[str, _Changes] = {name: _Changes() for name in current}
    page = connection.execute(query).all()
    while page:
        # Kept as arrays, because a million rows of Python are a hundred times as large.
        for name in {row.list for row in page}:
            changes[name].add([row for row in page if row.list == name])
        if len(page) < _READ_AT_ONCE:
            break
        after = (page[-1].version, page[-1].list, page[-1].value)
        page = connection.execute(query.where(place > after)).all()
    return {name: changed.applied_to(current[name]) for name, changed in changes.items()}


@dataclass(slots=True)
class _Changes:
    """Changes of one list, oldest first."""

    keys: list[NDArray[np.int64]] = field(default_factory=list)
    ends: list[NDArray[np.int64]] = field(default_factory=list)
    widths: set[str] = field(default_factory=set)

    def add(self, rows: Sequence[Any]) -> None:
        """Append the changes of a page."""
        self.keys.append(np.array([row.key for row in rows], np.int64))
        self.ends.append(np.array([row.ends_at for row in rows], np.int64))
        self.widths |= {row.width for row in rows}

    def applied_to(self, before: ValueList) -> ValueList:
        """The list after these changes."""
        if not self.keys:
            return before
        return before.changed(np.concatenate(self.keys), np.concatenate(self.ends), widths=self.widths)


def _pieces(values: Iterable[T]) -> Iterator[tuple[T, ...]]:
    each = iter(values)
    while piece := tuple(islice(each, _AT_ONCE)):
        yield piece


def _add_list_event(database: Database, what: str, name: str, *, who: str, detail: str, reason: str = "") -> None:
    with database.transaction() as connection:
        add_event(connection, who=who, what=what, name=name, detail=detail, reason=reason)


def _upsert(database: Database) -> Any:
    insert: Any = postgresql.insert if database.is_postgresql else sqlite.insert
    statement = insert(VALUE_LIST_ENTRIES)
    key = list(VALUE_LIST_ENTRIES.primary_key.columns)
    others = {
        column.name: statement.excluded[column.name] for column in VALUE_LIST_ENTRIES.columns if not column.primary_key
    }
    return statement.on_conflict_do_update(index_elements=key, set_=others)
