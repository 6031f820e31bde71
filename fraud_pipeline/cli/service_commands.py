"""The commands of the HTTP service and the dashboard, their tokens and keys.

Belongs here: starting them, words for a person. Must not be here: their content (`serving/`).
"""

import argparse
import socket
import subprocess
import sys
from contextlib import closing

from fraud_pipeline.host.ports import check_port
from fraud_pipeline.settings import load_settings
from serving.auth.keys import publish_keys, write_secret
from serving.auth.keys import rotate_keys as rotate
from serving.auth.tokens import issue_token_for
from serving.dashboard.launch import serve as become_the_dashboard
from serving.http.launch import serve as become_the_server


def serve(arguments: argparse.Namespace) -> int:
    """Serve the HTTP API; a second process exports new champions."""
    from fraud_pipeline.database import Database  # noqa: PLC0415 - tokens and keys need no sqlalchemy

    # BentoML listens on IPv4 addresses only.
    check_port(arguments.host, arguments.port, command="fraud-detect serve", family=socket.AF_INET)
    settings = load_settings()
    with closing(Database(settings.database)) as database:
        database.prepare()
    if arguments.follow:
        # It ends with this process, which becomes the server.
        subprocess.Popen([sys.executable, "-m", "fraud_pipeline.cli.main", "export-models", "--with-parent"])
    print(f"Scoring on http://{arguments.host}:{arguments.port} - stop it with Ctrl+C", flush=True)
    become_the_server(settings, host=arguments.host, port=arguments.port)


def dashboard(arguments: argparse.Namespace) -> int:
    """Serve the pages for analysts: alerts, traffic, drift, performance, models, stream."""
    from fraud_pipeline.database.urls import read_url  # noqa: PLC0415 - tokens and keys need no sqlalchemy

    check_port(arguments.host, arguments.port, command="fraud-detect dashboard")
    settings = load_settings()
    read_url(settings.database)
    print(f"Dashboard on http://{arguments.host}:{arguments.port} - stop it with Ctrl+C", flush=True)
    print("Log in with the token of `fraud-detect token --subject YOUR_NAME --scopes feedback,admin`.", flush=True)
    become_the_dashboard(settings, host=arguments.host, port=arguments.port)


def token(arguments: argparse.Namespace) -> int:
    """Print a signed token for a client of the HTTP API, or write it to a file."""
    text = issue_token_for(
        load_settings(),
        subject=arguments.subject,
        scopes=arguments.scopes.split(","),
        lifetime=arguments.lifetime,
    )
    if arguments.out is None:
        print(text)
    else:
        write_secret(arguments.out, text, for_group=arguments.for_group)
    return 0


def rotate_keys(arguments: argparse.Namespace) -> int:
    """Sign tokens with a fresh key from now on."""
    settings = load_settings()
    kid = rotate(settings.keys_file, keep=arguments.keep)
    if settings.public_keys is not None:
        publish_keys(settings.keys_file, settings.public_keys)
    print(f"Key {kid} signs from now on; {arguments.keep} of the former keys still verify.")
    return 0
