"""Pending reports: they arrived before their transaction and are kept until it arrives.

Belongs here: their statements, within one open transaction. Must not be here: how long they are kept
(`serving/stream/handler.py`), storing a report (`batch.py`).
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
    """A row of `pending_reports`: the report, and the Kafka record that it came in."""

    topic: str
    partition: int
    offset: int
    transaction_id: str
    is_fraud: bool
    reported_at: int
    kept_at: int
    value: bytes


class PendingReports:
    """The pending reports; each method reads a bounded number of them."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def keep(self, report: PendingReport) -> None:
        """Keep a report; a repeated record changes nothing."""
        insert: Any = postgresql.insert if self._connection.dialect.name == "postgresql" else sqlite.insert
        self._connection.execute(insert(PENDING_REPORTS).values(report._asdict()).on_conflict_do_nothing())

    def of(self, transaction_ids: Sequence[str]) -> list[PendingReport]:
        """Reports on these transactions, in order of `reported_at`."""
        chosen = one_of(self._connection.dialect.name, _COLUMNS.transaction_id)
        return self._read(chosen, {"names": transaction_ids})

    def known_by_now(self) -> list[PendingReport]:
        """Reports whose transaction is known by now, in order of `reported_at`."""
        known = sa.select(TRANSACTIONS.c.transaction_id).where(TRANSACTIONS.c.transaction_id == _COLUMNS.transaction_id)
        return self._read(known.exists())

    def kept_before(self, instant: int) -> list[PendingReport]:
        """Reports that were kept before an instant."""
        return self._read(_COLUMNS.kept_at < instant)

    def forget(self, reports: Sequence[PendingReport]) -> None:
        """Delete these reports."""
        if reports:
            keys = [report[:3] for report in reports]
            self._connection.execute(sa.delete(PENDING_REPORTS).where(sa.tuple_(*_RECORD).in_(keys)))

    def _read(
        self, condition: sa.ColumnElement[bool], parameters: Mapping[str, Any] | None = None
    ) -> list[PendingReport]:
        statement = sa.select(*_COLUMNS).where(condition).order_by(_COLUMNS.reported_at, *_RECORD).limit(_MOST)
        return [PendingReport(*row) for row in self._connection.execute(statement, parameters)]
