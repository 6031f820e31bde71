"""Sends the live traffic of the demo: each payment at its time, and attacks that begin while somebody watches.

Belongs here: the schedule, sending. Must not be here: which rows are played (`fraud_pipeline/generator/live.py`), words
for a person.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from heapq import heapify, heappop, heappush
from itertools import count
from typing import Final, Self

import pandas as pd
from kafka import KafkaProducer

from fraud_pipeline.generator import WorldConfig
from fraud_pipeline.generator.live import Attack, LiveWorld
from fraud_pipeline.ingest.validation import validate
from fraud_pipeline.messaging.topics import KafkaSettings, ensure_topics, open_producer, transaction_message
from fraud_pipeline.schema.transactions import TransactionRow, microsecond
from fraud_pipeline.settings import Settings
from serving.stream.producer import Deliveries, rows_of

SECONDS_BETWEEN_ATTACKS: Final = 40.0
_DAY: Final = pd.Timedelta(days=1)


class LiveTraffic:
    """The world of these settings, sent to the topic of transactions.

    `send_today_so_far` sends what happened before; `send_due` everything whose time has come, and must be called often.
    """

    def __init__(self, settings: Settings, kafka: KafkaSettings, producer: KafkaProducer, *, run: str) -> None:
        config = WorldConfig(seed=settings.seed, difficulty=settings.difficulty, first_day=settings.world_begins)
        self._world = LiveWorld(config)
        self._settings = settings
        self._topic = kafka.transactions_topic
        self._producer = producer
        self._run = run
        self._deliveries = Deliveries(patience=30.0)
        self._number = count()
        self._due: list[tuple[int, int, TransactionRow]] = []
        self._planned_to: pd.Timestamp | None = None
        self._attacks: Iterator[Attack] = iter(())
        self._attack: Attack | None = None

    @property
    def sent(self) -> int:
        """Messages so far."""
        return self._deliveries.sent

    def send_today_so_far(self, *, now: pd.Timestamp) -> int:
        """Send what happened since midnight, with its own ids and times; returns the number of payments."""
        rows = list(self._rows(self._world.happened(start=now.normalize(), end=now), now=now))
        for row in rows:
            self._send(row)
        return len(rows)

    def begin(self, *, now: pd.Timestamp, first_attack: pd.Timestamp) -> None:
        """Plan the rest of the day and the attacks."""
        self._plan(now)
        self._attacks = self._world.attacks(start=first_attack, seconds_between=SECONDS_BETWEEN_ATTACKS, run=self._run)
        self._attack = next(self._attacks)

    def send_due(self, *, now: pd.Timestamp) -> list[Attack]:
        """Send every payment whose time has come; returns the attacks that begin."""
        if self._planned_to is not None and now >= self._planned_to:
            self._plan(now)
        begun = []
        while (attack := self._attack) is not None and attack.begins <= now:
            begun.append(attack)
            for row in self._rows(attack.transactions, now=attack.ends):
                heappush(self._due, (row.event_time, next(self._number), row))
            self._attack = next(self._attacks)
        moment = microsecond(now)
        while self._due and self._due[0][0] <= moment:
            self._send(heappop(self._due)[2])
        return begun

    def _plan(self, now: pd.Timestamp) -> None:
        """Prepare the payments up to the next midnight."""
        end = now.normalize() + _DAY
        rows = self._rows(self._world.side_by_side(start=now, end=end), now=end)
        self._due += [(row.event_time, next(self._number), row) for row in rows]
        heapify(self._due)
        self._planned_to = end

    def _rows(self, raw: pd.DataFrame, *, now: pd.Timestamp) -> Iterator[TransactionRow]:
        return rows_of(validate(raw, now=now).accepted)

    def _send(self, row: TransactionRow) -> None:
        message = transaction_message(row, currency=self._settings.currency)
        self._deliveries.send(self._producer, self._topic, message)

    @classmethod
    @contextmanager
    def opened(cls, settings: Settings, kafka: KafkaSettings, *, run: str) -> Iterator[Self]:
        """Live traffic over a producer of its own. Raises BrokerUnavailableError."""
        ensure_topics(kafka)
        producer = open_producer(kafka, linger_ms=0)
        try:
            yield cls(settings, kafka, producer, run=run)
        finally:
            producer.close(timeout=2)
