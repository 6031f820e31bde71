"""Real Kafka brokers for tests, started without Docker or root.

Belongs here: the choice of a broker, starting and stopping it, unique topics. Must not be here: messages.

`KAFKA_BOOTSTRAP_SERVERS` names a running broker. Otherwise `TEST_BROKER` chooses: `kafka` (Apache Kafka from its jars:
needs Java 17 and mvn) or `tansu` (starts in a fraction of a second, memory only). The default is Apache Kafka where it
is available.
"""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import psutil
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fraud_pipeline.messaging.bundled_broker import BundledBrokerMissingError, bundled_broker_command
from fraud_pipeline.messaging.topics import BrokerUnavailableError, KafkaSettings, open_admin
from fraud_pipeline_tests.support.services import check_may_start
from fraud_pipeline_tests.support.waiting import LIMIT_SECONDS, until

KAFKA_VERSION: Final = "4.3.1"
_HERE: Final = Path(__file__).resolve().parent
_JARS: Final = _HERE.parents[1] / "build" / f"kafka-{KAFKA_VERSION}"
# Started for seconds: the quickest start counts, not the best code.
_JAVA: Final = (
    *("java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx512m"),
    *("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", f"{_JARS}/*"),
)


class BrokerMissingError(RuntimeError):
    """The broker cannot be started on this machine; the message names the missing part."""


@dataclass(frozen=True, slots=True)
class Broker:
    """A running broker; `process` is None for one that ran before the tests, `security` holds the client's settings."""

    name: str
    bootstrap_servers: str
    process: subprocess.Popen[bytes] | None = None
    security: Mapping[str, Any] = field(default_factory=dict)

    @contextmanager
    def away(self) -> Iterator[None]:
        """Stop the broker's process, and let it continue after the block."""
        if self.process is None:
            pytest.skip(f"{self.name} is not ours to stop")
        self.process.send_signal(signal.SIGSTOP)
        while psutil.Process(self.process.pid).status() != psutil.STATUS_STOPPED:
            time.sleep(0.001)  # on a busy machine it goes on for a while
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)


@contextmanager
def running_broker() -> Iterator[Broker]:
    """The broker of this run; a test is skipped, with the reason, where it cannot be started."""
    with ExitStack() as stack:
        if servers := os.environ.get("KAFKA_BOOTSTRAP_SERVERS"):
            yield Broker("running broker", servers)
            return
        kind = os.environ.get("TEST_BROKER")
        if kind is None:
            with suppress(BrokerMissingError):
                yield stack.enter_context(apache_kafka())
                return
        try:
            broker = stack.enter_context({"tansu": tansu, "kafka": apache_kafka}[kind or "tansu"]())
        except BrokerMissingError as error:
            pytest.skip(str(error))
        yield broker


def topics_of_our_own(broker: Broker, *, partitions: int = 4) -> KafkaSettings:
    """Settings with topics and a group that no other test uses, so that tests share a broker and nothing else."""
    prefix = uuid.uuid4().hex[:8]
    return KafkaSettings(
        bootstrap_servers=broker.bootstrap_servers,
        **broker.security,
        partitions=partitions,
        group=prefix,
        transactions_topic=f"{prefix}-transactions",
        decisions_topic=f"{prefix}-decisions",
        dead_letter_topic=f"{prefix}-transactions.dead-letter",
        reports_topic=f"{prefix}-fraud-reports",
    )


@contextmanager
def tansu() -> Iterator[Broker]:
    """Tansu, a broker that speaks the Kafka protocol and keeps everything in memory."""
    address = f"127.0.0.1:{_free_port()}"
    try:
        command = bundled_broker_command(address)
    except BundledBrokerMissingError as error:
        raise BrokerMissingError(str(error)) from error
    with (
        tempfile.TemporaryDirectory(prefix="tansu-") as home,
        _started("Tansu", command, address=address, home=Path(home)) as broker,
    ):
        yield broker


@contextmanager
def apache_kafka(*, secured: bool = False) -> Iterator[Broker]:
    """Apache Kafka, one process that is broker and controller (KRaft); `secured` wants TLS and a password."""
    address, protocol = f"127.0.0.1:{_free_port()}", "SASL_SSL" if secured else "PLAINTEXT"
    with tempfile.TemporaryDirectory(prefix="kafka-") as home:
        settings = _settings(Path(home), address=address, advertised=address, protocol=protocol)
        security: dict[str, Any] = {}
        options: list[str] = []
        if secured:
            security = _security(settings)
            user, password = security["sasl_username"], security["sasl_password"]
            options = ["--add-scram", f"SCRAM-SHA-512=[name={user},password={password}]"]
        with apache_kafka_with(settings, address=address, security=security, options=options) as started:
            yield started


@contextmanager
def apache_kafka_that_advertises(advertised: str) -> Iterator[str]:
    """Apache Kafka that names itself by this address, whatever its own is; its own."""
    address = f"127.0.0.1:{_free_port()}"
    with tempfile.TemporaryDirectory(prefix="kafka-") as home:
        settings = _settings(Path(home), address=address, advertised=advertised, protocol="PLAINTEXT")
        check_may_start("a broker")
        process = subprocess.Popen(_kafka(settings), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=home)
        try:
            until(lambda: "name themselves" in _refusal(address), what="a broker that answers")
            yield address
        finally:
            process.kill()
            process.wait()


def _refusal(address: str) -> str:
    try:
        open_admin(KafkaSettings(bootstrap_servers=address)).close()
    except BrokerUnavailableError as error:
        return str(error)
    return ""


def _settings(home: Path, *, address: str, advertised: str, protocol: str) -> Path:
    """The file of settings of a broker that is its own controller."""
    controller, settings = f"127.0.0.1:{_free_port()}", home / "server.properties"
    settings.write_text(
        "process.roles=broker,controller\n"
        "node.id=1\n"
        f"controller.quorum.voters=1@{controller}\n"
        f"listeners={protocol}://{address},CONTROLLER://{controller}\n"
        f"advertised.listeners={protocol}://{advertised}\n"
        f"listener.security.protocol.map=CONTROLLER:PLAINTEXT,{protocol}:{protocol}\n"
        f"inter.broker.listener.name={protocol}\n"
        "controller.listener.names=CONTROLLER\n"
        f"log.dirs={home}/data\n"
        "auto.create.topics.enable=false\n"
        "offsets.topic.replication.factor=1\n"
        "offsets.topic.num.partitions=1\n"
        "transaction.state.log.replication.factor=1\n"
        "transaction.state.log.min.isr=1\n"
        "group.initial.rebalance.delay.ms=0\n"
        "group.min.session.timeout.ms=1000\n"
    )
    return settings


@contextmanager
def apache_kafka_with(
    settings: Path, *, address: str, security: Mapping[str, Any], options: Sequence[str] = ()
) -> Iterator[Broker]:
    """Apache Kafka with this file of settings, whose storage is made ready first with these options."""
    name, command = f"Apache Kafka {KAFKA_VERSION}", _kafka(settings, options)
    with _started(name, command, address=address, home=settings.parent, security=security) as started:
        yield started


def _kafka(settings: Path, options: Sequence[str] = ()) -> list[str]:
    """The command that starts Apache Kafka with this file, after its storage was made ready with these options."""
    _fetch_kafka()
    cluster = ("--cluster-id", "MkU3OEVBNTcwNTJENDM2Qg", "--config", str(settings))
    _run([*_JAVA, "kafka.tools.StorageTool", "format", *cluster, *options])
    return [*_JAVA, "kafka.Kafka", str(settings)]


def _security(settings: Path) -> dict[str, Any]:
    """The broker's settings for its own clients, which equal ours."""
    user, password, certificate = "fraud", uuid.uuid4().hex, _certificate(settings.parent)
    login = "org.apache.kafka.common.security.scram.ScramLoginModule"
    with settings.open("a") as file:
        file.write(
            "sasl.enabled.mechanisms=SCRAM-SHA-512\n"
            "sasl.mechanism.inter.broker.protocol=SCRAM-SHA-512\n"
            "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config="
            f'{login} required username="{user}" password="{password}";\n'
            "ssl.keystore.type=PEM\n"
            f"ssl.keystore.location={settings.parent}/broker.pem\n"
            "ssl.truststore.type=PEM\n"
            f"ssl.truststore.location={certificate}\n"
        )
    return {
        "security_protocol": "SASL_SSL",
        "ssl_cafile": certificate,
        "sasl_username": user,
        "sasl_password": password,
    }


def _certificate(home: Path) -> Path:
    """A certificate for this machine and an hour that signs itself; `broker.pem` holds its key too."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a broker in a test")])
    now, hour = datetime.now(UTC), timedelta(hours=1)
    local_names = x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now - hour, now + hour)
        .add_extension(local_names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    private, public = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain), certificate.public_bytes(pem)
    (home / "broker.pem").write_bytes(private + public)
    path = home / "certificate.pem"
    path.write_bytes(public)
    return path


def _fetch_kafka() -> None:
    """Kafka and its dependencies, below build/; once per version."""
    for program in ("java", "mvn"):
        if shutil.which(program) is None:
            raise BrokerMissingError(f"Apache Kafka needs {program}: install Java 17 and Maven")
    if _JARS.exists():
        return
    _JARS.parent.mkdir(exist_ok=True)
    # Complete or not there at all: a directory half filled would pass for a Kafka.
    with tempfile.TemporaryDirectory(dir=_JARS.parent) as partial:
        goal = ("dependency:copy-dependencies", f"-DoutputDirectory={partial}/jars", f"-Dkafka.version={KAFKA_VERSION}")
        _run(["mvn", "--batch-mode", "--quiet", "--file", str(_HERE / "apache_kafka" / "pom.xml"), *goal])
        try:
            Path(partial, "jars").rename(_JARS)
        except OSError:
            # Another process was faster and fetched the same files.
            if not _JARS.exists():
                raise


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last_line = (done.stdout + done.stderr).strip().splitlines()[-1:]
        raise BrokerMissingError(f"Apache Kafka cannot be set up: {command[0]} failed: {' '.join(last_line)}")


@contextmanager
def _started(
    name: str, command: Sequence[str], *, address: str, home: Path, security: Mapping[str, Any] = MappingProxyType({})
) -> Iterator[Broker]:
    """The command as a broker that answers; killed afterwards, for nothing it keeps is wanted."""
    check_may_start("a broker")
    log = home / "broker.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, cwd=home)
    broker = Broker(name, address, process, security)
    try:
        _wait_until_it_answers(broker, process, log=log)
        yield broker
    finally:
        process.kill()
        process.wait()


def _wait_until_it_answers(broker: Broker, process: subprocess.Popen[bytes], *, log: Path) -> None:
    deadline = time.monotonic() + LIMIT_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            with closing(open_admin(topics_of_our_own(broker))):
                return
        except BrokerUnavailableError:
            time.sleep(0.1)
    raise RuntimeError(f"{broker.name} did not start; it said: {log.read_text(errors='replace')[-2000:]}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
