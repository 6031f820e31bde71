"""The number of blocks per minute, counted over all processes.

Belongs here: the statement that counts them, within one open transaction. Must not be here: the cap, and the decision
beyond it (`fraud_pipeline/scoring/scorer.py`).

The minute is that of the transaction's event time. So late transactions, and a backlog after an outage, count in their
own minutes, however fast they are decided.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from fraud_pipeline.database.tables import BLOCK_MINUTES
from fraud_pipeline.schema.transactions import SECOND

MINUTE: Final = 60 * SECOND


class BlockMinutes:
    """The counts of blocks; taking from a minute locks it until the database transaction ends."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def take(self, times: Sequence[int], *, most: int) -> list[bool]:
        """Whether each transaction (times in microseconds) may be blocked under a cap of `most` blocks per minute."""
        blocks_of = Counter(time // MINUTE * MINUTE for time in times)
        # Sorted, so that two processes that lock several minutes never deadlock.
        left = {minute: most - self._before(minute, blocks_of[minute]) for minute in sorted(blocks_of)}
        may = []
        for time in times:
            minute = time // MINUTE * MINUTE
            may.append(left[minute] > 0)
            left[minute] -= 1
        return may

    def _before(self, minute: int, number: int) -> int:
        """Add `number` to a minute and return its count before, including refused blocks."""
        insert: Any = postgresql.insert if self._connection.dialect.name == "postgresql" else sqlite.insert
        counted = insert(BLOCK_MINUTES).values(minute=minute, blocks=number)
        more = {"blocks": BLOCK_MINUTES.c.blocks + counted.excluded.blocks}
        counted = counted.on_conflict_do_update(index_elements=[BLOCK_MINUTES.c.minute], set_=more)
        return int(self._connection.execute(counted.returning(BLOCK_MINUTES.c.blocks)).scalar_one()) - number
