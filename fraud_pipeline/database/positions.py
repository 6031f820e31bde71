"""Positions in topics, stored in the same transaction as the decisions.

Belongs here: claiming a partition, and moving its position with fencing. Must not be here: Kafka.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from fraud_pipeline.database.tables import STREAM_POSITIONS


class FencedError(RuntimeError):
    """Another consumer has claimed the partition; this transaction must be rolled back."""


@dataclass(frozen=True, slots=True)
class Position:
    """The position of a partition: decided before `next_offset`, published before `published_offset`."""

    epoch: int
    next_offset: int
    published_offset: int


class Positions:
    """The positions of topics, within one open transaction."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def claim(self, topic: str, partition: int, *, start: int) -> Position:
        """Become the only reader of a partition and return its position, or `start` if it was never read."""
        table = STREAM_POSITIONS
        insert: Any = postgresql.insert if self._connection.dialect.name == "postgresql" else sqlite.insert
        claimed = (
            insert(table)
            .values(topic=topic, partition=partition, epoch=1, next_offset=start, published_offset=start)
            .on_conflict_do_update(index_elements=[table.c.topic, table.c.partition], set_={"epoch": table.c.epoch + 1})
            .returning(table.c.epoch, table.c.next_offset, table.c.published_offset)
        )
        return Position(*self._connection.execute(claimed).one())

    def move(self, topic: str, partition: int, *, before: Position, after: Position) -> None:
        """Move a partition from `before` to `after`. Raises FencedError when its position is not `before`."""
        table = STREAM_POSITIONS
        moved = self._connection.execute(
            sa.update(table)
            .where(
                table.c.topic == topic,
                table.c.partition == partition,
                table.c.epoch == before.epoch,
                table.c.next_offset == before.next_offset,
            )
            .values(next_offset=after.next_offset, published_offset=after.published_offset)
        )
        if moved.rowcount != 1:
            raise FencedError(f"partition {partition} of {topic} is read by another consumer; its work stands")

    def all(self, topic: str) -> Mapping[int, Position]:
        """The position of every partition of a topic."""
        columns = STREAM_POSITIONS.c
        rows = self._connection.execute(
            sa.select(columns.partition, columns.epoch, columns.next_offset, columns.published_offset).where(
                columns.topic == topic
            )
        )
        return {row[0]: Position(*row[1:]) for row in rows}
