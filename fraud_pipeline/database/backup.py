"""Backup of a SQLite database while other processes write to it.

Belongs here: copying a SQLite file. Must not be here: PostgreSQL backups (`deploy/backup.sh`).
"""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from fraud_pipeline.database.engine import Database


def backup_file(database: Database, path: Path) -> None:
    """Write a complete and consistent copy of a SQLite database to a new file that only its owner can read.

    Raises ValueError for PostgreSQL, and FileExistsError when the file exists.
    """
    if database.is_postgresql:
        raise ValueError("this is PostgreSQL: deploy/backup.sh copies it, or pg_dump")
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    with closing(sqlite3.connect(str(database.engine.url.database))) as live, closing(sqlite3.connect(path)) as copy:
        live.backup(copy)
