"""The commands of `fraud-detect`, their options and help texts.

Belongs here: names, defaults, help. Must not be here: what a command does (`*_command.py`, `*_commands.py`).
Nothing but the standard library is imported, so that `--help` and completion answer at once.
"""

import argparse
import platform
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final, NoReturn

from fraud_pipeline.cli.arguments import (
    column_pairs,
    database,
    duration,
    instant,
    location,
    path,
    time_zone,
    whole_number,
)
from fraud_pipeline.cli.rule_options import add_rules

UI_PORT: Final = 3000
MLFLOW_PORT: Final = 5000
SERVICE_PORT: Final = 8080
DASHBOARD_PORT: Final = 8501
AddCommand = Callable[..., argparse.ArgumentParser]


@dataclass(frozen=True, slots=True)
class Command:
    """A command's function, whose module is imported when the command runs."""

    module: str
    function: str

    def __call__(self, arguments: argparse.Namespace) -> int:
        """Run the command; the exit status."""
        return int(self.load()(arguments))

    def load(self) -> Callable[[argparse.Namespace], int]:
        """The function itself."""
        function: Callable[[argparse.Namespace], int] = getattr(
            import_module(f"fraud_pipeline.cli.{self.module}"), self.function
        )
        return function


class _Formatter(argparse.ArgumentDefaultsHelpFormatter):
    """Help shows the default of every option that has one; texts of the others say what happens without them."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default is None or action.nargs == 0 else super()._get_help_string(action)


class OneLineParser(argparse.ArgumentParser):
    """A parser whose errors are one line; `--help` shows the usage."""

    def __init__(self, **options: Any) -> None:
        super().__init__(formatter_class=_Formatter, **options)

    def error(self, message: str) -> NoReturn:
        """End with exit status 2 and the message in one line."""
        self.exit(2, f"{self.prog}: {' '.join(message.split())}\n")


def build_parser() -> argparse.ArgumentParser:
    """The parser of every command; `run` of its result is a `Command`."""
    top = OneLineParser(prog="fraud-detect", description="Train, serve and operate the card fraud model.")
    release = f"%(prog)s {version('fraud-pipeline')} (Python {platform.python_version()})"
    top.add_argument("--version", action="version", version=release)
    commands = top.add_subparsers(required=True, metavar="command")

    def add(name: str, module: str, help: str, *, aliases: tuple[str, ...] = ()) -> argparse.ArgumentParser:  # noqa: A002 - argparse's word
        command: argparse.ArgumentParser = commands.add_parser(
            name, help=help, description=f"{help[0].upper()}{help[1:]}.", aliases=aliases
        )
        command.set_defaults(run=Command(module, name.replace("-", "_")))
        return command

    groups = (_add_demo, _add_training, _add_models, _add_service, _add_stream, _add_alerts, add_rules, _add_operations)
    for add_group in groups:
        add_group(add)
    return top


def _add_demo(add: AddCommand) -> None:
    demo = add("demo", "demo_command", "run the whole system on this machine, with live traffic and attacks")
    demo.add_argument("--home", type=Path, help="directory of the demo's data (default: demo in the home directory)")
    demo.add_argument(
        "--transactions", type=whole_number, default=100_000, help="size of the history, at the first start"
    )
    demo.add_argument("--n-trials", type=whole_number, default=3, help="Optuna trials of the first training")
    demo.add_argument("--seconds", type=float, help="time after which it stops (default: Ctrl+C)")
    demo.add_argument("--free-ports", action="store_true", help="use any free ports, not 8080, 8501, 3000 and others")
    _add_json(demo)


def _add_training(add: AddCommand) -> None:
    init = add("init", "init_command", "inspect a file of transactions and write fraud.toml: what each column is")
    init.add_argument(
        "file", type=location, help="file, directory, pattern or Delta table; a path, s3://, gs:// or az://"
    )
    _add_database(init)
    init.add_argument("--output", type=Path, default=Path("fraud.toml"), help="file to write")
    init.add_argument("--yes", action="store_true", help="write it without asking, also over another one")
    _add_inspection(init)
    init.add_argument("--label-delay", type=duration, help="time from event to report (default: FRAUD_LABEL_DELAY, 7d)")
    _add_json(init)

    train = add("train", "training_command", "train a model on your transactions, judge it and promote it")
    train.add_argument(
        "--data-path",
        type=location,
        help="file, directory, pattern or Delta table, which later runs remember; a path, s3://, gs:// or az:// "
        "(default: the remembered source)",
    )
    _add_database(train)
    train.add_argument("--synthetic", action="store_true", help="use the synthetic world, which later runs remember")
    train.add_argument(
        "--columns", type=column_pairs, help="our_name=file_column,... (default: fraud.toml, or an inspection)"
    )
    train.add_argument("--declaration", type=path, help="fraud.toml to use instead (default: ./fraud.toml, if any)")
    _add_inspection(train)
    train.add_argument(
        "--label-delay",
        type=duration,
        help="time from event to report, for files without report times (default: FRAUD_LABEL_DELAY, 7d)",
    )
    train.add_argument("--n-trials", type=whole_number, help="Optuna trials of this run (default: FRAUD_N_TRIALS, 12)")
    train.add_argument(
        "--transactions", type=whole_number, help="size of the synthetic world's history (default: 100000)"
    )
    train.add_argument(
        "--accept-other-source",
        action="store_true",
        help="accept that history and champion came from another source, as after a move of the bank's export",
    )

    add("ingest", "dagster_commands", "ingest days that are missing, changed or stale, as Dagster does every night")

    generate = add("generate-data", "generate_command", "write the synthetic world to Parquet files")
    generate.add_argument("--transactions", type=whole_number, default=100_000, help="approximate number of rows")
    generate.add_argument("--seed", type=int, help="seed of the world (default: FRAUD_SEED, 7)")
    generate.add_argument("--out", type=Path, default=Path("data"), help="directory of the files")

    ui = add("ui", "dagster_commands", "open the Dagster UI over this home directory")
    _add_address(ui, port=UI_PORT)
    _add_address(
        add("mlflow", "model_commands", "open the MLflow UI over the runs and models of this home directory"),
        port=MLFLOW_PORT,
    )
    add("prepare-dagster", "dagster_commands", "create or upgrade Dagster's home directory and database")


def _add_database(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--data-url",
        type=database,
        help="SQLAlchemy URL of the database, if the file is an SQL query with :start and :end; its password is read "
        "from FRAUD_DATA_PASSWORD",
    )


def _add_inspection(command: argparse.ArgumentParser) -> None:
    """Options that overrule the guesses about a file's columns."""
    command.add_argument(
        "--set",
        action="append",
        metavar="FIELD=COLUMN",
        help="name the column of a field, refuse a guess (FIELD=-), leave a column out (COLUMN=-), or declare an own "
        "field (NAME:type=COLUMN); may be repeated",
    )
    command.add_argument("--time-format", help="format of the event time, such as %%d/%%m/%%Y %%H:%%M")
    units = ["s", "ms", "us", "ns", "minutes", "hours", "days"]
    command.add_argument("--time-unit", choices=units, help="unit of an event time that is a number")
    command.add_argument("--time-origin", type=instant, help="instant from which an event time counts that is a number")
    command.add_argument(
        "--time-zone", type=time_zone, help="zone of the local clock, or offset for that of each time (default: UTC)"
    )


def _add_models(add: AddCommand) -> None:
    _add_json(add("models", "model_commands", "list model versions and the history of promotions"))

    promote = add("promote", "model_commands", "make a version the champion")
    promote.add_argument("version", type=int, help="number of the version, as `models` lists it")
    rollback = add("rollback", "model_commands", "make the previous champion the champion again")
    for command in (promote, rollback):
        command.add_argument("--reason", default="by hand", help="text for the history of promotions")

    export = add(
        "export-models",
        "model_commands",
        "export the champion for serving, and each later one, until stopped",
        aliases=("follow",),
    )
    export.add_argument("--with-parent", action="store_true", help="stop when the process that started this one stops")


def _add_service(add: AddCommand) -> None:
    serve = add("serve", "service_commands", "serve the HTTP API: POST /score and others")
    _add_address(serve, port=SERVICE_PORT)
    serve.add_argument(
        "--no-follow",
        dest="follow",
        action="store_false",
        help="do not export new champions: another process runs `export-models`",
    )

    dashboard = add("dashboard", "service_commands", "serve the pages for analysts: alerts, traffic, drift, models")
    _add_address(dashboard, port=DASHBOARD_PORT)

    token = add("token", "service_commands", "print a signed token for a client of the HTTP API")
    token.add_argument("--subject", required=True, help="name of the client; rate limits are counted per subject")
    token.add_argument("--scopes", default="score,feedback", help="any of score, feedback, metrics, admin")
    token.add_argument("--lifetime", type=duration, default="1d", help="time until the token expires")
    token.add_argument("--out", type=Path, help="file for the token, readable by you only (default: print it)")
    token.add_argument("--for-group", action="store_true", help="let the file's group read it too")

    rotate = add("rotate-keys", "service_commands", "sign tokens with a fresh key from now on")
    rotate.add_argument(
        "--keep", type=int, default=1, help="number of former keys that still verify; 0 ends their tokens"
    )


def _add_stream(add: AddCommand) -> None:
    produce = add("produce", "stream_commands", "send transactions to the Kafka topic at a steady rate")
    produce.add_argument("--topic", help="name of the topic (default: FRAUD_KAFKA_TRANSACTIONS_TOPIC)")
    produce.add_argument("--rate", type=float, default=100, help="transactions per second")
    produce.add_argument(
        "--count", type=int, help="number of transactions (default: until Ctrl+C or the end of the file)"
    )
    produce.add_argument(
        "--data-path", type=location, help="file to replay as if it happened now (default: the synthetic world)"
    )

    consume = add("consume", "stream_commands", "score the Kafka topic, each transaction exactly once")
    consume.add_argument(
        "--metrics-port", type=int, help="port of Prometheus metrics, without a token (default: no metrics)"
    )
    consume.add_argument("--metrics-host", default="127.0.0.1", help="address of that port")

    letters = add("dead-letters", "stream_commands", "list records that could not be scored, or send them again")
    letters.add_argument("--reason", help="only records of this reason (default: all)")
    letters.add_argument("--limit", type=int, default=20, help="number of records listed one by one")
    letters.add_argument(
        "--replay", action="store_true", help="send each record once more to the topic that it came from"
    )
    _add_json(letters)


def _add_alerts(add: AddCommand) -> None:
    alerts = add("alerts", "alert_commands", "work on the alert queue: list, take the next, resolve")
    actions = alerts.add_subparsers(dest="action", required=True, metavar="action")
    listing = actions.add_parser("list", help="list the oldest alerts", description="List the oldest alerts.")
    listing.add_argument(
        "--status",
        choices=["open", "in_review", "confirmed_fraud", "legitimate", "duplicate"],
        help="only alerts of this status (default: all)",
    )
    listing.add_argument("--limit", type=int, default=50, help="number of alerts")
    taking = actions.add_parser(
        "next", help="take the most urgent open alert", description="Take the most urgent open alert."
    )
    resolving = actions.add_parser(
        "resolve", help="close an alert in your review", description="Close an alert in your review."
    )
    resolving.add_argument("transaction_id", help="id of the alert's transaction")
    resolving.add_argument(
        "verdict", choices=["confirmed_fraud", "legitimate", "duplicate"], help="what the transaction turned out to be"
    )
    resolving.add_argument(
        "--kind",
        choices=["lost_or_stolen", "account_takeover", "friendly_fraud"],
        help="kind of a confirmed fraud (default: not named)",
    )
    resolving.add_argument("--note", default="", help="text for the alert's history")
    for action in (taking, resolving):
        action.add_argument("--who", help="name of the analyst (default: your login name)")
    for action in (listing, taking, resolving):
        _add_json(action)


def _add_operations(add: AddCommand) -> None:
    _add_json(add("doctor", "doctor_command", "check every part of the deployment and print remedies"))

    backup = add("backup", "database_commands", "copy the SQLite database while others write to it")
    backup.add_argument("file", type=Path, help="path of the copy, which must not exist yet")

    add("migrate", "database_commands", "upgrade the database to this release")

    erase = add("erase", "erase_command", "erase a customer (GDPR, Art. 17) and prove it")
    erase.add_argument("customer", help="id of the customer")
    erase.add_argument("--dry-run", action="store_true", help="only count the rows")
    _add_json(erase)

    completion = add("completion", "shell_commands", "print the completion script of a shell")
    completion.add_argument("shell", choices=["bash", "zsh"], help="shell that reads the script")

    add("test", "shell_commands", "run the project's tests in a checkout; further arguments go to pytest")


def _add_address(command: argparse.ArgumentParser, *, port: int) -> None:
    command.add_argument("--host", default="127.0.0.1", help="address to listen on")
    command.add_argument("--port", type=int, default=port, help="port to listen on")


def _add_json(command: argparse.ArgumentParser) -> None:
    command.add_argument("--json", action="store_true", help="print JSON")
