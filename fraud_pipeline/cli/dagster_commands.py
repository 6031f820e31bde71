"""The commands that run Dagster: its UI, its home directory, the ingestion of due days.

Belongs here: starting Dagster, words for a person. Must not be here: jobs and assets (`defs/`).
"""

import argparse
import os
import subprocess
import sys

from fraud_pipeline.defs.instance import WORKSPACE_FILE, PipelineFailedError, migrate_dagster, prepare_dagster_home
from fraud_pipeline.defs.instance import ingest as ingest_due_days
from fraud_pipeline.host.ports import check_port
from fraud_pipeline.settings import load_settings


def ingest(_: argparse.Namespace) -> int:
    """Ingest every day up to yesterday that is missing or differs from its source, and renew stale features."""
    try:
        ingest_due_days(load_settings(), on_progress=lambda line: print(line, flush=True))
    except PipelineFailedError as error:
        print(f"\nSome days could not be ingested: {error}", file=sys.stderr)
        return 1
    print("Every day up to yesterday is ingested, and its features are current.")
    return 0


def ui(arguments: argparse.Namespace) -> int:
    """Run `dagster dev` over this home directory until Ctrl+C."""
    check_port(arguments.host, arguments.port, command="fraud-detect ui")
    settings = load_settings()
    prepare_dagster_home(settings)
    print(f"Dagster UI on http://{arguments.host}:{arguments.port} - stop it with Ctrl+C", flush=True)
    command = [sys.executable, "-m", "dagster", "dev", "-w", str(WORKSPACE_FILE)]
    environment = {**os.environ, "FRAUD_HOME": str(settings.home)}
    return subprocess.call([*command, "-h", arguments.host, "-p", str(arguments.port)], env=environment)  # noqa: S603 - our own arguments


def prepare_dagster(_: argparse.Namespace) -> int:
    """Create or upgrade Dagster's home and database, for a web server and a daemon that others start."""
    print(f"{migrate_dagster(load_settings())}: Dagster's home and database are of this release.")
    return 0
