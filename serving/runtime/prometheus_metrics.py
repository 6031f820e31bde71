"""The Prometheus metrics of a scoring process, summed over all workers.

Belongs here: names, labels, buckets, aggregation, and one small method per event. Must not be here: when an event
happens. No label holds an id or any other text of a caller: labels come from the closed sets below.

Prometheus's client keeps each process's values in a file below PROMETHEUS_MULTIPROC_DIR, if that is set before it is
imported (`bentoml serve` does). Each gauge declares how the files of several workers become one value.
"""

import os
import time
from collections import Counter as Tally
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Final, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from fraud_pipeline.database.verdicts import ReportName
from fraud_pipeline.policy.decisions import DECISIONS, FAIL_SAFE_RULES
from fraud_pipeline.policy.holdout import HOLDOUT
from fraud_pipeline.scoring.block_overrides import BLOCK_CAP
from fraud_pipeline.scoring.decision_record import Conflict, DecidedBy, Mode, ScoringResult
from serving.runtime.breaker import State
from serving.runtime.shadow import Refusal

Stage = Literal["queue", "history", "features", "model", "store", "total"]

BREAKERS: Final = ("history", "model", "storage")
# Possible decisions by decider: the fail-safe rules block nothing.
DECIDES: Final[dict[DecidedBy, tuple[str, ...]]] = {
    "model": DECISIONS,
    "rules": DECISIONS,
    "fail_safe": tuple(sorted({"allow", *(rule.decision for rule in FAIL_SAFE_RULES)})),
    "analyst_rule": DECISIONS,
}
ALARMING_REFUSALS: Final = ("overloaded",)
"""Refusals that an alert counts."""
LATENCY_BUCKETS: Final = (0.0005, 0.001, 0.002, 0.004, 0.006, 0.01, 0.02, 0.03, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
SCORE_BUCKETS: Final = (0.001, 0.003, 0.01, 0.03, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
ROW_BUCKETS: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)
STATE_NUMBERS: Final[dict[State, int]] = {"closed": 0, "half_open": 1, "open": 2}
_DIRECTORY: Final = "PROMETHEUS_MULTIPROC_DIR"


class Metrics:
    """All metrics of one process; one instance per process, since two would write to the same file."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()

        def counter(name: str, meaning: str, *labels: str) -> Counter:
            return Counter(f"fraud_{name}", meaning, labels, registry=self.registry)

        def histogram(name: str, meaning: str, buckets: Sequence[float], *labels: str) -> Histogram:
            return Histogram(f"fraud_{name}", meaning, labels, registry=self.registry, buckets=buckets)

        def gauge(name: str, meaning: str, how: Literal["livesum", "livemax", "livemin"], *labels: str) -> Gauge:
            return Gauge(f"fraud_{name}", meaning, labels, registry=self.registry, multiprocess_mode=how)

        self._requests = counter("http_requests_total", "Requests answered", "route", "status")
        self._refusals = counter("refusals_total", "Requests turned away, by code of the error", "reason")
        _begin_at_nought(self._refusals, ALARMING_REFUSALS)
        self._in_flight = gauge("http_requests_in_flight", "Requests being answered now", "livesum")
        stages = histogram("stage_duration_seconds", "Time that each stage took", LATENCY_BUCKETS, "stage")
        self._stages = {stage: stages.labels(stage) for stage in get_args(Stage)}
        self._rows = histogram("micro_batch_rows", "Transactions scored together", ROW_BUCKETS)

        self._decisions = counter("decisions_total", "Decisions made and stored", "decision", "decided_by")
        self._degraded = counter("degraded_decisions_total", "Decisions made without history or model", "mode")
        for by, decisions in DECIDES.items():
            for decision in decisions:
                self._decisions.labels(decision, by)
        for mode in get_args(Mode):
            if mode != "full":
                self._degraded.labels(mode)
        self._replayed = counter("replayed_answers_total", "Answers that were stored by an earlier delivery")
        self._conflicts = counter("conflicts_total", "Ids that came again for another transaction")
        self._scores = histogram("score", "Fraud probability of decided transactions", SCORE_BUCKETS)
        self._demoted = counter("blocks_demoted_total", "Blocks that became reviews because there were too many")
        self._held_out = counter("blocks_held_out_total", "Blocks that became reviews to measure the model")

        # The worst worker speaks for all: one open breaker must not hide behind closed ones.
        self._breakers = gauge("breaker_state", "0 closed, 1 half open, 2 open", "livemax", "breaker")
        for name in BREAKERS:
            self._breakers.labels(name).set(STATE_NUMBERS["closed"])
        self._breaker_changes = counter(
            "breaker_changes_total", "Changes of a breaker into a state", "breaker", "state"
        )
        self._limiter_failures = counter("rate_limit_storage_failures_total", "Times the shared rate limit was away")

        # During a swap two versions serve, and both say 1.
        self._model = gauge("model_info", "1 for the version that decides, 0 for those before it", "livemax", "version")
        # The oldest model of any worker, so that one that does not follow is seen.
        self._model_loaded = gauge(
            "model_loaded_timestamp_seconds", "When it was loaded; 0 while there is none", "livemin"
        )
        self._model_trained = gauge(
            "model_trained_to_timestamp_seconds", "End of the data it learned from; 0 while there is none", "livemin"
        )
        self._model_created = gauge(
            "model_created_timestamp_seconds", "When it was made; 0 while there is none", "livemin"
        )
        self._model_refusals = counter("model_refusals_total", "New models that did not prove themselves")
        self._shadow = counter("shadow_decisions_total", "Decisions of both models", "champion", "challenger")
        self._shadow_refused = counter(
            "shadow_refused_total", "Transactions that the challenger was not compared on", "reason"
        )
        _begin_at_nought(self._shadow_refused, get_args(Refusal))
        # Absent until it is known: a restart must not look like a recovery.
        self._red = gauge("report_red", "1 where the newest report about the champion is red", "livemax", "report")
        self._version: str | None = None

    def answered(self, *, route: str, status: int) -> None:
        """A request was answered; `route` is a path as it is declared, never as it was sent."""
        self._requests.labels(route, str(status)).inc()

    def refused(self, reason: str) -> None:
        """A request was turned away; `reason` is the code of the error."""
        self._refusals.labels(reason).inc()

    def began(self) -> None:
        """A request began to be answered."""
        self._in_flight.inc()

    def ended(self) -> None:
        """A request that began has ended."""
        self._in_flight.dec()

    def stage(self, stage: Stage, seconds: float) -> None:
        """Record the time of a stage, of a micro-batch or (queue, total) of a request."""
        self._stages[stage].observe(seconds)

    def decided(self, outcomes: Sequence[ScoringResult | Conflict]) -> None:
        """A micro-batch was decided and stored."""
        self._rows.observe(len(outcomes))
        new = [result for result in outcomes if isinstance(result, ScoringResult) and not result.replayed]
        conflicts = sum(isinstance(result, Conflict) for result in outcomes)
        for (decision, by), number in Tally((result.decision, result.decided_by) for result in new).items():
            self._decisions.labels(decision, by).inc(number)
        for mode, number in Tally(result.mode for result in new if result.mode != "full").items():
            self._degraded.labels(mode).inc(number)
        spared = Tally(reason.code for result in new for reason in result.reasons)
        self._demoted.inc(spared[BLOCK_CAP])
        self._held_out.inc(spared[HOLDOUT])
        self._conflicts.inc(conflicts)
        self._replayed.inc(len(outcomes) - conflicts - len(new))
        for result in new:
            if result.probability is not None:
                self._scores.observe(result.probability)

    def breaker_changed(self, breaker: str, state: State) -> None:
        """A breaker is in a new state."""
        self._breakers.labels(breaker).set(STATE_NUMBERS[state])
        self._breaker_changes.labels(breaker, state).inc()

    def limiter_failed(self) -> None:
        """The storage that workers share for rate limits was away."""
        self._limiter_failures.inc()

    def model_loaded(self, version: str, *, created_at: float, trained_to: float) -> None:
        """Another model serves from now on: when it was made and the end of its data, in seconds since 1970 UTC."""
        if self._version is not None:
            # Labels cannot be removed where several processes report.
            self._model.labels(self._version).set(0)
        self._version = version
        self._model.labels(version).set(1)
        self._model_loaded.set(time.time())
        self._model_created.set(created_at)
        self._model_trained.set(trained_to)

    def model_refused(self) -> None:
        """A new model did not prove itself; the one before it serves on."""
        self._model_refusals.inc()

    def shadowed(self, champion: NDArray[np.object_], challenger: NDArray[np.object_]) -> None:
        """Count the decisions of both models on the same transactions, each of shape (n,)."""
        for pair, number in Tally(zip(champion, challenger, strict=True)).items():
            self._shadow.labels(*pair).inc(number)

    def shadow_refused(self, refusal: Refusal, rows: int) -> None:
        """Count transactions that were not compared, because the challenger cannot be compared with this champion."""
        self._shadow_refused.labels(refusal).inc(rows)

    def reported(self, report: ReportName, *, red: bool) -> None:
        """Record whether the newest report about the champion is red."""
        self._red.labels(report).set(red)

    @property
    def blocks_demoted(self) -> int:
        """Blocks that became reviews so far because there were too many."""
        return int(self.registry.get_sample_value("fraud_blocks_demoted_total") or 0)

    def exposition(self) -> tuple[bytes, str]:
        """The text of all workers' metrics, and its content type."""
        directory = os.environ.get(_DIRECTORY)
        if not directory:
            return generate_latest(self.registry), CONTENT_TYPE_LATEST
        _forget_dead_workers(Path(directory))
        workers = CollectorRegistry()
        MultiProcessCollector(workers, path=directory)  # type: ignore[no-untyped-call]
        return generate_latest(workers), CONTENT_TYPE_LATEST


def _begin_at_nought(counter: Counter, labels: Collection[str]) -> None:
    """Create the counters at 0. A counter that first appears with 1 has no increase that an alert could see."""
    for label in labels:
        counter.labels(label)


def _forget_dead_workers(directory: Path) -> None:
    """Remove the gauges of workers that were killed, because they cannot do it themselves; their counts stay."""
    for pid in {int(file.stem.rpartition("_")[2]) for file in directory.glob("gauge_live*.db")}:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            mark_process_dead(pid, path=str(directory))  # type: ignore[no-untyped-call]
        except PermissionError:
            continue
