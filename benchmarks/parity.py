"""Compares served with offline features bit by bit, for a million rows over HTTP, consumers and sensor runs.

    python benchmarks/parity.py [--rows N] [--days N]

A synthetic bank runs day by day: at midnight merchants' days are made, the day's fraud reports arrive on their topic,
and then the day's customers are divided anew among three entrances: HTTP batches, long-lived consumers, and runs of
Dagster's sensor. All three are real processes over PostgreSQL and a Kafka broker. The champion was trained with a label
maturity of 7 days, which no setting of any process contains. At the end the features of all rows are computed offline
from the events and reports in the database, and compared bit by bit with the stored ones. TEST_BROKER and
KAFKA_BOOTSTRAP_SERVERS choose the broker as in the tests. Prints a line for each day, and as its last line one JSON
object.
"""

import sys
from pathlib import Path

# A file in this directory has the name of a module of the standard library, which other packages must find first.
sys.path.append(sys.path.pop(0))
# Servers are started by helpers of the tests, which an installation leaves out.
sys.path.append(str(Path(__file__).resolve().parents[1]))

# isort: split
import argparse
import asyncio
import json
import tempfile
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Literal, Self

from fraud_pipeline.modeling.model_directory import FraudModel  # before XGBoost: it decides how its threads wait

# isort: split
import dagster as dg
import load
import numpy as np
import pandas as pd
import sqlalchemy as sa
from stream import postgresql
from tqdm import tqdm

from fraud_pipeline.database import Database, scoring_batch
from fraud_pipeline.database.history import load_history, read_reports, read_transactions
from fraud_pipeline.database.merchant_day_refresh import refresh_merchant_days
from fraud_pipeline.database.tables import DECISIONS
from fraud_pipeline.definitions import build_defs
from fraud_pipeline.defs.streaming import STREAM_JOB
from fraud_pipeline.features.config import FeatureConfig
from fraud_pipeline.features.engineer import FeatureEngineer, History, merchant_days
from fraud_pipeline.features.own_inputs import with_own_inputs
from fraud_pipeline.generator import SyntheticWorld, WorldConfig
from fraud_pipeline.ingest.validation import validate
from fraud_pipeline.messaging.topics import (
    KafkaSettings,
    ensure_topics,
    open_producer,
    report_message,
    transaction_message,
)
from fraud_pipeline.modeling.training import PolicySettings, TuningSettings, build_training_set, train_model
from fraud_pipeline.policy.decisions import CostModel
from fraud_pipeline.promotion.published_model import publish
from fraud_pipeline.schema.transactions import TRANSACTION_COLUMNS, TransactionRow, microseconds
from fraud_pipeline.settings import Settings
from fraud_pipeline_tests.support.brokers import Broker, running_broker, topics_of_our_own
from fraud_pipeline_tests.support.consumer_process import consumers
from fraud_pipeline_tests.support.services import Server, start, stop
from fraud_pipeline_tests.support.waiting import until

Entrance = Literal["http", "stream", "sensor"]

LABEL_MATURITY: Final = timedelta(days=7)
HISTORY_DAYS: Final = 25
MODEL_CUSTOMERS: Final = 2_000
ROWS_PER_CUSTOMER_AND_DAY: Final = 1.67  # of the synthetic world
BATCH: Final = 1_000
# Of a hundred customers, how many use HTTP and the consumers' topic; the sensor's runs score the others.
SHARES: Final[dict[Entrance, int]] = {"http": 45, "stream": 45, "sensor": 10}
CHUNK: Final = 100_000
SEND_AGAIN: Final = (0, 503)
"""A broken connection and a busy service: the same request again changes nothing that was decided."""
QUIET: Final = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@dataclass(frozen=True, slots=True)
class World:
    """All events and reports of a bank, the start of serving, and the served model."""

    transactions: pd.DataFrame
    reports: pd.DataFrame
    served_from: pd.Timestamp
    end: pd.Timestamp
    model: FraudModel

    @property
    def days(self) -> list[pd.Timestamp]:
        """The midnights at which served days begin."""
        return list(pd.date_range(self.served_from, self.end, freq="D", inclusive="left"))


def build_world(*, rows: int, days: int) -> World:
    """A world with about `rows` transactions in its last `days` days, which end at the last midnight."""
    end = pd.Timestamp.now(tz="UTC").floor("D")
    served_from = end - pd.Timedelta(days=days)
    first = served_from - pd.Timedelta(days=HISTORY_DAYS)
    customers = max(MODEL_CUSTOMERS // 4, round(rows / days / ROWS_PER_CUSTOMER_AND_DAY))
    source = SyntheticWorld(WorldConfig(seed=11, customers=customers, fraud_rate=0.01, first_day=first.date()))
    transactions = validate(source.transactions(start=first, end=end), now=end).accepted
    reports = source.reports(start=first, end=end)
    # A report made on the day of its transaction would reach the topic before the transaction.
    reports = reports[reports["reported_at"].dt.floor("D") > reports["event_time"].dt.floor("D")]
    known = transactions["event_time"] < served_from
    model = _train(transactions[known], reports[reports["reported_at"] < served_from], as_of=served_from)
    return World(transactions, reports.reset_index(drop=True), served_from, end, model)


def _train(transactions: pd.DataFrame, reports: pd.DataFrame, *, as_of: pd.Timestamp) -> FraudModel:
    """A model of some of the customers with one trial, because its quality does not matter here."""
    chosen = transactions["customer_id"].unique()[:MODEL_CUSTOMERS]
    transactions = transactions[transactions["customer_id"].isin(chosen)].reset_index(drop=True)
    reports = reports[reports["customer_id"].isin(chosen)].reset_index(drop=True)
    rows, _ = build_training_set(
        offline_features(transactions, reports, new=transactions),
        transactions,
        reports,
        as_of=as_of,
        label_maturity=LABEL_MATURITY,
        gap=timedelta(days=1),
        warm_up=timedelta(days=3),
    )
    trained = train_model(
        rows,
        tuning=TuningSettings(n_trials=1, seed=0),
        policy=PolicySettings(costs=CostModel(), precision_floor=0.85, alert_budget_per_day=50),
        feature_config=FeatureConfig(label_maturity=LABEL_MATURITY),
        lineage={"source": "benchmark"},
    )
    return trained.model


def offline_features(transactions: pd.DataFrame, reports: pd.DataFrame, *, new: pd.DataFrame) -> pd.DataFrame:
    """Features of `new` as training computes them."""
    history = History(
        transactions=transactions,
        reports=reports,
        merchant_days=merchant_days(transactions, reports, label_maturity=LABEL_MATURITY),
    )
    return FeatureEngineer(label_maturity=LABEL_MATURITY).compute(history=history, new=new)


class Bank:
    """The three entrances over one database."""

    def __init__(self, world: World, *, home: Path, database: Database, database_url: str, broker: Broker) -> None:
        self._world = world
        self._database = database
        self._stream, self._by_sensor = topics_of_our_own(broker), topics_of_our_own(broker)
        for kafka in (self._stream, self._by_sensor):
            ensure_topics(kafka)
        self._settings = Settings(home=home, database_url=database_url, statement_timeout=timedelta(seconds=60))
        self._home, self._url = home, database_url
        self._stack = ExitStack()
        self._reports_sent = 0

    def __enter__(self) -> Self:
        publish(self._home / "model", link=self._settings.champion_directory)
        self._instance = self._stack.enter_context(dg.DagsterInstance.local_temp(str(self._home)))
        self._definitions = build_defs(self._settings, kafka=self._by_sensor)
        self._server: Server = start(self._home, FRAUD_DATABASE_URL=self._url, FRAUD_STATEMENT_TIMEOUT="PT60S")
        self._stack.callback(stop, self._server)
        running = self._stack.enter_context(consumers(self._home, self._url, self._stream, max_records=500))
        for _ in range(2):
            running.start()
        self._threads = self._stack.enter_context(ThreadPoolExecutor(max_workers=len(SHARES)))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def live(self, day: pd.Timestamp) -> dict[Entrance, int]:
        """Run a day: midnight's job, the reports, then the transactions. Returns the decisions by entrance."""
        refresh_merchant_days(
            self._database,
            now=day,
            lookback=FeatureEngineer(label_maturity=LABEL_MATURITY).lookback,
            label_maturity=LABEL_MATURITY,
        )
        self._report(day)
        of_day = self._world.transactions["event_time"].dt.floor("D") == day
        rows = transaction_rows(self._world.transactions[of_day])
        shares: dict[Entrance, list[TransactionRow]] = {name: [] for name in SHARES}
        for row in rows:
            shares[entrance_of(row.customer_id, day)].append(row)
        at_work = [
            self._threads.submit(self._score_by_http, shares["http"]),
            self._threads.submit(self._score_by_stream, shares["stream"]),
            self._threads.submit(self._score_by_sensor, shares["sensor"]),
        ]
        for future in at_work:
            future.result()
        return {name: len(rows) for name, rows in shares.items()}

    def _report(self, day: pd.Timestamp) -> None:
        """Send the day's reports with their own times, and wait until they are stored."""
        made = self._world.reports[self._world.reports["reported_at"].dt.floor("D") == day]
        with closing(open_producer(self._stream)) as producer:
            for report in made.itertuples():
                message = report_message(report.transaction_id, is_fraud=bool(report.is_fraud))
                at = int(report.reported_at.timestamp() * 1_000)
                producer.send(self._stream.reports_topic, timestamp_ms=at, **message._asdict())
            producer.flush()
        self._reports_sent += len(made)
        until(lambda: self._decided(self._stream, "reports_topic") == self._reports_sent, what="reports", seconds=300)

    def _score_by_http(self, rows: Sequence[TransactionRow]) -> None:
        asyncio.run(self._post(rows))

    async def _post(self, rows: Sequence[TransactionRow]) -> None:
        client = load.Client(int(self._server.url.rsplit(":", 1)[1]))
        for first in range(0, len(rows), BATCH):
            bodies = [request_body(row) for row in rows[first : first + BATCH]]
            body = json.dumps({"transactions": bodies}).encode()
            request = load.prepared("POST", "/score_batch", body=body, token=self._server.token)
            status, answer = await client.answer_to(request)
            while status in SEND_AGAIN:
                print(f"sent again after status {status}", flush=True)
                await asyncio.sleep(1)
                status, answer = await client.answer_to(request)
            if status != 200:
                raise RuntimeError(f"HTTP answered {status}: {answer.decode()[:300]}")
        client.close()

    def _score_by_stream(self, rows: Sequence[TransactionRow]) -> None:
        before = self._decided(self._stream)
        send(self._stream, rows)
        until(lambda: self._decided(self._stream) == before + len(rows), what="the consumers", seconds=600)

    def _score_by_sensor(self, rows: Sequence[TransactionRow]) -> None:
        send(self._by_sensor, rows)
        sensor = self._definitions.resolve_sensor_def("transactions_sensor")
        job = self._definitions.resolve_job_def(STREAM_JOB)
        while True:
            with dg.build_sensor_context(instance=self._instance) as context:
                tick = sensor.evaluate_tick(context)
            if not tick.run_requests:
                return
            for request in tick.run_requests:
                config = {**request.run_config, **QUIET}
                job.execute_in_process(instance=self._instance, run_config=config, tags=request.tags)

    def _decided(self, kafka: KafkaSettings, topic: str = "transactions_topic") -> int:
        with scoring_batch(self._database, read_only=True) as batch:
            positions = batch.positions.all(getattr(kafka, topic))
        return sum(position.published_offset for position in positions.values())


def entrance_of(customer_id: str, day: pd.Timestamp) -> Entrance:
    """The entrance of a customer's transactions on a day."""
    place = zlib.crc32(f"{customer_id} {day:%Y-%m-%d}".encode()) % 100
    for name, share in SHARES.items():
        if place < share:
            return name
        place -= share
    raise AssertionError("shares of a hundred")


def transaction_rows(frame: pd.DataFrame) -> list[TransactionRow]:
    """Rows of accepted transactions, in order of time."""
    frame = frame.sort_values("event_time", kind="stable")
    columns = [
        microseconds(frame[name]).tolist() if name == "event_time" else _optional(frame[name])
        for name in TRANSACTION_COLUMNS
    ]
    return [TransactionRow(*values) for values in zip(*columns, strict=True)]


def _optional(column: pd.Series) -> list[Any]:
    """Python values of a column; a missing value is None."""
    return [None if missing else value for value, missing in zip(column.tolist(), column.isna(), strict=True)]


def request_body(row: TransactionRow) -> dict[str, Any]:
    """The HTTP body of a row: the fields of its message without the schema."""
    sent: dict[str, Any] = json.loads(transaction_message(row, currency="EUR").value or b"")
    return {name: value for name, value in sent.items() if name != "schema"}


def send(kafka: KafkaSettings, rows: Sequence[TransactionRow]) -> None:
    """Send transactions and wait until all are acknowledged."""
    with closing(open_producer(kafka, linger_ms=20)) as producer:
        for row in rows:
            producer.send(kafka.transactions_topic, **transaction_message(row, currency="EUR")._asdict())
        producer.flush()


def compared(database: Database, *, world: World) -> dict[str, int]:
    """The number of served rows that differ from the offline ones, and of their differing features."""
    everything = {"start": world.transactions["event_time"].min(), "end": world.end + pd.Timedelta(days=2)}
    events, reports = read_transactions(database, **everything), read_reports(database, **everything)
    new = events[events["event_time"] >= world.served_from].reset_index(drop=True)
    config = world.model.feature_config
    names = config.feature_names
    whole = with_own_inputs(offline_features(events, reports, new=new), new, config.own_inputs)
    values = config.model_rows(whole, features=names)
    offline = pd.DataFrame(values, columns=pd.Index(names), index=whole["transaction_id"])
    rows, differing_rows = 0, 0
    differing_features = np.zeros(len(names), np.bool_)
    for ids, served in stored_features(database, width=len(names)):
        expected = np.ascontiguousarray(offline.loc[ids].to_numpy(np.float32)).view(np.uint32)
        unequal = served != expected
        rows += len(ids)
        differing_rows += int(unequal.any(axis=1).sum())
        differing_features |= unequal.any(axis=0)
    if differing_rows:
        unequal_names = [name for name, differs in zip(names, differing_features, strict=True) if differs]
        print(f"differing: {', '.join(unequal_names)}", flush=True)
    return {
        "rows": rows,
        "missing_rows": len(new) - rows,
        "differing_rows": differing_rows,
        "differing_features": int(differing_features.sum()),
    }


def stored_features(
    database: Database, *, width: int
) -> Iterator[tuple[list[str], np.ndarray[Any, np.dtype[np.uint32]]]]:
    """Ids and bits of the rows of all decisions, in parts; each row has `width` values."""
    query = sa.select(DECISIONS.c.transaction_id, DECISIONS.c.features).execution_options(yield_per=CHUNK)
    with database.transaction(read_only=True) as connection:
        for part in connection.execute(query).partitions():
            bits = np.frombuffer(b"".join(row.features for row in part), np.uint32)
            yield [row.transaction_id for row in part], bits.reshape(len(part), width)


def words(numbers: Mapping[Entrance, int]) -> str:
    """Numbers of rows by entrance, in words."""
    return ", ".join(f"{name} {number:,}" for name, number in numbers.items())


def run(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run the bank's days, then compare."""
    started = time.monotonic()
    print("building a world and a model ...", flush=True)
    world = build_world(rows=arguments.rows, days=arguments.days)
    totals: dict[Entrance, int] = dict.fromkeys(SHARES, 0)
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="benchmark-parity-")))
        url = stack.enter_context(postgresql())
        broker = stack.enter_context(running_broker())
        world.model.save(home / "model")
        database = stack.enter_context(closing(Database(url, statement_timeout=timedelta(minutes=10))))
        database.upgrade()
        before = world.transactions["event_time"] < world.served_from
        load_history(
            database,
            transactions=world.transactions[before],
            reports=world.reports[world.reports["reported_at"] < world.served_from],
        )
        served = (~before).sum()
        print(f"{before.sum():,} events of history, {served:,} transactions to score, {broker.name}", flush=True)
        bank = stack.enter_context(Bank(world, home=home, database=database, database_url=url, broker=broker))
        with tqdm(total=int(served), unit="row", disable=None) as bar:
            for day in world.days:
                shares = bank.live(day)
                bar.update(sum(shares.values()))
                for name, number in shares.items():
                    totals[name] += number
                print(f"{day:%Y-%m-%d} {words(shares)}", flush=True)
        print(f"all days: {words(totals)}", flush=True)
        result = compared(database, world=world)
    return {**result, "entrances": totals, "seconds": round(time.monotonic() - started)}


def main() -> None:
    """Simulate, compare and print."""
    described = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    described.add_argument("--rows", type=int, default=1_000_000, help="about how many transactions are scored")
    described.add_argument("--days", type=int, default=25, help="number of days; the entrances accept no older rows")
    print(json.dumps(run(described.parse_args())))


if __name__ == "__main__":
    main()
