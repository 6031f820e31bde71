"""Every unreachable server has a sentence with place, problem and remedy, without traceback or password."""

import re
import socket
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pytest
import sqlalchemy as sa

from fraud_pipeline.cli.main import main
from fraud_pipeline.database import Database, DatabaseUnavailableError
from fraud_pipeline.messaging.topics import (
    BrokerUnavailableError,
    KafkaSettings,
    open_admin,
    open_consumer,
    open_producer,
)
from fraud_pipeline_tests.support.brokers import Broker, BrokerMissingError, apache_kafka, apache_kafka_that_advertises
from fraud_pipeline_tests.support.waiting import until

SECRET: Final = "hidden-from-everybody"  # noqa: S105  # must not appear in a message
SOON: Final = timedelta(seconds=2)


def nobody_listens() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def changed(url: str, **changes: Any) -> str:
    return sa.make_url(url).set(**changes).render_as_string(hide_password=False)


POSTGRESQL: Final[dict[str, tuple[Callable[[str], str], str]]] = {
    "no such database": (lambda url: changed(url, database="nosuchdb"), "has no database nosuchdb: create it"),
    "no such user": (lambda url: changed(url, username="nobodyhere"), "has no user nobodyhere: create it"),
    "no such host": (
        lambda _: f"postgresql://u:{SECRET}@no-such-host.invalid/x",
        "nobody knows that host",
    ),
    "nobody listens": (lambda _: f"postgresql://u:{SECRET}@{nobody_listens()}/x", "(nobody listens there): start it"),
    "no such socket": (lambda _: f"postgresql://u:{SECRET}@/x?host=/no/such/directory", "there is no such socket"),
    "an unknown option": (lambda url: f"{url}{'&' if '?' in url else '?'}colour=red", "an unknown option"),
    "no TLS": (
        lambda url: changed(url, host="localhost", query={}) + "?sslmode=require",
        "database at localhost",
    ),
    "quotation marks": (lambda _: f'"postgresql://u:{SECRET}@h/x"', "a quotation mark or a blank: remove it"),
    "a blank at the end": (lambda _: f"postgresql://u:{SECRET}@h/x ", "a quotation mark or a blank: remove it"),
    "no URL": (lambda _: SECRET, "is no URL of a database: write postgresql://"),
    "a port that is none": (lambda _: f"postgresql://u:{SECRET}@h:port/x", "is no URL of a database"),
    "a port out of range": (lambda _: f"postgresql://u:{SECRET}@h:99999/x", "the port 99999: ports are"),
    "another driver": (lambda _: f"postgresql+asyncpg://u:{SECRET}@h/x", "begins with postgresql+asyncpg://"),
    "a shorter name": (lambda _: f"postgres://u:{SECRET}@h/x", "begins with postgres://"),
    "another database": (lambda _: f"mysql://u:{SECRET}@h/x", "begins with mysql://"),
    "no database named": (lambda _: f"postgresql://u:{SECRET}@h", "names no database"),
}


@pytest.mark.parametrize("name", POSTGRESQL)
@pytest.mark.parametrize("command", ["migrate", "doctor"])
def test_a_database_that_cannot_be_used(
    tmp_path: Path,
    postgres_url: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    command: str,
) -> None:
    make, words = POSTGRESQL[name]
    monkeypatch.setenv("FRAUD_HOME", str(tmp_path))
    monkeypatch.setenv("FRAUD_DATABASE_URL", make(postgres_url))
    assert main([command]) == 1
    printed = capsys.readouterr()
    lines = [line for line in (printed.out + printed.err).splitlines() if words in line]
    assert len(lines) == 1
    assert lines[0].startswith("fraud-detect: " if command == "migrate" else "fail database")
    assert SECRET not in printed.out + printed.err
    assert "Error" not in printed.out + printed.err


def test_a_password_that_is_wrong(empty_postgres_url: str) -> None:
    with owner_of(empty_postgres_url) as connection:
        file = Path(connection.exec_driver_sql("SHOW hba_file").scalar_one())
        if not file.exists():
            pytest.skip("the server is not on this machine, so it cannot be told to ask for a password")
        before = file.read_text()
        file.write_text(f"local all guarded scram-sha-256\nhost all guarded all scram-sha-256\n{before}")
        connection.exec_driver_sql("CREATE ROLE guarded LOGIN PASSWORD 'another one'")
        connection.exec_driver_sql("SELECT pg_reload_conf()")
        try:
            wrong = changed(empty_postgres_url, username="guarded", password=SECRET)
            words = until(lambda: refused_by(wrong), what="a refusal")
        finally:
            file.write_text(before)
            connection.exec_driver_sql("SELECT pg_reload_conf()")
            connection.exec_driver_sql("DROP ROLE guarded")
    assert "refuses the user guarded with this password: correct FRAUD_DATABASE_URL" in words
    assert SECRET not in words


def refused_by(url: str) -> str:
    """The error of a database that refuses this URL."""
    try:
        with closing(Database(url)) as database, database.transaction():
            return ""
    except DatabaseUnavailableError as error:
        return str(error)


@pytest.mark.parametrize("encoding", ["LATIN1", "SQL_ASCII", "EUC_JP"])
def test_a_database_that_cannot_hold_every_text_is_refused_before_it_holds_any(
    tmp_path: Path,
    empty_postgres_url: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    encoding: str,
) -> None:
    """Otherwise a record that one database accepts would be dead-lettered at another."""
    name = f"other_{sa.make_url(empty_postgres_url).database}"
    with owner_of(empty_postgres_url) as connection:
        connection.exec_driver_sql(
            f"CREATE DATABASE {name} ENCODING '{encoding}' TEMPLATE template0 LC_COLLATE 'C' LC_CTYPE 'C'"
        )
    try:
        monkeypatch.setenv("FRAUD_HOME", str(tmp_path))
        monkeypatch.setenv("FRAUD_DATABASE_URL", changed(empty_postgres_url, database=name))
        for command in ("migrate", "doctor"):
            assert main([command]) == 1
            assert f"in {encoding}, which cannot hold every text" in "".join(capsys.readouterr())
    finally:
        with owner_of(empty_postgres_url) as connection:
            connection.exec_driver_sql(f"DROP DATABASE {name} WITH (FORCE)")


@contextmanager
def owner_of(url: str) -> Iterator[sa.Connection]:
    engine = sa.create_engine(changed(url, drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def file_in_the_way(directory: Path) -> Path:
    (directory / "file").write_text("")
    return directory / "file"


def under_a_file(directory: Path) -> Path:
    return file_in_the_way(directory) / "home"


def not_mounted(_directory: Path) -> Path:
    """A path where even root cannot make a directory."""
    return Path("/proc/1/no-home")


DIRECTORIES: Final[dict[str, Callable[[Path], Path | str]]] = {
    "a file": file_in_the_way,
    "below a file": under_a_file,
    "nowhere": not_mounted,
    "a bucket": lambda _: "s3://bucket/home",
}


@pytest.mark.parametrize("name", DIRECTORIES)
@pytest.mark.parametrize("command", ["migrate", "alerts list", "token --subject me"])
def test_a_home_that_is_not_a_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str, command: str
) -> None:
    home = DIRECTORIES[name](tmp_path)
    monkeypatch.setenv("FRAUD_HOME", str(home))
    monkeypatch.chdir(tmp_path)
    assert main(command.split()) == 1
    message = capsys.readouterr().err
    assert re.fullmatch(r"fraud-detect: [^\n]+: [^\n]+\n", message)
    assert "Errno" not in message


@pytest.mark.parametrize(
    "url", ["ftp://bucket/t.csv", "hdfs://b/t.parquet", "https://user:hidden@host/t.csv", "file:///t"]
)
def test_a_url_is_no_data_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], url: str
) -> None:
    monkeypatch.setenv("FRAUD_HOME", str(tmp_path))
    with pytest.raises(SystemExit):
        main(["train", "--data-path", url])
    message = capsys.readouterr().err
    assert "is a URL, and only files of this machine are read" in message
    monkeypatch.setenv("FRAUD_DATA_PATH", url)
    assert main(["migrate"]) == 1
    message += capsys.readouterr().err
    assert "is a URL" in message
    assert "hidden" not in message


OTHERWISE: Final[dict[str, dict[str, object]]] = {
    "plain": {"security_protocol": "PLAINTEXT", "ssl_cafile": None},
    "password": {"sasl_password": SECRET},
    "certificate": {"ssl_cafile": None},
}
"""Settings that differ from those that a guarded broker accepts."""


class TestKafka:
    @pytest.mark.servers
    def test_brokers_that_advertise_an_unknown_host(self) -> None:
        try:
            with apache_kafka_that_advertises("kafka.internal.invalid:9092") as servers:
                for opened in (open_admin, open_consumer, open_producer):
                    with pytest.raises(BrokerUnavailableError, match="kafka.internal.invalid:9092 .nobody knows"):
                        opened(KafkaSettings(bootstrap_servers=servers, connect_timeout=SOON))
        except BrokerMissingError as error:
            pytest.skip(str(error))

    @pytest.mark.servers
    def test_a_broker_that_talks_tls_and_wants_a_password(self) -> None:
        try:
            with apache_kafka(secured=True) as guarded:
                messages = {name: refused(guarded, **given) for name, given in OTHERWISE.items()}
        except BrokerMissingError as error:
            pytest.skip(str(error))
        assert "it wants TLS, so set FRAUD_KAFKA_SECURITY_PROTOCOL to SSL or SASL_SSL" in messages["plain"]
        assert "check user, password and mechanism" in messages["password"]
        assert "its certificate is not trusted here" in messages["certificate"]
        assert SECRET not in str(messages)

    def test_a_broker_that_talks_no_tls(self, broker: Broker) -> None:
        assert "(it does not talk TLS)" in refused(broker, security_protocol="SSL")

    def test_nobody_there(self) -> None:
        nobody = KafkaSettings(bootstrap_servers=f"{nobody_listens()},no-such-host.invalid:9092")
        with pytest.raises(BrokerUnavailableError, match="nobody listens there.*nobody knows that host"):
            open_producer(nobody)


def refused(broker: Broker, **wrong: object) -> str:
    """The error for settings that the broker does not accept."""
    given = {"bootstrap_servers": broker.bootstrap_servers, "connect_timeout": SOON, **broker.security, **wrong}
    with pytest.raises(BrokerUnavailableError) as caught:
        open_consumer(KafkaSettings(**given))
    return str(caught.value)
