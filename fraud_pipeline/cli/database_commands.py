"""The commands of the database: upgrade it, copy it.

Belongs here: words for a person. Must not be here: migrations and SQL (`database/`).
"""

import argparse
from contextlib import closing
from datetime import timedelta

from fraud_pipeline.database import Database
from fraud_pipeline.database.backup import backup_file
from fraud_pipeline.settings import load_settings


def migrate(_: argparse.Namespace) -> int:
    """Upgrade the database to this release."""
    with closing(Database(load_settings().database, statement_timeout=timedelta(hours=1))) as database:
        database.upgrade()
        database.check_revision()
    print("The database is of this release.")
    return 0


def backup(arguments: argparse.Namespace) -> int:
    """Copy the SQLite database while others write to it."""
    with closing(Database(load_settings().database)) as database:
        backup_file(database, arguments.file)
    print(f"{arguments.file} holds the database as it was a moment ago.")
    return 0
