"""A patch of kafka-python: a group join that outlasts a poll is finished by later polls.

Belongs here: changes to kafka-python's joining of groups. Must not be here: the handling of assigned partitions.

A group's leader rejoins when a topic has new partitions. The library records the partitions before the join has ended;
a poll between the two, and every later poll, considers the join done. The consumer would read nothing, and send no
heartbeat, until a restart.
"""

from kafka import KafkaConsumer


def finish_joins(consumer: KafkaConsumer) -> None:
    """Make a consumer continue to join its group until it has joined."""
    coordinator = consumer._coordinator  # noqa: SLF001 - the library has no public access
    needed = coordinator.need_rejoin
    coordinator.need_rejoin = lambda: coordinator.rejoining or needed()
