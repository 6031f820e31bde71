"""A command that cannot listen ends with one line and starts nothing."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

import pytest

from fraud_pipeline.host.ports import CannotListenError, check_port
from fraud_pipeline_tests.support.services import free_port
from fraud_pipeline_tests.support.waiting import LIMIT_SECONDS

COMMANDS: Final = {"serve": "--port", "dashboard": "--port", "ui": "--port", "consume": "--metrics-port"}
FIRST_FREE: Final = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
ELSEWHERE: Final = "192.0.2.1"
"""Of a network that is kept for documentation: no machine has it."""


@pytest.fixture
def used_port() -> Iterator[int]:
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        yield listening.getsockname()[1]


def refused(home: Path, *command: str, prefix: tuple[str, ...] = ()) -> str:
    """The only line that the command prints, after it ended with status 1 and left no process and no file."""
    program = Path(sys.executable).with_name("fraud-detect")
    process = subprocess.Popen(
        [*prefix, str(program), *command],
        env=os.environ | {"FRAUD_HOME": str(home)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    output, _ = process.communicate(timeout=LIMIT_SECONDS)
    assert process.returncode == 1, output
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
    assert not home.exists()
    (line,) = output.splitlines()
    return line


@pytest.mark.slow
@pytest.mark.parametrize("command", COMMANDS)
def test_a_used_port_is_named_with_its_likely_program_and_the_option(
    command: str, used_port: int, tmp_path: Path
) -> None:
    option = COMMANDS[command]
    line = refused(tmp_path / "home", command, option, str(used_port))
    assert line.startswith(f"fraud-detect: port {used_port} of 127.0.0.1 is in use")
    assert f"another `fraud-detect {command}`" in line
    assert f"{option} N" in line


def test_a_consumer_cannot_show_metrics_at_an_address_of_another_machine(tmp_path: Path) -> None:
    line = refused(tmp_path / "home", "consume", "--metrics-host", ELSEWHERE, "--metrics-port", str(free_port()))
    assert line.startswith(f"fraud-detect: '{ELSEWHERE}' is no address of this machine")
    assert "--metrics-host 127.0.0.1" in line


@pytest.mark.skipif(FIRST_FREE <= 80, reason="this machine lets everybody use every port")
def test_a_port_of_root_is_refused_to_others(tmp_path: Path) -> None:
    # Root without this right is like everybody else.
    prefix = () if os.getuid() else ("setpriv", "--bounding-set=-net_bind_service")
    line = refused(tmp_path / "home", "serve", "--port", "80", prefix=prefix)
    assert line.startswith("fraud-detect: port 80 is reserved for root")


@pytest.mark.parametrize("host", [ELSEWHERE, "no-such-host.invalid", "a..b", "."])
def test_a_host_that_is_not_this_machine_is_refused(host: str) -> None:
    with pytest.raises(CannotListenError, match="is no address of this machine: use --host 127.0.0.1"):
        check_port(host, free_port(), command="a test")


@pytest.mark.parametrize("port", [0, -1, 65_536, 10**20])
def test_a_number_that_is_no_port_is_refused(port: int) -> None:
    with pytest.raises(CannotListenError, match=f"--port {port} is no port"):
        check_port("127.0.0.1", port, command="a test")


def test_a_free_port_stays_free() -> None:
    port = free_port()
    for host in ("127.0.0.1", "localhost", "0.0.0.0"):  # noqa: S104 - what containers use
        check_port(host, port, command="a test")
        with closing(socket.create_server(("127.0.0.1", port))), pytest.raises(CannotListenError):
            check_port(host, port, command="a test")


def test_a_connection_that_has_just_ended_does_not_hold_its_port() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        port = listening.getsockname()[1]
        with closing(socket.create_connection(("127.0.0.1", port))):
            accepted, _ = listening.accept()
            accepted.close()  # who closes first waits for stray packets for a minute
    check_port("127.0.0.1", port, command="a test")
