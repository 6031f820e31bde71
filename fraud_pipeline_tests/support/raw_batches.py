"""Batches of records as other clients may write them, and malformed ones, byte by byte.

Belongs here: batches that kafka-python's own producer refuses to send. Must not be here: their handling.
"""

import struct
from collections.abc import Sequence
from contextlib import closing
from typing import Any, Final

from kafka.errors import NoError, for_code
from kafka.protocol.producer import ProduceRequest
from kafka.record.default_records import DefaultRecordBatchBuilder
from kafka.record.util import calc_crc32c

from fraud_pipeline.messaging.topics import KafkaSettings, open_admin
from fraud_pipeline_tests.support.waiting import until

GZIP: Final = 1
SNAPPY: Final = 2
LZ4: Final = 3
ZSTD: Final = 4
CODECS: Final = (GZIP, SNAPPY, LZ4, ZSTD)
UNKNOWN_CODEC: Final = 6
_CRC: Final = DefaultRecordBatchBuilder.CRC_OFFSET
_ATTRIBUTES: Final = DefaultRecordBatchBuilder.ATTRIBUTES_OFFSET


class NotUtf8(str):
    """A header's name that other clients may send as these bytes."""

    __slots__ = ()

    def encode(self, *_: object) -> bytes:
        return b"\xff\xfe"


Headers = Sequence[tuple[str, bytes | None]]


def batch_of(
    *values: bytes | None,
    key: bytes | None = b"c1",
    headers: Headers = (),
    codec: int = 0,
    timestamp: int = 1_000,
) -> bytes:
    """A batch of these values, a millisecond apart."""
    builder = DefaultRecordBatchBuilder(2, codec, False, -1, -1, -1, 2**30)
    for number, value in enumerate(values):
        builder.append(number, timestamp + number, key, value, list(headers))
    return bytes(builder.build())


def bad_batches() -> dict[str, bytes]:
    """Records that other clients may write and no consumer can score: one of each kind."""
    return {
        "as large as a broker takes": batch_of(b"x" * 1_048_000),
        "packed to a tenth of its size": batch_of(b"x" * 3_000_000, codec=GZIP),
        "only headers": batch_of(None, key=None, headers=[("trace", b"1")]),
        "headers without end": batch_of(b"x", headers=[(f"trace-{number}", b"") for number in range(70_000)]),
        "a key without end": batch_of(b"x", key=b"x" * 1_000_000),
        "a header without a value": batch_of(b"x", headers=[("trace", None)]),
        "a header of a schema without a value": batch_of(b"x", headers=[("schema-version", None)]),
        "a header whose name is not UTF-8": batch_of(b"x", headers=[(NotUtf8("x"), b"1")]),
        "a time beyond any": batch_of(b"x", timestamp=2**62),
        "a time before any": batch_of(b"x", timestamp=-(2**62)),
        **{f"packed with nothing by {codec}": said_to_be_packed(batch_of(b"x"), codec) for codec in CODECS},
    }


def joined(*batches: bytes) -> bytes:
    """Batches as they are stored in a log, the first one at offset 0."""
    content, offset = b"", 0
    for batch in batches:
        content += struct.pack(">q", offset) + batch[8:]
        offset += struct.unpack_from(">i", batch, _ATTRIBUTES + 2)[0] + 1
    return content


def said_to_be_packed(batch: bytes, codec: int) -> bytes:
    """The batch under a codec that it is not packed with; its checksum is right."""
    changed = bytearray(batch)
    changed[_ATTRIBUTES + 1] |= codec
    return with_checksum(changed)


def with_checksum(batch: bytearray) -> bytes:
    """The batch with the checksum that its bytes have now."""
    struct.pack_into(">I", batch, _CRC, calc_crc32c(memoryview(batch)[_ATTRIBUTES:]))
    return bytes(batch)


def send_batch(kafka: KafkaSettings, topic: str, batch: bytes, *, partition: int = 0) -> bool:
    """Whether the broker takes the batch: some look into it."""
    part = ProduceRequest.TopicProduceData
    data = [part(name=topic, partition_data=[part.PartitionProduceData(index=partition, records=batch)])]
    request = ProduceRequest(
        transactional_id=None, acks=-1, timeout_ms=10_000, topic_data=data, min_version=3, max_version=9
    )
    with closing(open_admin(kafka)) as admin:

        def answered() -> Any:
            answer = admin._manager.run(_sent, admin, request)
            error = for_code(answer.responses[0].partition_responses[0].error_code)
            return None if error.retriable else error  # a topic that was just made has no leader yet

        return until(answered, what="the broker's answer") is NoError


async def _sent(admin: Any, request: Any) -> Any:
    return await admin._manager.send(request)
