"""The workspace of a training: the candidate model, its evaluation, and a lock that admits one training at a time.

Belongs here: the paths of these files, the lock, and the check that the files belong together. Must not be here: how to
train, the registry.

All trainings of one home directory use the same files, in any process. The kernel releases the lock of a process that
dies. Each file records the hash of its inputs, so that files of two trainings are never mixed.
"""

import fcntl
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Final

from fraud_pipeline.modeling.evaluation import Evaluation
from fraud_pipeline.modeling.model_directory import MANIFEST_FILE, FraudModel, file_hash, read_manifest

_LOCK_FILE: Final = ".training.lock"
_POLL_SECONDS: Final = 0.2
_REMIND_SECONDS: Final = 60.0


class MismatchError(RuntimeError):
    """Model, evaluation and training set do not belong together; the message names the asset to materialize."""


@dataclass(frozen=True, slots=True)
class Workspace:
    """The files of the training that holds the lock."""

    directory: Path

    @property
    def candidate(self) -> Path:
        """The directory of the newest model that was trained."""
        return self.directory / "candidate"

    @property
    def plain(self) -> Path:
        """The directory of the plain model that was trained beside it."""
        return self.directory / "plain"

    @property
    def evaluation_file(self) -> Path:
        return self.directory / "evaluation.json"

    def candidate_of(self, training_set_sha256: str) -> FraudModel:
        """The candidate. Raises MismatchError when it was trained on another training set."""
        model = FraudModel.load(self.candidate)
        self._check_data(model.lineage, training_set_sha256)
        return model

    def save_models(self, model: FraudModel, *, plain: FraudModel) -> str:
        """Store the candidate and the plain model beside it; returns the SHA-256 of the candidate."""
        plain.save(self.plain)
        return model.save(self.candidate)

    def plain_of(self, training_set_sha256: str) -> FraudModel:
        """The plain model. Raises MismatchError when it was trained on another training set, or is missing."""
        if not (self.plain / MANIFEST_FILE).is_file():
            raise MismatchError(f"{self.plain}: no plain model was trained; materialize fraud_model again")
        model = FraudModel.load(self.plain)
        self._check_data(model.lineage, training_set_sha256)
        return model

    def save_evaluation(
        self, evaluation: Evaluation, *, training_set_sha256: str, beside_plain: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Store the candidate's evaluation with the hashes of model and training set; returns the stored record.

        `beside_plain` is `Comparison.to_dict` on the same rows, with the plain model's columns.
        """
        record = {
            "model_sha256": self._model_sha256,
            "training_set_sha256": training_set_sha256,
            **evaluation.to_dict(),
            **({"beside_plain": dict(beside_plain)} if beside_plain else {}),
        }
        unfinished = self.evaluation_file.with_name(f".{self.evaluation_file.name}.{os.getpid()}")
        unfinished.write_text(json.dumps(record, indent=2))
        unfinished.replace(self.evaluation_file)
        return record

    def evaluated_candidate(self, training_set_sha256: str) -> tuple[Mapping[str, Any], Evaluation]:
        """Lineage and evaluation of the candidate. Raises MismatchError when either is of another training."""
        lineage: Mapping[str, Any] = read_manifest(self.candidate)["lineage"]
        self._check_data(lineage, training_set_sha256)
        values = json.loads(self.evaluation_file.read_text()) if self.evaluation_file.exists() else {}
        belongs_to = (values.get("model_sha256"), values.get("training_set_sha256"))
        if belongs_to != (self._model_sha256, training_set_sha256):
            raise MismatchError(
                f"{self.evaluation_file}: this is not the evaluation of the model in {self.candidate.name}; "
                "materialize evaluation again"
            )
        return lineage, Evaluation.from_dict(values)

    def _check_data(self, lineage: Mapping[str, Any], training_set_sha256: str) -> None:
        if lineage.get("data_sha256") != training_set_sha256:
            raise MismatchError(
                f"{self.candidate}: the model was trained on another training set than the present one; "
                "materialize fraud_model again"
            )

    @property
    def _model_sha256(self) -> str:
        return file_hash(self.candidate / MANIFEST_FILE)


@contextmanager
def locked_workspace(directory: Path, *, holder: str, on_wait: Callable[[str], None]) -> Iterator[Workspace]:
    """The workspace in `directory`, for one training at a time; other trainings wait.

    `holder` names this training for waiting ones. `on_wait` receives a sentence about the running training, at once and
    every minute.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / _LOCK_FILE).open("a+") as file:
        _wait_for(file, on_wait=on_wait)
        file.truncate(0)
        file.write(f"{holder} (process {os.getpid()}, since {datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC)")
        file.flush()
        yield Workspace(directory)


def _wait_for(file: IO[str], *, on_wait: Callable[[str], None]) -> None:
    remind_at = time.monotonic()
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= remind_at:
                file.seek(0)
                on_wait(
                    f"Another training of this home directory is running: {file.read()}. This one waits for its end."
                )
                remind_at = time.monotonic() + _REMIND_SECONDS
            time.sleep(_POLL_SECONDS)
        else:
            return
