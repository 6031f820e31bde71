"""Joining a group: a join that lasts longer than a poll is finished by the polls after it.

Belongs here: what reaches into kafka-python's joining of groups. Must not be here: what becomes of the partitions.

A group's leader joins again when a topic has new partitions. The library takes note of them as soon as it gives them
out; a poll that comes between that and the end of the join sees nothing left to do, and so does each one after it. The
consumer would read nothing, and send no heartbeat, until it is started again.
"""

from kafka import KafkaConsumer


def finish_joins(consumer: KafkaConsumer) -> None:
    """Let a consumer need to join its group until it has joined."""
    coordinator = consumer._coordinator  # noqa: SLF001 - the library has no public way
    needed = coordinator.need_rejoin
    coordinator.need_rejoin = lambda: coordinator.rejoining or needed()
