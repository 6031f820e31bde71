"""The history of decisions about versions: one MLflow run of an experiment of their own for each decision.

Belongs here: writing and reading these runs. Must not be here: aliases (`registry.py`), the judgement (`gate.py`).

A run is opened before an alias moves and finished after: history and alias live in one system, and a crash in between
leaves a record that says so.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal

import pandas as pd
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from fraud_pipeline.promotion.training_run import NOTE_TAG

Action = Literal["promote", "shadow_only", "reject", "rollback"]

DECISIONS: Final = "Decisions about versions of the model, one run each: promote, shadow_only, reject or rollback."


@dataclass(frozen=True, slots=True)
class Promotion:
    """One decision about a version: what was done, when, why, and who was champion before and after."""

    decided_at: pd.Timestamp
    action: Action
    version: int
    previous_champion: int | None
    champion: int | None
    reasons: tuple[str, ...]
    confirmed: bool


class PromotionHistory:
    """The decisions that are runs of `experiment`."""

    def __init__(self, client: MlflowClient, *, experiment: str) -> None:
        self.experiment = experiment
        self._client = client

    @contextmanager
    def recorded(
        self,
        experiment_id: str,
        action: Action,
        version: int,
        *,
        before: int | None,
        after: int | None,
        reasons: Sequence[str],
    ) -> Iterator[str]:
        """A block that carries a decision out, with the run that records it; `before` and `after` are champions."""
        run = self._client.create_run(
            experiment_id,
            run_name=f"{action} v{version}",
            tags={
                NOTE_TAG: "\n".join(f"- {reason}" for reason in reasons),
                "action": action,
                "version": str(version),
                "previous_champion": "" if before is None else str(before),
                "champion": "" if after is None else str(after),
                "reasons": json.dumps(list(reasons)),
            },
        )
        yield run.info.run_id
        self._client.set_terminated(run.info.run_id)

    def read(self, run_id: str) -> Promotion:
        """The decision that a run records."""
        return _promotion(self._client.get_run(run_id))

    def read_all(self) -> tuple[Promotion, ...]:
        """All decisions, oldest first."""
        experiment = self._client.get_experiment_by_name(self.experiment)
        if experiment is None:
            return ()
        runs: list[Run] = []
        token: str | None = None
        while True:
            page = self._client.search_runs([experiment.experiment_id], max_results=1_000, page_token=token)
            runs += page
            token = page.token
            if not token:
                return tuple(sorted((_promotion(run) for run in runs), key=lambda entry: entry.decided_at))


def moment(milliseconds: int) -> pd.Timestamp:
    """A time of MLflow."""
    return pd.Timestamp(milliseconds, unit="ms", tz="UTC")


def _promotion(run: Run) -> Promotion:
    tags: dict[str, Any] = run.data.tags
    return Promotion(
        decided_at=moment(run.info.start_time),
        action=tags["action"],
        version=int(tags["version"]),
        previous_champion=int(tags["previous_champion"]) if tags["previous_champion"] else None,
        champion=int(tags["champion"]) if tags["champion"] else None,
        reasons=tuple(json.loads(tags["reasons"])),
        confirmed=run.info.status == "FINISHED",
    )
