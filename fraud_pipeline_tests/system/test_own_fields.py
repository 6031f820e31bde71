"""Own fields from the bank to the decision: HTTP, Kafka and training see the same bits."""

import json
from collections.abc import Sequence
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from fraud_pipeline.database import Database
from fraud_pipeline.database.history import read_newest_decisions
from fraud_pipeline.database.merchant_day_refresh import refresh_merchant_days
from fraud_pipeline.database.source import DatabaseSource
from fraud_pipeline.features.engineer import FEATURE_NAMES, History, merchant_days
from fraud_pipeline.messaging.topics import ensure_topics, transaction_message
from fraud_pipeline.promotion.published_model import publish
from fraud_pipeline.schema.transactions import (
    FRAUD_REPORTS,
    SECOND,
    TRANSACTION_COLUMNS,
    TransactionRow,
    empty,
    microseconds,
    now_microseconds,
)
from fraud_pipeline.settings import Settings
from fraud_pipeline_tests.support.brokers import Broker, topics_of_our_own
from fraud_pipeline_tests.support.consumer_process import consumers
from fraud_pipeline_tests.support.own_models import OWN_FIELDS, own_model, sent_own_fields, with_own_fields
from fraud_pipeline_tests.support.services import start, stop
from fraud_pipeline_tests.support.small_world import LABEL_MATURITY
from fraud_pipeline_tests.support.streams import everything, passed, send, transactions
from fraud_pipeline_tests.support.waiting import until

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

HALF: Final = 200


@pytest.mark.slow
def test_forty_own_fields_have_the_same_bits_over_http_over_the_stream_and_in_training(
    broker: Broker, empty_postgres_url: str, tmp_path: Path
) -> None:
    model, settings = own_model(), Settings(home=tmp_path, database_url=empty_postgres_url)
    model.save(tmp_path / "trained")
    publish(tmp_path / "trained", link=settings.champion_directory)
    kafka = topics_of_our_own(broker)
    ensure_topics(kafka)
    now = now_microseconds()
    rows = [
        with_own_fields(row._replace(event_time=now - (2 * HALF - number) * SECOND), number)
        for number, row in enumerate(transactions(2 * HALF, customers=60, end=now))
    ]
    with closing(Database(empty_postgres_url, statement_timeout=timedelta(seconds=20))) as database:
        database.upgrade()
        refresh_merchant_days(
            database,
            now=pd.Timestamp.now(tz="UTC"),
            lookback=model.feature_config.engineer().lookback,
            label_maturity=LABEL_MATURITY,
        )
        server = start(tmp_path, FRAUD_DATABASE_URL=empty_postgres_url)
        with server.client() as http:
            bodies = [http_body(row, number) for number, row in enumerate(rows[:HALF])]
            answers = http.post("/score_batch", json={"transactions": bodies}).json()["decisions"]
            described = http.get("/openapi.json").json()["components"]["schemas"]["TransactionIn"]["properties"]
            bad = bodies[0] | {"transaction_id": "bad", "own_fields": {"age": "31"}}
            refusal = http.post("/score", json=bad)
            replay = http.post("/score", json=bodies[0]).json()
            conflict = http.post("/score", json=bodies[0] | {"own_fields": {"age": 31}})
        assert stop(server) == 0
        with consumers(tmp_path, empty_postgres_url, kafka) as processes:
            wrong = rows[0]._replace(transaction_id="bad", own_fields='{"age":"31"}')
            messages = [transaction_message(row, currency="EUR") for row in (*rows[HALF:], wrong)]
            send(kafka, kafka.transactions_topic, messages)
            processes.start()
            until(lambda: passed(database, kafka.transactions_topic)[1] == HALF + 1, what="the stream")
        decisions = read_newest_decisions(database, limit=10_000).set_index("transaction_id")
    assert [answer["transaction_id"] for answer in answers] == [row.transaction_id for row in rows[:HALF]]
    assert {answer["decided_by"] for answer in answers} == {"model"}
    assert set(described["own_fields"]["properties"]) == {field.name for field in OWN_FIELDS}
    assert refusal.status_code == 422
    (field,) = refusal.json()["error"]["fields"]
    assert (field["path"], field["problem"]) == ("own_fields.age", "wrong_type")
    assert replay == answers[0] | {"replayed": True, "latency_ms": replay["latency_ms"]}
    assert conflict.status_code == 409
    (letter,) = everything(kafka, kafka.dead_letter_topic)
    assert dict(letter.headers)["dead-letter-path"] == b"own_fields.age"
    published = [json.loads(record.value) for record in everything(kafka, kafka.decisions_topic)]
    unused = {answer["transaction_id"]: answer["unused_fields"] for answer in (*answers, *published)}
    assert unused == {
        row.transaction_id: ["undeclared"] if "undeclared" in sent_own_fields(number) else []
        for number, row in enumerate(rows)
    }
    expected = offline(empty_postgres_url, rows, model.feature_config)
    stored = b"".join(decisions.loc[[row.transaction_id for row in rows], "features"])
    served = np.frombuffer(stored, np.uint32).reshape(expected.shape)
    names = model.feature_config.feature_names
    differing = (served != expected).sum(axis=0)
    assert {name: int(number) for name, number in zip(names, differing, strict=True) if number} == {}
    assert len(names) > len(FEATURE_NAMES) + 36


def http_body(row: TransactionRow, number: int) -> dict[str, Any]:
    """The body as the bank sends it, own fields in its own order and with missing ones."""
    body = json.loads(transaction_message(row, currency="EUR").value or b"")
    sent = {"memo": None, **sent_own_fields(number)}
    return {name: value for name, value in body.items() if name != "schema"} | {"own_fields": sent}


def offline(url: str, rows: Sequence[TransactionRow], config: Any) -> NDArray[np.uint32]:
    """Model rows as training makes them of served days, whose own fields are typed columns."""
    source = DatabaseSource(url, retention=timedelta(days=180), own_fields=OWN_FIELDS)
    end = pd.Timestamp.now(tz="UTC") + pd.Timedelta(days=1)
    raw = source.transactions(start=end - pd.Timedelta(days=3), end=end)
    table = raw.assign(amount_cents=(raw["amount"] * 100).round().astype("int64")).set_index(
        "transaction_id", drop=False
    )
    table = table.loc[[row.transaction_id for row in rows]].reset_index(drop=True)
    fixed, reports = table[list(TRANSACTION_COLUMNS)], empty(FRAUD_REPORTS)
    days = merchant_days(fixed, reports, label_maturity=config.label_maturity)
    features = config.engineer().compute(
        history=History(transactions=fixed, reports=reports, merchant_days=days), new=fixed
    )
    columns = {name: table[name] for name in config.own_inputs.names}
    own = config.own_inputs.values(columns, microseconds(table["event_time"]))
    values = config.whole_rows(features[list(FEATURE_NAMES)].to_numpy(np.float32), own)
    return np.ascontiguousarray(values).view(np.uint32)
