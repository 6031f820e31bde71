"""Reports that came before their transaction, kept until it comes.

Belongs here: the statements on them, within one open transaction. Must not be here: how long they are kept
(`serving/stream/handler.py`), what a report changes (`batch.py`).
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from fraud_pipeline.database.statements import one_of
from fraud_pipeline.database.tables import PENDING_REPORTS, TRANSACTIONS

_COLUMNS = PENDING_REPORTS.c
_RECORD = (_COLUMNS.topic, _COLUMNS.partition, _COLUMNS.offset)
_MOST = 500


class PendingReport(NamedTuple):
    """A row of `pending_reports`: what was said, and the record that said it."""

    topic: str
    partition: int
    offset: int
    transaction_id: str
    is_fraud: bool
    reported_at: int
    kept_at: int
    value: bytes


class PendingReports:
    """The kept reports; each method looks at a bounded number of them."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def keep(self, report: PendingReport) -> None:
        """Keep a report; the same record again changes nothing."""
        insert: Any = postgresql.insert if self._connection.dialect.name == "postgresql" else sqlite.insert
        self._connection.execute(insert(PENDING_REPORTS).values(report._asdict()).on_conflict_do_nothing())

    def of(self, transaction_ids: Sequence[str]) -> list[PendingReport]:
        """Reports of these transactions, in the order in which they were made."""
        chosen = one_of(self._connection.dialect.name, _COLUMNS.transaction_id)
        return self._read(chosen, {"names": transaction_ids})

    def known_by_now(self) -> list[PendingReport]:
        """Reports whose transaction came since by whatever way, in the order in which they were made."""
        known = sa.select(TRANSACTIONS.c.transaction_id).where(TRANSACTIONS.c.transaction_id == _COLUMNS.transaction_id)
        return self._read(known.exists())

    def kept_before(self, instant: int) -> list[PendingReport]:
        """Reports that are kept since before that."""
        return self._read(_COLUMNS.kept_at < instant)

    def forget(self, reports: Sequence[PendingReport]) -> None:
        """Keep these no longer."""
        if reports:
            those = [report[:3] for report in reports]
            self._connection.execute(sa.delete(PENDING_REPORTS).where(sa.tuple_(*_RECORD).in_(those)))

    def _read(
        self, condition: sa.ColumnElement[bool], parameters: Mapping[str, Any] | None = None
    ) -> list[PendingReport]:
        statement = sa.select(*_COLUMNS).where(condition).order_by(_COLUMNS.reported_at, *_RECORD).limit(_MOST)
        return [PendingReport(*row) for row in self._connection.execute(statement, parameters)]
