"""Dead letters for a person: a list with reasons, and a replay after their cause is repaired.

Belongs here: reading the topic up to its present end, and sending each letter once to its source topic. Must not be
here: which records become dead letters (`messages.py`).

The database keeps a replay position for each reason, so that letters of one reason can be sent without the others. A
letter that still cannot be handled comes back as a new one, with a source of its own.
"""

import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

from kafka import KafkaProducer, TopicPartition

from fraud_pipeline.database import Database, Position, scoring_batch
from fraud_pipeline.messaging.topics import BrokerUnavailableError, KafkaSettings, open_consumer, open_producer
from serving.stream.messages import MARK, MESSAGE_REMEDIES, message_remedy
from serving.stream.records import Partition
from serving.stream.topic_inspection import OffsetBounds, extents

REPLAY_OF: Final = "replay-of"
"""The header with the source of a replayed message: topic/partition/offset."""
_PATIENCE: Final = 30.0
# A crash sends letters again soon after the first time, so not all need be remembered.
_REMEMBERED: Final = 100_000


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One record that could not be handled, with its source and reason; equal `sha256` means equal values."""

    at: Partition
    offset: int
    reason: str
    path: str
    topic: str
    partition: int
    source_offset: int
    timestamp: int | None
    sha256: str
    whole: bool
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]

    @property
    def source(self) -> tuple[str, int, int]:
        """Topic, partition and offset of the original record. A letter that was sent twice has one source."""
        return self.topic, self.partition, self.source_offset


class Replayed(NamedTuple):
    """The number of letters sent again, and of letters that cannot be sent because their record is not whole."""

    sent: int
    not_whole: int


def dead_letters(kafka: KafkaSettings) -> Iterator[DeadLetter]:
    """The dead letters there are now, each source once. Raises BrokerUnavailableError."""
    for _, letters in _read(kafka):
        yield from letters


def summary(letters: Iterable[DeadLetter]) -> list[str]:
    """A line for each reason: number, path, remedy."""
    counts = Counter((letter.reason, letter.path) for letter in letters)
    return [
        f"{number:>7,} x {path}: {reason} - {_remedy(reason, path)}" for (reason, path), number in counts.most_common()
    ]


def _remedy(reason: str, path: str) -> str:
    # Letters of another release may have reasons that this one does not know.
    return message_remedy(reason, path=path) if reason in MESSAGE_REMEDIES else "see the reason"


def replay(kafka: KafkaSettings, database: Database, *, reason: str | None = None) -> Replayed:
    """Send letters, of one reason or all, to their source topics with their first timestamp; each letter once.

    Letters stay in the topic. After a crash, the last few may be sent twice. Raises FencedError when another replay
    has started since, BrokerUnavailableError, and KafkaError for messages that are not acknowledged.
    """
    total, positions = Replayed(0, 0), dict[Partition, Position]()
    with closing(open_producer(kafka)) as producer:
        for at, letters in _read(kafka):
            of_reason: dict[str, list[DeadLetter]] = {}
            for letter in letters:
                if reason in (None, letter.reason):
                    of_reason.setdefault(letter.reason, []).append(letter)
            for name, selected in of_reason.items():
                where = Partition(f"{at.topic} {name}", at.partition)
                if where not in positions:
                    with scoring_batch(database) as batch:
                        positions[where] = batch.positions.claim(*where, start=0)
                before, end = positions[where], selected[-1].offset + 1
                new = [letter for letter in selected if letter.offset >= before.next_offset]
                if not new:
                    continue
                whole = [letter for letter in new if letter.whole]
                _send(producer, whole)
                positions[where] = replace(before, next_offset=end, published_offset=end)
                with scoring_batch(database) as batch:
                    batch.positions.move(*where, before=before, after=positions[where])
                total = Replayed(total.sent + len(whole), total.not_whole + len(new) - len(whole))
    return total


def _send(producer: KafkaProducer, letters: Sequence[DeadLetter]) -> None:
    sent = [
        producer.send(
            letter.topic,
            key=letter.key,
            value=letter.value,
            headers=[*letter.headers, (REPLAY_OF, "/".join(map(str, letter.source)).encode())],
            timestamp_ms=letter.timestamp,
        )
        for letter in letters
    ]
    producer.flush()
    for future in sent:
        future.get(timeout=_PATIENCE)


def _read(kafka: KafkaSettings) -> Iterator[tuple[Partition, list[DeadLetter]]]:
    """Letters of one partition after the other, a few at a time, up to where each ends now; each source once."""
    seen: dict[tuple[str, int, int], None] = {}
    ends = extents(kafka, [kafka.dead_letter_topic])
    with closing(open_consumer(kafka, group_id=None)) as consumer:
        for at, extent in ends.items():
            for records in _records(consumer, at, extent):
                letters = []
                for letter in filter(None, (_letter(at, record) for record in records)):
                    if letter.source not in seen:
                        letters.append(letter)
                        seen[letter.source] = None
                while len(seen) > _REMEMBERED:
                    del seen[next(iter(seen))]
                yield at, letters


def _records(consumer: Any, at: Partition, extent: OffsetBounds) -> Iterator[list[Any]]:
    partition = TopicPartition(*at)
    consumer.assign([partition])
    consumer.seek(partition, extent.beginning)
    heard = time.monotonic()
    while consumer.position(partition) < extent.end:
        if records := consumer.poll(timeout_ms=200).get(partition):
            yield [record for record in records if record.offset < extent.end]
            heard = time.monotonic()
        elif time.monotonic() - heard > _PATIENCE:
            raise BrokerUnavailableError(f"nothing more of {at.topic} came: see that the brokers run")


def _letter(at: Partition, record: Any) -> DeadLetter | None:
    """The dead letter of a record; None if it is none of ours."""
    marks = {
        name.removeprefix(MARK): value.decode() for name, value in record.headers if name.startswith(MARK) and value
    }
    if not {"reason", "path", "topic", "partition", "offset", "sha256"} <= marks.keys():
        return None
    sent = int(marks.get("timestamp", -1))
    return DeadLetter(
        at=at,
        offset=record.offset,
        reason=marks["reason"],
        path=marks["path"],
        topic=marks["topic"],
        partition=int(marks["partition"]),
        source_offset=int(marks["offset"]),
        timestamp=sent if sent > 0 else None,
        sha256=marks["sha256"],
        whole=not {"truncated", "withheld"} & marks.keys() and marks["reason"] != "unreadable",
        key=record.key,
        value=record.value,
        headers=tuple(
            (name, value or b"") for name, value in record.headers if not name.startswith(MARK) and name != REPLAY_OF
        ),
    )
