"""Kafka clients, topics, and the layout of messages.

Belongs here: clients from settings, creation of topics, the layout of messages. Must not be here: validation of
messages (`serving/stream/messages.py`), scoring, the consumer and producer loops.

Every value is one JSON object: `"schema": 1` and the fields of the corresponding HTTP body.
"""

import json
import ssl
from collections.abc import Callable, Collection, Mapping
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, Literal, NamedTuple, Self, TypeVar, cast

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
from kafka.errors import KafkaError, TopicAlreadyExistsError
from pydantic import Field, FilePath, SecretStr, StringConstraints, model_validator
from pydantic_core import to_json
from pydantic_settings import BaseSettings, SettingsConfigDict

from fraud_pipeline.host.reachability import talks_tls, why_unreachable
from fraud_pipeline.messaging.committed_reads import end_at_stable_offsets
from fraud_pipeline.messaging.corrupt_record_patch import read_leniently
from fraud_pipeline.messaging.rejoin_patch import finish_joins
from fraud_pipeline.schema.local_time import UTC_OFFSET, on_local_clock
from fraud_pipeline.schema.money import ORIGINAL_CURRENCY, sent_money
from fraud_pipeline.schema.transactions import TransactionRow
from fraud_pipeline.settings import SETTINGS_FILE, home_directory

SCHEMA: Final = 1
SCHEMA_HEADER: Final = "schema-version"

_SERVER: Final = r"(\[[0-9A-Fa-f:]+\]|[^\s,:\[\]]+):[0-9]{1,5}"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

Topic = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,249}$")]
Client = TypeVar("Client")


class BrokerUnavailableError(RuntimeError):
    """The brokers cannot be used; the message gives address, problem and remedy."""


class KafkaSettings(BaseSettings):
    """Addresses of the brokers, credentials, and names of the topics; see `load_kafka_settings`."""

    model_config = SettingsConfigDict(
        env_prefix="FRAUD_KAFKA_", frozen=True, extra="ignore", env_ignore_empty=True, hide_input_in_errors=True
    )

    bootstrap_servers: str = Field("127.0.0.1:9092", pattern=rf"^{_SERVER}(,{_SERVER})*$", description="host:port,...")
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="how clients talk to the brokers"
    )
    ssl_cafile: FilePath | None = Field(None, description="who signs the brokers' certificates; empty: the system's")
    ssl_certfile: FilePath | None = Field(None, description="our own certificate, for brokers that ask for one")
    ssl_keyfile: FilePath | None = Field(None, description="the key of our own certificate")
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "SCRAM-SHA-512", description="how the user logs in to the brokers"
    )
    sasl_username: str = Field("", description="user at the brokers")
    sasl_password: SecretStr = Field(SecretStr(""), description="the user's password")

    connect_timeout: timedelta = Field(
        timedelta(seconds=5), description="brokers that answer later count as unreachable"
    )

    transactions_topic: Topic = "transactions"
    decisions_topic: Topic = "decisions"
    dead_letter_topic: Topic = "transactions.dead-letter"
    reports_topic: Topic = "fraud-reports"
    group: str = Field("fraud-detect", min_length=1, description="consumers of one group share the partitions")
    partitions: int = Field(6, ge=1, description="of topics we make: that many consumers can share the work")
    replication: int | None = Field(None, ge=1, description="copies of topics we make; empty: as the brokers say")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.uses_sasl and not (self.sasl_username and self.sasl_password.get_secret_value()):
            raise ValueError(f"{self.security_protocol} needs FRAUD_KAFKA_SASL_USERNAME and FRAUD_KAFKA_SASL_PASSWORD")
        if not self.uses_tls and (self.ssl_cafile or self.ssl_certfile):
            raise ValueError("certificates need FRAUD_KAFKA_SECURITY_PROTOCOL to be SSL or SASL_SSL")
        if (self.ssl_certfile is None) != (self.ssl_keyfile is None):
            raise ValueError("give both FRAUD_KAFKA_SSL_CERTFILE and FRAUD_KAFKA_SSL_KEYFILE, or neither")
        return self

    @property
    def uses_sasl(self) -> bool:
        return self.security_protocol in ("SASL_PLAINTEXT", "SASL_SSL")

    @property
    def uses_tls(self) -> bool:
        return self.security_protocol in ("SSL", "SASL_SSL")

    @property
    def topics(self) -> tuple[str, ...]:
        """Every topic of this system."""
        return self.transactions_topic, self.decisions_topic, self.dead_letter_topic, self.reports_topic


class Message(NamedTuple):
    """A Kafka message; messages of one key keep their order."""

    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]


def load_kafka_settings() -> KafkaSettings:
    """Settings of the current home directory; the environment (`FRAUD_KAFKA_...`) wins over its file."""
    return KafkaSettings(_env_file=home_directory() / SETTINGS_FILE)


def open_producer(kafka: KafkaSettings, **options: Any) -> KafkaProducer:
    """A producer whose messages arrive once and in order, or raise. Raises BrokerUnavailableError."""
    return _open(KafkaProducer, kafka, {"acks": "all", "enable_idempotence": True, "linger_ms": 5, **options})


def open_consumer(kafka: KafkaSettings, **options: Any) -> KafkaConsumer:
    """A consumer that starts at the beginning and commits only explicitly. Raises BrokerUnavailableError.

    It returns an UnreadableRecord for an unreadable record, and reads only committed records of Kafka transactions.
    """
    given = {
        "isolation_level": "read_committed",
        "enable_auto_commit": False,
        "auto_offset_reset": "earliest",
        # A topic subscribed to during a metadata request for other topics stays unknown until the next request.
        "metadata_max_age_ms": 10_000,
        **options,
    }
    consumer: KafkaConsumer = _open(KafkaConsumer, kafka, given)
    read_leniently(consumer)
    finish_joins(consumer)
    end_at_stable_offsets(consumer)
    return consumer


def open_admin(kafka: KafkaSettings) -> KafkaAdminClient:
    """A client for topics and groups. Raises BrokerUnavailableError."""
    return _open(KafkaAdminClient, kafka, {})


def ensure_topics(kafka: KafkaSettings, topics: Collection[str] | None = None) -> dict[str, int]:
    """Create the missing ones of `topics` (default: all of this system); returns the number of partitions of each.

    An existing topic is not changed. Raises BrokerUnavailableError.
    """
    names = list(kafka.topics if topics is None else topics)
    with closing(open_admin(kafka)) as admin:
        try:
            missing = set(names) - set(_partitions(admin, names))
            if missing:
                with suppress(TopicAlreadyExistsError):  # another process created it meanwhile
                    admin.create_topics({name: _new_topic(kafka, name) for name in missing})
                admin.wait_for_topics(names)
            return _partitions(admin, names)
        except KafkaError as error:
            raise BrokerUnavailableError(
                f"topics cannot be made at {kafka.bootstrap_servers} ({type(error).__name__}): let this user create "
                f"topics, or make them by hand: {', '.join(names)}"
            ) from error


def partitions_of(kafka: KafkaSettings) -> dict[str, int]:
    """The number of partitions of each topic of this system that exists. Raises BrokerUnavailableError."""
    with closing(open_admin(kafka)) as admin:
        return _partitions(admin, list(kafka.topics))


def transaction_message(row: TransactionRow, *, currency: str, with_rate: bool = False) -> Message:
    """A transaction with the fields of the body of /score, keyed by customer, so that a customer's order is kept.

    Its amount is in its original currency, or in `currency` without one; `with_rate` sends the rate that was used. Its
    time has the offset of the local clock, if that is known.
    """
    named = row._asdict()
    event_time, cents, own_fields = (named.pop(name) for name in ("event_time", "amount_cents", "own_fields"))
    present = {name: value for name, value in named.items() if value is not None}
    money = {"amount": cents / 100, "currency": currency}
    own = json.loads(own_fields) if own_fields else {}
    if ORIGINAL_CURRENCY in own:
        money = sent_money(own, with_rate=with_rate)
    moment = on_local_clock(_EPOCH + timedelta(microseconds=event_time), own.pop(UTC_OFFSET, None))
    if own:
        present["own_fields"] = own
    return message(row.customer_id, {"event_time": moment, **present, **money})


def report_message(transaction_id: str, *, is_fraud: bool) -> Message:
    """A fraud report with the fields of the body of /feedback."""
    return message(transaction_id, {"transaction_id": transaction_id, "label": "fraud" if is_fraud else "legitimate"})


def message(key: str, fields: Mapping[str, object]) -> Message:
    """A message with one JSON object of the current schema."""
    value = to_json({"schema": SCHEMA, **fields})
    return Message(key.encode(), value, [(SCHEMA_HEADER, b"%d" % SCHEMA)])


def _partitions(admin: KafkaAdminClient, topics: list[str]) -> dict[str, int]:
    descriptions = admin.describe_topics(topics)
    return {topic["name"]: len(topic["partitions"]) for topic in descriptions if not topic["error_code"]}


def _new_topic(kafka: KafkaSettings, name: str) -> dict[str, Any]:
    copies = kafka.replication or -1
    # One replica may be unavailable.
    durable = {"min.insync.replicas": str(copies - 1)} if copies > 1 else {}
    # Dead letters do not expire: an operator has to see them.
    kept = {"retention.ms": "-1"} if name == kafka.dead_letter_topic else {}
    return {"num_partitions": kafka.partitions, "replication_factor": copies, "configs": {**durable, **kept}}


def _open(kind: Callable[..., Client], kafka: KafkaSettings, options: Mapping[str, Any]) -> Client:
    context = _tls_context(kafka)
    _reach(kafka, context)
    try:
        client: Any = kind(**_client_options(kafka, context), **options)
    except KafkaError as error:
        raise BrokerUnavailableError(
            f"{kafka.bootstrap_servers} accepts connections but does not talk Kafka with us: {_advice(kafka)} "
            f"(FRAUD_KAFKA_SECURITY_PROTOCOL is {kafka.security_protocol})"
        ) from error
    try:
        _reach_advertised(kafka, client)
    except BrokerUnavailableError:
        with suppress(KafkaError):
            client.close()
        raise
    return cast("Client", client)


def _advice(kafka: KafkaSettings) -> str:
    if not kafka.uses_tls and any(talks_tls(*server, seconds=_seconds(kafka)) for server in _servers(kafka)):
        return "it wants TLS, so set FRAUD_KAFKA_SECURITY_PROTOCOL to SSL or SASL_SSL"
    if kafka.uses_sasl:
        return "check user, password and mechanism"
    return "check whether it wants TLS or a password"


def _client_options(kafka: KafkaSettings, context: ssl.SSLContext | None) -> dict[str, Any]:
    who = {
        "sasl_mechanism": kafka.sasl_mechanism,
        "sasl_plain_username": kafka.sasl_username,
        "sasl_plain_password": kafka.sasl_password.get_secret_value(),
    }
    return {
        "bootstrap_servers": kafka.bootstrap_servers.split(","),
        "security_protocol": kafka.security_protocol,
        "ssl_context": context,
        "client_id": "fraud-detect",
        "bootstrap_timeout_ms": kafka.connect_timeout.total_seconds() * 1000,
        # Reconnect within a second after a broker returns, instead of the library's thirty.
        "reconnect_backoff_max_ms": 1000,
        **(who if kafka.uses_sasl else {}),
    }


def _tls_context(kafka: KafkaSettings) -> ssl.SSLContext | None:
    if not kafka.uses_tls:
        return None
    try:
        context = ssl.create_default_context(cafile=kafka.ssl_cafile)
        if kafka.ssl_certfile:
            context.load_cert_chain(kafka.ssl_certfile, kafka.ssl_keyfile)
    except ssl.SSLError as error:
        raise BrokerUnavailableError(
            f"the certificate files cannot be read ({error.reason}): FRAUD_KAFKA_SSL_CAFILE, _CERTFILE and _KEYFILE "
            "must be unencrypted PEM files"
        ) from error
    return context


def _reach(kafka: KafkaSettings, context: ssl.SSLContext | None) -> None:
    """Raise BrokerUnavailableError with the cause unless one server can be reached.

    The library waits forever for a server that does not answer a TLS handshake, and hides why it could not connect.
    """
    failures = why_unreachable(_servers(kafka), context=context, seconds=_seconds(kafka))
    if failures:
        raise BrokerUnavailableError(
            f"no Kafka broker can be reached: {failures}. Start one, or set FRAUD_KAFKA_BOOTSTRAP_SERVERS; "
            f"FRAUD_KAFKA_SECURITY_PROTOCOL is {kafka.security_protocol}"
        )


def _reach_advertised(kafka: KafkaSettings, client: Any) -> None:
    """Raise BrokerUnavailableError unless one broker can be reached at its advertised address."""
    # The library has no public access; a producer keeps it under another name.
    cluster = client._metadata if isinstance(client, KafkaProducer) else client._manager.cluster  # noqa: SLF001
    named = [(broker.host, broker.port) for broker in cluster.brokers()]
    failures = why_unreachable(named, context=None, seconds=_seconds(kafka)) if named else ""
    if failures:
        raise BrokerUnavailableError(
            f"{kafka.bootstrap_servers} answers, but its brokers name themselves by addresses that cannot be reached "
            f"from here: {failures}. Set their advertised.listeners to a host that is known here"
        )


def _seconds(kafka: KafkaSettings) -> float:
    return kafka.connect_timeout.total_seconds()


def _servers(kafka: KafkaSettings) -> list[tuple[str, int]]:
    split = (server.rpartition(":") for server in kafka.bootstrap_servers.split(","))
    return [(host.strip("[]"), int(port)) for host, _, port in split]
