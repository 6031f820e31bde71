"""The long-lived consumer: it polls, passes records to `handler.py`, and survives failures of its dependencies.

Belongs here: polling, assignment of partitions, waiting for a dependency that is away, stopping. Must not be here:
handling of a record and its order (`handler.py`), assembly of the process (`consumer_process.py`).

The database stores the position of every partition. A partition is claimed there as soon as the group assigns it, and
read from that position. Kafka's own committed offsets only show the lag to other tools; losing them loses nothing.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, Protocol

from kafka import AsyncConsumerRebalanceListener, KafkaConsumer, TopicPartition
from kafka.errors import KafkaError
from kafka.structs import OffsetAndMetadata

from fraud_pipeline.database import Database, DatabaseUnavailableError, FencedError, Position, scoring_batch
from fraud_pipeline.scoring.errors import StorageUnavailableError
from serving.stream.handler import BatchResult, Point, StreamScorer
from serving.stream.known_record import EveryRecordFailsError
from serving.stream.records import Partition, Record

log = logging.getLogger(__name__)

POLL_SECONDS: Final = 0.2
LONGEST_WAIT: Final = 5.0

# Errors of kafka-python about a partition that the group has just reassigned.
_NOT_OURS: Final = (KafkaError, ValueError, KeyError)

Away = Literal["database", "broker", "repair"]
Records = Mapping[Partition, Sequence[Record]]


class Observer(Protocol):
    """Gets the events of the stream; `lag` may be called from another thread."""

    def handled(self, handled: BatchResult, *, seconds: float) -> None: ...
    def lag(self, partition: Partition, records: int | None) -> None:
        """The lag of a partition; None when it is no longer assigned to this consumer."""
        ...

    def waiting(self, away: Away | None) -> None:
        """The dependency that is waited for, `repair` for a release that handles records; None when all are back."""
        ...


@dataclass(slots=True)
class _Held(AsyncConsumerRebalanceListener):  # type: ignore[misc]  # kafka-python has no types
    """The partitions of this consumer with their positions; rebalances arrive on the client's own thread."""

    observer: Observer
    reached: Callable[[Point], None]
    positions: dict[Partition, Position] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Drop revoked partitions. The next owner claims them, and the fence refuses later writes from here."""
        self.forget(revoked)
        self.reached("revoked")

    async def on_partitions_lost(self, lost: Iterable[TopicPartition]) -> None:
        """Drop partitions that another member owns already."""
        self.forget(lost)

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Drop held positions: another reader may have moved them, so these partitions are claimed again."""
        self.forget(assigned)

    def forget(self, partitions: Iterable[tuple[str, int]]) -> None:
        with self.lock:
            for partition in partitions:
                self.positions.pop(Partition(*partition), None)
                self.observer.lag(Partition(*partition), None)

    def hold(self, positions: Mapping[Partition, Position]) -> None:
        with self.lock:
            self.positions.update(positions)

    def moved(self, positions: Mapping[Partition, Position]) -> None:
        with self.lock:
            self.positions.update({at: position for at, position in positions.items() if at in self.positions})

    def now(self) -> dict[Partition, Position]:
        with self.lock:
            return dict(self.positions)

    def observe_lag(self, at: Partition, records: int) -> None:
        with self.lock:
            if at in self.positions:
                self.observer.lag(at, records)


class StreamConsumer:
    """Reads topics as a member of a group until it is stopped.

    `consumer` must not commit by itself. `reached` gets the points of the order, as in `StreamScorer`. `beat` is the
    time of the last round of the loop.
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
        clock: Callable[[], float] = time.monotonic,
        reached: Callable[[Point], None] = lambda _point: None,
    ) -> None:
        self._consumer = consumer
        self._stream = stream
        self._database = database
        self._observer = observer
        self._max_records = max_records
        self._clock = clock
        self._reached = reached
        self._held = _Held(observer, reached)
        self._wait = 0.0
        self._waits_until: float | None = None
        self.beat = clock()
        consumer.subscribe(topics=list(topics), listener=self._held)

    def run(self, stop: threading.Event) -> None:
        """Until `stop` is set; the batch in hand is finished first."""
        try:
            while not stop.is_set():
                self.step()
        finally:
            with suppress(KafkaError):
                self._consumer.commit(_offsets(self._held.now()), timeout_ms=2_000)
            with suppress(KafkaError):
                self._consumer.close(timeout_ms=5_000)

    def step(self) -> int:
        """Poll once and handle the records; returns their number."""
        self.beat = self._clock()
        records: Records = {}
        try:
            self._go_on()
            polled = self._consumer.poll(timeout_ms=round(POLL_SECONDS * 1_000), max_records=self._max_records)
            records = {Partition(*partition): batch for partition, batch in polled.items()}
            if self._waits_until is not None:
                self._pause(records)
                return 0
            ready = self._ready(records)
            if ready:
                self._handle(ready)
            self._pass_by(ready)
            self._observe_lag()
            return sum(map(len, ready.values()))
        except FencedError:
            self._wait_for(None, "a partition has another reader; it is claimed again if it is still ours", records)
        except (StorageUnavailableError, DatabaseUnavailableError) as error:
            self._wait_for("database", str(error), records)
        except EveryRecordFailsError as error:
            self._wait_for("repair", str(error), records)
        except KafkaError as error:
            # A new start may repair what a retry does not: an unknown producer id, a permission that was withdrawn.
            if not error.retriable:
                raise
            self._wait_for("broker", type(error).__name__, records)
        return 0

    def _handle(self, ready: Records) -> None:
        self._reached("polled")
        started = time.monotonic()
        positions = self._held.now()
        still = {at: batch for at, batch in ready.items() if at in positions}
        handled = self._stream.handle(still, positions)
        self._held.moved(handled.positions)
        if self._wait:
            self._wait = 0.0
            self._observer.waiting(None)
        with suppress(KafkaError):  # the database stores the positions
            self._consumer.commit_async(_offsets(handled.positions))
        self._reached("committed")
        self._observer.handled(handled, seconds=time.monotonic() - started)

    def _ready(self, records: Records) -> Records:
        """The records that continue the stored positions. Newly assigned partitions are claimed."""
        assigned = {Partition(*partition) for partition in self._consumer.assignment()}
        held = self._held.now()
        self._held.forget(held.keys() - assigned)
        self._claim(assigned - held.keys())
        ready = {at: batch for at, batch in records.items() if batch and at in held and at in assigned}
        for at, batch in ready.items():
            if batch[0].offset != held[at].published_offset:
                self._jumped(at, held[at], to=batch[0].offset)
        return ready

    def _pass_by(self, ready: Records) -> None:
        """Move past offsets without records for this consumer: markers of senders' transactions, and aborted records.

        Partitions with records in this poll wait until later: their next record shows the gap.
        """
        passed = {}
        for at, position in self._held.now().items():
            if at not in ready and (end := self._position(at)) > position.published_offset:
                self._log_lost(at, position)
                passed[at] = (
                    position,
                    replace(position, next_offset=max(position.next_offset, end), published_offset=end),
                )
        if not passed:
            return
        with scoring_batch(self._database) as batch:
            for at, (before, after) in passed.items():
                batch.positions.move(*at, before=before, after=after)
        self._held.moved({at: after for at, (_, after) in passed.items()})

    def _position(self, at: Partition) -> int:
        """The next offset to read; -1 while it is unknown."""
        with suppress(*_NOT_OURS):
            position = self._consumer.position(TopicPartition(*at), timeout_ms=0)
            return -1 if position is None else int(position)
        return -1

    def _claim(self, partitions: Iterable[Partition]) -> None:
        """Claim these partitions in the database and read them from their positions."""
        claimable = sorted(partitions)
        if not claimable:
            return
        beginnings = self._consumer.beginning_offsets([TopicPartition(*at) for at in claimable])
        with scoring_batch(self._database) as batch:
            claimed = {at: batch.positions.claim(*at, start=beginnings[TopicPartition(*at)]) for at in claimable}
        self._held.hold(claimed)
        for at, position in claimed.items():
            self._seek(at, position.published_offset)

    def _jumped(self, at: Partition, position: Position, *, to: int) -> None:
        """Handle records that do not continue the last ones, although those were requested."""
        if to > position.published_offset:
            # Offsets without a record are common: the marks of a sender's transactions, compaction.
            self._log_lost(at, position)
            return
        log.error(
            "partition %d ends before its stored position: the topic was recreated and is read from its beginning",
            at[1],
        )
        restarted = replace(position, next_offset=to, published_offset=to)
        with scoring_batch(self._database) as batch:
            batch.positions.move(*at, before=position, after=restarted)
        self._held.moved({at: restarted})

    def _log_lost(self, at: Partition, position: Position) -> None:
        """Log how many records expired before they were read, if any did."""
        beginning = self._consumer.beginning_offsets([TopicPartition(*at)])[TopicPartition(*at)]
        if beginning > position.next_offset:
            lost = beginning - position.next_offset
            log.error(
                "up to %d records of partition %d expired before they were read: raise the topic's retention",
                lost,
                at.partition,
            )

    def _observe_lag(self) -> None:
        for at, position in self._held.now().items():
            with suppress(*_NOT_OURS):
                highwater = self._consumer.highwater(TopicPartition(*at))
                if highwater is not None:
                    self._held.observe_lag(at, max(0, highwater - position.next_offset))

    def _wait_for(self, away: Away | None, cause: str, records: Records) -> None:
        """Leave everything alone for a while; heartbeats go on, so that the partitions stay ours."""
        if not self._wait:
            log.warning("waiting for the %s: %s", away or "other reader", cause)
        self._observer.waiting(away)
        self._wait = min(max(0.1, 2 * self._wait), LONGEST_WAIT)
        self._waits_until = self._clock() + self._wait
        self._pause(records)

    def _pause(self, records: Records) -> None:
        """Fetch nothing. These records come again, because their partitions are claimed anew."""
        self._held.forget(records)
        with suppress(*_NOT_OURS):
            self._consumer.pause(*self._consumer.assignment())

    def _go_on(self) -> None:
        if self._waits_until is not None and self._clock() >= self._waits_until:
            self._waits_until = None
            with suppress(*_NOT_OURS):
                self._consumer.resume(*self._consumer.paused())

    def _seek(self, at: Partition, offset: int) -> None:
        with suppress(*_NOT_OURS):
            self._consumer.seek(TopicPartition(*at), offset)


def watch(consumer: StreamConsumer, *, patience: float, give_up: Callable[[], Any], ended: threading.Event) -> None:
    """Call `give_up` when the consumer's loop has made no round for `patience` seconds."""
    while not ended.wait(min(patience / 4, 5.0)):
        if time.monotonic() - consumer.beat > patience:
            log.critical("the consumer has not come round for %.0f s: giving up, so that it is started again", patience)
            give_up()
            return


def _offsets(positions: Mapping[Partition, Position]) -> dict[TopicPartition, OffsetAndMetadata]:
    return {
        TopicPartition(*at): OffsetAndMetadata(position.published_offset, "", -1) for at, position in positions.items()
    }
