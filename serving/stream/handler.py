"""From records of a topic to stored decisions, for the long-lived consumer and for runs over ranges.

Belongs here: the order in which results become durable. Must not be here: polling and retries (`consumer.py`,
`ranges.py`), what a record holds (`record_reader.py`), the layout of messages (`messages.py`).

1. One fenced database transaction holds decisions, history, alerts, reports and the next offset.
2. Dead letters and decisions are sent, while nothing in the database is locked.
3. `published_offset` moves past what the brokers acknowledged. Records after it are read again: the scorer answers
   stored decisions unchanged.
After an unexpected error a known good record goes the same way (`known_record.py`). If it fails too, all records wait.
Otherwise the batch is halved until one record is left, and that record is dead-lettered.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, Self

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
from fraud_pipeline.messaging.topics import KafkaSettings, Message
from fraud_pipeline.schema.money import Conversion
from fraud_pipeline.schema.personal_fields import PersonalNow, nothing_personal
from fraud_pipeline.schema.transactions import TransactionRow, now_microseconds
from fraud_pipeline.scoring.decision_record import Conflict, ScoringResult
from fraud_pipeline.scoring.errors import StorageUnavailableError, with_retry
from fraud_pipeline.settings import Settings
from serving.http.own_fields import DeclaredFields, nothing_declared
from serving.http.requests import Report, no_conversion
from serving.request_ids import record_request_ids
from serving.runtime.scoring_runtime import ScoringRuntime
from serving.stream.known_record import ScoresRows, check_known_record
from serving.stream.messages import BadMessage, MessageReader, decision_message
from serving.stream.record_reader import ReadRecord, RecordReader, failed
from serving.stream.records import Partition, Record
from serving.stream.reports import StreamReports, overdue_dead_letter

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
    """Counts of the records of a batch, and the positions after it."""

    positions: Mapping[Partition, Position]
    decided: int = 0
    replayed: int = 0
    dead_letters: int = 0
    reports: int = 0

    def __add__(self, later: "BatchResult") -> "BatchResult":
        return BatchResult(
            positions=later.positions,
            decided=self.decided + later.decided,
            replayed=self.replayed + later.replayed,
            dead_letters=self.dead_letters + later.dead_letters,
            reports=self.reports + later.reports,
        )


@dataclass(frozen=True, slots=True)
class _Stored:
    """What was stored, and the messages that must follow."""

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

    `declared` gives the own fields that the champion declares, `personal` those that are stored as pseudonyms, and
    `conversion` its rates. Brokers that do not acknowledge within `acknowledge_within` seconds are unavailable.
    `reached` gets each point of the order, so that a test can stop a process there.
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
        conversion: Callable[[], Conversion | None] = no_conversion,
        personal: PersonalNow = nothing_personal,
        acknowledge_within: float = ACKNOWLEDGE_WITHIN,
        reached: Callable[[Point], None] = lambda _point: None,
    ) -> None:
        self._scorer = scorer
        self._database = database
        self._producer = producer
        self._kafka = kafka
        self._reader = MessageReader(currency=currency, declared=declared, personal=personal, conversion=conversion)
        self._records = RecordReader(self._reader, reports_topic=kafka.reports_topic, database=database, clock=clock)
        self._clock = clock
        self._patience = acknowledge_within
        self._reached = reached
        self._reports = StreamReports(clock=clock)

    @classmethod
    def build(
        cls,
        settings: Settings,
        kafka: KafkaSettings,
        scoring: ScoringRuntime,
        *,
        producer: KafkaProducer,
        reached: Callable[[Point], None] = lambda _point: None,
    ) -> Self:
        """The stream's scorer of one process."""
        return cls(
            scorer=scoring.scorer,
            database=scoring.database,
            producer=producer,
            kafka=kafka,
            currency=settings.currency,
            declared=scoring.declared_own_fields,
            conversion=scoring.conversion,
            personal=scoring.personal_fields,
            clock=now_microseconds,
            reached=reached,
        )

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

    def _read(self, at: Partition, record: Record, *, stored_before: int) -> ReadRecord:
        try:
            return self._records.read(at, record, stored_before=stored_before)
        except Exception as error:  # noqa: BLE001 - an unforeseen error must not stop the records behind this one
            check_known_record(self._scorer, self._reader, now=self._clock())
            return ReadRecord(at, record, failed(at, record, error))

    def _store(self, read: Sequence[ReadRecord], positions: Mapping[Partition, Position]) -> _Stored:
        """Store the decisions on these records, in as many transactions as it takes to leave out failing records."""
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
            return self._store_at_once([replace(item, content=failed(item.at, item.record, error))], positions)

    def _store_at_once(self, read: Sequence[ReadRecord], positions: Mapping[Partition, Position]) -> _Stored:
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
                dead_letters.append(item.dead_letter(why, personal=self._reader.personal()))
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
