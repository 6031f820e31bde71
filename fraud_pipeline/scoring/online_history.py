"""The database's copy of the offline tables: only days with changed content are loaded.

Belongs here: which days changed, and the rows for an audit. Must not be here: statements (`database/`),
files (`storage/tables.py`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

import pandas as pd

from fraud_pipeline.database import Database
from fraud_pipeline.database.history import Loaded, load_history, loaded_days, mark_loaded
from fraud_pipeline.schema.transactions import FRAUD_REPORTS, TRANSACTIONS, empty
from fraud_pipeline.storage.tables import TableStore

TABLES: Final = {"transactions": TRANSACTIONS, "fraud_reports": FRAUD_REPORTS}


@dataclass(frozen=True, slots=True)
class Load:
    """Counts of one load."""

    days_read: int
    added: Loaded


def load_changed_days(database: Database, store: TableStore, *, first: date, last: date) -> Load:
    """Load the changed days from `first` to `last` of both tables into the database; one day is in memory at a time.

    A day that was loaded with its present content is not read. An interrupted load continues where it stopped.
    """
    days_read, added = 0, Loaded()
    for name, day, content in _changed_days(database, store, first=first, last=last):
        frames = {table: empty(schema) for table, schema in TABLES.items()}
        frames[name] = store.read(name, day, day)
        added += load_history(database, transactions=frames["transactions"], reports=frames["fraud_reports"])
        mark_loaded(database, name, day, content=content)
        days_read += 1
    return Load(days_read=days_read, added=added)


def rows_of_customers(
    store: TableStore, customers: Sequence[str], *, first: date, last: date
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Transactions of these customers, and all reports, of the stored days from `first` to `last`."""
    transactions = [empty(TRANSACTIONS)]
    for day in store.days("transactions"):
        if first <= day <= last:
            rows = store.read("transactions", day, day)
            transactions.append(rows[rows["customer_id"].isin(customers)])
    reports = store.read("fraud_reports", first, last, schema=FRAUD_REPORTS, allow_missing=True)
    return pd.concat([rows for rows in transactions if len(rows)] or transactions[:1], ignore_index=True), reports


def _changed_days(database: Database, store: TableStore, *, first: date, last: date) -> Iterator[tuple[str, date, str]]:
    """Table, day and content version. The version is read before the content, so that newer content is loaded later."""
    loaded = loaded_days(database)
    for name in TABLES:
        for day, content in store.versions(name, first, last).items():
            if loaded.get((name, day)) != content:
                yield name, day, content
