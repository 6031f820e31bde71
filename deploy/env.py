"""Writes `.env` with a random secret for each part of docker-compose.yml that has a password (`make env`).

It also writes `settings.env` for choices that are no secrets, all of them commented out.

Belongs here: names, and how secrets are generated. Must not be here: any library, because none is installed yet.
Existing values stay: the secret of an existing database must never change.
"""

import os
import secrets
import sys
from contextlib import suppress
from pathlib import Path

SECRETS = (
    "POSTGRES_PASSWORD",
    "FRAUD_DATABASE_PASSWORD",
    "DAGSTER_DATABASE_PASSWORD",
    "MLFLOW_DATABASE_PASSWORD",
    "KAFKA_PASSWORD",
    "GRAFANA_PASSWORD",
)

SETTINGS = """\
# FRAUD_ settings of all containers that are no secrets; fraud_pipeline/settings.py has them all. After a change:
# docker compose up --detach

# The next model learns from served transactions and from the verdicts of analysts, instead of a file or the synthetic
# world that `fraud-detect train` has recorded. Switch it on once real transactions arrive.
# FRAUD_LEARN_FROM_SERVED=true

# Failed runs, red reports and new alerts are posted here as JSON.
# FRAUD_ALERT_WEBHOOK_URL=https://...
"""


def add_missing(path: Path) -> list[str]:
    """Add the secrets that the file does not name yet, so that only its owner can read it; which were added."""
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+") as file:
        os.fchmod(file.fileno(), 0o600)
        text = file.read()
        named = {line.partition("=")[0].strip() for line in text.splitlines()}
        missing = [name for name in SECRETS if name not in named]
        # Hexadecimal digits mean the same in a URL, in a shell and in YAML.
        lines = [f"{name}={secrets.token_hex(24)}\n" for name in missing]
        file.write("".join(["\n" if text and not text.endswith("\n") else "", *lines]))
    return missing


def begin_settings(path: Path) -> None:
    """Create the file of choices; an existing one stays as it is."""
    # Webhooks' addresses are secrets to some.
    with suppress(FileExistsError), os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(SETTINGS)


if __name__ == "__main__":
    target = Path(sys.argv[1])
    added = add_missing(target)
    begin_settings(target.with_name("settings.env"))
    sys.stdout.write(f"{target}: {f'added {len(added)} secrets' if added else 'complete, nothing was changed'}\n")
