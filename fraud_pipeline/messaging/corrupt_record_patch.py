"""Reading records that were written badly: what cannot be read is told of, and what follows it is read.

Belongs here: what reaches into kafka-python's reading of batches. Must not be here: what becomes of such a record.

The library raises on a batch it cannot read, without its offset, and again at each poll, so that nothing gets past it.
"""

import logging
from collections.abc import Iterator
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.consumer.fetcher import ConsumerRecord, Fetcher
from kafka.record.default_records import DefaultRecordBatch
from kafka.record.util import decode_varint

log = logging.getLogger(__name__)


class UnreadableRecord(ConsumerRecord):  # type: ignore[misc]  # kafka-python has no types
    """Stands where a record cannot be read: its topic, partition and offset are right, it has no content."""

    __slots__ = ()


def read_leniently(consumer: KafkaConsumer) -> None:
    """Let a consumer give an UnreadableRecord for what it cannot read, in place of raising for ever."""
    consumer._fetcher.PartitionRecords = _LenientRecords  # noqa: SLF001 - the library has no public way


class _Batches:
    """The batches of a fetch, and the one that was asked for last; None when it could not be cut out."""

    def __init__(self, records: Any) -> None:
        self._records = records
        self.last: Any = None

    def next_batch(self) -> Any:
        self.last = None
        self.last = self._records.next_batch()
        return self.last


class _LenientRecords(Fetcher.PartitionRecords):  # type: ignore[misc]  # as above
    next_fetch_offset: int

    def _unpack_records(self, tp: TopicPartition, records: Any, *deserializers: Any) -> Iterator[ConsumerRecord]:
        batches = _Batches(records)
        while True:
            try:
                yield from super()._unpack_records(tp, batches, *deserializers)
            except Exception as error:  # noqa: BLE001 - codecs raise whatever they like
                log.warning(
                    "a batch of partition %d of %s is not as it should be: %s", tp[1], tp[0], type(error).__name__
                )
            else:
                return
            batch = batches.last
            if not isinstance(batch, DefaultRecordBatch) or not (batch._decompressed or batch.validate_crc()):  # noqa: SLF001 - as above
                # Not even where it ends can be believed: the broker, asked for the next offset, knows.
                yield self._unreadable(tp, max(self.next_fetch_offset, self.fetch_offset))
                self.drain()
                return
            yield from self._rest(tp, batch)
            self.next_fetch_offset = batch.next_offset

    def _rest(self, tp: TopicPartition, batch: DefaultRecordBatch) -> Iterator[ConsumerRecord]:
        """What follows the records of a batch that the library could read."""
        buffer, position, first = batch._buffer, batch._pos, batch._next_record_index  # noqa: SLF001 - as above
        expected = self.next_fetch_offset if first else batch.base_offset
        if batch._decompressed:  # noqa: SLF001 - as above
            for _ in range(first, batch.records_count):
                length = start = 0
                try:
                    length, start = decode_varint(buffer, position)
                    position = start + length
                    record = _parsed(bytes(buffer[start:position]), length)
                except (ValueError, IndexError):
                    if not 0 < length <= len(buffer) - start:
                        break
                    yield self._unreadable(tp, expected)
                else:
                    yield self._readable(tp, batch, *record)
                expected = self.next_fetch_offset
            else:
                return
        for offset in range(expected, batch.next_offset):
            yield self._unreadable(tp, offset)

    def _readable(
        self, tp: TopicPartition, batch: DefaultRecordBatch, later: int, number: int, *content: Any
    ) -> ConsumerRecord:
        appended = batch.timestamp_type == batch.LOG_APPEND_TIME
        sent = batch.max_timestamp if appended else batch.first_timestamp + later
        offset = batch.base_offset + number
        self.next_fetch_offset = offset + 1
        return ConsumerRecord(*tp, self.leader_epoch, offset, sent, batch.timestamp_type, *content, None, -1, -1, -1)

    def _unreadable(self, tp: TopicPartition, offset: int) -> UnreadableRecord:
        self.next_fetch_offset = offset + 1
        return UnreadableRecord(*tp, self.leader_epoch, offset, -1, 0, None, None, [], None, -1, -1, -1)


def _parsed(data: bytes, length: int) -> tuple[Any, ...]:
    """Milliseconds after the batch's first record, number within it, key, value and headers of one record.

    As other clients do, a header's name that is not UTF-8 is read with marks in place of what it is not.
    """
    later, position = decode_varint(data, 1)
    number, position = decode_varint(data, position)
    key, position = _bytes(data, position)
    value, position = _bytes(data, position)
    count, position = decode_varint(data, position)
    headers = []
    for _ in range(count):
        name, position = _bytes(data, position)
        declared, position = _bytes(data, position)
        headers.append(((name or b"").decode(errors="replace"), declared))
    if not position == len(data) == length:
        raise ValueError("a record that is not as long as it says")
    return later, number, key, value, headers


def _bytes(data: bytes, position: int) -> tuple[bytes | None, int]:
    size, position = decode_varint(data, position)
    if size < 0:
        return None, position
    return data[position : position + size], position + size
