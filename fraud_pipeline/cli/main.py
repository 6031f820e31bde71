"""The `fraud-detect` command.

Belongs here: arguments, calling one function, words for a person.
Must not be here: anything worth testing without a shell.
Heavy libraries are imported by the commands that need them, so that `--help` answers at once.
"""

import argparse
import logging
import os
import platform
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pandas as pd
from pydantic import ValidationError
from pydantic_core import to_json

from fraud_pipeline.cli import serving_commands, training_command
from fraud_pipeline.cli.arguments import OneLineParser, whole_number
from fraud_pipeline.host.os_errors import in_words
from fraud_pipeline.host.ports import check_port
from fraud_pipeline.settings import Settings, load_settings, setting_errors

if TYPE_CHECKING:
    from fraud_pipeline.promotion.registry import Registry

ROOT: Final = Path(__file__).resolve().parents[2]
UI_PORT: Final = 3000
MLFLOW_PORT: Final = 5000


def ingest(_: argparse.Namespace) -> int:
    """Bring every day up to yesterday that is missing or differs from its source, and make stale features again."""
    from fraud_pipeline.defs.instance import PipelineFailedError  # noqa: PLC0415 - dagster takes seconds
    from fraud_pipeline.defs.instance import ingest as ingest_due_days  # noqa: PLC0415 - dagster takes seconds

    try:
        ingest_due_days(load_settings(), tell=lambda line: print(line, flush=True))
    except PipelineFailedError as error:
        print(f"\nSome days could not be ingested: {error}", file=sys.stderr)
        return 1
    print("Every day up to yesterday is there, and its features are current.")
    return 0


def generate_data(arguments: argparse.Namespace) -> int:
    """Write synthetic transactions, reports and the truth to Parquet files."""
    from tqdm import tqdm  # noqa: PLC0415 - only here

    from fraud_pipeline.cli.training_plan import days_of  # noqa: PLC0415 - pyarrow
    from fraud_pipeline.generator import SyntheticWorld, WorldConfig  # noqa: PLC0415 - only here

    settings = load_settings()
    seed = settings.seed if arguments.seed is None else arguments.seed
    world = SyntheticWorld(WorldConfig(seed=seed, difficulty=settings.difficulty, first_day=settings.first_day))
    days = days_of(arguments.transactions)
    arguments.out.mkdir(parents=True, exist_ok=True)
    start = pd.Timestamp(settings.first_day, tz="UTC")
    spans = [(start + pd.Timedelta(days=day), start + pd.Timedelta(days=day + 1)) for day in range(days)]
    for name in ("transactions", "reports", "oracle"):
        parts = [getattr(world, name)(start=a, end=b) for a, b in tqdm(spans, desc=name, unit="day", disable=None)]
        frame = pd.concat(parts, ignore_index=True)
        frame.to_parquet(arguments.out / f"{name}.parquet", index=False)
        print(f"{len(frame):>10,} rows  {arguments.out / name}.parquet")
    return 0


def ui(arguments: argparse.Namespace) -> int:
    """`dagster dev` over the same instance."""
    from fraud_pipeline.defs.instance import prepare_dagster_home  # noqa: PLC0415 - dagster takes seconds

    check_port(arguments.host, arguments.port, command="fraud-detect ui")
    settings = load_settings()
    prepare_dagster_home(settings)
    print(f"Dagster UI on http://{arguments.host}:{arguments.port} - stop it with Ctrl+C")
    command = [sys.executable, "-m", "dagster", "dev", "-w", str(ROOT / "workspace.yaml")]
    environment = {**os.environ, "FRAUD_HOME": str(settings.home)}
    return subprocess.call([*command, "-h", arguments.host, "-p", str(arguments.port)], env=environment)  # noqa: S603 - our own arguments


def mlflow(arguments: argparse.Namespace) -> int:
    """The MLflow UI over the store that training writes to; a tracking server has a UI of its own."""
    settings = load_settings()
    if settings.tracking_uri.startswith("http"):
        print("A tracking server is used and has its own UI: open the address in FRAUD_MLFLOW_TRACKING_URI.")
        return 0
    check_port(arguments.host, arguments.port, command="fraud-detect mlflow")
    settings.home.mkdir(parents=True, exist_ok=True)
    print(f"MLflow UI on http://{arguments.host}:{arguments.port} - stop it with Ctrl+C", flush=True)
    command = [sys.executable, "-m", "mlflow", "server", "--workers=1", f"--host={arguments.host}"]
    # The store's URL may hold a password, which arguments would show to every user of the machine.
    store = {"MLFLOW_BACKEND_STORE_URI": settings.tracking_uri, "MLFLOW_DISABLE_TELEMETRY": "true"}
    return subprocess.call([*command, f"--port={arguments.port}"], env={**os.environ, **store}, cwd=settings.home)  # noqa: S603 - our own arguments


def prepare_dagster(_: argparse.Namespace) -> int:
    """Dagster's home and its own database, for a web server and a daemon that others start."""
    from fraud_pipeline.defs.instance import migrate_dagster  # noqa: PLC0415 - dagster takes seconds

    print(f"{migrate_dagster(load_settings())} and its database are of this release.")
    return 0


def models(arguments: argparse.Namespace) -> int:
    """List versions and the history of promotions."""
    registry = _registry(load_settings())
    if arguments.json:
        before = None
        with suppress(RuntimeError):  # there is none yet
            before = registry.previous_champion().version
        found = {"versions": registry.versions(), "promotions": registry.history()[::-1], "previous_champion": before}
        print(to_json(found).decode())
        return 0
    for model in registry.versions():
        score = model.tags.get("average_precision", "?")
        print(f"v{model.version:<4} {model.created_at:%Y-%m-%d %H:%M} UTC  AP {score}  {' '.join(model.aliases)}")
    print("\nPromotions, newest first:")
    for entry in reversed(registry.history()):
        unsure = "" if entry.confirmed else "  (interrupted: check the alias)"
        what = f"{entry.action:<12} v{entry.version}  champion: v{entry.champion or '-'}"
        print(f"{entry.decided_at:%Y-%m-%d %H:%M:%S}  {what}{unsure}")
    return 0


def promote(arguments: argparse.Namespace) -> int:
    """Make a version the champion by hand."""
    settings = load_settings()
    registry = _registry(settings)
    decision = registry.install_champion(
        arguments.version, action="promote", reasons=[arguments.reason], directory=settings.champion_directory
    )
    print(f"v{decision.version} is champion (before: v{decision.previous_champion or '-'})")
    _export_challenger(registry, settings)
    return 0


def rollback(arguments: argparse.Namespace) -> int:
    """Make the champion before the present one champion again."""
    settings = load_settings()
    registry = _registry(settings)
    decision = registry.install_champion(
        registry.previous_champion().version,
        action="rollback",
        reasons=[arguments.reason],
        directory=settings.champion_directory,
    )
    print(f"v{decision.version} is champion again (before: v{decision.previous_champion})")
    _export_challenger(registry, settings)
    return 0


def test(arguments: argparse.Namespace) -> int:
    """The project's own tests, from a checkout."""
    return subprocess.call([sys.executable, "-m", "pytest", *arguments.pytest], cwd=ROOT)  # noqa: S603 - our own arguments


def _export_challenger(registry: "Registry", settings: Settings) -> None:
    """A version that is champion now does not score in its own shadow."""
    from fraud_pipeline.promotion.model_exporter import export_challenger  # noqa: PLC0415 - mlflow takes seconds

    export_challenger(registry, settings, tell=print)


def _registry(settings: Settings) -> "Registry":
    from fraud_pipeline.promotion.registry import Registry  # noqa: PLC0415 - mlflow takes seconds

    return Registry(
        tracking_uri=settings.tracking_uri,
        model_name=settings.model_name,
        artifact_directory=settings.artifact_directory,
    )


def parser() -> argparse.ArgumentParser:
    """Every command and its arguments."""
    top = OneLineParser(prog="fraud-detect", description=__doc__.splitlines()[0])
    release = f"%(prog)s {version('fraud-pipeline')} (Python {platform.python_version()})"
    top.add_argument("--version", action="version", version=release)
    commands = top.add_subparsers(required=True, metavar="command")

    training_command.add_train(commands)

    one = commands.add_parser(
        "ingest", help="bring the days that are missing, changed or stale; Dagster does so nightly"
    )
    one.set_defaults(run=ingest)

    one = commands.add_parser("generate-data", help="write the synthetic world to Parquet files")
    one.add_argument("--transactions", type=whole_number, default=100_000)
    one.add_argument("--seed", type=int)
    one.add_argument("--out", type=Path, default=Path("data"))
    one.set_defaults(run=generate_data)

    one = commands.add_parser("ui", help="the Dagster UI over the same instance")
    one.add_argument("--host", default="127.0.0.1")
    one.add_argument("--port", type=int, default=UI_PORT)
    one.set_defaults(run=ui)

    one = commands.add_parser("mlflow", help="the MLflow UI over the runs and models of this home directory")
    one.add_argument("--host", default="127.0.0.1")
    one.add_argument("--port", type=int, default=MLFLOW_PORT)
    one.set_defaults(run=mlflow)

    one = commands.add_parser("prepare-dagster", help="bring Dagster's home and its own database to this release")
    one.set_defaults(run=prepare_dagster)

    one = commands.add_parser("models", help="versions and the history of promotions")
    one.add_argument("--json", action="store_true", help="for a program")
    one.set_defaults(run=models)

    one = commands.add_parser("promote", help="make a version the champion by hand")
    one.add_argument("version", type=int)
    one.add_argument("--reason", default="by hand")
    one.set_defaults(run=promote)

    one = commands.add_parser("rollback", help="make the previous champion the champion again")
    one.add_argument("--reason", default="by hand")
    one.set_defaults(run=rollback)

    serving_commands.add_commands(commands)

    one = commands.add_parser("test", help="run the project's tests; further arguments go to pytest")
    one.set_defaults(run=test)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; errors that a person can mend are one message, not a traceback."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    top = parser()
    arguments, rest = top.parse_known_args(argv)
    if rest and arguments.run is not test:
        top.error(f"unrecognized arguments: {' '.join(rest)}")
    arguments.pytest = rest
    try:
        return int(arguments.run(arguments))
    except ValidationError as error:
        print(f"fraud-detect: a FRAUD_ setting is wrong: {setting_errors(error)}", file=sys.stderr)
    except OSError as error:
        print(f"fraud-detect: {in_words(error)}", file=sys.stderr)
    except (ValueError, RuntimeError) as error:
        print(f"fraud-detect: {' '.join(str(error).split())}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
