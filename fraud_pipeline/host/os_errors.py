"""Texts for errors of the operating system: path or server, problem, remedy.

Belongs here: explanations of error numbers. Must not be here: who shows them.
"""

import errno
import socket
import ssl
from types import MappingProxyType
from typing import Final

_OWN: Final = "let this user, and only it, own it"
_PATHS: Final = MappingProxyType(
    {
        errno.EACCES: ("this user may not use it", _OWN),
        errno.EPERM: ("this user may not use it", _OWN),
        errno.EROFS: ("its disk is mounted read-only", "mount it with write access, or name another directory"),
        errno.ENOENT: ("it does not exist", "create it, or correct the path"),
        errno.ENOTDIR: ("a part of this path is a file and no directory", "move the file away, or correct the path"),
        errno.EEXIST: ("something is there already, and is not replaced", "name another path, or move it away"),
        errno.EISDIR: ("it is a directory and no file", "correct the path"),
        errno.ENOSPC: ("its disk is full", "make room there"),
        errno.EDQUOT: ("this user's share of its disk is full", "make room there"),
        errno.ENAMETOOLONG: ("its name is too long", "correct the path"),
        errno.EIO: ("its disk cannot be read or written", "see the disk"),
        errno.EMFILE: ("this process has too many files open", "raise its limit (ulimit -n)"),
    }
)

_CONNECTIONS: Final = (
    (ssl.SSLError, "it does not talk TLS"),
    (socket.gaierror, "nobody knows that host"),
    (ConnectionRefusedError, "nobody listens there"),
    (TimeoutError, "it does not answer in time"),
    (ConnectionError, "it ends the connection"),
)


def in_words(error: OSError) -> str:
    """The path, the problem and the remedy; for an error of a connection, the problem alone."""
    if error.filename is None:
        return _of_connection(error)
    problem, remedy = _PATHS.get(error.errno or 0) or (error.strerror or type(error).__name__, "correct the path")
    return f"{error.filename}: {problem}: {remedy}"


def _of_connection(error: OSError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted here: {error.verify_message}"
    words = (text for kind, text in _CONNECTIONS if isinstance(error, kind))
    return next(words, error.strerror or type(error).__name__)
