"""The serving model: watches the exported directory and swaps only to a verified model.

Belongs here: loading, verifying, swapping between two requests. Must not be here: the registry (another process
exports the aliased models, see `fraud_pipeline/promotion/model_exporter.py`), scoring.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np

from fraud_pipeline.modeling.model_directory import MANIFEST_FILE, FraudModel, IncompatibleModelError, file_hash
from fraud_pipeline.promotion.published_model import published_version

log = logging.getLogger(__name__)

Stamp = tuple[object, ...]
_GOLDEN_ROWS: Final = 128
_SAME: Final = 1e-9


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model that proved itself, and which one it is; times are RFC 3339."""

    model: FraudModel
    version: str
    sha256: str
    loaded_at: str

    @property
    def created_at(self) -> float:
        """When it was made in seconds since 1970-01-01 UTC, NaN where the model does not say."""
        return self._time_of("created_at")

    @property
    def trained_to(self) -> float:
        """End of its training data in seconds since 1970-01-01 UTC, NaN where the model does not say."""
        return self._time_of("trained_to")

    def _time_of(self, name: str) -> float:
        try:
            return datetime.fromisoformat(str(self.model.lineage[name])).timestamp()
        except (KeyError, ValueError):
            return float("nan")


class ChampionHolder:
    """Holds the model of a directory that another process replaces.

    A model that cannot be verified is refused once, as long as its files stay the same, and the last good one stays in
    service. `keep_when_gone` keeps it also after the directory was removed. `verify` raises for a model that this
    process cannot serve.
    """

    def __init__(
        self,
        directory: Path,
        *,
        poll_interval: float = 5.0,
        keep_when_gone: bool = True,
        verify: Callable[[FraudModel], None] = lambda _model: None,
        on_loaded: Callable[[LoadedModel], None] = lambda _loaded: None,
        on_refused: Callable[[], None] = lambda: None,
    ) -> None:
        self._directory = directory
        self._poll_interval = poll_interval
        self._keep_when_gone = keep_when_gone
        self._verify = verify
        self._on_loaded = on_loaded
        self._on_refused = on_refused
        self._current: LoadedModel | None = None
        self._judged: Stamp | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name=f"{directory.name}-holder", daemon=True)

    def current(self) -> LoadedModel | None:
        """The model to use for one micro-batch, or None while there has been no good one."""
        return self._current

    def start(self) -> None:
        """Load the present model, then check for a new one from time to time."""
        self.check_now()
        self._thread.start()

    def close(self) -> None:
        """Stop looking."""
        self._stop.set()

    def check_now(self) -> None:
        """Load the directory's model if it is a new one and verifies."""
        directory = self._directory.resolve()  # the link may move while its files are read
        try:
            stamp = _stamp(directory)
        except OSError:  # nothing there, or just being replaced
            if not self._keep_when_gone:
                self._current = self._judged = None
            return
        if stamp == self._judged:
            return
        self._judged = stamp
        try:
            loaded = load_proven(directory)
            self._verify(loaded.model)
        except Exception as error:  # noqa: BLE001 - whatever a bad model raises, the last good one serves on
            log.error("model %s refused, the last good one serves on: %s", directory.name, error)  # noqa: TRY400 - a person needs the line, not the trace
            self._on_refused()
            return
        current = self._current
        if current is not None and (current.version, current.sha256) == (loaded.version, loaded.sha256):
            return
        self._current = loaded
        log.info("model version %s serves", loaded.version)
        self._on_loaded(loaded)

    def _follow(self) -> None:
        while not self._stop.wait(self._poll_interval):
            self.check_now()


def _stamp(directory: Path) -> Stamp:
    """A value that changes when any file of a directory changes."""
    files = ((path.name, path.stat()) for path in sorted(directory.iterdir()))
    return (str(directory), *((name, status.st_mtime_ns, status.st_size) for name, status in files))


def load_proven(directory: Path) -> LoadedModel:
    """A model whose files are whole, that gives the scores it gave in training, and that is warm.

    Raises IncompatibleModelError, and whatever a damaged model makes XGBoost raise.
    """
    model = FraudModel.load(directory)
    sha256 = file_hash(directory / MANIFEST_FILE)
    golden = model.reference.head(_GOLDEN_ROWS)
    if golden.empty or not {*model.features, "score"} <= set(golden.columns):
        raise IncompatibleModelError(f"{directory.name} holds no scored rows to prove it on; train it again")
    values = golden[list(model.features)].to_numpy(np.float32)
    probabilities = model.probabilities(values)
    if not np.allclose(probabilities, golden["score"].to_numpy(np.float64), rtol=_SAME, atol=0):
        raise IncompatibleModelError(
            f"{directory.name} does not score its own reference as in training; install the XGBoost that trained it"
        )
    nothing = np.full((1, len(model.features)), np.nan, np.float32)
    if not np.isfinite(model.probabilities(nothing)).all():
        raise IncompatibleModelError(f"{directory.name} has no score for a row without history; train it again")
    model.contributions_of(values[:1])
    return LoadedModel(
        model=model,
        version=_version(directory, sha256=sha256),
        sha256=sha256,
        loaded_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
    )


def _version(directory: Path, *, sha256: str) -> str:
    """The registry's number, or the beginning of the hash where the directory was copied by hand."""
    published = published_version(directory)
    return str(published[0]) if published else sha256[:12]
