"""A database that refuses every row counts as unavailable: everything waits, nothing is dead-lettered, doctor explains.

A record is at fault only when its neighbours are accepted.
"""

import json
import uuid
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import hypothesis
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from kafka import KafkaProducer

from fraud_pipeline.cli.doctor import check_database
from fraud_pipeline.database import Database, scoring_batch
from fraud_pipeline.database.tables import METADATA
from fraud_pipeline.messaging.topics import (
    KafkaSettings,
    ensure_topics,
    open_consumer,
    open_producer,
    report_message,
    transaction_message,
)
from fraud_pipeline.schema.transactions import SECOND, TransactionRow, now_microseconds
from fraud_pipeline.scoring.micro_batch import NO_REQUEST_IDS, MicroBatch, RequestIdsOfRows
from fraud_pipeline.scoring.rehearsal import rehearse
from fraud_pipeline.settings import Settings
from fraud_pipeline_tests.support.bad_inputs import transaction_with_id
from fraud_pipeline_tests.support.brokers import Broker, topics_of_our_own
from fraud_pipeline_tests.support.postgres import new_database
from fraud_pipeline_tests.support.refusing import REFUSALS, as_user, refusing
from fraud_pipeline_tests.support.services import Server, start, stop
from fraud_pipeline_tests.support.streams import (
    SESSION,
    Heard,
    decided,
    everything,
    header,
    passed,
    running,
    send,
    stream_scorer,
    transactions,
)
from fraud_pipeline_tests.support.waiting import until
from serving.http import json_documents
from serving.stream import messages as stream_messages
from serving.stream.consumer import StreamConsumer
from serving.stream.known_record import ScoresRows
from serving.stream.messages import MessageReader


@pytest.fixture
def user_url(empty_postgres_url: str) -> str:
    """A database with the tables of this release, as a user who owns none of them."""
    with closing(Database(empty_postgres_url)) as database:
        database.upgrade()
    return as_user(empty_postgres_url)


@pytest.fixture
def kafka(broker: Broker) -> KafkaSettings:
    kafka = topics_of_our_own(broker, partitions=2)
    ensure_topics(kafka)
    return kafka


def rows_of(count: int, *, prefix: str) -> list[TransactionRow]:
    return transactions(count, customers=7, end=now_microseconds() - SECOND, prefix=prefix)


def send_rows(kafka: KafkaSettings, rows: Sequence[TransactionRow]) -> None:
    send(kafka, kafka.transactions_topic, [transaction_message(row, currency="EUR") for row in rows])


@contextmanager
def consuming(
    kafka: KafkaSettings,
    database: Database,
    producer: KafkaProducer,
    heard: Heard,
    *,
    scorer: ScoresRows | None = None,
) -> Iterator[None]:
    """The long-lived consumer, while the block runs."""
    loop = StreamConsumer(
        consumer=open_consumer(kafka, group_id=kafka.group, **SESSION),
        topics=[kafka.transactions_topic, kafka.reports_topic],
        stream=stream_scorer(kafka, database, producer, scorer=scorer),
        database=database,
        observer=heard,
    )
    with running([loop.run]):
        yield


@dataclass(frozen=True, slots=True)
class Broken:
    """A scorer with a bug that fails on every row."""

    def transaction(
        self, rows: Sequence[TransactionRow], *, request_ids: RequestIdsOfRows = NO_REQUEST_IDS
    ) -> AbstractContextManager[MicroBatch]:
        raise ZeroDivisionError(str(rows))


class TestTheStream:
    @pytest.mark.parametrize("name", REFUSALS)
    def test_the_consumer_waits_and_decides_everything_after_the_repair(
        self, kafka: KafkaSettings, empty_postgres_url: str, user_url: str, name: str
    ) -> None:
        heard = Heard()
        with (
            closing(Database(user_url)) as database,
            closing(Database(empty_postgres_url)) as owner,
            closing(open_producer(kafka)) as producer,
            consuming(kafka, database, producer, heard),
        ):
            send_rows(kafka, rows_of(10, prefix="before"))
            until(lambda: passed(owner, kafka.transactions_topic) == (10, 10))
            with refusing(empty_postgres_url, REFUSALS[name]):
                send_rows(kafka, rows_of(20, prefix="refused"))
                send(kafka, kafka.reports_topic, [report_message("before1", is_fraud=True)])
                until(lambda: len(heard.waited_for) >= 3, what="waiting")
                diagnosis = check_database(Settings(database_url=user_url))
            until(lambda: passed(owner, kafka.transactions_topic) == (30, 30), what="20 more decisions")
            until(lambda: passed(owner, kafka.reports_topic) == (1, 1), what="the report")
            assert len(decided(owner)) == 30
        assert set(heard.waited_for) == {"database"}
        assert everything(kafka, kafka.dead_letter_topic) == []
        assert (diagnosis.state, REFUSALS[name].word in diagnosis.finding) == ("fail", True), diagnosis.finding
        assert check_database(Settings(database_url=user_url)).state == "ok"

    def test_a_bug_that_fails_every_record_is_waited_out(self, kafka: KafkaSettings, database: Database) -> None:
        heard = Heard()
        send_rows(kafka, rows_of(20, prefix="t"))
        with closing(open_producer(kafka)) as producer:
            with consuming(kafka, database, producer, heard, scorer=Broken()):
                until(lambda: len(heard.waited_for) >= 3, what="waiting")
            assert passed(database, kafka.transactions_topic) == (0, 0)
            with consuming(kafka, database, producer, heard):
                until(lambda: passed(database, kafka.transactions_topic) == (20, 20))
        assert set(heard.waited_for) == {"repair"}
        assert everything(kafka, kafka.dead_letter_topic) == []
        assert len(decided(database)) == 20

    def test_a_record_that_fails_alone_is_dead_lettered_and_its_neighbours_are_decided(
        self, kafka: KafkaSettings, empty_postgres_url: str, user_url: str
    ) -> None:
        """A foreign constraint that most rows satisfy."""
        rows = [*rows_of(20, prefix="good"), *rows_of(1, prefix="odd")]
        with closing(Database(empty_postgres_url)) as owner, owner.transaction() as connection:
            connection.exec_driver_sql("ALTER TABLE transactions ADD CHECK (transaction_id <> 'odd0')")
        with closing(Database(user_url)) as database, closing(open_producer(kafka)) as producer:
            send_rows(kafka, rows)
            with consuming(kafka, database, producer, heard := Heard()):
                until(lambda: sum(passed(database, kafka.transactions_topic)) == 2 * len(rows))
            assert len(decided(database)) == 20
        assert heard.waited_for == []
        (letter,) = everything(kafka, kafka.dead_letter_topic)
        assert (header(letter, "reason"), b"odd0" in letter.value) == ("internal", True)

    @pytest.mark.parametrize("topic", ["transactions_topic", "reports_topic"])
    def test_an_unreadable_message_is_dead_lettered_alone(
        self, kafka: KafkaSettings, database: Database, monkeypatch: pytest.MonkeyPatch, topic: str
    ) -> None:
        read = json_documents.decode

        def fail_on_one(value: bytes) -> object:
            if b"t3" in value:
                raise ZeroDivisionError
            return read(value)

        monkeypatch.setattr(stream_messages, "decode", fail_on_one)
        rows = rows_of(5, prefix="t")
        reports = [report_message(row.transaction_id, is_fraud=True) for row in rows]
        messages = [transaction_message(row, currency="EUR") for row in rows]
        send(kafka, getattr(kafka, topic), messages if topic == "transactions_topic" else reports)
        with closing(open_producer(kafka)) as producer, consuming(kafka, database, producer, heard := Heard()):
            until(lambda: sum(passed(database, getattr(kafka, topic))) == 10)
        assert heard.waited_for == []
        assert [header(letter, "reason") for letter in everything(kafka, kafka.dead_letter_topic)] == ["internal"]


class TestTheService:
    @pytest.mark.parametrize("name", [name for name in REFUSALS if "only alerts" not in name])
    def test_every_request_gets_503_with_a_provisional_decision_and_200_after_the_repair(
        self, server: Server, refused: str, name: str
    ) -> None:
        before, *bodies = (transaction_with_id(f"{name} {number}") for number in range(21))
        report = {"transaction_id": before["transaction_id"], "label": "fraud"}
        with server.client() as client:
            # A breaker may still be open after the refusal before.
            until(lambda: client.post("/score", json=before).status_code == 200, what="an answer")
            with refusing(refused, REFUSALS[name]):
                # More failures than open a breaker; answers behind an open breaker are the same.
                answers = [client.post("/score", json=body) for body in bodies]
                batch = client.post("/score_batch", json={"transactions": bodies})
                assert client.post("/feedback", json=report).status_code in (200, 503)
            assert {answer.status_code for answer in answers} == {503} == {batch.status_code}
            assert {answer.json()["error"]["code"] for answer in answers} == {"storage_unavailable"}
            assert {answer.json()["provisional"]["decided_by"] for answer in answers} == {"fail_safe"}
            assert len(batch.json()["provisional_decisions"]) == len(bodies)
            until(lambda: client.post("/score", json=bodies[0]).status_code == 200, what="an answer")
            assert {client.post("/score", json=body).status_code for body in bodies} == {200}
            assert client.post("/feedback", json=report).status_code == 200


@pytest.fixture(scope="module")
def refused(postgres_url: str) -> Iterator[str]:
    """One database for all refusals of the service."""
    with new_database(postgres_url) as url:
        yield url


@pytest.fixture(scope="module")
def server(refused: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with closing(Database(refused)) as database:
        database.upgrade()
    started = start(tmp_path_factory.mktemp("refused"), FRAUD_DATABASE_URL=as_user(refused))
    yield started
    assert stop(started) == 0
    log = (started.home / "server.log").read_text()
    assert "Traceback" not in log


class TestWhatEntrancesAccept:
    """A record that only one kind of database accepts would be dead-lettered at the other."""

    @given(texts=st.lists(st.text(max_size=80), min_size=4, max_size=40), amount=st.floats(), longitude=st.floats())
    @hypothesis.settings(
        max_examples=40, deadline=None, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture]
    )
    def test_both_databases_store_the_same_values(
        self, both: tuple[Database, Database], texts: list[str], amount: float, longitude: float
    ) -> None:
        number, now = uuid.uuid4().hex[:8], now_microseconds()
        reader = MessageReader(currency="EUR")
        rows = []
        for text, other in pairwise(texts):
            body = {"schema": 1, "transaction_id": f"{number} {text}", "customer_id": text, "merchant_id": other}
            body |= {"event_time": datetime.now(UTC).isoformat(), "amount": amount, "currency": "EUR"}
            body |= {"category": other, "latitude": 0.0, "longitude": longitude}
            for sent in (body, body | {"amount": 12.5, "longitude": 1.0}):
                row = reader.transaction_message(json.dumps(sent).encode(), (), now=now)
                if isinstance(row, TransactionRow):
                    rows.append(row)
        rows = list({row.transaction_id: row for row in rows}.values())
        if rows:
            assert kept(both[0], rows) == kept(both[1], rows) == {row.transaction_id: row for row in rows}


@pytest.fixture
def both(tmp_path: Path, empty_postgres_url: str) -> Iterator[tuple[Database, Database]]:
    """A database of each kind."""
    urls = (f"sqlite:///{tmp_path / 'fraud.db'}", empty_postgres_url)
    with closing(Database(urls[0])) as sqlite, closing(Database(urls[1])) as postgresql:
        sqlite.upgrade()
        postgresql.upgrade()
        yield sqlite, postgresql


def kept(database: Database, rows: Sequence[TransactionRow]) -> dict[str, TransactionRow | None]:
    """These rows as read back from a database."""
    with scoring_batch(database) as batch:
        batch.remember(rows)
        return {id_: event for id_, (event, _) in batch.stored([row.transaction_id for row in rows]).items()}


class TestTheRehearsal:
    def test_a_rehearsal_leaves_nothing_behind(self, database: Database) -> None:
        def counts() -> dict[str, int]:
            with database.transaction(read_only=True) as connection:
                of = {name: sa.select(sa.func.count()).select_from(table) for name, table in METADATA.tables.items()}
                return {name: connection.execute(count).scalar_one() for name, count in of.items()}

        before = counts()
        rehearse(database, now=now_microseconds())
        assert counts() == before

    def test_doctor_reports_a_refusing_file(self, tmp_path: Path) -> None:
        settings = Settings(home=tmp_path, database_url=f"sqlite:///{tmp_path}/fraud.db")
        with closing(Database(settings.database)) as database:
            database.upgrade()
            assert check_database(settings).state == "ok"
            with database.transaction() as connection:
                connection.exec_driver_sql(
                    "CREATE TRIGGER fails BEFORE INSERT ON decisions BEGIN SELECT RAISE(ABORT, 'no'); END"
                )
        diagnosis = check_database(settings)
        assert (diagnosis.state, "has a rule that refuses a row" in diagnosis.finding) == ("fail", True)
