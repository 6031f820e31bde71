"""Erases a customer from the tables of days and from the training set.

Belongs here: which columns of each table name or describe a customer, and the notes of rewritten days. Must not be
here: the database (`database/erasure.py`), how files are written (`storage/tables.py`).

Transactions and reports stay under an erased id, because merchants' days and daily sums count them; features and
training rows go. A rewritten day keeps the version of its source, so it is not read again from there. Features that
read it are stale, and the next ingest computes them again.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Final

import numpy as np
import pandas as pd

from fraud_pipeline.schema.erasure import ErasedId, ErasedRows
from fraud_pipeline.schema.transactions import FRAUD_REPORTS, TRANSACTION_COLUMNS, UNKNOWN_LABELS
from fraud_pipeline.storage.tables import TableStore

UNKNOWN: Final = "unknown_labels"
WHOLE_TABLES: Final = ("training_set", "hidden_rows")
# What a raw row and an accepted one keep; everything else describes the customer.
_KEPT: Final = frozenset(
    {*TRANSACTION_COLUMNS, *FRAUD_REPORTS.columns, "amount", "currency", "label_unknown"}
    - {"country", "latitude", "longitude"}
)
_NAMING: Final = ("fraud_reports", "raw_transactions", "transactions")
"""The tables that name customers. They come last, so that an interrupted erasure finds the rest when it is repeated."""


def transactions_in_tables(store: TableStore, customer: str) -> set[str]:
    """The ids of a customer's transactions in the tables of days."""
    ids: set[str] = set()
    for name in _NAMING:
        for day in store.days(name):
            rows = store.read(name, day, day, columns=["transaction_id", "customer_id"])
            ids.update(map(str, rows.loc[_of_customer(rows, customer), "transaction_id"].dropna()))
    return ids


def erase_from_tables(
    store: TableStore, *, customer: str, ids: Collection[str], erased: ErasedId, dry_run: bool = False
) -> list[ErasedRows]:
    """Erase a customer and their transactions `ids`; with `dry_run`, only count the rows."""
    work = _Erasure(store, customer, frozenset(id_ for id_ in ids if erased(id_) != id_), erased, dry_run=dry_run)
    with store.locked("transactions"):
        done = [work.removed_rows("features")]
        done += [work.removed_whole(name) for name in WHOLE_TABLES]
        done += [work.pseudonymised(name)[0] for name in ("rejected_transactions", UNKNOWN, "fraud_reports")]
        raw, versions = work.pseudonymised("raw_transactions")
        done += [raw, work.transactions(versions)]
    if not dry_run:
        # Files of replaced days would hold the customer for another month.
        for name in ("features", *WHOLE_TABLES, "rejected_transactions", UNKNOWN, *_NAMING):
            store.remove_replaced(name)
    return done


@dataclass(frozen=True, slots=True)
class _Erasure:
    store: TableStore
    customer: str
    ids: frozenset[str]
    erased: ErasedId
    dry_run: bool

    def pseudonymised(self, name: str) -> tuple[ErasedRows, dict[tuple[date, str], str]]:
        """Rewrite the days of a table that hold the customer; also each new version by day and old version."""
        rows = left = 0
        versions: dict[tuple[date, str], str] = {}
        for day in self.store.days(name):
            frame = self.store.read(name, day, day)
            found = self._found(frame)
            if not found.any():
                continue
            rows += int(found.sum())
            before = self.store.version(name, day)
            left += self._rewrite(name, day, self._without_person(frame, found), note=self.store.note(name, day))
            versions[day, before] = self.store.version(name, day)
        return ErasedRows(self._place(name), pseudonymised=rows, left=rows if self.dry_run else left), versions

    def transactions(self, raw_versions: Mapping[tuple[date, str], str]) -> ErasedRows:
        """Rewrite accepted transactions; each day's note follows the versions of the raw days that it names."""
        rows = left = 0
        for day in self.store.days("transactions"):
            note = self.store.note("transactions", day)
            renewed = _renewed(note, day, raw_versions)
            frame = self.store.read("transactions", day, day)
            found = self._found(frame)
            if not found.any() and renewed == note:
                continue
            rows += int(found.sum())
            without = self._without_person(frame, found)
            if found.any() and not self.dry_run:
                # Nobody may learn from a person who was erased.
                self._mark_unknown(day, without.loc[found, list(UNKNOWN_LABELS.columns)])
            left += self._rewrite("transactions", day, without, note=renewed)
        return ErasedRows(self._place("transactions"), pseudonymised=rows, left=rows if self.dry_run else left)

    def removed_rows(self, name: str) -> ErasedRows:
        rows = left = 0
        for day in self.store.days(name):
            of_day = self.store.read(name, day, day, columns=["transaction_id"])
            if not self._found(of_day).any():
                continue
            frame = self.store.read(name, day, day)
            found = self._found(frame)
            rows += int(found.sum())
            left += self._rewrite(name, day, frame[~found], note=self.store.note(name, day))
        return ErasedRows(self._place(name), removed=rows, left=rows if self.dry_run else left)

    def removed_whole(self, name: str) -> ErasedRows:
        try:
            frame = self.store.read_whole(name)
        except FileNotFoundError:
            return ErasedRows(self._place(name))
        found = self._found(frame)
        rows = int(found.sum())
        if rows and not self.dry_run:
            self.store.write(name, frame[~found].reset_index(drop=True))
        return ErasedRows(self._place(name), removed=rows, left=rows if self.dry_run else 0)

    def _rewrite(self, name: str, day: date, frame: pd.DataFrame, *, note: str | None) -> int:
        """Replace a day; the number of rows that still name the customer."""
        if self.dry_run:
            return 0
        time = "reported_at" if name == "fraud_reports" else "event_time"
        self.store.write_days(
            name,
            frame.reset_index(drop=True),
            time_column=time,
            days=[day],
            misplaced_day=day,
            notes=None if note is None else {day: note},
        )
        return int(self._found(self.store.read(name, day, day)).sum())

    def _mark_unknown(self, day: date, rows: pd.DataFrame) -> None:
        marked = self.store.read(UNKNOWN, day, day, schema=UNKNOWN_LABELS, allow_missing=True)
        together = pd.concat([marked, rows], ignore_index=True).drop_duplicates("transaction_id")
        self.store.write_days(UNKNOWN, together, time_column="event_time", days=[day], misplaced_day=day)

    def _found(self, frame: pd.DataFrame) -> pd.Series:
        return frame["transaction_id"].isin(self.ids) | _of_customer(frame, self.customer)

    def _without_person(self, frame: pd.DataFrame, found: pd.Series) -> pd.DataFrame:
        """The rows, with erased ids and without what describes the customer in those that were found."""
        changed = frame.copy()
        ids = [self.erased(str(id_)) for id_ in frame.loc[found, "transaction_id"]]
        for name in ("transaction_id", "customer_id"):
            if name in changed:
                changed.loc[found, name] = ids
        if "amount" in changed or "amount_cents" in changed:
            for name in changed.columns.difference(list(_KEPT)):
                changed[name] = _emptied(changed[name], found)
        if "place" in changed:
            changed.loc[found, "place"] = None
        return changed

    def _place(self, name: str) -> str:
        return f"tables {self.store.root.name}, {name}"


def _of_customer(frame: pd.DataFrame, customer: str) -> pd.Series:
    if "customer_id" not in frame:
        return pd.Series(np.zeros(len(frame), bool), index=frame.index)
    return frame["customer_id"].astype(str).str.strip().eq(customer)


def _emptied(column: pd.Series, rows: pd.Series) -> pd.Series:
    """The column without the values of these rows, in its own type."""
    if column.dtype.kind in "iub":  # such as the number of a row in its file
        return column.mask(rows, False if column.dtype.kind == "b" else 0)
    return column.mask(rows, None if column.dtype == object else pd.NA if str(column.dtype) == "boolean" else np.nan)


def _renewed(note: str | None, day: date, versions: Mapping[tuple[date, str], str]) -> str | None:
    """A note of accepted transactions that names the raw days by their versions after erasure."""
    if note is None:
        return None
    content = json.loads(note)
    holders = {
        name: versions.get((date.fromisoformat(name), version), version) for name, version in content["holders"].items()
    }
    return json.dumps({**content, "raw": versions.get((day, content["raw"]), content["raw"]), "holders": holders})
