"""The services of the demo: their ports, commands, and how each shows that it is ready.

Belongs here: the list. Must not be here: running processes (`supervisor.py`).
"""

import socket
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Final, Self

import httpx

from fraud_pipeline.cli.parser import DASHBOARD_PORT, MLFLOW_PORT, SERVICE_PORT, UI_PORT
from fraud_pipeline.cli.supervisor import Service
from fraud_pipeline.host.ports import CannotListenError, check_port
from fraud_pipeline.messaging.bundled_broker import bundled_broker_command
from fraud_pipeline.messaging.topics import BrokerUnavailableError, KafkaSettings, open_admin

HOST: Final = "127.0.0.1"
WITH_URL: Final = ("service", "dashboard", "dagster", "mlflow", "consumer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """The port of each service on this machine."""

    broker: int = 9092
    service: int = SERVICE_PORT
    consumer: int = 9100
    dashboard: int = DASHBOARD_PORT
    dagster: int = UI_PORT
    mlflow: int = MLFLOW_PORT

    @classmethod
    def free(cls) -> Self:
        """Ports that are free now."""
        probes = {name: socket.socket() for name in cls.__dataclass_fields__}
        try:
            for probe in probes.values():
                probe.bind((HOST, 0))
            return cls(**{name: probe.getsockname()[1] for name, probe in probes.items()})
        finally:
            for probe in probes.values():
                probe.close()

    def check(self) -> None:
        """Raise CannotListenError that names every port that is in use."""
        used = []
        for name, port in asdict(self).items():
            try:
                check_port(HOST, port, command="fraud-detect demo", family=socket.AF_INET)
            except CannotListenError:
                used.append(f"{port} ({name})")
        if used:
            raise CannotListenError(
                f"ports in use: {', '.join(used)}. Stop what listens there (`ss -ltnp` shows the programs), "
                "or start the demo with --free-ports"
            )

    @property
    def broker_address(self) -> str:
        return f"{HOST}:{self.broker}"

    def url(self, name: str) -> str:
        """The URL of a service."""
        return f"http://{HOST}:{getattr(self, name)}"


def broker_service(ports: Ports, kafka: KafkaSettings) -> Service:
    """The bundled broker, which the other services need. Raises BundledBrokerMissingError."""

    def is_ready() -> bool:
        try:
            with closing(open_admin(kafka)):
                return True
        except BrokerUnavailableError:
            return False

    return Service(name="broker", command=bundled_broker_command(ports.broker_address), is_ready=is_ready)


def services(ports: Ports) -> list[Service]:
    """Everything but the broker: our own commands over the demo's home directory."""
    return [
        _command("service", "serve", f"--port={ports.service}", ready=f"{ports.url('service')}/readyz"),
        _command("consumer", "consume", f"--metrics-port={ports.consumer}", ready=f"{ports.url('consumer')}/metrics"),
        _command(
            "dashboard", "dashboard", f"--port={ports.dashboard}", ready=f"{ports.url('dashboard')}/_stcore/health"
        ),
        _command("mlflow", "mlflow", f"--port={ports.mlflow}", ready=f"{ports.url('mlflow')}/health"),
        _command("dagster", "ui", f"--port={ports.dagster}", ready=f"{ports.url('dagster')}/server_info"),
    ]


def answers(url: str) -> Callable[[], bool]:
    """The question whether something answers well there."""

    def ask() -> bool:
        try:
            return httpx.get(url, timeout=5).is_success
        except httpx.TransportError:
            return False

    return ask


def _command(name: str, *arguments: str, ready: str) -> Service:
    command = [sys.executable, "-m", "fraud_pipeline.cli.main", *arguments]
    return Service(name=name, command=command, is_ready=answers(ready))
