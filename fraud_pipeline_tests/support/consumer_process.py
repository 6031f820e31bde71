"""Consumers as separate processes that can kill themselves at a point of the order.

Belongs here: starting, killing and stopping them. Must not be here: assertions about the stream
(`fraud_pipeline_tests/system/test_chaos.py`).

They are forked from a server that has loaded everything, so a new one starts within a fraction of a second.
"""

import logging
import multiprocessing
import os
import signal
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, Final

from fraud_pipeline.messaging.topics import KafkaSettings
from fraud_pipeline.settings import Settings
from serving.stream.handler import Point

SESSION: Final = timedelta(seconds=6)
"""The shortest that Apache Kafka allows."""


@dataclass(frozen=True, slots=True)
class Death:
    """The point and the count at which a process kills itself."""

    point: Point
    time: int = 1


def consume_in_process(
    home: Path, database_url: str, kafka: Mapping[str, Any], max_records: int, death: Death | None
) -> None:
    """The whole of `fraud-detect consume`."""
    from serving.stream.consumer_process import consume  # noqa: PLC0415 - loaded by the server that forks us

    logging.basicConfig(level=logging.WARNING, filename=home / f"consumer-{os.getpid()}.log")
    times: Counter[Point] = Counter()

    def reached(point: Point) -> None:
        times[point] += 1
        if death is not None and point == death.point and times[point] == death.time:
            os.kill(os.getpid(), signal.SIGKILL)

    status = consume(
        Settings(home=home, database_url=database_url, statement_timeout=timedelta(seconds=20)),
        KafkaSettings(**kafka),
        stop=threading.Event(),
        on_progress=lambda _text: None,
        session_timeout=SESSION,
        max_records=max_records,
        reached=reached,
    )
    raise SystemExit(status)


@dataclass(slots=True)
class Consumers:
    """Processes of one group on one database; all are killed at the end."""

    home: Path
    database_url: str
    kafka: KafkaSettings
    max_records: int = 100
    started: list[ForkServerProcess] = field(default_factory=list)

    def start(self, *, group: str | None = None, death: Death | None = None) -> ForkServerProcess:
        """Start one more consumer, in the common group unless another one is named."""
        kafka = self.kafka.model_copy(update={"group": group or self.kafka.group})
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(
            ["serving.stream.consumer_process", "fraud_pipeline_tests.support.consumer_process"]
        )
        process = context.Process(
            target=consume_in_process,
            args=(self.home, self.database_url, kafka.model_dump(), self.max_records, death),
            daemon=True,
        )
        process.start()
        self.started.append(process)
        return process

    def stop(self, process: ForkServerProcess) -> int | None:
        """Ask it to end, and wait; its exit status."""
        process.terminate()
        process.join(30)
        return process.exitcode


@contextmanager
def consumers(home: Path, database_url: str, kafka: KafkaSettings, *, max_records: int = 100) -> Iterator[Consumers]:
    """Consumers that live no longer than the block."""
    group = Consumers(home, database_url, kafka, max_records)
    try:
        yield group
    finally:
        for process in group.started:
            process.kill()
            process.join()
