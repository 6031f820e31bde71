"""The source of the history in the database, so that histories of two sources are never mixed.

Belongs here: the row that names the source, and which sources may be combined. Must not be here: loading
(`history.py`).
"""

from dataclasses import dataclass

import sqlalchemy as sa

from fraud_pipeline.database.engine import Database
from fraud_pipeline.database.statements import insert_new
from fraud_pipeline.database.tables import DECISIONS, HISTORY_SOURCE

_NAME = "history"
_SERVED = "served"
_SYNTHETIC = "synthetic-"


class OtherSourceError(RuntimeError):
    """The database holds the history of another source; the message names both and the remedy."""


@dataclass(frozen=True, slots=True)
class HistorySource:
    """A source: its identity and a description."""

    source_id: str
    source: str

    def may_follow(self, stored: "HistorySource") -> bool:
        """Whether history of this source may be added to what is stored: the same source, or a bank's data and its
        served rows.
        """
        if self.source_id == stored.source_id:
            return True
        ids = {self.source_id, stored.source_id}
        return _SERVED in ids and not any(name.startswith(_SYNTHETIC) for name in ids)


def read_history_source(database: Database) -> HistorySource | None:
    """The source of the loaded history; None before anything was loaded."""
    with database.transaction(read_only=True) as connection:
        return _read(connection)


def check_history_source(database: Database, source: HistorySource) -> None:
    """Raise OtherSourceError when the database holds history that must not be combined with this source."""
    stored = read_history_source(database)
    if stored is not None and not source.may_follow(stored):
        raise OtherSourceError(_refusal(source, stored))


def claim_history(database: Database, source: HistorySource, *, accept_other: bool = False) -> None:
    """Record that history of this source is loaded from now on; `accept_other` permits any combination.

    Raises OtherSourceError when the database holds history of another source, and for the synthetic world also when it
    holds decisions of an unknown source.
    """
    with database.transaction() as connection:
        stored = _read(connection)
        if stored is None:
            if source.source_id.startswith(_SYNTHETIC) and not accept_other:
                _check_nothing_was_served(connection)
            insert_new(
                connection,
                HISTORY_SOURCE,
                {"name": [_NAME], "source_id": [source.source_id], "source": [source.source]},
            )
            stored = _read(connection)
        if stored is None or stored == source:
            return
        if not (accept_other or source.may_follow(stored)):
            raise OtherSourceError(_refusal(source, stored))
        # Served rows join the bank's own history, and the bank's source stays recorded, because it is more precise.
        if accept_other or source.source_id != _SERVED:
            connection.execute(sa.update(HISTORY_SOURCE).values(source_id=source.source_id, source=source.source))


def _read(connection: sa.Connection) -> HistorySource | None:
    row = connection.execute(sa.select(HISTORY_SOURCE.c.source_id, HISTORY_SOURCE.c.source)).one_or_none()
    return None if row is None else HistorySource(row.source_id, row.source)


def _check_nothing_was_served(connection: sa.Connection) -> None:
    if connection.execute(sa.select(DECISIONS.c.transaction_id).limit(1)).first() is not None:
        raise OtherSourceError(
            "the database holds decisions on transactions that were served, and the synthetic world must not come "
            "beside a bank's: name your data by `fraud-detect train --data-path FILE`, or, where those were only a "
            "trial, use an empty database or `fraud-detect train --synthetic --accept-other-source`"
        )


def _refusal(source: HistorySource, stored: HistorySource) -> str:
    return (
        f"the database holds history of another source ({stored.source}) than this one ({source.source}): give this "
        "one a database of its own (FRAUD_DATABASE_URL, or another FRAUD_HOME), or, where both are of one bank, say so "
        "by `fraud-detect train --accept-other-source`. Where the synthetic world is served for a rehearsal, "
        "FRAUD_SYNTHETIC=true says so"
    )
