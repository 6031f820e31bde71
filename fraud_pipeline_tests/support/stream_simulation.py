"""Simulation of the stream with random faults by seed: fake clock and broker, real scorer, loop and SQLite.

Belongs here: the fake broker with its logs and its group, the faults, the invariants after every step. Must not be
here: the seeds, planted bugs (`fraud_pipeline_tests/serving/stream/test_simulation.py`).

Processes are objects and everything happens on one thread, so a seed always gives the same run. Where the real order
allows interruptions (between two transactions), other processes may run in the middle of a batch, as if its process
had been stopped there and lost its partitions.
"""

import random
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple

import sqlalchemy as sa
from kafka import TopicPartition
from kafka.errors import KafkaTimeoutError
from kafka.structs import OffsetAndMetadata

from fraud_pipeline.database import Database, DatabaseUnavailableError, Position
from fraud_pipeline.database.tables import FRAUD_REPORTS, PENDING_REPORTS
from fraud_pipeline.messaging.topics import KafkaSettings, Message, report_message, transaction_message
from fraud_pipeline.schema.transactions import DAY, SECOND, TransactionRow
from fraud_pipeline.scoring.scorer import Scorer
from fraud_pipeline_tests.support.streams import Heard, decided, header, standing, transactions
from serving.stream.consumer import StreamConsumer
from serving.stream.handler import Point, StreamScorer
from serving.stream.known_record import ScoresRows
from serving.stream.messages import MessageReader

KAFKA: Final = KafkaSettings()
START: Final = 20_000 * DAY
PARTITIONS: Final = 3
CUSTOMERS: Final = 6
# At these nothing of the batch is open in the database, so that other processes may act.
OPEN_POINTS: Final = ("polled", "stored", "published", "committed")

Kind = Literal["good", "bad", "conflict", "report", "unknown report"]


class CrashError(BaseException):
    """The end of a process; nothing may catch it."""


class InvariantError(AssertionError):
    """An invariant is violated."""


@dataclass(frozen=True, slots=True)
class LogRecord:
    """One record of a log; `kind` is known to the simulation only and must not be read by consumers."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]
    kind: Kind = "good"
    transaction_id: str = ""


class Sent(NamedTuple):
    """A message to send, and its kind."""

    topic: str
    message: Message
    customer: str
    kind: Kind
    transaction_id: str = ""
    event_time: int = 0


@dataclass(slots=True)
class World:
    """The seed's dice, the time, and which faults there have been."""

    dice: random.Random
    now: int = START
    faulty: bool = True
    faults: Counter[str] = field(default_factory=Counter)

    def fault(self, name: str, chance: float) -> bool:
        """Whether this fault happens now."""
        wrong = self.faulty and self.dice.random() < chance
        self.faults[name] += wrong
        return wrong


class Broker:
    """Logs with holes in their offsets, committed offsets, and one group whose members may not know of its changes."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.logs: dict[TopicPartition, list[LogRecord]] = {
            TopicPartition(topic, number): [] for topic in KAFKA.topics for number in range(PARTITIONS)
        }
        self.committed: dict[TopicPartition, int] = {}
        self.members: list[Client] = []
        self.owners: dict[TopicPartition, Client] = {}
        self.late: list[tuple[str, Message]] = []
        self.beginnings: Counter[TopicPartition] = Counter()

    def append(self, topic: str, message: Message, *, customer: str = "", kind: Kind = "good", id_: str = "") -> None:
        log = self.logs[TopicPartition(topic, sum(customer.encode()) % PARTITIONS)]
        hole = self.world.dice.choice((0, 0, 0, 0, 1, 3))
        offset = (log[-1].offset + 1 if log else 0) + hole
        log.append(LogRecord(offset, self.world.now // 1_000, *message, kind=kind, transaction_id=id_))

    def end(self, partition: TopicPartition) -> int:
        log = self.logs[partition]
        return log[-1].offset + 1 if log else 0

    def of(self, topic: str) -> Iterator[tuple[TopicPartition, LogRecord]]:
        for partition, log in self.logs.items():
            if partition.topic == topic:
                for record in log:
                    yield partition, record

    def rebalance(self, *, without: "Client | None" = None) -> None:
        """Assign every subscribed partition to a random member; members learn of it when they poll."""
        members = [member for member in self.members if member is not without]
        read = (KAFKA.transactions_topic, KAFKA.reports_topic)
        self.owners = {
            partition: self.world.dice.choice(members) for partition in self.logs if partition.topic in read and members
        }
        for member in members:
            member.stale = True
        if without is not None:
            without.stale = True

    def arrive_late(self) -> None:
        """A message that its sender had given up arrives after all."""
        for topic, message in self.late:
            self.append(topic, message)
        self.late.clear()


class Client:
    """The methods of a KafkaConsumer that the loop calls."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.world = broker.world
        self.stale = False
        self.listener: Any = None
        self.at: dict[TopicPartition, int] = {}
        self.stopped: set[TopicPartition] = set()

    def subscribe(self, *, topics: Sequence[str], listener: object) -> None:
        assert set(topics) == {KAFKA.transactions_topic, KAFKA.reports_topic}
        self.listener = listener
        self.broker.members.append(self)
        self.broker.rebalance()

    def poll(self, *, timeout_ms: int, max_records: int) -> dict[TopicPartition, list[LogRecord]]:
        self.world.now += timeout_ms * 1_000
        if self.stale:
            self._join()
        records: dict[TopicPartition, list[LogRecord]] = {}
        for partition in self.world.dice.sample(sorted(self.at), len(self.at)):
            if partition in self.stopped:
                continue
            if self.at[partition] > self.broker.end(partition):
                self.at[partition] = 0
            rest = [record for record in self.broker.logs[partition] if record.offset >= self.at[partition]]
            taken = rest[: self.world.dice.randint(1, max_records)]
            if taken:
                records[partition] = taken
                self.at[partition] = taken[-1].offset + 1
        return records

    def _join(self) -> None:
        self.stale = False
        owned = {partition for partition, owner in self.broker.owners.items() if owner is self}
        finish(self.listener.on_partitions_revoked(set(self.at)))
        self.at = {partition: self.broker.committed.get(partition, 0) for partition in owned}
        self.stopped.clear()
        finish(self.listener.on_partitions_assigned(owned))

    def assignment(self) -> set[TopicPartition]:
        return set(self.at)

    def seek(self, partition: TopicPartition, offset: int) -> None:
        if partition not in self.at:
            raise ValueError
        self.at[partition] = offset

    def pause(self, *partitions: TopicPartition) -> None:
        self.stopped.update(partitions)

    def paused(self) -> set[TopicPartition]:
        return set(self.stopped)

    def resume(self, *partitions: TopicPartition) -> None:
        self.stopped.difference_update(partitions)

    def position(self, partition: TopicPartition, *, timeout_ms: int) -> int | None:
        return self.at.get(partition)

    def highwater(self, partition: TopicPartition) -> int:
        return self.broker.end(partition)

    def beginning_offsets(self, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        if self.world.fault("broker does not tell", 0.02):
            raise KafkaTimeoutError
        return {partition: self.broker.beginnings[partition] for partition in partitions}

    def commit_async(self, offsets: Mapping[TopicPartition, OffsetAndMetadata]) -> None:
        if not self.world.fault("commit lost", 0.1):
            self.broker.committed.update({partition: position.offset for partition, position in offsets.items()})


class Producer:
    """The methods of a KafkaProducer that the stream calls."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker

    def send(self, topic: str, **fields: Any) -> "Acknowledgement":
        world, message = self.broker.world, Message(**fields)
        if world.fault("message lost", 0.01):
            return Acknowledgement(missing=True)
        if world.fault("message late", 0.01):
            self.broker.late.append((topic, message))
            return Acknowledgement(missing=True)
        self.broker.append(topic, message)
        return Acknowledgement(missing=world.fault("acknowledgement lost", 0.01))

    def flush(self, timeout: float) -> None:
        """Nothing waits."""


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """The brokers' answer to a message."""

    missing: bool

    def get(self, timeout: float) -> None:
        assert timeout > 0
        if self.missing:
            raise KafkaTimeoutError


class FaultyDatabase(Database):
    """SQLite that refuses a transaction, undoes it at its end, or keeps it and does not say so."""

    def __init__(self, world: World) -> None:
        super().__init__("sqlite://")
        self.world = world
        self.begun = 0

    @contextmanager
    def transaction(self, *, read_only: bool = False) -> Iterator[sa.Connection]:
        self.begun += not read_only
        if self.world.fault("transaction refused", 0.02):
            raise DatabaseUnavailableError("away", retry=self.world.dice.random() < 0.5)
        with super().transaction(read_only=read_only) as connection:
            yield connection
            if self.world.fault("transaction undone", 0.02):
                raise DatabaseUnavailableError("away")
        if self.world.fault("transaction kept in silence", 0.02):
            raise DatabaseUnavailableError("away", retry=self.world.dice.random() < 0.5)


MakeScorer = Callable[[Database], ScoresRows]


def real_scorer(database: Database) -> ScoresRows:
    """As every process makes it."""
    return Scorer(database=database, champion=lambda: None)


class Process:
    """One consumer with a memory of its own."""

    def __init__(self, simulation: "Simulation") -> None:
        self.simulation = simulation
        broker, world = simulation.broker, simulation.world
        self.client = Client(broker)
        self.heard = Heard()
        self.loop = StreamConsumer(
            consumer=self.client,
            topics=[KAFKA.transactions_topic, KAFKA.reports_topic],
            stream=StreamScorer(
                scorer=simulation.make_scorer(simulation.database),
                database=simulation.database,
                producer=Producer(broker),
                kafka=KAFKA,
                currency="EUR",
                clock=lambda: world.now,
                reached=self.reached,
            ),
            database=simulation.database,
            observer=self.heard,
            max_records=world.dice.choice((1, 3, 10)),
            clock=lambda: world.now / SECOND,
            reached=self.reached,
        )

    def reached(self, point: Point) -> None:
        """A point where a process may end, or be stopped while others continue."""
        simulation = self.simulation
        if simulation.world.fault(f"crash: {point}", 0.02):
            raise CrashError(point)
        if point in OPEN_POINTS and not simulation.others_act and simulation.world.fault(f"stopped: {point}", 0.06):
            simulation.others_act = True
            simulation.broker.rebalance(without=self.client)
            simulation.go_on(without=self)
            simulation.broker.rebalance()
            simulation.others_act = False


class Simulation:
    """One seed's story; `run` raises InvariantError where something does not hold."""

    def __init__(self, seed: int, *, make_scorer: MakeScorer = real_scorer, messages: int = 30) -> None:
        self.seed = seed
        self.make_scorer = make_scorer
        self.world = World(random.Random(seed))  # noqa: S311 - nothing secret
        self.broker = Broker(self.world)
        self.world.faulty = False
        self.database = FaultyDatabase(self.world)
        self.database.upgrade()
        self.to_come = list(_messages(self.world.dice, messages))
        self._event_times = {row.transaction_id: row.event_time for row in self.to_come}
        self.expected = _without_faults([row for row in self.to_come if row.kind == "good"])
        self.world.faulty = True
        self.others_act = False
        self.processes = [Process(self) for _ in range(3)]
        self._positions: dict[tuple[str, int], Position] = {}
        self._decided: dict[str, tuple[Any, ...]] = {}

    def run(self, *, steps: int = 70) -> None:
        """The story, then its end."""
        for number in range(steps):
            begun = self.database.begun
            self._act()
            if self.database.begun > begun:
                self._check(f"step {number}")
        self.finish()
        self.database.close()

    def finish(self) -> None:
        """The end without new faults: everything is decided on or put aside, and published."""
        self.world.faulty = False
        while self.to_come:
            self._send()
        self.broker.rebalance()
        for _ in range(400):
            for process in list(self.processes):
                self.step(process)
            if self._ended():
                break
        self._check("the end")
        self._hold(self._ended() and self._decided == self.expected, "not everything was decided on and published")
        reported = {
            record.transaction_id for _, record in self.broker.of(KAFKA.reports_topic) if record.kind == "report"
        }
        self._hold(set(self._reports()[1]) == reported, "not every report was stored")

    def go_on(self, *, without: Process) -> None:
        """Messages arrive and other members read them, while one process is stopped."""
        for _ in range(self.world.dice.randint(1, 20)):
            if self.world.dice.random() < 0.3:
                self._send()
            self.step(self.world.dice.choice([process for process in self.processes if process is not without]))
        self._check("while one was stopped")

    def step(self, process: Process) -> None:
        """One turn of a process, or its end and a new one in its place."""
        try:
            process.loop.step()
        except CrashError:
            self.processes[self.processes.index(process)] = Process(self)
            self.broker.members.remove(process.client)
            self.broker.rebalance()

    def _act(self) -> None:
        dice = self.world.dice
        self.world.now += dice.randint(0, 3 * SECOND)
        match dice.random():
            case chance if chance < 0.3 and self.to_come:
                self._send()
            case chance if chance < 0.35:
                self.broker.rebalance()
            case chance if chance < 0.4:
                self.broker.arrive_late()
            case _:
                self.step(dice.choice(self.processes))

    def _send(self) -> None:
        for row in self.to_come[:3]:
            self.broker.append(row.topic, row.message, customer=row.customer, kind=row.kind, id_=row.transaction_id)
        del self.to_come[:3]

    def _check(self, when: str) -> None:
        faulty, self.world.faulty = self.world.faulty, False
        stored_decisions = decided(self.database)
        aside = {
            (header(letter, "topic"), int(header(letter, "partition")), int(header(letter, "offset")))
            for _, letter in self.broker.of(KAFKA.dead_letter_topic)
        }
        kept, reports = self._reports()
        published = {_id_of(message.value) for _, message in self.broker.of(KAFKA.decisions_topic)}
        for topic in (KAFKA.transactions_topic, KAFKA.reports_topic):
            for number, position in standing(self.database, topic).items():
                before = self._positions.get((topic, number), position)
                self._hold(
                    position.next_offset >= before.next_offset
                    and position.published_offset >= before.published_offset
                    and position.epoch >= before.epoch,
                    f"{when}: partition {number} of {topic} went back from {before} to {position}",
                )
                self._positions[topic, number] = position
                for record in self.broker.logs[TopicPartition(topic, number)]:
                    where = f"{when}: {record.kind} at {record.offset} of partition {number} of {topic}"
                    source = (topic, number, record.offset)
                    if record.kind == "good":
                        passed = record.offset < position.next_offset
                        self._hold(
                            not passed or record.transaction_id in stored_decisions, f"{where} was passed undecided"
                        )
                        gone = record.offset < position.published_offset
                        self._hold(not gone or record.transaction_id in published, f"{where} was never published")
                        self._hold(source not in aside, f"{where} was put aside")
                    elif record.kind in ("bad", "conflict"):
                        passed = record.offset < position.published_offset
                        self._hold(not passed or source in aside, f"{where} was passed and not put aside")
                    elif record.offset < position.next_offset:
                        reported_at = max(record.timestamp * 1_000, self._event_times.get(record.transaction_id, 0))
                        stored = reports.get(record.transaction_id)
                        self._hold(stored is not None or source in kept, f"{where} was passed and is nowhere")
                        self._hold(stored is None or stored <= reported_at, f"{where} was stored as of {stored}")
                        self._hold(source not in aside, f"{where} was put aside")
        for id_, decision in self._decided.items():
            self._hold(stored_decisions.get(id_) == decision, f"{when}: the decision on {id_} changed")
        for id_, decision in stored_decisions.items():
            self._hold(decision == self.expected[id_], f"{when}: {id_} differs from the run without faults")
        self._decided = stored_decisions
        self.world.faulty = faulty

    def _reports(self) -> tuple[set[tuple[Any, ...]], dict[str, int]]:
        """Records whose report waits for its transaction, and the report times of each transaction."""
        kept = sa.select(*(PENDING_REPORTS.c[name] for name in ("topic", "partition", "offset")))
        first = sa.func.min(FRAUD_REPORTS.c.reported_at)
        stored = sa.select(FRAUD_REPORTS.c.transaction_id, first).group_by(FRAUD_REPORTS.c.transaction_id)
        with self.database.transaction(read_only=True) as connection:
            return (
                {tuple(row) for row in connection.execute(kept)},
                {row[0]: row[1] for row in connection.execute(stored)},
            )

    def _ended(self) -> bool:
        """Check that every record was decided or dead-lettered, every decision published, and no lag is shown."""
        passed = {
            TopicPartition(topic, number): (position.next_offset, position.published_offset)
            for topic in (KAFKA.transactions_topic, KAFKA.reports_topic)
            for number, position in standing(self.database, topic).items()
        }
        lags = [lag for process in self.processes for lag in process.heard.lags.values()]
        return lags == [0] * 2 * PARTITIONS and all(
            passed[partition] == (self.broker.end(partition),) * 2 for partition in self.broker.owners
        )

    def _hold(self, holds: object, what: str) -> None:
        if not holds:
            raise InvariantError(f"seed {self.seed}: {what}; faults: {dict(+self.world.faults)}")


def finish(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration:
        return
    raise RuntimeError("it waits for something")


def _id_of(value: bytes | None) -> str:
    return (value or b"").split(b'"transaction_id":"', 1)[1].split(b'"', 1)[0].decode()


def _messages(dice: random.Random, count: int) -> Iterator[Sent]:
    """Transactions of a few customers, some sent twice or changed, among reports and unreadable records."""
    topic = KAFKA.transactions_topic
    rows = transactions(count, customers=CUSTOMERS, end=START - DAY, seed=dice.randrange(1_000))
    for number, row in enumerate(rows):
        sent = Sent(
            topic, transaction_message(row, currency="EUR"), row.customer_id, "good", row.transaction_id, row.event_time
        )
        yield sent
        match dice.randrange(12):
            case 0:
                yield sent
            case 1:
                other = row._replace(amount_cents=row.amount_cents + 1)
                yield sent._replace(message=transaction_message(other, currency="EUR"), kind="conflict")
            case 2:
                yield sent._replace(message=Message(b"c", b"nonsense", []), kind="bad")
            case 3:
                # Some are read before their transaction, and some are even sent before it.
                of = rows[min(dice.randint(0, number + 3), count - 1)]
                message = report_message(of.transaction_id, is_fraud=True)
                yield Sent(KAFKA.reports_topic, message, row.customer_id, "report", of.transaction_id, of.event_time)
            case 4:
                nobody = report_message("nobody", is_fraud=True)
                yield Sent(KAFKA.reports_topic, nobody, row.customer_id, "unknown report")


def _without_faults(sent: Sequence[Sent]) -> dict[str, tuple[Any, ...]]:
    """The decisions when every transaction arrives once, in order, at one process without faults."""
    rows: dict[str, TransactionRow] = {}
    database = Database("sqlite://")
    database.upgrade()
    scorer = Scorer(database=database, champion=lambda: None)
    reader = MessageReader(currency="EUR")
    for to_send in sent:
        row = reader.transaction_message(to_send.message.value, to_send.message.headers, now=START)
        assert isinstance(row, TransactionRow)
        rows.setdefault(row.transaction_id, row)
    scorer.score(list(rows.values()))
    stored = decided(database)
    database.close()
    return stored
