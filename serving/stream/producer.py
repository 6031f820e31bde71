"""Sends transactions to a topic at a steady rate, as if they happened now (`fraud-detect produce`).

Belongs here: the source of the rows, the schedule, the acknowledgements. Must not be here: clients and the layout of
messages (`fraud_pipeline/messaging/topics.py`), words for a person beyond the summary.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain, islice
from itertools import count as counting
from threading import BoundedSemaphore, Lock
from typing import Final
from uuid import uuid4

import pandas as pd
from kafka import KafkaProducer
from kafka.errors import KafkaError, KafkaTimeoutError
from tqdm import tqdm

from fraud_pipeline.database.own_fields import own_texts
from fraud_pipeline.database.query_source import data_source
from fraud_pipeline.generator import SyntheticWorld, WorldConfig
from fraud_pipeline.host.data_location import DataLocation
from fraud_pipeline.ingest.column_mapping import parse_columns
from fraud_pipeline.ingest.validation import validate
from fraud_pipeline.messaging.topics import (
    BrokerUnavailableError,
    KafkaSettings,
    Message,
    ensure_topics,
    open_producer,
    transaction_message,
)
from fraud_pipeline.schema.transactions import TRANSACTION_COLUMNS, TransactionRow, microseconds, now_microseconds
from fraud_pipeline.settings import Settings

CUSTOMERS: Final = 50_000
"""Of the synthetic world: at 100 transactions a second each buys every eight minutes, not every five seconds."""
MAX_IN_FLIGHT: Final = 1_000
"""Unacknowledged messages: when the brokers are slower than the schedule, sending waits for them."""

_DAY: Final = pd.Timedelta(days=1)


@dataclass(frozen=True, slots=True)
class ProduceReport:
    """The counts of messages by result; `errors` names the causes of failures."""

    topic: str
    sent: int
    acknowledged: int
    seconds: float
    errors: dict[str, int]

    @property
    def failed(self) -> int:
        """Messages without an acknowledgement."""
        return self.sent - self.acknowledged

    def __str__(self) -> str:
        rate = self.acknowledged / self.seconds if self.seconds else 0.0
        why = f" ({', '.join(f'{name} {number:,}' for name, number in self.errors.items())})" if self.errors else ""
        return f"{self.topic}: {self.acknowledged:,} acknowledged, {self.failed:,} failed{why}, {rate:,.1f} a second"


def produce(
    settings: Settings,
    kafka: KafkaSettings,
    *,
    rate: float,
    count: int | None = None,
    data_path: DataLocation | None = None,
    topic: str | None = None,
    on_progress: Callable[[str], None] = print,
    patience: float = 120.0,
) -> ProduceReport:
    """Send `count` transactions (default: until the file ends, or Ctrl+C) at `rate` a second; wait for the answers.

    Ids are new in every run. Rows of a file keep their order, and every row gets the time of sending. Raises
    BrokerUnavailableError before anything is sent, and ValueError for an unusable file or number. When the brokers
    answer nothing for `patience` seconds, it ends and reports what they acknowledged.
    """
    if not rate > 0 or (count is not None and count < 1):
        raise ValueError("the rate must be above 0 and the count at least 1")
    rows = file_rows(settings, data_path, on_progress=on_progress) if data_path else synthetic_rows(settings)
    conversion = settings.declaration.conversion if settings.declaration else None
    with_rate = conversion is not None and conversion.rate_of_row
    name = topic or kafka.transactions_topic
    partitions = ensure_topics(kafka, [name])[name]
    run = uuid4().hex[:12]
    on_progress(f"Sending to {name} ({partitions} partitions) at {rate:g} a second; ids begin with {run}-")
    deliveries = Deliveries(patience=patience)
    client = open_producer(kafka)
    rows = chain([next(rows)], rows)  # the first row of a world takes a second, which is not part of the schedule
    started = time.monotonic()
    with tqdm(total=count, unit="tx", desc=name, disable=None) as bar:
        try:
            for position, row in enumerate(islice(rows, count)):
                time.sleep(pause_before(position, rate=rate, elapsed=time.monotonic() - started))
                now = now_microseconds()
                retimed = row._replace(transaction_id=f"{run}-{position}", event_time=now)
                message = transaction_message(retimed, currency=settings.currency, with_rate=with_rate)
                deliveries.send(client, name, message)
                bar.update(deliveries.acknowledged - bar.n)
        except KeyboardInterrupt:
            pass
        except BrokerUnavailableError as error:
            on_progress(str(error))
        deliveries.settle(client)
        bar.update(deliveries.acknowledged - bar.n)
    seconds = time.monotonic() - started
    return ProduceReport(name, deliveries.sent, deliveries.acknowledged, seconds, dict(deliveries.errors))


def pause_before(position: int, *, rate: float, elapsed: float) -> float:
    """Seconds to wait until a message is due; counted from the start, so that no delay adds up."""
    return max(0.0, position / rate - elapsed)


def synthetic_rows(settings: Settings) -> Iterator[TransactionRow]:
    """Endless transactions of the synthetic world from now on, at the merchants of the model's training data."""
    world = SyntheticWorld(
        WorldConfig(
            seed=settings.seed,
            difficulty=settings.difficulty,
            first_day=settings.world_begins,
            customers=CUSTOMERS,
        )
    )
    first = max(pd.Timestamp.now(tz="UTC"), pd.Timestamp(settings.world_begins, tz="UTC"))
    for day in counting():
        start, end = first + day * _DAY, first + (day + 1) * _DAY
        yield from rows_of(validate(world.transactions(start=start, end=end), now=end).accepted)


def file_rows(
    settings: Settings, path: DataLocation, *, on_progress: Callable[[str], None]
) -> Iterator[TransactionRow]:
    """The valid rows of a file in order of time; reports the number of invalid ones."""
    trained_on = settings.data_path is not None and path.resolve() == settings.data_path.resolve()
    columns = parse_columns(settings.columns) if trained_on and settings.columns else None
    declaration = settings.declaration if trained_on else None
    own_fields = declaration.own_fields if declaration else ()
    source = data_source(
        path.resolve(),
        url=settings.data_url if trained_on else "",
        columns=columns,
        declaration=declaration,
        label_delay=settings.label_delay,
    )
    start, end = pd.Timestamp(source.first_day, tz="UTC"), pd.Timestamp(source.last_day, tz="UTC") + _DAY
    raw = source.transactions(start=start, end=end)
    conversion = declaration.conversion if declaration else None
    result = validate(raw, now=pd.Timestamp.now(tz="UTC"), own_fields=own_fields, conversion=conversion)
    if len(result.rejected):
        reasons = ", ".join(f"{reason} {number:,}" for reason, number in result.summary().items())
        on_progress(f"{path.name}: {len(result.rejected):,} invalid rows are not sent ({reasons})")
    if result.accepted.empty:
        raise ValueError(f"{path.name} has no valid row to send: correct the file or map its columns")
    return rows_of(result.accepted)


def rows_of(accepted: pd.DataFrame) -> Iterator[TransactionRow]:
    """Accepted rows, in their order."""
    fixed = accepted[list(TRANSACTION_COLUMNS)]
    plain = fixed.assign(event_time=microseconds(fixed["event_time"])).astype(object)
    for values, own_fields in zip(plain.itertuples(index=False, name=None), own_texts(accepted), strict=True):
        present = (None if value != value else value for value in values)  # noqa: PLR0124 - NaN
        yield TransactionRow._make((*present, own_fields))


@dataclass(slots=True)
class Deliveries:
    """Counts the results of messages; a message in flight holds a slot until the brokers answer."""

    patience: float
    sent: int = 0
    acknowledged: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    _slots: BoundedSemaphore = field(default_factory=lambda: BoundedSemaphore(MAX_IN_FLIGHT))
    _lock: Lock = field(default_factory=Lock)

    def send(self, client: KafkaProducer, topic: str, message: Message) -> None:
        """Wait for a slot, send, and record the answer when it arrives.

        Raises BrokerUnavailableError when no slot becomes free for `patience` seconds. The library itself waits
        without a limit for a broker that accepts connections and answers nothing.
        """
        if not self._slots.acquire(timeout=self.patience):
            waited, self.patience = self.patience, 0.0
            raise BrokerUnavailableError(
                f"{MAX_IN_FLIGHT:,} messages have been unanswered for {waited:g} s: look after the brokers"
            )
        self.sent += 1
        try:
            future = client.send(topic, **message._asdict())
        except KafkaError as error:
            self._failed(error)
        else:
            future.add_callback(self._arrived).add_errback(self._failed)

    def settle(self, client: KafkaProducer) -> None:
        """Wait for the answers that are missing, for `patience` at most, and close the client."""
        with suppress(KeyboardInterrupt, KafkaTimeoutError):
            client.flush(self.patience)
        with self._lock:
            unanswered = self.sent - self.acknowledged - self.errors.total()
            if unanswered:
                self.errors["unanswered"] = unanswered
        if not unanswered:
            client.close()
            return
        # `close` and the finalizer would wait for them again, without a limit; given up, the thread ends when it wakes.
        client._closed = True  # noqa: SLF001
        client._sender.force_close()  # noqa: SLF001

    @property
    def _given_up(self) -> bool:
        """Whether sending was given up; what the library fails while it closes is counted already."""
        return "unanswered" in self.errors

    def _arrived(self, _: object) -> None:
        with self._lock:
            self.acknowledged += not self._given_up
        self._slots.release()

    def _failed(self, error: BaseException) -> None:
        with self._lock:
            if not self._given_up:
                self.errors[type(error).__name__] += 1
        self._slots.release()
