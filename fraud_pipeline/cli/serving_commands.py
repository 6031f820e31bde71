"""The commands of what runs now: service, stream, alerts, database.

Belongs here: arguments, calling one function, words for a person. Must not be here: anything worth testing without a
shell; the commands of training (`main.py`).
"""

import argparse
import getpass
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pandas as pd

from fraud_pipeline.cli.arguments import duration, path
from fraud_pipeline.host.ports import check_port
from fraud_pipeline.settings import load_settings

if TYPE_CHECKING:
    from fraud_pipeline.database.alerts import Alert

SERVICE_PORT: Final = 8080
DASHBOARD_PORT: Final = 8501
Commands = Any  # argparse's own type has no public name


def add_commands(commands: Commands) -> None:
    """Add these commands to the parser of `fraud-detect`."""
    for add in (_add_service, _add_stream, _add_alerts, _add_operations):
        add(commands)


def serve(arguments: argparse.Namespace) -> int:
    """The HTTP service, with the follower of the registry beside it."""
    from fraud_pipeline.database import Database  # noqa: PLC0415 - sqlalchemy
    from serving.http.launch import serve as become_the_server  # noqa: PLC0415 - only here

    # BentoML listens on IPv4 addresses only.
    check_port(arguments.host, arguments.port, command="fraud-detect serve", family=socket.AF_INET)
    settings = load_settings()
    with closing(Database(settings.database)) as database:
        database.prepare()
    if arguments.follow:
        # It ends with this process, which becomes the server.
        subprocess.Popen([sys.executable, "-m", "fraud_pipeline.cli.main", "follow", "--with-parent"])
    print(f"Scoring on http://{arguments.host}:{arguments.port} - stop it with Ctrl+C", flush=True)
    become_the_server(settings, host=arguments.host, port=arguments.port)


def dashboard(arguments: argparse.Namespace) -> int:
    """The pages for people: alerts, traffic, drift, performance, models, stream."""
    from serving.dashboard.launch import serve as become_the_dashboard  # noqa: PLC0415 - only here

    check_port(arguments.host, arguments.port, command="fraud-detect dashboard")
    print(f"Dashboard on http://{arguments.host}:{arguments.port} - stop it with Ctrl+C", flush=True)
    print("Log in with what `fraud-detect token --subject YOUR_NAME --scopes feedback,admin` prints.", flush=True)
    become_the_dashboard(load_settings(), host=arguments.host, port=arguments.port)


def token(arguments: argparse.Namespace) -> int:
    """Print a signed token for a client of the HTTP service."""
    from serving.auth.keys import write_secret  # noqa: PLC0415 - only here
    from serving.auth.tokens import issue_token_for  # noqa: PLC0415 - only here

    scopes = arguments.scopes.split(",")
    made = issue_token_for(load_settings(), subject=arguments.subject, scopes=scopes, lifetime=arguments.lifetime)
    if arguments.out is None:
        print(made)
    else:
        write_secret(arguments.out, made, for_group=arguments.for_group)
    return 0


def follow(arguments: argparse.Namespace) -> int:
    """Export what the registry's aliases name, as long as this runs."""
    from fraud_pipeline.promotion.model_exporter import follow_until_stopped  # noqa: PLC0415 - mlflow takes seconds

    return follow_until_stopped(load_settings(), with_parent=arguments.with_parent)


def produce(arguments: argparse.Namespace) -> int:
    """Send transactions to the topic at a steady rate."""
    from fraud_pipeline.messaging.topics import load_kafka_settings  # noqa: PLC0415 - kafka-python
    from serving.stream.producer import produce as send  # noqa: PLC0415 - only here

    report = send(
        load_settings(),
        load_kafka_settings(),
        rate=arguments.rate,
        count=arguments.count,
        data_path=arguments.data_path,
        topic=arguments.topic,
    )
    print(report)
    return 1 if report.failed else 0


def consume(arguments: argparse.Namespace) -> int:
    """Score the topic until told to stop."""
    from fraud_pipeline.messaging.topics import load_kafka_settings  # noqa: PLC0415 - kafka-python
    from serving.stream.consumer_process import consume as run  # noqa: PLC0415 - only here

    if arguments.metrics_port is not None:
        check_port(
            arguments.metrics_host,
            arguments.metrics_port,
            command="fraud-detect consume",
            host_option="--metrics-host",
            port_option="--metrics-port",
        )
    return run(
        load_settings(),
        load_kafka_settings(),
        stop=threading.Event(),
        metrics_host=arguments.metrics_host,
        metrics_port=arguments.metrics_port,
    )


def dead_letters(arguments: argparse.Namespace) -> int:
    """What could not be handled and why; with --replay, send it again."""
    from fraud_pipeline.database import Database  # noqa: PLC0415 - sqlalchemy
    from fraud_pipeline.messaging.topics import load_kafka_settings  # noqa: PLC0415 - kafka-python
    from serving.stream.dead_letters import dead_letters as read  # noqa: PLC0415 - only here
    from serving.stream.dead_letters import replay, summary  # noqa: PLC0415 - only here

    kafka, last = load_kafka_settings(), deque[str](maxlen=arguments.limit)

    def listed() -> Iterator[Any]:
        for one in read(kafka):
            if arguments.reason in (None, one.reason):
                where = f"{one.topic}/{one.partition}/{one.source_offset}"
                last.append(f"  {where}  {one.reason}  sha256 {one.sha256[:12]}")
                yield one

    print("\n".join(summary(listed())) or "There are no dead letters.")
    print("\n".join(last), end="\n" if last else "")
    if arguments.replay:
        with closing(Database(load_settings().database)) as database:
            database.prepare()
            done = replay(kafka, database, reason=arguments.reason)
        print(f"{done.sent:,} sent again; they stay here, and what is still bad comes back as another letter.")
        if done.not_whole:
            print(f"{done.not_whole:,} are not whole and were not sent: only their sender can send them again.")
    return 0


def alerts(arguments: argparse.Namespace) -> int:
    """The queue of doubted transactions: list it, take the next, resolve one."""
    from fraud_pipeline.alerts import queue  # noqa: PLC0415 - sqlalchemy
    from fraud_pipeline.database import Database  # noqa: PLC0415 - sqlalchemy

    with closing(Database(load_settings().database)) as database:
        database.prepare()
        if arguments.action == "next":
            taken = queue.take_next(database, who=arguments.who)
            print("There is no open alert." if taken is None else _alert_line(taken))
        elif arguments.action == "resolve":
            done = queue.resolve(
                database, arguments.transaction_id, who=arguments.who, verdict=arguments.verdict, note=arguments.note
            )
            print(_alert_line(done))
        else:
            for one in queue.listed(database, status=arguments.status, limit=arguments.limit):
                print(_alert_line(one))
    return 0


def _alert_line(alert: "Alert") -> str:
    when = pd.Timestamp(alert.created_at, unit="us", tz="UTC")
    who = alert.assignee or "-"
    what = f"{alert.decision:<7}{alert.status:<16}{who:<16}{alert.transaction_id}"
    return f"{alert.number:>6}  {when:%Y-%m-%d %H:%M:%S}  {what}"


def migrate(_: argparse.Namespace) -> int:
    """Bring the database of decisions to this release."""
    from fraud_pipeline.database import Database  # noqa: PLC0415 - sqlalchemy

    with closing(Database(load_settings().database, statement_timeout=timedelta(hours=1))) as database:
        database.upgrade()
        database.check_revision()
    print("The database is of this release.")
    return 0


def doctor(_: argparse.Namespace) -> int:
    """Look at every part; 1 when one of them cannot work."""
    from fraud_pipeline.cli.doctor import examine  # noqa: PLC0415 - sqlalchemy, kafka-python

    findings = examine()
    print("\n".join(map(str, findings)))
    return int(any(one.state == "fail" for one in findings))


def backup(arguments: argparse.Namespace) -> int:
    """Copy the SQLite database of decisions while others write to it."""
    from fraud_pipeline.database import Database  # noqa: PLC0415 - sqlalchemy
    from fraud_pipeline.database.backup import backup_file  # noqa: PLC0415 - as above

    with closing(Database(load_settings().database)) as database:
        backup_file(database, arguments.file)
    print(f"{arguments.file} holds the database as it was a moment ago.")
    return 0


def rotate_keys(arguments: argparse.Namespace) -> int:
    """A fresh key signs from now on."""
    from serving.auth.keys import publish_keys  # noqa: PLC0415 - only here
    from serving.auth.keys import rotate_keys as rotate  # noqa: PLC0415 - only here

    settings = load_settings()
    kid = rotate(settings.keys_file, keep=arguments.keep)
    if settings.public_keys is not None:
        publish_keys(settings.keys_file, settings.public_keys)
    print(f"Key {kid} signs from now on; {arguments.keep} of the former keys still verify.")
    return 0


def _add_service(commands: Commands) -> None:
    one = commands.add_parser("serve", help="the HTTP service: POST /score and others")
    one.add_argument("--host", default="127.0.0.1")
    one.add_argument("--port", type=int, default=SERVICE_PORT)
    one.add_argument(
        "--no-follow", dest="follow", action="store_false", help="do not watch the registry: another process exports"
    )
    one.set_defaults(run=serve)

    one = commands.add_parser("dashboard", help="pages for people: alerts, traffic, drift, performance, models, stream")
    one.add_argument("--host", default="127.0.0.1")
    one.add_argument("--port", type=int, default=DASHBOARD_PORT)
    one.set_defaults(run=dashboard)

    one = commands.add_parser("token", help="a signed token for a client of the HTTP service")
    one.add_argument("--subject", required=True, help="who the client is; limits are counted per subject")
    one.add_argument("--scopes", default="score,feedback", help="of score, feedback, metrics, admin")
    one.add_argument("--lifetime", type=duration, default=timedelta(days=1))
    one.add_argument("--out", type=Path, help="a file to write it to, which only you can read")
    one.add_argument("--for-group", action="store_true", help="the file's group can read it too")
    one.set_defaults(run=token)

    one = commands.add_parser("follow", help="export what the registry's aliases name, for services elsewhere")
    one.add_argument("--with-parent", action="store_true", help="end when the process that started this one ends")
    one.set_defaults(run=follow)


def _add_stream(commands: Commands) -> None:
    one = commands.add_parser("produce", help="send transactions to the topic at a steady rate")
    one.add_argument("--topic", help="another topic than the settings name")
    one.add_argument("--rate", type=float, default=100, help="transactions per second")
    one.add_argument("--count", type=int, help="how many; without it, until Ctrl+C or the end of the file")
    one.add_argument("--data-path", type=path, help="replay this file as if it happened now")
    one.set_defaults(run=produce)

    one = commands.add_parser("consume", help="score the topic, nothing lost and nothing twice")
    one.add_argument("--metrics-port", type=int, help="Prometheus metrics on this port, which asks for no token")
    one.add_argument("--metrics-host", default="127.0.0.1", help="the address of that port")
    one.set_defaults(run=consume)

    one = commands.add_parser("dead-letters", help="records that could not be handled, and sending them again")
    one.add_argument("--reason", help="only these")
    one.add_argument("--limit", type=int, default=20, help="how many are listed one by one")
    one.add_argument("--replay", action="store_true", help="send those that were not yet to where they came from")
    one.set_defaults(run=dead_letters)


def _add_alerts(commands: Commands) -> None:
    one = commands.add_parser("alerts", help="the queue of doubted transactions")
    actions = one.add_subparsers(dest="action", required=True, metavar="action")
    listing = actions.add_parser("list", help="the oldest alerts")
    listing.add_argument("--status", choices=["open", "in_review", "confirmed_fraud", "legitimate", "duplicate"])
    listing.add_argument("--limit", type=int, default=50)
    taking = actions.add_parser("next", help="take the oldest open alert")
    resolving = actions.add_parser("resolve", help="say what an alert in your review turned out to be")
    resolving.add_argument("transaction_id")
    resolving.add_argument("verdict", choices=["confirmed_fraud", "legitimate", "duplicate"])
    resolving.add_argument("--note", default="")
    for action in (taking, resolving):
        action.add_argument("--who", default=getpass.getuser(), help="whose work this is")
    one.set_defaults(run=alerts)


def _add_operations(commands: Commands) -> None:
    one = commands.add_parser("doctor", help="look at every part, and say what to do where it is not well")
    one.set_defaults(run=doctor)

    one = commands.add_parser("backup", help="copy the SQLite database of decisions while others write to it")
    one.add_argument("file", type=Path, help="a file that is not there yet")
    one.set_defaults(run=backup)

    one = commands.add_parser("rotate-keys", help="let a fresh key sign tokens from now on")
    one.add_argument(
        "--keep", type=int, default=1, help="how many of the former keys still verify; 0 ends their tokens"
    )
    one.set_defaults(run=rotate_keys)

    one = commands.add_parser("migrate", help="bring the database of decisions to this release")
    one.set_defaults(run=migrate)
