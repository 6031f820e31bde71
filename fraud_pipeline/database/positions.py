"""How far topics were read, kept in the transaction that keeps what was decided.

Belongs here: claiming a partition, moving its position under the fence. Must not be here: Kafka.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from fraud_pipeline.database.tables import STREAM_POSITIONS


class FencedError(RuntimeError):
    """Somebody else reads the partition by now; nothing of this transaction may stay."""


@dataclass(frozen=True, slots=True)
class Position:
    """Where a partition stands: decided before `next_offset`, published before `published_offset`."""

    epoch: int
    next_offset: int
    published_offset: int


class Positions:
    """The positions of topics, within one open transaction."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def claim(self, topic: str, partition: int, *, start: int) -> Position:
        """Become the one reader of a partition, which starts at `start` when it was never read; where it stands."""
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
        """Move a partition on from where its reader knows it to stand. Raises FencedError when it stands elsewhere."""
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
        """Where every partition of a topic stands."""
        columns = STREAM_POSITIONS.c
        rows = self._connection.execute(
            sa.select(columns.partition, columns.epoch, columns.next_offset, columns.published_offset).where(
                columns.topic == topic
            )
        )
        return {row[0]: Position(*row[1:]) for row in rows}
