"""A patch of kafka-python: an unreadable record is reported as such, and the records after it are read.

Belongs here: changes to kafka-python's parsing of batches. Must not be here: the handling of such a record.

The library raises on a batch that it cannot read, without its offset, and again at each poll, so a consumer would be
stuck.
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
    """Represents an unreadable record: topic, partition and offset are right, and it has no content."""

    __slots__ = ()


def read_leniently(consumer: KafkaConsumer) -> None:
    """Make a consumer return an UnreadableRecord for an unreadable record instead of raising."""
    consumer._fetcher.PartitionRecords = _LenientRecords  # noqa: SLF001 - the library has no public access


class _Batches:
    """The batches of a fetch, and the last batch that was requested; None when it could not be parsed."""

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
            except Exception as error:  # noqa: BLE001 - codecs raise errors of any type
                log.warning("a batch of partition %d of %s cannot be read: %s", tp[1], tp[0], type(error).__name__)
            else:
                return
            batch = batches.last
            if not isinstance(batch, DefaultRecordBatch) or not (batch._decompressed or batch.validate_crc()):  # noqa: SLF001 - as above
                # Its end offset cannot be trusted either; the broker gives the next batch for the next offset.
                yield self._unreadable(tp, max(self.next_fetch_offset, self.fetch_offset))
                self.drain()
                return
            yield from self._rest(tp, batch)
            self.next_fetch_offset = batch.next_offset

    def _rest(self, tp: TopicPartition, batch: DefaultRecordBatch) -> Iterator[ConsumerRecord]:
        """The records of a batch after those that the library could read."""
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

    A header name that is not UTF-8 is decoded with replacement characters, as other clients do.
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
        raise ValueError("a record has another length than it declares")
    return later, number, key, value, headers


def _bytes(data: bytes, position: int) -> tuple[bytes | None, int]:
    size, position = decode_varint(data, position)
    if size < 0:
        return None, position
    return data[position : position + size], position + size
