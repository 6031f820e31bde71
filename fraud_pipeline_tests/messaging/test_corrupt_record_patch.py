"""Readable records of a damaged batch are read, unreadable ones keep their offsets, and later records are not lost."""

from typing import Any

import pytest
from kafka import TopicPartition
from kafka.consumer.fetcher import Fetcher
from kafka.record import MemoryRecords

from fraud_pipeline.messaging.corrupt_record_patch import UnreadableRecord, _LenientRecords
from fraud_pipeline_tests.support.raw_batches import (
    GZIP,
    LZ4,
    SNAPPY,
    UNKNOWN_CODEC,
    ZSTD,
    NotUtf8,
    batch_of,
    joined,
    said_to_be_packed,
    with_checksum,
)

AT = TopicPartition("transactions", 3)
GOOD = batch_of(b"first", b"second", headers=[("trace", b"1"), ("none", None)])
PACKED = 61
"""The offset at which the records of a batch begin."""


def read(data: bytes, *, start: int = 0, kind: Any = _LenientRecords) -> tuple[list[Any], int]:
    """The records of a fetch from an offset on, and the offset to go on from."""
    part = kind(start, AT, MemoryRecords(data))
    records: list[Any] = []
    while part:
        records += part.take(1)
    return records, part.next_fetch_offset


def offsets_and_values(records: list[Any]) -> list[tuple[int, bytes | None]]:
    return [(record.offset, None if isinstance(record, UnreadableRecord) else record.value) for record in records]


@pytest.mark.parametrize("codec", [0, GZIP, SNAPPY, LZ4, ZSTD])
def test_valid_records_are_read_like_in_the_library(codec: int) -> None:
    data = joined(GOOD, batch_of(*[b"x" * 500] * 40, codec=codec), GOOD)
    assert read(data) == read(data, kind=Fetcher.PartitionRecords)
    assert read(data, start=7) == read(data, start=7, kind=Fetcher.PartitionRecords)
    assert len(read(data)[0]) == 44


def test_a_header_name_that_is_not_utf8_keeps_its_record_readable() -> None:
    odd = batch_of(b"third", b"fourth", headers=[(NotUtf8("x"), b"1"), ("trace", None)], timestamp=5_000)
    records, end = read(joined(GOOD, odd, GOOD))
    assert offsets_and_values(records) == [
        (0, b"first"),
        (1, b"second"),
        (2, b"third"),
        (3, b"fourth"),
        (4, b"first"),
        (5, b"second"),
    ]
    assert end == 6
    third, fourth = records[2:4]
    assert (third.key, third.timestamp, third.headers) == (b"c1", 5_000, [("\ufffd\ufffd", b"1"), ("trace", None)])
    assert (fourth.timestamp, fourth.topic, fourth.partition) == (5_001, "transactions", 3)


@pytest.mark.parametrize("codec", [GZIP, SNAPPY, LZ4, ZSTD, UNKNOWN_CODEC])
def test_an_unreadable_batch_gives_its_offsets_and_later_records_are_read(codec: int) -> None:
    data = joined(GOOD, said_to_be_packed(GOOD, codec), GOOD)
    records, end = read(data)
    assert offsets_and_values(records) == [
        (0, b"first"),
        (1, b"second"),
        (2, None),
        (3, None),
        (4, b"first"),
        (5, b"second"),
    ]
    assert end == 6
    assert {(record.topic, record.partition, record.value, tuple(record.headers)) for record in records[2:4]} == {
        (*AT, None, ())
    }
    assert offsets_and_values(read(data, start=3)[0]) == [(3, None), (4, b"first"), (5, b"second")]


def test_a_record_of_a_wrong_length_is_unreadable_alone() -> None:
    broken = bytearray(batch_of(b"third", b"fourth"))
    broken[PACKED + 4] += 2  # the length of the first key
    records, end = read(joined(GOOD, with_checksum(broken), GOOD))
    assert offsets_and_values(records)[2:] == [(2, None), (3, b"fourth"), (4, b"first"), (5, b"second")]
    assert end == 6


def test_a_record_without_an_end_makes_the_rest_of_its_batch_unreadable() -> None:
    broken = bytearray(batch_of(b"third", b"fourth", b"fifth"))
    broken[PACKED] = 0x7F  # longer than all that follows
    records, _ = read(joined(GOOD, with_checksum(broken), GOOD))
    assert offsets_and_values(records)[2:] == [(2, None), (3, None), (4, None), (5, b"first"), (6, b"second")]


def test_the_end_of_a_batch_with_a_wrong_checksum_is_not_trusted() -> None:
    broken = bytearray(GOOD)
    broken[-1] ^= 1
    data = joined(GOOD, bytes(broken), GOOD)
    records, end = read(data)
    assert (offsets_and_values(records), end) == ([(0, b"first"), (1, b"second"), (2, None)], 3)
    assert (offsets_and_values(read(data, start=3)[0]), read(data, start=3)[1]) == ([(3, None)], 4)


def test_bytes_that_are_no_batch_are_skipped_one_offset_at_a_time() -> None:
    records, end = read(joined(GOOD)[:8] + b"\x00\x00\x00\x02xx" + bytes(40), start=7)
    assert (offsets_and_values(records), end) == ([(7, None)], 8)
