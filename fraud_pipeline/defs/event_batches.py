"""Events of many days in one write: Dagster's SQLite storage makes two transactions for each day.

Belongs here: that one write. Must not be here: runs (`instance.py`).

Dagster collects the events of an output where DAGSTER_EVENT_BATCH_SIZE says so. Its PostgreSQL storage writes them at
once; its SQLite storage takes them one by one, each with two synced commits.
"""

from collections.abc import Sequence
from functools import partial
from typing import Final

import dagster as dg
from dagster._core.storage.event_log import SqlEventLogStorageTable, SqliteEventLogStorage

BATCH_VARIABLE: Final = "DAGSTER_EVENT_BATCH_SIZE"
BATCH_SIZE: Final = 500
_OF_ASSETS: Final = frozenset(
    {dg.DagsterEventType.ASSET_MATERIALIZATION, dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED}
)


def write_in_batches(instance: dg.DagsterInstance) -> None:
    """Make an instance with SQLite storage write the materializations of an output together."""
    storage = instance.event_log_storage
    if isinstance(storage, SqliteEventLogStorage):
        storage.store_event_batch = partial(_store_batch, storage)  # type: ignore[method-assign]


def _store_batch(storage: SqliteEventLogStorage, events: Sequence[dg.EventLogEntry]) -> None:
    """What `SqliteEventLogStorage.store_event` does for each event, in two transactions for all of them."""
    kinds = {event.dagster_event_type for event in events}
    if not kinds <= _OF_ASSETS or len({event.run_id for event in events}) > 1:
        for event in events:
            storage.store_event(event)
        return
    insert = storage.prepare_insert_event_batch(events)
    with storage.run_connection(events[0].run_id) as connection:
        connection.execute(insert)
    with storage.index_transaction() as connection:
        ids = list(connection.execute(insert.returning(SqlEventLogStorageTable.c.id)).scalars())
        storage._store_asset_event_tags(connection, events, ids)  # noqa: SLF001 - as dagster-postgres does
        latest = {
            event.dagster_event.asset_key: (event, id_)
            for event, id_ in zip(events, ids, strict=True)
            if event.dagster_event
        }
        for event, id_ in latest.values():
            storage._store_asset_event(connection, event, id_)  # noqa: SLF001
