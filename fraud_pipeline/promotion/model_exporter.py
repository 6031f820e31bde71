"""Exports the models of the registry's aliases, for services that have no MLflow.

Belongs here: when a model is exported again. Must not be here: versions and aliases (`registry.py`), the swap of
a directory (`published_model.py`), serving.

The registry may be unavailable for hours: the last exported models stay, and one line reports the cause.
"""

import os
import re
import signal
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from fraud_pipeline.promotion.published_model import publish, published_version
from fraud_pipeline.promotion.registry import Alias, Registry, open_registry
from fraud_pipeline.settings import Settings

LONGEST_WAIT: Final = 60.0
# An unreachable server should cost seconds; MLflow's own timeout is minutes.
PATIENCE: Final = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}


def export_aliases(
    registry: Registry,
    links: Mapping[Alias, Path],
    *,
    interval: float,
    stop: threading.Event,
    on_progress: Callable[[str], None],
) -> None:
    """Keep each link at the model of its alias until `stop` is set; aliases are read every `interval` seconds.

    If an alias is removed, the exported champion stays and the exported challenger is removed. A failure of one alias
    does not delay the other.
    """
    wait, reported = interval, set[str]()
    while not stop.is_set():
        causes: set[str] = set()
        for alias, link in links.items():
            try:
                export_alias(registry, alias, link, on_progress=on_progress)
            except Exception as error:  # noqa: BLE001 - every kind of artifact store has errors of its own
                cause = _in_one_line(error)
                if cause not in reported | causes:
                    on_progress(f"the registry cannot be followed, what was exported stays: {cause}")
                causes.add(cause)
        wait, reported = (min(2 * wait, LONGEST_WAIT) if causes else interval), causes
        stop.wait(wait)


def export_challenger(registry: Registry, settings: Settings, *, on_progress: Callable[[str], None]) -> None:
    """Export the challenger to this home, where challengers score in shadow.

    Runs over ranges score with the models of the home that trains, where no exporter runs. Raises as `export_alias`.
    """
    if settings.shadow_challenger:
        export_alias(registry, "challenger", settings.challenger_directory, on_progress=on_progress)


def export_alias(registry: Registry, alias: Alias, link: Path, *, on_progress: Callable[[str], None]) -> None:
    """Export the model of one alias once; the link of a removed challenger is removed.

    Raises whatever MLflow raises, RegistryError and IncompatibleModelError; the link then stays as it is.
    """
    model = registry.with_alias(alias)
    if model is None:
        if alias == "challenger" and link.is_symlink():
            link.unlink()
            on_progress("the registry has no challenger any more")
        return
    if published_version(link) != (model.version, model.sha256):
        publish(registry.download(model), link=link, version=model.version)
        on_progress(f"{alias} is version {model.version}")


def _in_one_line(error: Exception) -> str:
    """The first line of an error, without the password of an address that MLflow repeats."""
    first = next(iter(str(error).splitlines()), "") or type(error).__name__
    return re.sub(r"//[^/\s]*@", "//", first)


def follow_until_stopped(settings: Settings, *, with_parent: bool = False) -> int:
    """Export the aliases of these settings until a signal arrives; `with_parent` also ends with the parent process."""
    os.environ.update(PATIENCE)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    if with_parent:
        threading.Thread(target=_stop_without_parent, args=(stop, os.getppid()), daemon=True).start()
    links: dict[Alias, Path] = {"champion": settings.champion_directory}
    if settings.shadow_challenger:
        links["challenger"] = settings.challenger_directory
    registry = open_registry(settings)
    interval = settings.champion_poll_interval.total_seconds()
    export_aliases(registry, links, interval=interval, stop=stop, on_progress=lambda line: print(line, flush=True))  # noqa: T201 - a process of its own
    return 0


def _stop_without_parent(stop: threading.Event, parent: int) -> None:
    while not stop.wait(1.0):
        if os.getppid() != parent:
            stop.set()
