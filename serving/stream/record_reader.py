"""Reads one record: a transaction, a report, or the reason why it is neither.

Belongs here: the rules of reading a record again. Must not be here: the fields of a message (`messages.py`), storing
(`handler.py`).

A record is judged by the time it was sent. Every reading therefore gives the same result, and no outage makes a
transaction too old or a report late.
"""

import logging
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace

from fraud_pipeline.database import Database, scoring_batch
from fraud_pipeline.messaging.corrupt_record_patch import UnreadableRecord
from fraud_pipeline.messaging.topics import Message
from fraud_pipeline.schema.money import ANY_CURRENCY, Conversion
from fraud_pipeline.schema.personal_fields import PersonalFields
from fraud_pipeline.schema.transactions import MILLISECOND, TransactionRow
from fraud_pipeline.scoring.errors import StorageRefusedError
from serving.http.own_fields import nothing_declared
from serving.http.requests import Report
from serving.stream.messages import BadMessage, MessageReader, dead_letter, report_of
from serving.stream.records import Partition, Record

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ReadRecord:
    """One record and its content."""

    at: Partition
    record: Record
    content: TransactionRow | Report | BadMessage

    def dead_letter(self, why: BadMessage, *, personal: PersonalFields) -> Message:
        """The dead letter of this record, with pseudonyms in personal fields."""
        record = self.record
        return dead_letter(
            why,
            key=record.key,
            value=record.value,
            headers=record.headers,
            topic=self.at.topic,
            partition=self.at.partition,
            offset=record.offset,
            timestamp=record.timestamp,
            personal=personal,
        )


class RecordReader:
    """Reads records of the topics of transactions and of reports."""

    def __init__(
        self, reader: MessageReader, *, reports_topic: str, database: Database, clock: Callable[[], int]
    ) -> None:
        self._reader = reader
        self._reports_topic = reports_topic
        self._database = database
        self._clock = clock

    def read(self, at: Partition, record: Record, *, stored_before: int) -> ReadRecord:
        """The content of a record; records before the offset `stored_before` were read and stored earlier."""
        if isinstance(record, UnreadableRecord):
            return ReadRecord(at, record, BadMessage("unreadable", "record"))
        if at.topic == self._reports_topic:
            return ReadRecord(at, record, report_of(record.value, record.headers))
        sent = record.timestamp * MILLISECOND if record.timestamp > 0 else self._clock()
        content = self._reader.transaction_message(record.value, record.headers, now=sent)
        if record.offset < stored_before:
            content = self._as_before(record, content, now=sent)
        return ReadRecord(at, record, content)

    def _as_before(
        self, record: Record, content: TransactionRow | BadMessage, *, now: int
    ) -> TransactionRow | BadMessage:
        """The content as an earlier reading judged it; the champion then may have had other own fields or rates."""
        if isinstance(content, TransactionRow) and content.own_fields is None:
            return content
        reader = replace(self._reader, declared=nothing_declared, conversion=any_currency)
        row = reader.transaction_message(record.value, record.headers, now=now)
        if isinstance(row, BadMessage):
            return content
        with scoring_batch(self._database, read_only=True) as batch:
            event, decision = batch.stored([row.transaction_id]).get(row.transaction_id, (None, None))
        if decision is not None:
            return row
        # A good record was stored together with the position.
        refused_then = event is None and isinstance(content, TransactionRow)
        return BadMessage("declared_otherwise", "own_fields") if refused_then else content


def any_currency() -> Conversion:
    """The conversion for rows that are only compared."""
    return ANY_CURRENCY


def failed(at: Partition, record: Record, error: Exception) -> BadMessage:
    """The reason of a dead letter after an unexpected error, whose own text may quote the record."""
    where = "".join(traceback.format_tb(error.__traceback__))
    why = error if isinstance(error, StorageRefusedError) else type(error).__name__
    log.error("offset %d of %s/%d is dead-lettered: %s\n%s", record.offset, *at, why, where)
    return BadMessage("internal")
