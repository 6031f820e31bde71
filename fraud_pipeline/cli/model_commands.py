"""The commands of the model registry: list versions, change the champion, export it, open MLflow.

Belongs here: words for a person. Must not be here: the steps of a promotion (`promotion/`).
"""

import argparse
import os
import subprocess
import sys
from contextlib import suppress

from pydantic_core import to_json

from fraud_pipeline.host.ports import check_port
from fraud_pipeline.promotion.model_exporter import export_challenger, follow_until_stopped
from fraud_pipeline.promotion.registry import RegistryError, open_registry
from fraud_pipeline.settings import load_settings


def models(arguments: argparse.Namespace) -> int:
    """List versions and the history of promotions."""
    registry = open_registry(load_settings())
    if arguments.json:
        previous = None
        with suppress(RegistryError):  # no version was champion before the present one
            previous = registry.previous_champion().version
        listing = {
            "versions": registry.versions(),
            "promotions": registry.history()[::-1],
            "previous_champion": previous,
        }
        print(to_json(listing).decode())
        return 0
    versions = registry.versions()
    if not versions:
        print("There is no model yet. Train one: `fraud-detect train`")
        return 0
    for model in versions:
        score = model.tags.get("average_precision", "?")
        print(f"v{model.version:<4} {model.created_at:%Y-%m-%d %H:%M} UTC  AP {score}  {' '.join(model.aliases)}")
    print("\nPromotions, newest first:")
    for entry in reversed(registry.history()):
        unsure = "" if entry.confirmed else "  (interrupted: check the alias)"
        what = f"{entry.action:<12} v{entry.version}  champion: v{entry.champion or '-'}"
        print(f"{entry.decided_at:%Y-%m-%d %H:%M:%S}  {what}{unsure}")
    return 0


def promote(arguments: argparse.Namespace) -> int:
    """Make a version the champion."""
    settings = load_settings()
    registry = open_registry(settings)
    decision = registry.install_champion(
        arguments.version, action="promote", reasons=[arguments.reason], directory=settings.champion_directory
    )
    print(f"v{decision.version} is champion (before: v{decision.previous_champion or '-'})")
    # A version that is champion now does not score in its own shadow.
    export_challenger(registry, settings, on_progress=print)
    return 0


def rollback(arguments: argparse.Namespace) -> int:
    """Make the previous champion the champion again."""
    settings = load_settings()
    registry = open_registry(settings)
    decision = registry.install_champion(
        registry.previous_champion().version,
        action="rollback",
        reasons=[arguments.reason],
        directory=settings.champion_directory,
    )
    print(f"v{decision.version} is champion again (before: v{decision.previous_champion})")
    export_challenger(registry, settings, on_progress=print)
    return 0


def export_models(arguments: argparse.Namespace) -> int:
    """Export the champion, and each later one, until a signal stops this process."""
    return follow_until_stopped(load_settings(), with_parent=arguments.with_parent)


def mlflow(arguments: argparse.Namespace) -> int:
    """Run the MLflow UI over the store that training writes to; a tracking server has a UI of its own."""
    settings = load_settings()
    if settings.tracking_uri.startswith("http"):
        print("A tracking server is used and has its own UI: open the address in FRAUD_MLFLOW_TRACKING_URI.")
        return 0
    check_port(arguments.host, arguments.port, command="fraud-detect mlflow")
    settings.home.mkdir(parents=True, exist_ok=True)
    # MLflow opens every experiment as a GenAI one, unless the link or an earlier visit says otherwise.
    experiment = open_registry(settings).ensure_experiment(settings.model_name)
    link = f"http://{arguments.host}:{arguments.port}/#/experiments/{experiment}?workflowType=machine_learning"
    print(f"MLflow UI on {link} - stop it with Ctrl+C", flush=True)
    command = [sys.executable, "-m", "mlflow", "server", "--workers=1", f"--host={arguments.host}"]
    # The store's URL may hold a password, which arguments would show to every user of the machine.
    environment = {
        **os.environ,
        "MLFLOW_BACKEND_STORE_URI": settings.tracking_uri,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # eight more processes, for generative AI only
    }
    return subprocess.call([*command, f"--port={arguments.port}"], env=environment, cwd=settings.home)  # noqa: S603 - our own arguments
