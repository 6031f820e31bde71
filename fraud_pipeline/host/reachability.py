"""Reachability of servers.

Belongs here: opening and closing a connection. Must not be here: protocols.
"""

import socket
import ssl
from collections.abc import Sequence

from fraud_pipeline.host.os_errors import in_words


def why_unreachable(servers: Sequence[tuple[str, int]], *, context: ssl.SSLContext | None, seconds: float) -> str:
    """The reasons why none of these hosts and ports can be reached, in words; empty when one can.

    With a context the TLS handshake must succeed, too.
    """
    failures = []
    for host, port in servers:
        try:
            with socket.create_connection((host, port), timeout=seconds) as plain:
                if context is not None:
                    context.wrap_socket(plain, server_hostname=host).close()
                return ""
        except OSError as error:
            failures.append(f"{host}:{port} ({in_words(error)})")
        except (OverflowError, UnicodeError):
            failures.append(f"{host}:{port} (there is no such host or port)")
    return "; ".join(failures)


def talks_tls(host: str, port: int, *, seconds: float) -> bool:
    """Whether a server answers a TLS handshake, with any certificate."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        with socket.create_connection((host, port), timeout=seconds) as plain:
            context.wrap_socket(plain, server_hostname=host).close()
    except (OSError, OverflowError, UnicodeError):
        return False
    return True
