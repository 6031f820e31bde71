"""Writes `.env`: a random secret for each part of docker-compose.yml that has a password; `make env` runs it.

Belongs here: names and how secrets are made. Must not be here: any library, since it runs before there is one.
What is there stays: a secret that a database was made with must never change behind its back.
"""

import os
import secrets
import sys
from pathlib import Path

SECRETS = (
    "POSTGRES_PASSWORD",
    "FRAUD_DATABASE_PASSWORD",
    "DAGSTER_DATABASE_PASSWORD",
    "MLFLOW_DATABASE_PASSWORD",
    "KAFKA_PASSWORD",
    "GRAFANA_PASSWORD",
)


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


if __name__ == "__main__":
    target = Path(sys.argv[1])
    added = add_missing(target)
    sys.stdout.write(f"{target}: {f'added {len(added)} secrets' if added else 'complete, nothing was changed'}\n")
