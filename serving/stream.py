"""Records of a topic to stored decisions: what the long-lived consumer and a run over a range both do with a batch.

Belongs here: the order in which things become lasting, and what is done with each kind of record. Must not be here:
polling, assignment, retries (`consumer.py`, `ranges.py`), the layout of messages (`stream_messages.py`).

The order is the guarantee. A bad record is acknowledged by the dead-letter topic before its offset may be passed.
Decisions, history, alerts and the next offset are one database transaction, under a fence that refuses a reader who
has been replaced. Decisions are published after that, and `published_offset` follows only what was acknowledged:
whatever was decided and perhaps not published is read again, and the scorer answers it with what it stored.

A record is judged by when it was sent, not by when it is read: every reading judges it alike, so none is put aside once
and decided on another time, and no outage makes a transaction too old.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, NamedTuple, Protocol

from kafka import KafkaProducer

from fraud_pipeline.database import Batch, Database, Position, scoring_batch
from fraud_pipeline.scoring import Conflict, Scored, Within
from fraud_pipeline.topics import KafkaSettings, Message
from fraud_pipeline.transactions import TransactionRow
from serving.stream_messages import BadMessage, MessageReader, Report, dead_letter, decision_message, report_of

Point = Literal[
    "polled",
    "dead_letter_sent",
    "dead_letter_acknowledged",
    "in_transaction",
    "stored",
    "published",
    "committed",
    "revoked",
]
# Dead letters of conflicts are waited for within the transaction, which the database ends after ten idle seconds.
ACKNOWLEDGE_WITHIN: Final = 8.0


class Partition(NamedTuple):
    """One partition of one topic."""

    topic: str
    partition: int


class Record(Protocol):
    """What is looked at of a record that was read."""

    @property
    def offset(self) -> int: ...
    @property
    def timestamp(self) -> int:
        """When it was sent, in milliseconds since 1970-01-01 UTC; -1 when nobody said."""
        ...

    @property
    def key(self) -> bytes | None: ...
    @property
    def value(self) -> bytes | None: ...
    @property
    def headers(self) -> Sequence[tuple[str, bytes]]: ...


class ScoresRows(Protocol):
    """The scorer, or what goes down the rungs with it."""

    def score(self, rows: Sequence[TransactionRow], *, within: Within) -> list[Scored | Conflict]: ...


@dataclass(frozen=True, slots=True)
class Handled:
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
    said: TransactionRow | Report | BadMessage


class StreamScorer:
    """Handles batches of records; one per thread.

    Brokers that do not acknowledge within so many seconds are away. `reached` is told of each point of the order, so
    that a test can stop a process there.
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
        acknowledge_within: float = ACKNOWLEDGE_WITHIN,
        reached: Callable[[Point], None] = lambda _point: None,
    ) -> None:
        self._scorer = scorer
        self._database = database
        self._producer = producer
        self._kafka = kafka
        self._reader = MessageReader(currency=currency)
        self._clock = clock
        self._patience = acknowledge_within
        self._reached = reached

    def handle(self, records: Mapping[Partition, Sequence[Record]], positions: Mapping[Partition, Position]) -> Handled:
        """Decide on records that follow each other, from `published_offset` of their partitions on.

        Raises FencedError when a partition has another reader, StorageUnavailableError when nothing can be stored, and
        KafkaError when a dead letter or a decision is not acknowledged; each batch may be handled again.
        """
        read = [self._read(at, record) for at, found in records.items() for record in found]
        new = [one for one in read if one.record.offset >= positions[one.at].next_offset]
        bad = [(one, one.said) for one in new if isinstance(one.said, BadMessage)]
        self._put_aside(bad)
        transactions = [one for one in read if isinstance(one.said, TransactionRow)]
        reports = [one for one in new if isinstance(one.said, Report)]
        ends = {at: found[-1].offset + 1 for at, found in records.items() if found}
        after = {
            at: replace(positions[at], next_offset=max(positions[at].next_offset, end)) for at, end in ends.items()
        }
        refused: list[tuple[_Read, BadMessage]] = []

        def within(batch: Batch, answers: Sequence[Scored | Conflict]) -> None:
            refused.clear()
            for one, answer in zip(transactions, answers, strict=True):
                if isinstance(answer, Conflict) and one.record.offset >= positions[one.at].next_offset:
                    refused.append((one, BadMessage("conflict", "transaction_id")))
            for one in reports:
                said = one.said
                if isinstance(said, Report) and (
                    batch.add_report(said.transaction_id, reported_at=self._clock(), is_fraud=said.is_fraud) is None
                ):
                    refused.append((one, BadMessage("unknown_transaction", "transaction_id")))
            self._put_aside(refused)
            for at, position in after.items():
                batch.positions.move(*at, before=positions[at], after=position)
            self._reached("in_transaction")

        answers = self._scorer.score([one.said for one in transactions], within=within)  # type: ignore[misc]  # rows
        self._reached("stored")
        self._publish(transactions, answers)
        self._reached("published")
        published = {at: replace(after[at], published_offset=end) for at, end in ends.items()}
        with scoring_batch(self._database) as batch:
            for at, position in published.items():
                batch.positions.move(*at, before=after[at], after=position)
        return Handled(
            positions=published,
            decided=sum(isinstance(answer, Scored) and not answer.replayed for answer in answers),
            replayed=sum(isinstance(answer, Scored) and answer.replayed for answer in answers),
            dead_letters=len(bad) + len(refused),
            reports=len(reports),
        )

    def _read(self, at: Partition, record: Record) -> _Read:
        if at.topic == self._kafka.reports_topic:
            return _Read(at, record, report_of(record.value, record.headers))
        sent = record.timestamp * 1_000 if record.timestamp > 0 else self._clock()
        said = self._reader.transaction_message(record.value, record.headers, now=sent)
        return _Read(at, record, said)

    def _put_aside(self, bad: Sequence[tuple[_Read, BadMessage]]) -> None:
        """Send dead letters and wait until all are acknowledged."""
        if not bad:
            return
        sent = [
            self._send(
                self._kafka.dead_letter_topic,
                dead_letter(
                    why,
                    key=one.record.key,
                    value=one.record.value,
                    headers=one.record.headers,
                    topic=one.at.topic,
                    partition=one.at.partition,
                    offset=one.record.offset,
                ),
            )
            for one, why in bad
        ]
        self._reached("dead_letter_sent")
        self._acknowledged(sent)
        self._reached("dead_letter_acknowledged")

    def _publish(self, transactions: Sequence[_Read], answers: Sequence[Scored | Conflict]) -> None:
        """Send decisions in the order of their records and wait until all are acknowledged."""
        sent = [
            self._send(self._kafka.decisions_topic, decision_message(answer, customer_id=one.said.customer_id))
            for one, answer in zip(transactions, answers, strict=True)
            if isinstance(answer, Scored) and isinstance(one.said, TransactionRow)
        ]
        self._acknowledged(sent)

    def _send(self, topic: str, message: Message) -> Any:
        return self._producer.send(topic, key=message.key, value=message.value, headers=message.headers)

    def _acknowledged(self, sent: Sequence[Any]) -> None:
        if sent:
            self._producer.flush(timeout=self._patience)
        for future in sent:
            future.get(timeout=self._patience)
