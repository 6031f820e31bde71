"""State of topics and groups at the broker: offset bounds of partitions and live members of a group.

Belongs here: requests to the broker that change nothing. Must not be here: reading records.
"""

import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any, Final, NamedTuple

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError
from kafka.protocol.admin import DescribeGroupsRequest

from fraud_pipeline.messaging.topics import BrokerUnavailableError, KafkaSettings, open_admin, open_consumer
from serving.stream.records import Partition

ANSWER_SECONDS: Final = 5.0


class OffsetBounds(NamedTuple):
    """The readable offsets of a partition: from `beginning` to before `end`.

    Records of a sender's open transaction, and records after them, lie behind the end.
    """

    beginning: int
    end: int


def extents(kafka: KafkaSettings, topics: Sequence[str]) -> dict[Partition, OffsetBounds]:
    """The extents of all partitions of these topics, in this order; a topic that does not exist has none.

    Raises BrokerUnavailableError.
    """
    try:
        with closing(open_consumer(kafka, fetch_max_wait_ms=50)) as consumer:
            partitions = [
                TopicPartition(topic, partition)
                for topic in topics
                for partition in sorted(consumer.partitions_for_topic(topic) or ())
            ]
            beginnings, ends = consumer.beginning_offsets(partitions), consumer.end_offsets(partitions)
            ends |= _highwaters(
                consumer, {at: (beginnings[at], ends[at]) for at in partitions if beginnings[at] < ends[at]}
            )
            return {Partition(*at): OffsetBounds(beginnings[at], ends[at]) for at in partitions}
    except KafkaError as error:
        raise _away(kafka, error) from error


def live_members(kafka: KafkaSettings, group: str) -> int:
    """The number of live consumers of a group. Raises BrokerUnavailableError."""
    until = time.monotonic() + ANSWER_SECONDS
    with closing(open_admin(kafka)) as admin:
        while True:
            try:
                return int(admin._manager.run(_members, admin, group))  # noqa: SLF001 - see `_members`
            except KafkaError as error:
                # The first question about any group makes a new cluster choose who answers it.
                if not error.retriable or time.monotonic() > until:
                    raise _away(kafka, error) from error
            time.sleep(0.1)


def _highwaters(
    consumer: KafkaConsumer, extents: Mapping[TopicPartition, tuple[int, int]]
) -> dict[TopicPartition, int]:
    """The ends that arrive with records: `end_offsets` of some brokers counts the last batch as one record."""
    consumer.assign(list(extents))
    for at, (beginning, end) in extents.items():
        consumer.seek(at, max(beginning, end - 1))
    highwaters: dict[TopicPartition, int] = {}
    until = time.monotonic() + ANSWER_SECONDS
    while len(highwaters) < len(extents) and time.monotonic() < until:
        consumer.poll(timeout_ms=100, max_records=1)
        seen = {at: consumer.highwater(at) for at in extents}
        highwaters = {at: end for at, end in seen.items() if end is not None}
    return highwaters


async def _members(admin: Any, group: str) -> int:
    """As `describe_groups`, which also requests our permissions on the group and fails on unknown answers."""
    coordinators = await admin._find_coordinator_ids([group])  # noqa: SLF001 - as above
    question = DescribeGroupsRequest(groups=[group], include_authorized_operations=False)
    answer = await admin._manager.send(question, node_id=coordinators[group])  # noqa: SLF001 - as above
    return sum(len(member.members) for member in answer.groups)


def _away(kafka: KafkaSettings, error: KafkaError) -> BrokerUnavailableError:
    return BrokerUnavailableError(
        f"{kafka.bootstrap_servers} does not answer ({type(error).__name__}): see that it runs"
    )
