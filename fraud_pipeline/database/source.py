"""Served transactions as a source for training.

Belongs here: the database's rows behind the interface of a source. Must not be here: statements (`history.py`).
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Final

import pandas as pd

from fraud_pipeline.database.day_versions import read_day_versions
from fraud_pipeline.database.engine import Database, open_database
from fraud_pipeline.database.history import read_reports, read_transactions
from fraud_pipeline.database.history_source import HistorySource, check_history_source
from fraud_pipeline.database.own_fields import typed
from fraud_pipeline.ingest.column_mapping import SourceError
from fraud_pipeline.ingest.day_plan import SourceDay
from fraud_pipeline.schema.own_fields import OwnField

SERVED: Final = HistorySource("served", "served transactions")


@dataclass(frozen=True, slots=True)
class DatabaseSource:
    """Scored transactions and their reports of the last `retention`.

    `source` names these rows and the history before them. Transactions have a typed column for each of `own_fields`;
    other own fields stay in the database. Reading raises OtherSourceError when the database holds
    history that must not be combined with it.
    """

    url: str
    retention: timedelta
    source: HistorySource = SERVED
    own_fields: tuple[OwnField, ...] = ()

    def transactions(self, *, start: pd.Timestamp, end: pd.Timestamp) -> pd.DataFrame:
        """Rows of [start, end) in order of time. Raises SourceError for days that have expired."""
        with self._opened(start) as database:
            rows = read_transactions(database, start=start, end=end, with_own_fields=bool(self.own_fields))
        if self.own_fields:
            rows = typed(rows, self.own_fields)
        return rows.drop(columns="amount_cents").assign(amount=rows["amount_cents"] / 100)

    def reports(self, *, start: pd.Timestamp, end: pd.Timestamp) -> pd.DataFrame:
        """Reports of [start, end) in order of report. Raises SourceError for days that have expired."""
        with self._opened(start) as database:
            return read_reports(database, start=start, end=end)

    def day_versions(self, *, start: pd.Timestamp, end: pd.Timestamp) -> dict[date, SourceDay]:
        """The version of each day, from the first day that is still complete in the database."""
        start = max(start, self._kept)
        if start >= end:
            return {}
        with self._opened(start) as database:
            versions = read_day_versions(database, start=start, end=end)
        if not self.own_fields:
            return versions
        # Rows read with other own fields are other rows.
        names = "\n".join(f"{field.name} {field.type}" for field in self.own_fields)
        declared = hashlib.sha256(names.encode()).hexdigest()[:8]
        return {
            day: replace(version, transactions=f"{version.transactions}-{declared}")
            for day, version in versions.items()
        }

    @property
    def _kept(self) -> pd.Timestamp:
        """The first midnight after which nothing has expired."""
        return (pd.Timestamp.now(tz="UTC") - self.retention).ceil("D")

    @contextmanager
    def _opened(self, start: pd.Timestamp) -> Iterator[Database]:
        if start < self._kept:
            raise SourceError(
                f"days before {self._kept:%Y-%m-%d} are no longer in the database: leave them out, or set "
                "FRAUD_LEARN_FROM_SERVED to false to take them from where they came from"
            )
        with open_database(self.url, statement_timeout=timedelta(minutes=10)) as database:
            check_history_source(database, self.source)
            yield database
