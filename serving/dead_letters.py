"""Dead letters for a person: what is there and why, and sending it again once the cause is mended.

Belongs here: reading the topic from its beginning, sending letters back to where they came from. Must not be here: what
makes a record a dead letter (`stream_messages.py`).
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

from kafka import KafkaConsumer, TopicPartition

from fraud_pipeline.topics import KafkaSettings, open_consumer, open_producer
from serving.stream_messages import MESSAGE_REMEDIES

_MARK = "dead-letter-"
_PATIENCE_MS = 2_000


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One record that could not be handled: where it stood and why; `sha256` tells equal values apart from others."""

    offset: int
    reason: str
    path: str
    topic: str
    partition: int
    source_offset: int
    sha256: str
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...]

    @property
    def source(self) -> tuple[str, int, int]:
        """Topic, partition and offset that it came from: a letter that was sent twice has one source."""
        return self.topic, self.partition, self.source_offset


def dead_letters(kafka: KafkaSettings) -> list[DeadLetter]:
    """All dead letters, each source once, in the order of their sources. Raises BrokerUnavailableError."""
    with closing(open_consumer(kafka, group_id=None)) as consumer:
        found = {letter.source: letter for letter in _read(consumer, kafka.dead_letter_topic)}
    return [found[source] for source in sorted(found)]


def summary(letters: list[DeadLetter]) -> list[str]:
    """A line for each reason: how many, and what to do."""
    counts = Counter((letter.reason, letter.path) for letter in letters)
    return [
        f"{number:>7,} x {path}: {reason} - {MESSAGE_REMEDIES.get(reason, 'see the reason')}"
        for (reason, path), number in counts.most_common()
    ]


def replay(kafka: KafkaSettings, letters: list[DeadLetter]) -> int:
    """Send letters to the topics they came from; how many were acknowledged.

    A letter stays where it is: what still cannot be handled comes back with another source, what can is decided once.
    """
    with closing(open_producer(kafka)) as producer:
        sent = [
            producer.send(letter.topic, key=letter.key, value=letter.value, headers=list(letter.headers))
            for letter in letters
        ]
        producer.flush()
        for future in sent:
            future.get(timeout=30)
    return len(sent)


def _read(consumer: KafkaConsumer, topic: str) -> Iterator[DeadLetter]:
    """Every record of a topic, until nothing more comes."""
    partitions = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic) or ()]
    if not partitions:
        return
    consumer.assign(partitions)
    consumer.seek_to_beginning(*partitions)
    while polled := consumer.poll(timeout_ms=_PATIENCE_MS):
        for records in polled.values():
            for record in records:
                told = {
                    name.removeprefix(_MARK): value.decode() for name, value in record.headers if name.startswith(_MARK)
                }
                yield DeadLetter(
                    offset=record.offset,
                    reason=told["reason"],
                    path=told["path"],
                    topic=told["topic"],
                    partition=int(told["partition"]),
                    source_offset=int(told["offset"]),
                    sha256=told["sha256"],
                    key=record.key,
                    value=record.value,
                    headers=tuple((name, value) for name, value in record.headers if not name.startswith(_MARK)),
                )
