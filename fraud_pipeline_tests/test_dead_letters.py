"""Dead letters on a real broker: each source once, in words, and sent again as they came."""

from collections.abc import Iterator
from contextlib import closing

import pytest

from fraud_pipeline.topics import KafkaSettings, ensure_topics, open_consumer, open_producer
from fraud_pipeline_tests.brokers import Broker, running_broker, topics_of_our_own
from serving.dead_letters import dead_letters, replay, summary
from serving.stream_messages import BadMessage, dead_letter


@pytest.fixture(scope="module")
def broker() -> Iterator[Broker]:
    with running_broker() as found:
        yield found


@pytest.fixture
def kafka(broker: Broker) -> KafkaSettings:
    """Topics with two dead letters, one of them sent twice as after a crash."""
    settings = topics_of_our_own(broker)
    ensure_topics(settings)
    bad = {7: BadMessage("not_json"), 3: BadMessage("unknown_schema", "schema")}
    with closing(open_producer(settings)) as producer:
        for offset in (7, 3, 7):
            sent = dead_letter(
                bad[offset],
                key=b"c-1",
                value=b"value %d" % offset,
                headers=[("trace", b"1")],
                topic=settings.transactions_topic,
                partition=0,
                offset=offset,
            )
            producer.send(settings.dead_letter_topic, **sent._asdict())
        producer.flush()
    return settings


def test_each_source_is_listed_once_with_its_reason(kafka: KafkaSettings) -> None:
    letters = dead_letters(kafka)
    assert [(one.source_offset, one.reason, one.path) for one in letters] == [
        (3, "unknown_schema", "schema"),
        (7, "not_json", "value"),
    ]
    told = summary(letters)
    assert len(told) == 2
    assert not any("value 7" in line for line in told)


def test_a_letter_is_sent_again_as_it_came(kafka: KafkaSettings) -> None:
    assert replay(kafka, dead_letters(kafka)) == 2
    with closing(open_consumer(kafka, group_id=None)) as consumer:
        consumer.subscribe([kafka.transactions_topic])
        records = [record for found in consumer.poll(timeout_ms=10_000).values() for record in found]
    assert [(one.key, one.value, list(one.headers)) for one in records] == [
        (b"c-1", b"value 3", [("trace", b"1")]),
        (b"c-1", b"value 7", [("trace", b"1")]),
    ]
