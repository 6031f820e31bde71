"""Tables that earlier releases wrote: plain files, which become Delta tables as they are.

Belongs here: taking them over. Must not be here: anything that this release writes.

Earlier releases wrote `<name>/<day>.parquet` and `<name>.parquet`. The files get a second name where the Delta table
has them, and lose the first one when its log knows them. So a kill at any moment loses nothing.
"""

import os
import uuid
from contextlib import suppress
from datetime import date, timedelta
from pathlib import Path

import pyarrow.parquet as pq

from fraud_pipeline.storage.delta_log import LOG, WHOLE, ConcurrentWriteError, NewFile, commit
from fraud_pipeline.storage.delta_schema import PARTITION
from fraud_pipeline.storage.table_files import SUFFIX, read_rows, statistics


def adopt_earlier_files(root: Path, name: str, *, keep: timedelta) -> None:
    """Make a Delta table of the files that an earlier release wrote for a table; where there are none, do nothing."""
    table, whole = root / name, root / f"{name}{SUFFIX}"
    if (table / LOG).exists():
        return
    earlier = {path: _day(path) for path in table.glob(f"[!.]*{SUFFIX}")} or {
        path: WHOLE for path in [whole] if path.exists()
    }
    if not earlier:
        return
    try:
        added = [_second_name(table, path, partition) for path, partition in sorted(earlier.items())]
        columns = pq.read_schema(max(earlier))
    except FileNotFoundError:
        if (table / LOG).exists():  # another process has just adopted them
            return
        raise
    with suppress(ConcurrentWriteError):  # another process adopts them at the same time
        commit(table, added, columns=columns, partitioned=whole not in earlier, on_top_of=-1, keep=keep)
    for path in earlier:
        path.unlink(missing_ok=True)


def _day(path: Path) -> str:
    return date.fromisoformat(path.stem).isoformat()


def _second_name(table: Path, path: Path, partition: str) -> NewFile:
    file = f"{uuid.uuid4().hex}{SUFFIX}"
    relative = f"{PARTITION}={partition}/{file}" if partition else file
    link = table / relative
    link.parent.mkdir(parents=True, exist_ok=True)
    os.link(path, link)
    return NewFile(partition, relative, link.stat().st_size, statistics(read_rows(link)))
