"""The process behind `fraud-detect consume`.

Belongs here: how the pieces are put together, started, watched and stopped. Must not be here: any rule.
"""

import faulthandler
import gc
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from datetime import timedelta
from types import MappingProxyType
from typing import Any, Final, TextIO

from kafka.errors import KafkaError
from prometheus_client import start_http_server
from tqdm import tqdm

from fraud_pipeline.host.tracing import start_tracing
from fraud_pipeline.messaging.topics import KafkaSettings, ensure_topics, open_consumer, open_producer
from fraud_pipeline.settings import Settings
from serving.runtime.prometheus_metrics import Metrics
from serving.runtime.scoring_runtime import open_scoring_runtime
from serving.stream.consumer import StreamConsumer, watch
from serving.stream.consumer_metrics import StreamMetrics
from serving.stream.handler import ACKNOWLEDGE_WITHIN, Point, StreamScorer

log = logging.getLogger(__name__)

PATIENCE: Final = 120.0
"""Seconds: longer than any batch waits for a database and brokers that are away."""
STALLED: Final = 70
COUNTED_EVERY: Final = 1.0
PRODUCER_OPTIONS: Final[Mapping[str, int]] = MappingProxyType(
    {
        "max_block_ms": round(ACKNOWLEDGE_WITHIN * 1_000),
        # Messages are flushed at the end of each batch; smaller requests before that cost twice the time.
        "linger_ms": 1_000,
        "batch_size": 262_144,
    }
)


def consume(
    settings: Settings,
    kafka: KafkaSettings,
    *,
    stop: threading.Event,
    on_progress: Callable[[str], None] = print,
    metrics_host: str = "127.0.0.1",
    metrics_port: int | None = None,
    session_timeout: timedelta = timedelta(seconds=10),
    max_records: int = 500,
    patience: float = PATIENCE,
    reached: Callable[[Point], None] = lambda _point: None,
) -> int:
    """Score the stream until `stop` is set or SIGTERM or SIGINT arrives; returns the exit status of the process.

    Raises BrokerUnavailableError, DatabaseUnavailableError or DatabaseUnsuitableError when it cannot start; later it
    waits for them. A loop without a round for `patience` seconds ends the process with status 70.
    """
    metrics = Metrics()
    stream_metrics = StreamMetrics.build(metrics.registry)
    with ExitStack() as stack:
        stack.enter_context(_until_signalled(stop))
        stack.callback(start_tracing())
        scoring = stack.enter_context(open_scoring_runtime(settings, metrics=metrics))
        ensure_topics(kafka)
        producer = stack.enter_context(_closing(open_producer(kafka, **PRODUCER_OPTIONS)))
        client = open_consumer(
            kafka,
            group_id=kafka.group,
            session_timeout_ms=round(session_timeout.total_seconds() * 1_000),
            heartbeat_interval_ms=round(session_timeout.total_seconds() * 300),
            fetch_max_wait_ms=20,
        )
        consumer = StreamConsumer(
            consumer=stack.enter_context(closing(client)),
            topics=[kafka.transactions_topic, kafka.reports_topic],
            stream=StreamScorer.build(settings, kafka, scoring, producer=producer, reached=reached),
            database=scoring.database,
            observer=stream_metrics,
            max_records=max_records,
            reached=reached,
        )
        if metrics_port is not None:
            server, _ = start_http_server(metrics_port, addr=metrics_host, registry=metrics.registry)
            stack.callback(server.server_close)
            stack.callback(server.shutdown)
        stack.enter_context(_watched(consumer, patience=patience))
        # Everything loaded so far lives as long as the process, so collections need not visit it again.
        gc.collect()
        gc.freeze()
        loaded = scoring.champion.current()
        by = f"model version {loaded.version}" if loaded else "rules, since there is no champion yet"
        on_progress(f"Scoring {kafka.transactions_topic} at {kafka.bootstrap_servers} as {kafka.group}, by {by}")
        with counted(lambda: stream_metrics.decided):
            consumer.run(stop)
    on_progress(f"Stopped: {stream_metrics.decided:,} transactions decided on")
    return 0


@contextmanager
def _closing(producer: Any) -> Iterator[Any]:
    """Close without waiting for brokers that are away; unacknowledged messages are published again."""
    try:
        yield producer
    finally:
        with suppress(KafkaError):
            producer.close(timeout=2)


@contextmanager
def counted(
    decided: Callable[[], int], *, terminal: TextIO | None = None, every: float = COUNTED_EVERY
) -> Iterator[None]:
    """Show how many transactions were decided on, and how many a second, until the block ends.

    Args:
        decided: the number so far; called from a thread of its own.
        terminal: where it is shown; stderr by default. Nothing is shown where that is no terminal.
        every: seconds between two looks.

    """
    with tqdm(desc="decided", unit=" transactions", file=terminal, disable=None) as line:
        if line.disable:
            yield
            return
        ended = threading.Event()

        def count() -> None:
            while not ended.wait(every):
                line.n = decided()
                line.refresh()

        counter = threading.Thread(target=count, name="counter", daemon=True)
        counter.start()
        try:
            yield
        finally:
            ended.set()
            counter.join()
            line.n = decided()


@contextmanager
def _watched(consumer: StreamConsumer, *, patience: float) -> Iterator[None]:
    """A process that hangs keeps its partitions from others; one that ended is started again."""

    def give_up() -> None:
        faulthandler.dump_traceback()
        os._exit(STALLED)

    ended = threading.Event()
    arguments = {"patience": patience, "give_up": give_up, "ended": ended}
    threading.Thread(target=watch, args=(consumer,), kwargs=arguments, name="stall-watchdog", daemon=True).start()
    try:
        yield
    finally:
        ended.set()


@contextmanager
def _until_signalled(stop: threading.Event) -> Iterator[None]:
    """SIGTERM and SIGINT set `stop`: closing a consumer inside a handler hangs."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    signals = (signal.SIGTERM, signal.SIGINT)
    before = [signal.signal(number, lambda *_: stop.set()) for number in signals]
    try:
        yield
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)
