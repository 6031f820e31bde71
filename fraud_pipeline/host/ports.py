"""Checks that a server can listen on an address, before the server starts.

Belongs here: the check and its error texts. Must not be here: servers.
"""

import errno
import socket
from typing import Final

_NOT_HERE: Final = {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}


class CannotListenError(RuntimeError):
    """No server can listen on the address; the message gives problem and option."""


def check_port(
    host: str,
    port: int,
    *,
    command: str,
    host_option: str = "--host",
    port_option: str = "--port",
    family: socket.AddressFamily = socket.AF_UNSPEC,
) -> None:
    """Check that `host`:`port` is free and permitted, by binding it for a moment. Raises CannotListenError.

    Args:
        host: a name or an address; every address of a name is tried.
        port: a TCP port.
        command: the command that usually listens there, for the message.
        host_option: the option that changes the host.
        port_option: the option that changes the port.
        family: the addresses that the server can use.

    """
    if not 0 < port < 65_536:
        raise CannotListenError(f"{port_option} {port} is no port: choose one from 1024 to 65535")
    try:
        addresses = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise CannotListenError(_not_ours(host, host_option)) from error
    absent = 0
    for address_family, kind, protocol, _, address in addresses:
        try:
            with socket.socket(address_family, kind, protocol) as probe:
                # As servers do: connections that ended a moment ago do not hold the port.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
        except PermissionError as error:
            raise CannotListenError(
                f"port {port} is reserved for root on this machine: choose one from 1024 to 65535 with {port_option} N"
            ) from error
        except OSError as error:
            if error.errno in _NOT_HERE:
                absent += 1  # a name may have an IPv6 address on a machine that has none
            elif error.errno == errno.EADDRINUSE:
                raise CannotListenError(
                    f"port {port} of {host} is in use, perhaps by another `{command}` "
                    f"(`ss -ltnp sport = :{port}` shows the program): stop it, or choose another with {port_option} N"
                ) from error
            else:
                raise
    if absent == len(addresses):
        raise CannotListenError(_not_ours(host, host_option))


def _not_ours(host: str, option: str) -> str:
    return (
        f"{host!r} is no address of this machine: use {option} 127.0.0.1 for this machine only, "
        "or 0.0.0.0 for every address that it has"
    )
