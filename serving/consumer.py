"""The long-lived consumer: `fraud-detect consume`. Reads, lets `stream.py` handle, and lives through what happens.

Belongs here: polling, partitions that come and go, waiting for what is away, stopping. Must not be here: what is done
with a record and in which order (`stream.py`).

The database knows where every partition stands. Kafka's own committed offsets only tell others of the lag; losing them
loses nothing.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from kafka import AsyncConsumerRebalanceListener, KafkaConsumer, TopicPartition
from kafka.errors import KafkaError
from kafka.structs import OffsetAndMetadata

from fraud_pipeline.database import Database, DatabaseUnavailableError, FencedError, Position, scoring_batch
from fraud_pipeline.scoring import StorageUnavailableError
from serving.stream import Handled, Partition, Point, Record, StreamScorer

log = logging.getLogger(__name__)

POLL_SECONDS: Final = 0.2
LONGEST_WAIT: Final = 5.0


class Observer(Protocol):
    """Who is told how the stream goes."""

    def handled(self, handled: Handled, *, seconds: float) -> None: ...
    def lag(self, partition: Partition, records: int | None) -> None:
        """How far behind a partition is; None when it is no longer ours."""
        ...

    def waiting(self, cause: str | None) -> None:
        """What is away and being waited for; None when all is there again."""
        ...


@dataclass(slots=True)
class _Assignment(AsyncConsumerRebalanceListener):  # type: ignore[misc]  # kafka-python has no types
    """Which partitions are ours, as the consumer's own thread learns it."""

    observer: Observer
    claimed: dict[Partition, Position] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Forget them: the next owner claims them in the database, and the fence refuses what we still write."""
        self._forget(revoked)

    async def on_partitions_lost(self, lost: Iterable[TopicPartition]) -> None:
        """As revoked, noticed too late."""
        self._forget(lost)

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """They are claimed when their first records come."""
        self._forget(assigned)

    def _forget(self, partitions: Iterable[TopicPartition]) -> None:
        with self.lock:
            for partition in partitions:
                self.claimed.pop(Partition(*partition), None)
                self.observer.lag(Partition(*partition), None)


class StreamConsumer:
    """Reads topics as a member of a group until told to stop.

    `consumer` must not commit by itself. `reached` is told of the points of the order, as in `StreamScorer`.
    """

    def __init__(
        self,
        *,
        consumer: KafkaConsumer,
        topics: Sequence[str],
        stream: StreamScorer,
        database: Database,
        observer: Observer,
        max_records: int = 500,
        reached: Callable[[Point], None] = lambda _point: None,
    ) -> None:
        self._consumer = consumer
        self._stream = stream
        self._database = database
        self._observer = observer
        self._max_records = max_records
        self._reached = reached
        self._assignment = _Assignment(observer)
        self._wait = 0.0
        self.beat = time.monotonic()
        consumer.subscribe(topics=list(topics), listener=self._assignment)

    def run(self, stop: threading.Event) -> None:
        """Until `stop` is set; the batch in hand is finished first."""
        try:
            while not stop.is_set():
                self.step()
        finally:
            self._commit(self._assignment.claimed)
            with suppress(KafkaError):
                self._consumer.close(timeout_ms=5_000)

    def step(self) -> int:
        """One poll and what it brought; how many records were handled."""
        self.beat = time.monotonic()
        polled = self._consumer.poll(timeout_ms=round(POLL_SECONDS * 1_000), max_records=self._max_records)
        records = {Partition(*partition): found for partition, found in polled.items()}
        try:
            ready = self._claimed(records)
            if not ready:
                return 0
            self._reached("polled")
            started = time.monotonic()
            with self._assignment.lock:
                before = {at: self._assignment.claimed[at] for at in ready if at in self._assignment.claimed}
            ready = {at: ready[at] for at in before}
            handled = self._stream.handle(ready, before)
        except FencedError:
            log.warning("a partition has another reader: reading on from where the database says")
            self._start_again(records)
            return 0
        except (StorageUnavailableError, DatabaseUnavailableError) as error:
            self._back_off(records, cause=f"database: {error}")
            return 0
        except KafkaError as error:
            self._back_off(records, cause=f"broker: {type(error).__name__}")
            return 0
        self._wait = 0.0
        self._observer.waiting(None)
        self._moved(handled.positions)
        self._commit(handled.positions)
        self._reached("committed")
        self._observer.handled(handled, seconds=time.monotonic() - started)
        return sum(map(len, ready.values()))

    def _claimed(self, records: Mapping[Partition, Sequence[Record]]) -> dict[Partition, Sequence[Record]]:
        """Records of partitions that we own and that follow what is known; others are read again from there."""
        ready: dict[Partition, Sequence[Record]] = {}
        for at, found in records.items():
            with self._assignment.lock:
                position = self._assignment.claimed.get(at)
            if position is None:
                with scoring_batch(self._database) as batch:
                    position = batch.positions.claim(*at, start=self._beginning(at))
                with self._assignment.lock:
                    self._assignment.claimed[at] = position
            if found[0].offset <= position.published_offset <= found[-1].offset + 1:
                ready[at] = [record for record in found if record.offset >= position.published_offset]
            elif found[0].offset > position.published_offset and self._expired(at, position):
                ready[at] = found
            else:
                self._seek(at, position.published_offset)
        return {at: found for at, found in ready.items() if found}

    def _beginning(self, at: Partition) -> int:
        return int(self._consumer.beginning_offsets([TopicPartition(*at)])[TopicPartition(*at)])

    def _expired(self, at: Partition, position: Position) -> bool:
        """Whether the broker has dropped records before we read them, by its retention."""
        beginning = self._beginning(at)
        if beginning <= position.published_offset:
            return False
        lost = beginning - position.next_offset
        if lost > 0:
            log.error(
                "%d records of partition %d expired before they were read: raise the retention", lost, at.partition
            )
        return True

    def _moved(self, positions: Mapping[Partition, Position]) -> None:
        with self._assignment.lock:
            for at, position in positions.items():
                if at in self._assignment.claimed:
                    self._assignment.claimed[at] = position
                    highwater = self._consumer.highwater(TopicPartition(*at))
                    if highwater is not None:
                        self._observer.lag(at, max(0, highwater - position.next_offset))

    def _commit(self, positions: Mapping[Partition, Position]) -> None:
        """Tell Kafka, for whoever watches the lag there."""
        offsets = {
            TopicPartition(*at): OffsetAndMetadata(position.published_offset, "", -1)
            for at, position in positions.items()
        }
        if offsets:
            with suppress(KafkaError):
                self._consumer.commit_async(offsets)

    def _start_again(self, records: Mapping[Partition, Sequence[Record]]) -> None:
        """Claim these partitions anew, if they are still ours."""
        with self._assignment.lock:
            for at in records:
                self._assignment.claimed.pop(at, None)
        for at, found in records.items():
            self._seek(at, found[0].offset)

    def _back_off(self, records: Mapping[Partition, Sequence[Record]], *, cause: str) -> None:
        """Read the same records again later; heartbeats go on, so that the partitions stay ours."""
        self._observer.waiting(cause)
        if not self._wait:
            log.warning("waiting: %s", cause)
        self._wait = min(max(0.1, 2 * self._wait), LONGEST_WAIT)
        for at, found in records.items():
            self._seek(at, found[0].offset)
        paused = [TopicPartition(*at) for at in records]
        ours = self._consumer.assignment()
        self._consumer.pause(*(partition for partition in paused if partition in ours))
        until = time.monotonic() + self._wait
        while (left := until - time.monotonic()) > 0:
            self.beat = time.monotonic()
            # Nothing comes of paused partitions; what others bring is read again.
            for partition, found in self._consumer.poll(timeout_ms=round(min(left, POLL_SECONDS) * 1_000)).items():
                self._seek(Partition(*partition), found[0].offset)
        ours = self._consumer.assignment()
        self._consumer.resume(*(partition for partition in self._consumer.paused() if partition in ours))

    def _seek(self, at: Partition, offset: int) -> None:
        with suppress(Exception):  # no longer ours: its next owner reads it
            self._consumer.seek(TopicPartition(*at), offset)


def watch(consumer: StreamConsumer, *, patience: float, give_up: Callable[[], Any], stop: threading.Event) -> None:
    """Call `give_up` when the consumer's loop has not come round for `patience` seconds."""
    while not stop.wait(min(patience / 4, 5.0)):
        if time.monotonic() - consumer.beat > patience:
            log.critical("the consumer has not come round for %.0f s: giving up, so that it is started again", patience)
            give_up()
            return
