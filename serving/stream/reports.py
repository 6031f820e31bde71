"""Fraud reports of the stream: stored with their transaction, kept until it arrives, dead-lettered if it never does.

Belongs here: how long a report waits, and its handling within a batch's transaction. Must not be here: the statements
(`fraud_pipeline/database/pending.py`), the order of a batch (`handler.py`).
"""

from collections.abc import Callable, Sequence
from typing import Final

from fraud_pipeline.database import Batch, PendingReport
from fraud_pipeline.messaging.topics import Message
from fraud_pipeline.schema.transactions import DAY, MILLISECOND, SECOND
from serving.http.requests import Report
from serving.stream.messages import BadMessage, dead_letter
from serving.stream.records import Partition, Record

PENDING_FOR: Final = 7 * DAY
"""How long a report waits for its transaction; brokers by default keep records no longer."""
LOOK_AGAIN_AFTER: Final = 60 * SECOND
"""How often to check for transactions that arrived by another way than this stream."""


class StreamReports:
    """The reports of one reader."""

    def __init__(self, *, clock: Callable[[], int]) -> None:
        self._clock = clock
        self._looked_at = 0

    def add(
        self, batch: Batch, reports: Sequence[tuple[Report, Partition, Record]], *, transaction_ids: Sequence[str]
    ) -> Sequence[PendingReport]:
        """Store reports, those that waited for these transactions first; which ones have waited for too long."""
        now = self._clock()
        if transaction_ids:
            batch.add_pending_reports(batch.pending.of(transaction_ids))
        for report, at, record in reports:
            sent = min(now, record.timestamp * MILLISECOND) if record.timestamp > 0 else now
            if batch.add_report(report.transaction_id, reported_at=sent, is_fraud=report.is_fraud) is None:
                value = record.value or b""
                batch.pending.keep(
                    PendingReport(*at, record.offset, report.transaction_id, report.is_fraud, sent, now, value)
                )
        if now < self._looked_at + LOOK_AGAIN_AFTER:
            return ()
        self._looked_at = now
        batch.add_pending_reports(batch.pending.known_by_now())
        return batch.pending.kept_before(now - PENDING_FOR)


def overdue_dead_letter(report: PendingReport) -> Message:
    """The dead letter of a report whose transaction never arrived."""
    return dead_letter(
        BadMessage("unknown_transaction", "transaction_id"),
        key=report.transaction_id.encode(),
        value=report.value,
        headers=(),
        topic=report.topic,
        partition=report.partition,
        offset=report.offset,
        timestamp=report.reported_at // MILLISECOND,
    )
