"""Ranges of a topic: planned with a bounded size, and scored by a run that reads exactly them.

Belongs here: which records a run reads, in which order, and when it refuses. Must not be here: handling of a record
(`handler.py`), launching of runs (`fraud_pipeline/defs/streaming.py`).

The database stores the position of every partition; a range only names the records to read. So a range may be read
again, late or twice: earlier decisions are answered as stored, and the fence refuses partitions of another reader.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, Final

from kafka import KafkaConsumer, TopicPartition

from fraud_pipeline.database import Database, Position, scoring_batch
from fraud_pipeline.messaging.topics import KafkaSettings, open_consumer, open_producer
from fraud_pipeline.settings import Settings
from serving.runtime.prometheus_metrics import Metrics
from serving.runtime.scoring_runtime import open_scoring_runtime
from serving.stream.handler import ACKNOWLEDGE_WITHIN, BatchResult, StreamScorer
from serving.stream.records import Partition, Record
from serving.stream.topic_inspection import OffsetBounds

BATCH: Final = 500
PATIENCE: Final = 30.0
"""Seconds without any record of a range before it is given up."""


class RangeError(RuntimeError):
    """A range cannot be scored; the message says why and names the remedy."""


@dataclass(frozen=True, slots=True)
class OffsetRange:
    """The records [start, end) of a partition."""

    at: Partition
    start: int
    end: int

    def __str__(self) -> str:
        return f"{self.at.topic}:{self.at.partition}:{self.start}-{self.end}"


def plan(
    extents: Mapping[Partition, OffsetBounds], positions: Mapping[Partition, Position], *, most: int
) -> tuple[OffsetRange, ...]:
    """The next ranges: from the stored positions, about `most` records, shared among the partitions.

    Decisions that were perhaps not published are included again.
    """
    behind = {}
    for at, extent in extents.items():
        start = max(positions[at].published_offset if at in positions else extent.beginning, extent.beginning)
        if start < extent.end:
            behind[at] = start
    share = max(1, most // max(1, len(behind)))
    return tuple(OffsetRange(at, start, min(extents[at].end, start + share)) for at, start in behind.items())


def lag(extents: Mapping[Partition, OffsetBounds], positions: Mapping[Partition, Position]) -> int:
    """The number of records without a decision."""
    starts = {at: positions[at].next_offset if at in positions else extent.beginning for at, extent in extents.items()}
    return sum(max(0, extent.end - max(starts[at], extent.beginning)) for at, extent in extents.items())


@contextmanager
def range_scorer(
    kafka: KafkaSettings, settings: Settings, *, batch: int = BATCH, patience: float = PATIENCE
) -> Iterator["RangeScorer"]:
    """A scorer of ranges with clients of its own. Raises BrokerUnavailableError and DatabaseUnavailableError."""
    with ExitStack() as stack:
        metrics = Metrics()
        scoring = stack.enter_context(open_scoring_runtime(settings, metrics=metrics, follow=False))
        producer = open_producer(kafka, max_block_ms=round(ACKNOWLEDGE_WITHIN * 1_000))
        stack.callback(producer.close, timeout=2)
        stream = StreamScorer.build(settings, kafka, scoring, producer=producer)
        consumer = stack.enter_context(closing(open_consumer(kafka, fetch_max_wait_ms=50)))
        yield RangeScorer(consumer, stream, scoring.database, batch=batch, patience=patience, metrics=metrics)


class RangeScorer:
    """Scores ranges, one after the other."""

    def __init__(
        self,
        consumer: KafkaConsumer,
        stream: StreamScorer,
        database: Database,
        *,
        batch: int,
        patience: float,
        metrics: Metrics,
    ) -> None:
        self._consumer = consumer
        self._stream = stream
        self._database = database
        self._batch = batch
        self._patience = patience
        self._metrics = metrics
        self._capped_before = metrics.blocks_demoted

    @property
    def capped(self) -> int:
        """The number of blocks so far that became reviews because there were too many."""
        return self._metrics.blocks_demoted - self._capped_before

    def score(
        self, requested: OffsetRange, *, on_batch: Callable[[BatchResult], None] = lambda _handled: None
    ) -> BatchResult:
        """Score a range, after the decisions that the last reader left unpublished; `on_batch` gets each result.

        Earlier decisions are answered as stored and published again. Raises RangeError when undecided records precede
        the range, FencedError when another reader claims the partition, and errors of `StreamScorer.handle`; the same
        range may then be scored again.
        """
        at = requested.at
        beginning = self._consumer.beginning_offsets([TopicPartition(*at)])[TopicPartition(*at)]
        with scoring_batch(self._database) as batch:
            position = batch.positions.claim(*at, start=beginning)
        total = BatchResult(positions={at: position})
        if requested.start > max(position.next_offset, beginning):
            raise RangeError(f"{requested} leaves out records from {position.next_offset} on: score those first")
        # Unpublished decisions come first, because they must not be skipped.
        newer = self._records(at, position.published_offset, max(position.next_offset, requested.end))
        older = self._records(at, requested.start, min(requested.end, position.published_offset))
        for records in chain(newer, older):
            handled = self._stream.handle({at: records}, total.positions)
            on_batch(handled)
            total += handled
        return replace(total, positions={at: self._passed(at, total.positions[at], requested.end)})

    def _records(self, at: Partition, start: int, end: int) -> Iterator[Sequence[Record]]:
        """The records [start, end) in batches; those that the broker dropped or never had are left out."""
        if start >= end:
            return
        partition = TopicPartition(*at)
        self._consumer.assign([partition])
        self._consumer.seek(partition, start)
        heard = time.monotonic()
        while self._consumer.position(partition) < end:
            polled = self._consumer.poll(timeout_ms=200, max_records=self._batch).get(partition, [])
            if polled and polled[0].offset < start:
                raise RangeError(
                    f"{at.topic}:{at.partition} ends before {start}: the topic was recreated; let the consumer read it"
                )
            records: list[Any] = [record for record in polled if record.offset < end]
            if records:
                yield records
            if polled:
                heard = time.monotonic()
            elif time.monotonic() - heard > self._patience:
                where = self._consumer.position(partition)
                raise RangeError(
                    f"no record of {at.topic}:{at.partition} from {where} to {end} came: is there one, or does a "
                    "sender's transaction still hold it back?"
                )

    def _passed(self, at: Partition, position: Position, end: int) -> Position:
        """The position of the partition when all is published; the last offsets may hold no records."""
        last = max(position.next_offset, end)
        if position.published_offset >= last:
            return position
        passed = replace(position, next_offset=last, published_offset=last)
        with scoring_batch(self._database) as batch:
            batch.positions.move(*at, before=position, after=passed)
        return passed
