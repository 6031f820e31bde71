"""The seconds that each stage of scoring takes.

Belongs here: measuring, and the spans of a trace. Must not be here: the stages themselves (`scorer.py`), metrics.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

from fraud_pipeline.host.tracing import span

Stage = Literal["history", "features", "model", "store"]


class StageClock:
    """Measures the stages of one transaction after another; `observe` gets the seconds of each stage."""

    def __init__(self, observe: Callable[[Stage, float], None]) -> None:
        self._observe = observe
        self._seconds: dict[Stage, float] = {}

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Measure a transaction, whose stages are observed when it ends well.

        What is not another stage is waiting for the database to lock, store and commit.
        """
        self._seconds.clear()
        started = time.perf_counter()
        with span("transaction"):
            yield
        store = time.perf_counter() - started - sum(self._seconds.values())
        for stage, seconds in {**self._seconds, "store": store}.items():
            self._observe(stage, seconds)

    @contextmanager
    def measured(self, stage: Stage) -> Iterator[None]:
        """Measure a stage within a transaction."""
        started = time.perf_counter()
        with span(stage):
            yield
        self._seconds[stage] = time.perf_counter() - started

    @contextmanager
    def alone(self, stage: Stage) -> Iterator[None]:
        """Measure and observe a stage outside of any transaction."""
        started = time.perf_counter()
        yield
        self._observe(stage, time.perf_counter() - started)
