"""Records of a topic to stored decisions: what the long-lived consumer and a run over a range both do with a batch.

Belongs here: the order in which things become lasting, and what is done with each kind of record. Must not be here:
polling, assignment, retries (`consumer.py`, `ranges.py`), the layout of messages (`messages.py`), how long a
report waits (`reports.py`).

The order is the guarantee. Decisions, history, alerts, reports and the next offset are one database transaction, under
a fence that refuses a reader who has been replaced. Dead letters and decisions are sent after that, while nothing in
the database is locked, and `published_offset` follows only what was acknowledged: whatever was stored and perhaps not
sent is read again, the scorer answers it with what it stored, and what nobody can score is dead-lettered again.

A record is judged by when it was sent, not by when it is read: every reading judges it alike, so none is dead-lettered
once and decided on another time, and no outage makes a transaction too old or a report late.

No record stops those behind it, and none is dead-lettered for what is no fault of its own. When something unexpected
happens, a record that is known to be good goes the same way and is undone again (`known_record.py`). Where that fails
too, everybody waits: the database refuses us, or a fault of ours hits every record. Where it does not, the batch is
halved until one record is left, and that one is dead-lettered.
"""

import logging
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from kafka import KafkaProducer
from kafka.errors import KafkaError

from fraud_pipeline.database import (
    Database,
    DatabaseUnavailableError,
    FencedError,
    PendingReport,
    Position,
    scoring_batch,
)
from fraud_pipeline.host.tracing import remote_span, span, tracing_is_on
from fraud_pipeline.messaging.corrupt_record_patch import UnreadableRecord
from fraud_pipeline.messaging.topics import KafkaSettings, Message
from fraud_pipeline.schema.transactions import MILLISECOND, TransactionRow
from fraud_pipeline.scoring.decision_record import Conflict, ScoringResult
from fraud_pipeline.scoring.errors import StorageRefusedError, StorageUnavailableError, with_retry
from serving.http.own_fields import DeclaredFields, nothing_declared
from serving.request_ids import record_request_ids
from serving.stream.known_record import ScoresRows, check_known_record
from serving.stream.messages import (
    BadMessage,
    MessageReader,
    Report,
    dead_letter,
    decision_message,
    report_of,
)
from serving.stream.records import Partition, Record
from serving.stream.reports import StreamReports, overdue_dead_letter

log = logging.getLogger(__name__)

Point = Literal[
    "polled",
    "in_transaction",
    "stored",
    "dead_letter_sent",
    "dead_letter_acknowledged",
    "published",
    "committed",
    "revoked",
]
ACKNOWLEDGE_WITHIN: Final = 8.0
_NO_RECORDS_FAULT: Final = (FencedError, StorageUnavailableError, DatabaseUnavailableError, KafkaError)


@dataclass(frozen=True, slots=True)
class BatchResult:
    """What became of the records of a batch."""

    positions: Mapping[Partition, Position]
    decided: int
    replayed: int
    dead_letters: int
    reports: int


@dataclass(frozen=True, slots=True)
class _Read:
    """One record and what it says."""

    at: Partition
    record: Record
    content: TransactionRow | Report | BadMessage

    def dead_letter(self, why: BadMessage) -> Message:
        """The dead letter of this record."""
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
        )


@dataclass(frozen=True, slots=True)
class _Stored:
    """What is in the database by now, and what is to be sent of it."""

    positions: dict[Partition, Position]
    answers: list[tuple[TransactionRow, ScoringResult | Conflict]]
    dead_letters: list[Message]
    overdue: list[PendingReport]
    reports: int

    def __add__(self, later: "_Stored") -> "_Stored":
        return _Stored(
            self.positions | later.positions,
            self.answers + later.answers,
            self.dead_letters + later.dead_letters,
            self.overdue + later.overdue,
            self.reports + later.reports,
        )


class StreamScorer:
    """Handles batches of records; one per thread.

    `declared` gives the own fields that the champion declares. Brokers that do not acknowledge within so many seconds
    are away. `reached` gets each point of the order, so that a test can stop a process there.
    """

    def __init__(
        self,
        *,
        scorer: ScoresRows,
        database: Database,
        producer: KafkaProducer,
        kafka: KafkaSettings,
        currency: str,
        clock: Callable[[], int],
        declared: DeclaredFields = nothing_declared,
        acknowledge_within: float = ACKNOWLEDGE_WITHIN,
        reached: Callable[[Point], None] = lambda _point: None,
    ) -> None:
        self._scorer = scorer
        self._database = database
        self._producer = producer
        self._kafka = kafka
        self._reader = MessageReader(currency=currency, declared=declared)
        self._clock = clock
        self._patience = acknowledge_within
        self._reached = reached
        self._reports = StreamReports(clock=clock)

    def handle(
        self, records: Mapping[Partition, Sequence[Record]], positions: Mapping[Partition, Position]
    ) -> BatchResult:
        """Decide on records that follow each other, from `published_offset` of their partitions on.

        Records before that are answered as stored, and none of them is dead-lettered again. Raises FencedError when a
        partition has another reader, StorageUnavailableError when nothing can be stored, EveryRecordFailsError when
        nothing can be handled, and KafkaError when a dead letter or a decision is not acknowledged; each batch may be
        handled again.
        """
        with span("process batch", kind="CONSUMER", links=_senders_spans(records)):
            return self._handle(records, positions)

    def _handle(
        self, records: Mapping[Partition, Sequence[Record]], positions: Mapping[Partition, Position]
    ) -> BatchResult:
        read = [
            self._read(at, record, stored_before=positions[at].next_offset)
            for at, of_partition in records.items()
            for record in of_partition
        ]
        stored = self._store(read, positions)
        self._reached("stored")
        dead_letters = [*stored.dead_letters, *map(overdue_dead_letter, stored.overdue)]
        self._send_dead_letters(dead_letters)
        with span("publish"):
            self._publish(stored.answers)
        self._reached("published")
        published = {
            at: replace(
                stored.positions[at], published_offset=max(positions[at].published_offset, of_partition[-1].offset + 1)
            )
            for at, of_partition in records.items()
            if of_partition
        }
        with scoring_batch(self._database) as batch:
            for at, position in published.items():
                batch.positions.move(*at, before=stored.positions[at], after=position)
            batch.pending.forget(stored.overdue)
        scored = [answer for _, answer in stored.answers if isinstance(answer, ScoringResult)]
        return BatchResult(
            positions=published,
            decided=sum(not result.replayed for result in scored),
            replayed=sum(result.replayed for result in scored),
            dead_letters=len(dead_letters),
            reports=stored.reports,
        )

    def _read(self, at: Partition, record: Record, *, stored_before: int) -> _Read:
        if isinstance(record, UnreadableRecord):
            return _Read(at, record, BadMessage("unreadable", "record"))
        try:
            if at.topic == self._kafka.reports_topic:
                return _Read(at, record, report_of(record.value, record.headers))
            sent = record.timestamp * MILLISECOND if record.timestamp > 0 else self._clock()
            content = self._reader.transaction_message(record.value, record.headers, now=sent)
            if record.offset < stored_before:
                content = self._as_before(record, content, now=sent)
            return _Read(at, record, content)
        except Exception as error:  # noqa: BLE001 - what nobody thought of must not stop the records behind it
            check_known_record(self._scorer, self._reader, now=self._clock())
            return _Read(at, record, _failed(at, record, error))

    def _as_before(
        self, record: Record, content: TransactionRow | BadMessage, *, now: int
    ) -> TransactionRow | BadMessage:
        """What an earlier reading made of a record; the champion of then may have declared other own fields."""
        reader = replace(self._reader, declared=nothing_declared)
        row = reader.transaction_message(record.value, record.headers, now=now)
        if isinstance(row, BadMessage) or row.own_fields is None:
            return content
        with scoring_batch(self._database, read_only=True) as batch:
            event, decision = batch.stored([row.transaction_id]).get(row.transaction_id, (None, None))
        if decision is not None:
            return row
        # Whatever was good then was stored with the position.
        return BadMessage("declared_otherwise", "own_fields") if event is None else content

    def _store(self, read: Sequence[_Read], positions: Mapping[Partition, Position]) -> _Stored:
        """Store what is decided on these, in as many transactions as it takes to leave out what cannot be stored."""
        try:
            return with_retry(lambda: self._store_at_once(read, positions))
        except _NO_RECORDS_FAULT:
            raise
        except Exception as error:
            check_known_record(self._scorer, self._reader, now=self._clock())
            middle = len(read) // 2
            if middle:
                first = self._store(read[:middle], positions)
                return first + self._store(read[middle:], {**positions, **first.positions})
            if not read or isinstance(read[0].content, BadMessage):
                raise
            (item,) = read
            return self._store_at_once([replace(item, content=_failed(item.at, item.record, error))], positions)

    def _store_at_once(self, read: Sequence[_Read], positions: Mapping[Partition, Position]) -> _Stored:
        rows = [item.content for item in read if isinstance(item.content, TransactionRow)]
        new = [item for item in read if item.record.offset >= positions[item.at].next_offset]
        ends = {item.at: item.record.offset + 1 for item in read}
        after = {
            at: replace(positions[at], next_offset=max(positions[at].next_offset, end)) for at, end in ends.items()
        }
        reports = [(item.content, item.at, item.record) for item in new if isinstance(item.content, Report)]
        request_ids = {
            item.content.transaction_id: ids.request_id
            for item in reversed(read)
            if isinstance(item.content, TransactionRow) and (ids := record_request_ids(item.record.headers))
        }
        with self._scorer.transaction(rows, request_ids=request_ids) as scored:
            overdue = self._reports.add(scored.batch, reports, transaction_ids=[row.transaction_id for row in rows])
            for at, position in after.items():
                scored.batch.positions.move(*at, before=positions[at], after=position)
            self._reached("in_transaction")
        by_row = iter(scored.answers)
        dead_letters = []
        for item in read:
            answer = next(by_row) if isinstance(item.content, TransactionRow) else None
            why = BadMessage("conflict", "transaction_id") if isinstance(answer, Conflict) else item.content
            if isinstance(why, BadMessage) and item.record.offset >= positions[item.at].published_offset:
                dead_letters.append(item.dead_letter(why))
        return _Stored(after, list(zip(rows, scored.answers, strict=True)), dead_letters, list(overdue), len(reports))

    def _send_dead_letters(self, dead_letters: Sequence[Message]) -> None:
        """Send dead letters and wait until all are acknowledged."""
        if not dead_letters:
            return
        sent = [self._send(self._kafka.dead_letter_topic, dead_letter) for dead_letter in dead_letters]
        self._reached("dead_letter_sent")
        self._acknowledged(sent)
        self._reached("dead_letter_acknowledged")

    def _publish(self, answers: Sequence[tuple[TransactionRow, ScoringResult | Conflict]]) -> None:
        """Send decisions in the order of their records and wait until all are acknowledged."""
        sent = [
            self._send(self._kafka.decisions_topic, decision_message(answer, customer_id=row.customer_id))
            for row, answer in answers
            if isinstance(answer, ScoringResult)
        ]
        self._acknowledged(sent)

    def _send(self, topic: str, message: Message) -> Any:
        return self._producer.send(topic, key=message.key, value=message.value, headers=message.headers)

    def _acknowledged(self, sent: Sequence[Any]) -> None:
        if sent:
            self._producer.flush(timeout=self._patience)
        for future in sent:
            future.get(timeout=self._patience)


def _senders_spans(records: Mapping[Partition, Sequence[Record]]) -> list[Any]:
    """The spans in which records were sent, as far as their headers name them."""
    if not tracing_is_on():
        return []
    return [
        remote_span(value)
        for of_partition in records.values()
        for record in of_partition
        for name, value in record.headers
        if name.lower() == "traceparent"
    ]


def _failed(at: Partition, record: Record, error: Exception) -> BadMessage:
    """Why a record is dead-lettered after an unexpected error, whose own words may hold what the record says."""
    where = "".join(traceback.format_tb(error.__traceback__))
    why = error if isinstance(error, StorageRefusedError) else type(error).__name__
    log.error("offset %d of %s/%d is dead-lettered: %s\n%s", record.offset, *at, why, where)
    return BadMessage("internal")
