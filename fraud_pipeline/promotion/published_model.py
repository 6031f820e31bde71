"""The published model: a link that services read, and the verified copies of model directories that it points at.

Belongs here: copying, verifying, the atomic swap of the link, the registry's version beside a copy.
Must not be here: which version is published (`model_exporter.py`, `registry.py`), MLflow, reading a model
(`modeling/model_directory.py`).

Champion and challenger are published alike. Serving may import this module, because it does not import MLflow.
"""

import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from fraud_pipeline.modeling.model_directory import (
    MANIFEST_FILE,
    FraudModel,
    IncompatibleModelError,
    file_hash,
    read_manifest,
)

REGISTERED_FILE: Final = "registered.json"
KEPT_COPIES: Final = 5


def publish(directory: Path, *, link: Path, version: int | None = None) -> Path:
    """Make `link` point at a verified copy of a model directory in one atomic step; returns the copy.

    Readers see the old model or the new one, never a mixture; the newest copies stay for a rollback. The registry's
    `version`, if given, is stored beside the copy. Raises IncompatibleModelError before anything is replaced.
    """
    with _locked(link) as versions:
        copy = _stage(directory, versions=versions)
        _activate(copy, link=link, version=version)
    return copy


def stage(directory: Path, *, link: Path) -> Path:
    """Copy a model directory beside the published ones and verify the copy; returns the copy.

    The target of `link` does not change. Raises IncompatibleModelError when this code cannot rebuild the model.
    """
    with _locked(link) as versions:
        return _stage(directory, versions=versions)


def activate(copy: Path, *, link: Path, version: int | None = None) -> None:
    """Make `link` point at a copy that `stage` made, and store the registry's version beside it."""
    with _locked(link):
        _activate(copy, link=link, version=version)


def _stage(directory: Path, *, versions: Path) -> Path:
    """The verified copy. The model is loaded this once on its way from the registry to the link."""
    read_manifest(directory)
    digest = file_hash(directory / MANIFEST_FILE)
    copy = versions / digest[:16]
    try:
        FraudModel.load(copy, expected_sha256=digest)
    except IncompatibleModelError:  # not there, or damaged since
        with tempfile.TemporaryDirectory(prefix=".incoming-", dir=versions) as temporary:
            incoming = shutil.copytree(directory, Path(temporary) / copy.name)
            FraudModel.load(incoming, expected_sha256=digest)
            shutil.rmtree(copy, ignore_errors=True)
            incoming.rename(copy)
    os.utime(copy)
    return copy


def _activate(copy: Path, *, link: Path, version: int | None) -> None:
    if version is not None:
        unfinished = copy / f".{REGISTERED_FILE}.{os.getpid()}"
        unfinished.write_text(json.dumps({"version": version, "sha256": file_hash(copy / MANIFEST_FILE)}))
        unfinished.replace(copy / REGISTERED_FILE)
    swap = link.with_name(f".{link.name}.{os.getpid()}")
    swap.unlink(missing_ok=True)
    swap.symlink_to(copy.relative_to(link.parent))
    swap.replace(link)
    older = (path for path in copy.parent.glob("[!.]*") if path != copy)
    for old in sorted(older, key=lambda path: path.stat().st_mtime_ns)[: -(KEPT_COPIES - 1)]:
        shutil.rmtree(old)


def published_version(link: Path) -> tuple[int, str] | None:
    """The registry's version and the SHA-256 of the model that `link` points at; None if unknown or damaged."""
    try:
        registered = json.loads((link / REGISTERED_FILE).read_text())
        version, sha256 = int(registered["version"]), str(registered["sha256"])
        read_manifest(link, expected_sha256=sha256)
    except (AttributeError, KeyError, OSError, TypeError, ValueError):
        return None
    return version, sha256


@contextmanager
def _locked(link: Path) -> Iterator[Path]:
    """The directory of the copies, for one publisher at a time.

    A promotion and the exporter may publish the same model at the same moment.
    """
    versions = link.parent / f"{link.name}-versions"
    versions.mkdir(parents=True, exist_ok=True)
    with (versions / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield versions
