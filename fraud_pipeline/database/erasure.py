"""Erases a customer from the database in one transaction.

Belongs here: which columns of each table name or describe a customer. Must not be here: tables of days
(`ingest/erased_days.py`), words for a person.

Counts and sums stay: events, decisions, reports and alerts keep time, amount, merchant and outcome under an erased id.
Features, reasons, own fields, positions and notes go, and whatever no sum needs is removed.
"""

import gzip
import re
import zlib
from collections.abc import Collection, Iterator, Sequence
from typing import Any, Final

import numpy as np
import sqlalchemy as sa

from fraud_pipeline.database.analyst_rules import next_rules_version
from fraud_pipeline.database.engine import Database
from fraud_pipeline.database.rule_tables import RULE_EVENTS, RULE_SNOOZES, VALUE_LIST_ENTRIES
from fraud_pipeline.database.statements import one_of
from fraud_pipeline.database.tables import (
    ALERT_EVENTS,
    ALERTS,
    CUSTOMERS,
    DECISIONS,
    FRAUD_REPORTS,
    PENDING_REPORTS,
    REPORT_VERDICTS,
    SHADOW_DECISIONS,
    SPENT_IDS,
    TRANSACTIONS,
)
from fraud_pipeline.schema.erasure import ErasedId, ErasedRows

_NAMES: Final = 10_000
_WORD: Final = re.compile(r"[\w.:-]+")
_NEW: Final[sa.BindParameter[Any]] = sa.bindparam("new")
# Table -> its new values beside the transaction's id.
_PSEUDONYMISED: Final[tuple[tuple[sa.Table, dict[str, Any]], ...]] = (
    (
        TRANSACTIONS,
        {"customer_id": _NEW, "country": None, "latitude": None, "longitude": None, "own_fields": None},
    ),
    (
        DECISIONS,
        {"features": sa.bindparam("nothing"), "reasons": "[]", "request_id": None, "unused_fields": None},
    ),
    (SPENT_IDS, {}),
    (FRAUD_REPORTS, {"customer_id": _NEW}),
    (ALERTS, {"customer_id": _NEW}),
    (ALERT_EVENTS, {"note": ""}),
    (SHADOW_DECISIONS, {}),
)


def erase_from_database(
    database: Database, *, customer: str, ids: Collection[str], erased: ErasedId, dry_run: bool = False
) -> list[ErasedRows]:
    """Erase a customer and these further transactions of theirs; with `dry_run`, only count the rows.

    `ids` come from places that know more transactions: history expires before decisions.
    """
    with database.transaction(read_only=dry_run) as connection:
        if not dry_run:
            _begin(connection, customer)
        known = sorted({*ids, *_transactions_of(connection, customer)})
        new = {id_: erased(id_) for id_ in known if erased(id_) != id_}
        done = [_pseudonymise(connection, table, values, new, dry_run=dry_run) for table, values in _PSEUDONYMISED]
        done.append(_removed(connection, PENDING_REPORTS, PENDING_REPORTS.c.transaction_id, list(new), dry_run=dry_run))
        done.append(_removed(connection, CUSTOMERS, CUSTOMERS.c.customer_id, [customer], dry_run=dry_run))
        done.append(_without_pages(connection, list(new), dry_run=dry_run))
        done.append(_removed(connection, RULE_SNOOZES, RULE_SNOOZES.c.customer_id, [customer], dry_run=dry_run))
        if done[-1].removed and not dry_run:
            next_rules_version(connection)
        done.append(_list_entries(connection, customer, erased(customer), dry_run=dry_run))
        done.append(_rule_events(connection, [customer, *new], erased, dry_run=dry_run))
        left = _transactions_of(connection, customer)
        if left and not dry_run:
            raise RuntimeError(f"{len(left)} transactions still name the customer: nothing was changed; try again")
    return done


def transactions_of(database: Database, customer: str) -> set[str]:
    """The ids of a customer's transactions that the database knows."""
    with database.transaction(read_only=True) as connection:
        return _transactions_of(connection, customer)


def names_any(text: str, names: Collection[str]) -> bool:
    """Whether a text holds one of these names as a whole word."""
    words = set(_WORD.findall(text))
    return any(name in words or (not _WORD.fullmatch(name) and name in text) for name in names)


def _begin(connection: sa.Connection, customer: str) -> None:
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql("PRAGMA secure_delete = ON")  # the file keeps nothing of what is overwritten
    of_customer = CUSTOMERS.c.customer_id == customer
    # A scorer that holds the customer's lock ends first, and a later one waits.
    connection.execute(sa.update(CUSTOMERS).where(of_customer).values(version=CUSTOMERS.c.version + 1))


def _transactions_of(connection: sa.Connection, customer: str) -> set[str]:
    found: set[str] = set()
    for table in (TRANSACTIONS, FRAUD_REPORTS, ALERTS):
        of_customer = sa.select(table.c.transaction_id).where(table.c.customer_id == customer)
        found.update(connection.execute(of_customer).scalars())
    return found


def _pseudonymise(
    connection: sa.Connection, table: sa.Table, values: dict[str, Any], new: dict[str, str], *, dry_run: bool
) -> ErasedRows:
    of_id, name = table.c.transaction_id, f"database, {table.name}"
    rows = _count(connection, table, of_id, list(new))
    if dry_run or not rows:
        return ErasedRows(name, pseudonymised=rows, left=rows)
    # An erased row may have come back from the tables of days already.
    taken = set(_holding(connection, of_id, list(new.values())))
    twice = [old for old, erased in new.items() if erased in taken]
    removed = _delete(connection, table, of_id, twice)
    changed = [{"old": old, "new": erased} for old, erased in new.items() if erased not in taken]
    if table is DECISIONS:
        changed = _with_empty_features(connection, changed)
    if changed:
        statement = sa.update(table).where(of_id == sa.bindparam("old")).values(transaction_id=_NEW, **values)
        connection.execute(statement, changed)
    left = _count(connection, table, of_id, list(new))
    return ErasedRows(name, pseudonymised=rows - removed, removed=removed, left=left)


def _with_empty_features(connection: sa.Connection, changed: Sequence[dict[str, str]]) -> list[dict[str, Any]]:
    """The changes of decisions that exist, each with a row of as many missing features."""
    size = sa.func.length(DECISIONS.c.features)
    sizes: dict[str, int] = {}
    for names in _parts([change["old"] for change in changed]):
        of_names = sa.select(DECISIONS.c.transaction_id, size).where(_one_of(connection, DECISIONS.c.transaction_id))
        sizes.update((row[0], row[1]) for row in connection.execute(of_names, {"names": names}))
    return [
        {**change, "nothing": np.full(sizes[change["old"]] // 4, np.nan, np.float32).tobytes()}
        for change in changed
        if change["old"] in sizes
    ]


def _removed(
    connection: sa.Connection, table: sa.Table, column: sa.Column[str], names: list[str], *, dry_run: bool
) -> ErasedRows:
    place, rows = f"database, {table.name}", _count(connection, table, column, names)
    if dry_run:
        return ErasedRows(place, removed=rows, left=rows)
    return ErasedRows(place, removed=_delete(connection, table, column, names))


def _without_pages(connection: sa.Connection, names: list[str], *, dry_run: bool) -> ErasedRows:
    """Remove the pages of reports that show the customer; the verdicts stay."""
    verdicts, key = REPORT_VERDICTS, list(REPORT_VERDICTS.primary_key.columns)
    filled = sa.select(*key, verdicts.c.page).where(verdicts.c.page.is_not(None))
    shown = [row[:-1] for row in connection.execute(filled) if names_any(_text(row[-1]), names)]
    for values in () if dry_run else shown:
        of_row = [column == value for column, value in zip(key, values, strict=True)]
        connection.execute(sa.update(verdicts).where(*of_row).values(page=None))
    return ErasedRows(f"database, pages of {verdicts.name}", removed=len(shown), left=len(shown) if dry_run else 0)


def _list_entries(connection: sa.Connection, customer: str, name: str, *, dry_run: bool) -> ErasedRows:
    """Rename the customer in lists. An entry goes on to match, because its key is a hash of the value."""
    entries, place = VALUE_LIST_ENTRIES, f"database, {VALUE_LIST_ENTRIES.name}"
    rows = _count(connection, entries, entries.c.value, [customer])
    if not dry_run:
        renamed = sa.update(entries).where(entries.c.value == customer).values(value=name, comment="")
        connection.execute(renamed)
    return ErasedRows(place, pseudonymised=rows, left=rows if dry_run else 0)


def _rule_events(connection: sa.Connection, names: list[str], erased: ErasedId, *, dry_run: bool) -> ErasedRows:
    """Rename the customer in the audit trail of rules and lists."""
    events = RULE_EVENTS
    query = sa.select(events.c.number, events.c.detail, events.c.reason)
    shown = [row for row in connection.execute(query) if names_any(f"{row.detail} {row.reason}", names)]
    for row in () if dry_run else shown:
        values = {"detail": erased(row.detail) if names_any(row.detail, names) else row.detail, "reason": ""}
        connection.execute(sa.update(events).where(events.c.number == row.number).values(**values))
    return ErasedRows(f"database, {events.name}", pseudonymised=len(shown), left=len(shown) if dry_run else 0)


def _text(page: bytes) -> str:
    try:
        return gzip.decompress(page).decode(errors="replace")
    except (OSError, EOFError, zlib.error):
        return page.decode(errors="replace")


def _count(connection: sa.Connection, table: sa.Table, column: sa.Column[str], names: list[str]) -> int:
    of_names = sa.select(sa.func.count()).select_from(table).where(_one_of(connection, column))
    return sum(int(connection.execute(of_names, {"names": part}).scalar_one()) for part in _parts(names))


def _holding(connection: sa.Connection, column: sa.Column[str], names: list[str]) -> Iterator[str]:
    for part in _parts(names):
        yield from connection.execute(sa.select(column).where(_one_of(connection, column)), {"names": part}).scalars()


def _delete(connection: sa.Connection, table: sa.Table, column: sa.Column[str], names: list[str]) -> int:
    of_names = sa.delete(table).where(_one_of(connection, column))
    return sum(connection.execute(of_names, {"names": part}).rowcount for part in _parts(names))


def _one_of(connection: sa.Connection, column: sa.Column[str]) -> sa.ColumnElement[bool]:
    return one_of(connection.dialect.name, column)


def _parts(names: list[str]) -> Iterator[list[str]]:
    for first in range(0, len(names), _NAMES):
        yield names[first : first + _NAMES]
