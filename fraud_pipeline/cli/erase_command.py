"""The command `fraud-detect erase`: a customer's right to erasure (GDPR, Art. 17).

Belongs here: the places, their order, the proof in words. Must not be here: rows (`database/erasure.py`,
`ingest/erased_days.py`).
"""

import argparse
import json
from collections.abc import Collection
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Final

from fraud_pipeline.database import Database, open_database
from fraud_pipeline.database.erasure import erase_from_database, names_any, transactions_of
from fraud_pipeline.ingest.erased_days import erase_from_tables, transactions_in_tables
from fraud_pipeline.modeling.personal_key import personal_key
from fraud_pipeline.schema.erasure import ErasedRows, erased_ids
from fraud_pipeline.schema.pseudonyms import PersonalKey
from fraud_pipeline.settings import Settings, load_settings
from fraud_pipeline.storage.table_files import directories_below
from fraud_pipeline.storage.tables import TableStore

_NO_KEY: Final = PersonalKey(b"")
"""Counting needs no key, so it makes none."""


def erase(arguments: argparse.Namespace) -> int:
    """Erase a customer everywhere and prove it; status 1 where something is left."""
    settings = load_settings()
    with open_database(settings.database, statement_timeout=timedelta(minutes=10)) as database:
        done = erase_customer(settings, database, arguments.customer, dry_run=arguments.dry_run)
    left = 0 if arguments.dry_run else sum(rows.left for rows in done)
    beyond = not_reached(settings)
    if arguments.json:
        proof = {"customer": arguments.customer, "dry_run": arguments.dry_run, "left": left}
        print(json.dumps({**proof, "places": [asdict(rows) for rows in done], "not_reached": beyond}))
        return int(left > 0)
    print(f"{'pseudonymised':>13} {'removed':>8} {'left':>6}  place")
    for rows in done:
        print(f"{rows.pseudonymised:>13,} {rows.removed:>8,} {rows.left:>6,}  {rows.place}")
    found = sum(rows.pseudonymised + rows.removed for rows in done)
    if arguments.dry_run:
        print(f"\nNothing was changed: {found:,} rows would be erased.")
    else:
        print(f"\n{found:,} rows were erased, and {left:,} are left.")
    print("\nNot reached:")
    for place in beyond:
        print(f"- {place}")
    return int(left > 0)


def erase_customer(settings: Settings, database: Database, customer: str, *, dry_run: bool) -> list[ErasedRows]:
    """Erase a customer from the database, then from the tables of every source and the report pages."""
    erased = erased_ids(_NO_KEY if dry_run else _key(settings))
    stores = [TableStore(directory) for directory in directories_below(settings.tables_root)]
    ids = transactions_of(database, customer).union(*(transactions_in_tables(store, customer) for store in stores))
    # The tables come last: until they are done, a repeated command finds all transactions in them again.
    done = [_without_pages(settings.report_directory, ids, dry_run=dry_run)]
    done += erase_from_database(database, customer=customer, ids=ids, erased=erased, dry_run=dry_run)
    for store in stores:
        done += erase_from_tables(store, customer=customer, ids=ids, erased=erased, dry_run=dry_run)
    return done


def _key(settings: Settings) -> PersonalKey:
    path, ours = settings.personal_key_file, settings.personal_key is None
    return personal_key(path, ours=ours, champion=settings.champion_directory)


def not_reached(settings: Settings) -> list[str]:
    """The places that this command does not change, each with what to do."""
    others = sorted(path.name for path in settings.home.glob("*.db") if path.name not in _own_files(settings))
    return [
        *(
            [f"the source ({settings.source_name}): remove the customer there, or a changed day brings them back"]
            if settings.history_kind == "file"
            else []
        ),
        "the memory of running processes: restart the service, the consumers and the dashboard",
        "Kafka: records and dead letters expire with the retention of their topics",
        "backups, replicas and snapshots of databases and volumes: repeat this command after a restore",
        "rules whose expression names the customer: write a new version of the rule, as its text belongs to its author",
        "logs, which hold ids of transactions: they expire with your log storage",
        "models, MLflow's runs and daily figures: they hold no ids of customers or transactions",
        *(["dead rows of PostgreSQL: autovacuum overwrites them"] if "postgresql" in settings.database else []),
        *([f"databases of other sources in this home directory: {', '.join(others)}"] if others else []),
    ]


def _own_files(settings: Settings) -> set[str]:
    return {Path(settings.database.removeprefix("sqlite:///")).name, "mlflow.db"}


def _without_pages(directory: Path, names: Collection[str], *, dry_run: bool) -> ErasedRows:
    shown = [
        path
        for path in sorted(directory.glob("**/*"))
        if path.is_file() and names_any(path.read_text(encoding="utf-8", errors="replace"), names)
    ]
    for path in () if dry_run else shown:
        path.unlink()
    return ErasedRows("report pages", removed=len(shown), left=len(shown) if dry_run else 0)
