"""One week of a bank, across every seam: services, consumer, database, nightly runs, registry, as compose starts them.

The week has a failed night, a payment that arrives days late, a repeated id, a database that refuses for a while, a
model promoted at noon, and a late report. At its end every payment has one decision, the training tables hold the
served rows one for one, and every served feature row equals the offline one, to the last bit.
"""

import json
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import httpx
import numpy as np
import pandas as pd
import psycopg
import pytest
import sqlalchemy as sa

from fraud_pipeline.database import Database
from fraud_pipeline.database.history import read_reports, read_transactions
from fraud_pipeline.database.tables import DECISIONS
from fraud_pipeline.features.config import FeatureConfig
from fraud_pipeline.features.engineer import History, merchant_days
from fraud_pipeline.features.own_inputs import with_own_inputs
from fraud_pipeline.messaging.topics import open_producer, report_message, transaction_message
from fraud_pipeline.modeling.training import TrainedModel
from fraud_pipeline.promotion.registry import Registry
from fraud_pipeline.schema.transactions import HOUR, MILLISECOND, TransactionRow, microsecond
from fraud_pipeline.settings import Settings
from fraud_pipeline.storage.tables import TableStore
from fraud_pipeline_tests.support.deployment import BIN, Deployment, make_env, read_compose, running_deployment
from fraud_pipeline_tests.support.proof import SAID
from fraud_pipeline_tests.support.streams import everything, transactions
from fraud_pipeline_tests.support.waiting import until

pytestmark = pytest.mark.slow

DAYS: Final = 7
ROWS_OF_HALF_A_DAY: Final = 60
CUSTOMERS: Final = 25
SERVICES: Final = ("migrate", "prepare-dagster", "metrics-token", "mlflow", "follower", "service", "consumer")
FIRST_MATURITY: Final = timedelta(days=2)
SECOND_MATURITY: Final = timedelta(days=1)
# The daemon's nightly runs in one process, because each process loads Dagster for seconds.
NIGHT: Final = """
import sys
from fraud_pipeline.definitions import build_defs
from fraud_pipeline.defs.instance import ingest, prepare_dagster_home
from fraud_pipeline.settings import load_settings
import dagster as dg
settings = load_settings()
if "ingest" in sys.argv:
    ingest(settings, on_progress=print)
with dg.DagsterInstance.get() as instance:
    build_defs(settings).resolve_job_def("online_history_job").execute_in_process(instance=instance)
"""


@dataclass(slots=True)
class Bank:
    """The deployment, the transactions sent to it, and the days of its week."""

    deployment: Deployment
    first_day: pd.Timestamp
    client: httpx.Client
    sent: dict[str, TransactionRow] = field(default_factory=dict)

    def rows(self, day: int, half: int) -> list[TransactionRow]:
        """The payments of a morning (0) or an afternoon (1)."""
        end = self.at(day, hours=10 + 10 * half)
        return transactions(
            ROWS_OF_HALF_A_DAY, customers=CUSTOMERS, end=end, seed=2 * day + half, prefix=f"day{day}-half{half}-"
        )

    def at(self, day: int, *, hours: float = 0) -> int:
        """An instant of the week in microseconds; days count from 0."""
        return microsecond(self.first_day) + int((24 * day + hours) * HOUR)

    def serve(self, rows: Sequence[TransactionRow]) -> None:
        """Send half of the customers by HTTP and half by the topic; wait until all are decided."""
        by_http = [row for row in rows if int(row.customer_id[1:]) % 2]
        by_topic = [row for row in rows if not int(row.customer_id[1:]) % 2]
        self.send(by_topic)
        bodies = [body_of(row) for row in by_http]
        until(lambda: self.client.post("/score_batch", json={"transactions": bodies}).status_code == 200, what="HTTP")
        self.sent |= {row.transaction_id: row for row in rows}
        self.wait()

    def send(self, rows: Sequence[TransactionRow]) -> None:
        """Send payments to the topic."""
        kafka = self.deployment.kafka_settings()
        with closing(open_producer(kafka)) as producer:
            for row in rows:
                producer.send(kafka.transactions_topic, **transaction_message(row, currency="EUR")._asdict())
            producer.flush()

    def wait(self) -> None:
        """Wait until every payment that was sent is decided on."""
        until(lambda: len(self.decisions()) == len(self.sent), what=f"{len(self.sent)} decisions")

    def report(self, ids: Sequence[str], *, at: int) -> None:
        """Send fraud reports made at an instant, and wait until they are stored."""
        kafka, before = self.deployment.kafka_settings(), len(self.reports())
        with closing(open_producer(kafka)) as producer:
            for transaction_id in ids:
                message = report_message(transaction_id, is_fraud=True)
                producer.send(kafka.reports_topic, timestamp_ms=at // MILLISECOND, **message._asdict())
            producer.flush()
        until(lambda: len(self.reports()) == before + len(ids), what="the reports")

    def night(self, *, ingest: bool = True) -> None:
        """Run the schedules: the training tables up to yesterday, and the online history as of midnight."""
        self.deployment.run("code-location", "python", "-c", NIGHT, *(["ingest"] if ingest else []))

    def failing_night(self) -> None:
        """A night without a database: the run fails and reports it."""
        environment = self.deployment.environment("code-location")
        url = sa.make_url(environment["FRAUD_DATABASE_URL"]).set(port=1)
        environment |= {"FRAUD_DATABASE_URL": url.render_as_string(hide_password=False)}
        command = [str(BIN / "fraud-detect"), "ingest"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        assert "Traceback" not in done.stderr

    def promote(self, trained: TrainedModel, *, label_maturity: timedelta, directory: Path) -> str:
        """Register a model as challenger, let the nightly job see it, and promote it; returns its version, once it
        serves.
        """
        config = replace(trained.model.feature_config, label_maturity=label_maturity)
        replace(trained.model, feature_config=config).save(directory)
        registry = Registry(tracking_uri=f"http://127.0.0.1:{self.deployment.ports[5000]}", model_name="fraud_model")
        run_id = registry._client.create_run(registry.ensure_experiment("fraud_model")).info.run_id
        version = registry.register(directory, run_id=run_id, tags={}).version
        self.night(ingest=False)
        registry.decide(version, action="promote", reasons=["the walk"])
        loaded = f'version="{version}"'
        until(lambda: str(self.client.get("/model").json().get("version")) == str(version), what="the service's model")
        until(lambda: loaded in self.consumer_metrics(), what="the consumer's model")
        return str(version)

    def consumer_metrics(self) -> str:
        """The samples that Prometheus reads of the consumer."""
        return httpx.get(f"http://127.0.0.1:{self.deployment.ports[9100]}/metrics").text

    def stream_waits(self) -> bool:
        """Whether the consumer waits for the database."""
        return 'fraud_stream_waiting{away="database"} 1.0' in self.consumer_metrics()

    @contextmanager
    def refusing_database(self) -> Iterator[None]:
        """The right to store decisions is withdrawn, as a careless deployment does."""
        with self._owner() as connection:
            connection.execute("REVOKE INSERT ON decisions FROM fraud")
        try:
            yield
        finally:
            with self._owner() as connection:
                connection.execute("GRANT INSERT ON decisions TO fraud")

    @contextmanager
    def database(self) -> Iterator[Database]:
        """The database of decisions."""
        url = self.deployment.environment("service")["FRAUD_DATABASE_URL"]
        with closing(Database(url, statement_timeout=timedelta(seconds=30))) as database:
            yield database

    def decisions(self) -> pd.DataFrame:
        """Every stored decision: transaction_id, model_version, mode, missing, features."""
        names = ("transaction_id", "model_version", "mode", "missing", "features")
        with self.database() as database, database.transaction(read_only=True) as connection:
            rows = connection.execute(sa.select(*(DECISIONS.c[name] for name in names))).all()
        return pd.DataFrame(rows, columns=list(names))

    def events(self) -> pd.DataFrame:
        """Every stored transaction."""
        with self.database() as database:
            return read_transactions(database, start=self.first_day, end=pd.Timestamp.now(tz="UTC"))

    def reports(self) -> pd.DataFrame:
        """Every stored fraud report."""
        with self.database() as database:
            return read_reports(database, start=self.first_day, end=pd.Timestamp.now(tz="UTC"))

    def learned(self, table: str) -> pd.DataFrame:
        """A learning table over the whole week, as training reads it."""
        home = self.deployment.directories("code-location")["/var/lib/fraud"]
        settings = Settings(home=Path(home), learn_from_served=True)
        first = self.first_day.date()
        return TableStore(settings.tables_directory).read(table, first, first + timedelta(days=DAYS - 1))

    def _owner(self) -> psycopg.Connection[Any]:
        url = self.deployment.environment("service")["FRAUD_DATABASE_URL"]
        return psycopg.connect(url.replace("postgresql+psycopg://", "postgresql://"))


@pytest.fixture(scope="module")
def bank(
    postgres_url: str,  # noqa: ARG001  # whose server's place is where all of this process keep their locks
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Bank]:
    """The bank at the beginning of its week, which ended last midnight: no model, no customer, no history."""
    first_day = pd.Timestamp.now(tz="UTC").floor("D") - pd.Timedelta(days=DAYS)
    env = tmp_path_factory.mktemp("secrets") / ".env"
    make_env(env)
    compose = read_compose(env)
    # The training process has settings that no other process has: the others must not need them.
    compose["services"]["code-location"]["environment"] |= {
        "FRAUD_LEARN_FROM_SERVED": "true",
        "FRAUD_FIRST_DAY": f"{first_day:%Y-%m-%d}",
        "FRAUD_LABEL_MATURITY": "P2D",
    }
    with running_deployment(compose, tmp_path_factory.mktemp("week")) as deployment:
        for name in SERVICES:
            deployment.up(name)
        deployment.wait("service")
        deployment.wait("consumer")
        with deployment.client("score", "feedback") as client:
            yield Bank(deployment, first_day, client)


def test_a_week_is_trained_on_with_the_served_features(
    bank: Bank, trained: TrainedModel, tmp_path: Path, record_property: Any
) -> None:
    first = bank.promote(trained, label_maturity=FIRST_MATURITY, directory=tmp_path / "first")

    # Day 0: an ordinary day.
    live(bank, 0)
    bank.night()

    # Day 1: its night fails.
    live(bank, 1)
    bank.failing_night()
    bank.night(ingest=False)

    # Day 2: a payment of day 1 arrives late; the night brings both days.
    live(bank, 2)
    # Its customer and merchant have no other payment, so its absence changed no other decision.
    bank.serve([TransactionRow("late-payment", bank.at(1, hours=12), "c1001", "m1001", 4_200)])
    bank.night()
    assert set(bank.learned("transactions")["transaction_id"]) == set(bank.sent)

    # Day 3: an id comes again, with the same content and with another one, at both entrances.
    live(bank, 3)
    repeated = next(row for row in bank.rows(0, 0) if int(row.customer_id[1:]) % 2)
    assert bank.client.post("/score", json=body_of(repeated)).json()["replayed"]
    assert bank.client.post("/score", json=body_of(repeated._replace(amount_cents=1))).status_code == 409
    bank.send([repeated, repeated._replace(amount_cents=2)])
    until(lambda: bank_letters(bank) == ["conflict"], what="the dead letter")
    bank.night()

    # Day 4: the database refuses everybody for a while.
    live(bank, 4, halves=(0,))
    with bank.refusing_database():
        afternoon = bank.rows(4, 1)
        answer = bank.client.post("/score", json=body_of(afternoon[0]))
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "storage_unavailable")
        decided = len(bank.decisions())
        serving = threading.Thread(target=bank.serve, args=(afternoon,))
        serving.start()
        until(bank.stream_waits, what="the consumer, waiting")
        assert len(bank.decisions()) == decided
    serving.join()
    bank.night()

    # Day 5: a model with another label maturity is promoted at noon.
    live(bank, 5, halves=(0,))
    second = bank.promote(trained, label_maturity=SECOND_MATURITY, directory=tmp_path / "second")
    live(bank, 5, halves=(1,), reports=False)
    bank.night()

    # Day 6: a fraud of day 0 is reported late.
    bank.report([bank.rows(0, 1)[7].transaction_id], at=bank.at(6, hours=0.5))
    live(bank, 6)
    bank.night()

    check_learned_as_served(bank, first=first, second=second, config=trained.model.feature_config)
    payments = len(bank.sent)
    record_property(SAID, f"a week over every seam: {payments:,} payments learned as served, 0 feature rows differ")


def check_learned_as_served(bank: Bank, *, first: str, second: str, config: FeatureConfig) -> None:
    """Each payment has one decision, and the learning tables hold rows and features as they were served.

    Both models have the own inputs of `config`.
    """
    assert bank_letters(bank) == ["conflict"]
    decisions = bank.decisions()
    assert sorted(decisions["transaction_id"]) == sorted(bank.sent), "each payment has one decision"
    assert set(decisions["mode"]) == {"full"}
    assert set(decisions["missing"]) == {""}
    assert set(decisions["model_version"]) == {first, second}

    learned = bank.learned("transactions").sort_values("transaction_id", ignore_index=True)
    pd.testing.assert_frame_equal(learned, bank.events().sort_values("transaction_id", ignore_index=True))
    by_report = ["transaction_id", "reported_at"]
    reports = bank.learned("fraud_reports").sort_values(by_report, ignore_index=True)
    stored = bank.reports().sort_values(by_report, ignore_index=True)
    pd.testing.assert_frame_equal(reports, stored)

    by_first = decisions[decisions["model_version"] == first]
    assert differing_rows(by_first, bank.learned("features"), transactions=learned, config=config) == []
    by_second = decisions[decisions["model_version"] == second]
    features = offline_features(learned, reports, label_maturity=SECOND_MATURITY)
    assert differing_rows(by_second, features, transactions=learned, config=config) == []


def live(bank: Bank, day: int, *, halves: Sequence[int] = (0, 1), reports: bool = True) -> None:
    """A day: reports about the day before arrive first, then the payments."""
    if reports and day:
        yesterday = bank.rows(day - 1, 0)
        bank.report([row.transaction_id for row in yesterday[3::20]], at=bank.at(day, hours=1))
    for half in halves:
        bank.serve(bank.rows(day, half))


def body_of(row: TransactionRow) -> dict[str, Any]:
    """The HTTP body of a payment."""
    message: dict[str, Any] = json.loads(transaction_message(row, currency="EUR").value or b"")
    return {name: value for name, value in message.items() if name != "schema"}


def bank_letters(bank: Bank) -> list[str]:
    """The reasons of all dead letters."""
    kafka = bank.deployment.kafka_settings()
    letters = everything(kafka, kafka.dead_letter_topic)
    return [dict(letter.headers)["dead-letter-reason"].decode() for letter in letters]


def offline_features(transactions: pd.DataFrame, reports: pd.DataFrame, *, label_maturity: timedelta) -> pd.DataFrame:
    """The features of all transactions as training with this label maturity computes them."""
    history = History(
        transactions=transactions,
        reports=reports,
        merchant_days=merchant_days(transactions, reports, label_maturity=label_maturity),
    )
    return FeatureConfig(label_maturity=label_maturity).engineer().compute(history=history, new=transactions)


def differing_rows(
    decisions: pd.DataFrame, features: pd.DataFrame, *, transactions: pd.DataFrame, config: FeatureConfig
) -> list[str]:
    """The ids whose served rows, features and own inputs, differ from the learned ones in one bit."""
    names = config.feature_names
    served = np.frombuffer(b"".join(decisions["features"]), np.uint32).reshape(len(decisions), len(names))
    whole = with_own_inputs(features, transactions, config.own_inputs).set_index("transaction_id")
    rows = whole.loc[decisions["transaction_id"]]
    expected = np.ascontiguousarray(config.model_rows(rows, features=names)).view(np.uint32)
    differing: list[str] = decisions["transaction_id"][(served != expected).any(axis=1)].tolist()
    return differing
