"""The Kafka clients with a real broker: connecting, error messages, creation of topics."""

import gc
import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from kafka import TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType
from pydantic import SecretStr, ValidationError

from fraud_pipeline.messaging.topics import (
    BrokerUnavailableError,
    KafkaSettings,
    ensure_topics,
    load_kafka_settings,
    message,
    open_admin,
    open_consumer,
    open_producer,
)
from fraud_pipeline.settings import HOME_VARIABLE, SETTINGS_FILE
from fraud_pipeline_tests.support.brokers import Broker, BrokerMissingError, apache_kafka, topics_of_our_own
from fraud_pipeline_tests.support.waiting import LIMIT_SECONDS

SOON = timedelta(seconds=1)
SASL: dict[str, Any] = {"security_protocol": "SASL_PLAINTEXT", "sasl_username": "fraud", "sasl_password": "hunter2"}


@pytest.fixture
def kafka(broker: Broker) -> KafkaSettings:
    return topics_of_our_own(broker)


@pytest.fixture(scope="module")
def guarded() -> Iterator[KafkaSettings]:
    """Apache Kafka with TLS and password."""
    try:
        with apache_kafka(secured=True) as started:
            yield topics_of_our_own(started).model_copy(update={"connect_timeout": timedelta(seconds=2)})
    except BrokerMissingError as error:
        pytest.skip(str(error))


@pytest.fixture
def silent_server() -> Iterator[str]:
    """A port that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield "{}:{}".format(*server.getsockname())


class TestSettings:
    def test_the_environment_wins_over_the_file_of_the_home_directory(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / SETTINGS_FILE).write_text("FRAUD_KAFKA_PARTITIONS=3\nFRAUD_KAFKA_DECISIONS_TOPIC=from-file\n")
        monkeypatch.setenv(HOME_VARIABLE, str(tmp_path))
        monkeypatch.setenv("FRAUD_KAFKA_PARTITIONS", "9")
        settings = load_kafka_settings()
        assert (settings.partitions, settings.decisions_topic) == (9, "from-file")

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ({"security_protocol": "SASL_SSL", "sasl_username": "fraud"}, "FRAUD_KAFKA_SASL_PASSWORD"),
            ({"security_protocol": "SASL_PLAINTEXT", "sasl_password": "hunter2"}, "FRAUD_KAFKA_SASL_USERNAME"),
            ({"ssl_cafile": __file__}, "FRAUD_KAFKA_SECURITY_PROTOCOL"),
            ({"security_protocol": "SSL", "ssl_certfile": __file__}, "FRAUD_KAFKA_SSL_KEYFILE"),
            ({"security_protocol": "SSL", "ssl_cafile": "/no/such/file"}, "ssl_cafile"),
            ({"security_protocol": "TLS"}, "security_protocol"),
            ({"bootstrap_servers": "broker"}, "bootstrap_servers"),
            ({"bootstrap_servers": "one:9092,,two:9092"}, "bootstrap_servers"),
            ({"transactions_topic": "transactions of today"}, "transactions_topic"),
        ],
    )
    def test_settings_that_cannot_work_are_refused_by_name(self, given: dict[str, Any], message: str) -> None:
        with pytest.raises(ValidationError, match=message) as refused:
            KafkaSettings(**given)
        assert "hunter2" not in str(refused.value)

    @pytest.mark.parametrize("servers", ["localhost:9092", "one.example:9092,two.example:9093", "[::1]:9092"])
    def test_servers_are_host_and_port(self, servers: str) -> None:
        assert KafkaSettings(bootstrap_servers=servers).bootstrap_servers == servers

    def test_the_password_is_not_shown(self) -> None:
        assert "hunter2" not in repr(KafkaSettings(**SASL))


class TestConnecting:
    """An unusable broker gives one sentence within the time limit."""

    def test_nobody_there(self) -> None:
        nobody = KafkaSettings(bootstrap_servers="127.0.0.1:1,no-such-host.invalid:9092")
        with pytest.raises(BrokerUnavailableError, match="nobody listens there.*no-such-host.*BOOTSTRAP"):
            open_producer(nobody)

    @pytest.mark.parametrize("protocol", ["PLAINTEXT", "SSL"])
    def test_a_server_that_says_nothing(self, silent_server: str, protocol: Any) -> None:
        silent = KafkaSettings(bootstrap_servers=silent_server, security_protocol=protocol, connect_timeout=SOON)
        with pytest.raises(BrokerUnavailableError, match=protocol):
            open_producer(silent)

    def test_a_broker_that_knows_no_tls(self, broker: Broker) -> None:
        settings = KafkaSettings(
            bootstrap_servers=broker.bootstrap_servers, security_protocol="SSL", connect_timeout=SOON
        )
        with pytest.raises(BrokerUnavailableError, match="SECURITY_PROTOCOL is SSL"):
            open_admin(settings)

    def test_a_broker_that_takes_no_password(self, broker: Broker) -> None:
        settings = KafkaSettings(bootstrap_servers=broker.bootstrap_servers, connect_timeout=SOON, **SASL)
        with pytest.raises(BrokerUnavailableError, match="check user, password and mechanism") as refused:
            open_consumer(settings)
        assert "hunter2" not in str(refused.value)

    def test_a_file_that_is_no_certificate(self, broker: Broker) -> None:
        wrong = KafkaSettings(
            bootstrap_servers=broker.bootstrap_servers, security_protocol="SSL", ssl_cafile=Path(__file__)
        )
        with pytest.raises(BrokerUnavailableError, match="FRAUD_KAFKA_SSL_CAFILE.*PEM"):
            open_admin(wrong)

    @pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")  # the library's, of the refused connection
    def test_one_reachable_server_of_several_is_enough(self, kafka: KafkaSettings) -> None:
        several = kafka.model_copy(update={"bootstrap_servers": f"127.0.0.1:1,{kafka.bootstrap_servers}"})
        assert ensure_topics(several, [kafka.reports_topic]) == {kafka.reports_topic: 4}
        gc.collect()


class TestTopics:
    def test_all_topics_are_made_and_made_once(self, kafka: KafkaSettings) -> None:
        assert ensure_topics(kafka) == dict.fromkeys(kafka.topics, 4)
        assert ensure_topics(kafka) == dict.fromkeys(kafka.topics, 4)

    def test_a_topic_that_exists_is_left_as_it_is(self, kafka: KafkaSettings) -> None:
        ensure_topics(kafka.model_copy(update={"partitions": 2}), [kafka.decisions_topic])
        assert ensure_topics(kafka)[kafka.decisions_topic] == 2

    def test_many_processes_may_start_at_once(self, kafka: KafkaSettings) -> None:
        partitions: list[dict[str, int]] = []
        starters = [threading.Thread(target=lambda: partitions.append(ensure_topics(kafka))) for _ in range(8)]
        for starter in starters:
            starter.start()
        for starter in starters:
            starter.join()
        assert partitions == [dict.fromkeys(kafka.topics, 4)] * 8

    def test_a_topic_that_cannot_be_created_is_named(self, broker: Broker, kafka: KafkaSettings) -> None:
        if broker.name == "Tansu":
            pytest.skip("Tansu makes any topic: TEST_BROKER=kafka")
        with pytest.raises(BrokerUnavailableError, match="InvalidReplicationFactor.*make them by hand"):
            ensure_topics(kafka.model_copy(update={"replication": 3}))

    def test_dead_letters_never_expire(self, broker: Broker, kafka: KafkaSettings) -> None:
        if broker.name == "Tansu":
            pytest.skip("Tansu does not tell what is configured: TEST_BROKER=kafka")
        ensure_topics(kafka)
        with closing(open_admin(kafka)) as admin:
            resources = [ConfigResource(ConfigResourceType.TOPIC, topic) for topic in kafka.topics]
            configurations = admin.describe_configs(resources)["topic"]
        kept = {
            name: config["retention.ms"]["value"] for name, config in configurations.items() if "retention.ms" in config
        }
        assert kept == {kafka.dead_letter_topic: "-1"}


class TestClients:
    def test_what_is_sent_is_read(self, kafka: KafkaSettings) -> None:
        ensure_topics(kafka)
        sent = [message(f"key-{number % 7}", {"number": number}) for number in range(500)]
        with closing(open_producer(kafka)) as producer:
            futures = [producer.send(kafka.decisions_topic, **sent_message._asdict()) for sent_message in sent]
            producer.flush()
        assert all(future.succeeded() for future in futures)
        with closing(open_consumer(kafka, consumer_timeout_ms=2_000, fetch_max_wait_ms=10)) as consumer:
            consumer.assign([TopicPartition(kafka.decisions_topic, partition) for partition in range(4)])
            records = list(consumer)
        assert sorted((r.key, r.value, tuple(r.headers)) for r in records) == sorted(
            (sent_message.key, sent_message.value, tuple(sent_message.headers)) for sent_message in sent
        )


class TestSecured:
    """A broker that requires credentials and has a certificate."""

    def test_a_client_with_certificate_and_password_connects(self, guarded: KafkaSettings) -> None:
        assert ensure_topics(guarded) == dict.fromkeys(guarded.topics, 4)
        with closing(open_producer(guarded)) as producer:
            future = producer.send(guarded.reports_topic, **message("key", {"number": 1})._asdict())
            assert future.get(timeout=LIMIT_SECONDS).offset == 0

    @pytest.mark.parametrize(
        ("without", "message"),
        [
            ({"sasl_password": SecretStr("hunter2")}, "check user, password and mechanism"),
            ({"sasl_mechanism": "PLAIN"}, "check user, password and mechanism"),
            ({"ssl_cafile": None}, "certificate is not trusted here.*SECURITY_PROTOCOL is SASL_SSL"),
            ({"security_protocol": "SASL_PLAINTEXT"}, "SECURITY_PROTOCOL is SASL_PLAINTEXT"),
            ({"security_protocol": "PLAINTEXT"}, "it wants TLS"),
        ],
    )
    def test_a_missing_credential_is_named(self, guarded: KafkaSettings, without: dict[str, Any], message: str) -> None:
        with pytest.raises(BrokerUnavailableError, match=message) as refused:
            open_admin(guarded.model_copy(update=without))
        assert "hunter2" not in str(refused.value)
