"""HTTP answers and published decisions are the same, bit for bit."""

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest

from fraud_pipeline.database import Database
from fraud_pipeline.messaging.topics import KafkaSettings, ensure_topics, transaction_message
from fraud_pipeline.modeling.training import TrainedModel
from fraud_pipeline.schema.transactions import now_microseconds
from fraud_pipeline.settings import Settings
from fraud_pipeline_tests.support.brokers import Broker, topics_of_our_own
from fraud_pipeline_tests.support.consumer_process import consumers
from fraud_pipeline_tests.support.proof import SAID
from fraud_pipeline_tests.support.services import start, stop
from fraud_pipeline_tests.support.streams import (
    decided,
    everything,
    of_every_decision,
    passed,
    remember_before,
    send,
    transactions,
)
from fraud_pipeline_tests.support.waiting import until

pytestmark = [pytest.mark.chaos, pytest.mark.slow]

TRANSACTIONS: Final = 10_000
BATCH: Final = 500
OF_THE_REQUEST: Final = {"latency_ms", "replayed", "decided_at", "schema", "request_id"}


@pytest.fixture
def kafka(broker: Broker) -> KafkaSettings:
    kafka = topics_of_our_own(broker)
    ensure_topics(kafka)
    return kafka


def decision_fields(answer: dict[str, Any]) -> dict[str, Any]:
    """The fields of an answer that describe the decision."""
    return {name: value for name, value in answer.items() if name not in OF_THE_REQUEST}


def test_http_and_the_stream_answer_alike(
    kafka: KafkaSettings,
    empty_postgres_url: str,
    trained: TrainedModel,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    rows = transactions(TRANSACTIONS, customers=300, end=now_microseconds())
    of_every_decision(trained.model, rows[:2_000]).save(Settings(home=tmp_path).champion_directory)
    messages = [transaction_message(row, currency="EUR") for row in rows]
    bodies = [
        {name: value for name, value in json.loads(message.value or b"").items() if name != "schema"}
        for message in messages
    ]

    with closing(Database(Settings(home=tmp_path).database)) as database:
        database.upgrade()
        remember_before(database, rows)
    by_http: dict[str, dict[str, Any]] = {}
    server = start(tmp_path, FRAUD_MAX_BLOCKS_PER_MINUTE=str(TRANSACTIONS))
    with server.client() as client:
        for first in range(0, len(bodies), BATCH):
            answer = client.post("/score_batch", json={"transactions": bodies[first : first + BATCH]})
            by_http |= {message["transaction_id"]: decision_fields(message) for message in answer.json()["decisions"]}
    assert stop(server) == 0

    with closing(Database(empty_postgres_url)) as database:
        database.upgrade()
        remember_before(database, rows)
        with consumers(tmp_path, empty_postgres_url, kafka) as processes:
            send(kafka, kafka.transactions_topic, messages)
            processes.start()
            until(lambda: passed(database, kafka.transactions_topic)[1] == len(rows))
        stored_by_stream = decided(database)
    published = [json.loads(record.value) for record in everything(kafka, kafka.decisions_topic)]
    with closing(Database(Settings(home=tmp_path).database)) as database:
        stored_by_http = decided(database)

    by_stream = {message["transaction_id"]: decision_fields(message) for message in published}
    alike = sum(by_stream.get(id_) == answer for id_, answer in by_http.items())
    record_property(SAID, f"HTTP and Kafka: {alike:,} of {len(rows):,} answers alike, to the last bit")
    assert by_stream == by_http
    assert stored_by_stream == stored_by_http  # down to the bytes of the features
    assert len(by_http) == len(stored_by_http) == TRANSACTIONS
    assert {message["decision"] for message in published} == {"allow", "review", "block"}
    assert not any(message["missing"] for message in published)
