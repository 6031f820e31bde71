"""How many blocks a minute has had, for all processes together.

Belongs here: the statement that counts them, within one open transaction. Must not be here: how many may be, and what
becomes of the others (`fraud_pipeline/scoring/scorer.py`).

The minute is the transactions' own. What comes late, or is caught up on after an outage, is counted where it belongs:
how fast it is decided says nothing about how much of it is blocked.
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
    """The counts; who takes some makes others of that minute wait until the transaction ends."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def take(self, times: Sequence[int], *, most: int) -> list[bool]:
        """Whether each transaction of these times may be blocked, so that a minute has `most` blocks at most."""
        wanted = Counter(time // MINUTE * MINUTE for time in times)
        # In their order, so that two that take several never wait for each other.
        left = {minute: most - self._before(minute, wanted[minute]) for minute in sorted(wanted)}
        may = []
        for time in times:
            minute = time // MINUTE * MINUTE
            may.append(left[minute] > 0)
            left[minute] -= 1
        return may

    def _before(self, minute: int, number: int) -> int:
        """Count so many more; how many there were before, refused ones included."""
        insert: Any = postgresql.insert if self._connection.dialect.name == "postgresql" else sqlite.insert
        counted = insert(BLOCK_MINUTES).values(minute=minute, blocks=number)
        more = {"blocks": BLOCK_MINUTES.c.blocks + counted.excluded.blocks}
        counted = counted.on_conflict_do_update(index_elements=[BLOCK_MINUTES.c.minute], set_=more)
        return int(self._connection.execute(counted.returning(BLOCK_MINUTES.c.blocks)).scalar_one()) - number
