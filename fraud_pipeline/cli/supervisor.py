"""Runs several servers as one: starts them, waits until they answer, notices when one ends, stops all of them.

Belongs here: processes and their logs. Must not be here: which servers (`demo_services.py`), words beyond errors.

Each server has a session of its own, so that a Ctrl+C of the terminal reaches only us. The processes that a server
starts may have sessions of their own too (BentoML's workers do), so they are known by a variable of their environment.
"""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self
from uuid import uuid4

import psutil

READY_SECONDS: Final = 600.0
STOP_SECONDS: Final = 20.0
_LOG_LINES: Final = 12
_FAMILY: Final = "SUPERVISED_BY"
_POLL_SECONDS: Final = 0.1


class ServiceEndedError(RuntimeError):
    """A service ended although nobody stopped it, or never answered; the message has the end of its log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """A server: its command, and the question whether it answers yet."""

    name: str
    command: Sequence[str]
    is_ready: Callable[[], bool]


@dataclass(slots=True)
class Supervisor:
    """Running services, whose logs are `<name>.log` in a directory; leaving the block stops them.

    Args:
        log_directory: is made where it is missing.
        environment: of every service.

    """

    log_directory: Path
    environment: Mapping[str, str]
    _id: str = field(default_factory=lambda: uuid4().hex)
    _running: dict[str, tuple[Service, "subprocess.Popen[bytes]"]] = field(default_factory=dict)

    def __enter__(self) -> Self:
        self.log_directory.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, service: Service) -> None:
        """Start a service; `wait_until_ready` waits for its answer."""
        with self.log(service.name).open("wb") as log:
            process = subprocess.Popen(  # noqa: S603 - our own commands
                service.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**self.environment, _FAMILY: self._id},
                start_new_session=True,
            )
        self._running[service.name] = (service, process)

    def wait_until_ready(self) -> None:
        """Wait until every service answers. Raises ServiceEndedError."""
        deadline = time.monotonic() + READY_SECONDS
        waiting = [service for service, _ in self._running.values()]
        while waiting := [service for service in waiting if not service.is_ready()]:
            self.check()
            if time.monotonic() > deadline:
                raise ServiceEndedError(self._with_log(waiting[0].name, f"did not answer in {READY_SECONDS:g} s"))
            time.sleep(_POLL_SECONDS)

    def check(self) -> None:
        """Raise ServiceEndedError if a service ended."""
        for name, (_, process) in self._running.items():
            if process.poll() is not None:
                raise ServiceEndedError(self._with_log(name, f"ended with status {process.returncode}"))

    def stop(self) -> None:
        """Stop every service and the processes that it started; those that take too long are killed."""
        processes = [process for _, process in self._running.values()]
        self._running.clear()
        try:
            for process in processes:
                with suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGTERM)
            deadline = time.monotonic() + STOP_SECONDS
            while self._family(processes) and time.monotonic() < deadline:
                time.sleep(_POLL_SECONDS)
        finally:  # a second Ctrl+C ends the wait
            while family := self._family(processes):
                for member in family:
                    with suppress(psutil.Error):
                        member.kill()
                time.sleep(_POLL_SECONDS)

    def _family(self, processes: "Sequence[subprocess.Popen[bytes]]") -> list[psutil.Process]:
        """The living processes of all services. Our own children are reaped first, as they count until then."""
        for process in processes:
            process.poll()
        family = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):  # it ended, or is another user's
                if process.environ().get(_FAMILY) == self._id:
                    family.append(process)
        return family

    def pid(self, name: str) -> int:
        """The process id of a service."""
        return self._running[name][1].pid

    def log(self, name: str) -> Path:
        """The log file of a service."""
        return self.log_directory / f"{name}.log"

    def _with_log(self, name: str, problem: str) -> str:
        log = self.log(name)
        lines = log.read_text(errors="replace").rstrip().splitlines()[-_LOG_LINES:]
        return "\n".join([f"{name} {problem}; the end of {log}:", *(f"  {line}" for line in lines)])
