"""The URL of the database of decisions, with errors that explain a wrong one.

Belongs here: which URLs are valid, and the name of a database for people. Must not be here: connections (`engine.py`).
No message holds the URL itself, because it contains a password.
"""

from typing import Final

import sqlalchemy as sa

_EXAMPLE: Final = "postgresql://user:password@host:5432/database"
_DRIVERS: Final = frozenset(("postgresql", "postgresql+psycopg", "postgresql+psycopg2", "sqlite", "sqlite+pysqlite"))


def read_url(text: str) -> sa.URL:
    """Parse a URL. Raises ValueError with problem and remedy."""
    if text.strip("\"' \t\r\n") != text:
        raise ValueError(
            "FRAUD_DATABASE_URL begins or ends with a quotation mark or a blank: remove it; "
            "files of `--env-file` and compose keep quotation marks as part of the value"
        )
    try:
        url = sa.make_url(text)
    except (sa.exc.ArgumentError, ValueError):
        raise ValueError(
            f"FRAUD_DATABASE_URL is no URL of a database: write {_EXAMPLE}, and write special characters of the "
            "password as %40 for @, %2F for /, %3A for :, %23 for #"
        ) from None
    if url.drivername not in _DRIVERS:
        raise ValueError(
            f"FRAUD_DATABASE_URL begins with {url.drivername}://, and that database is not supported: "
            f"write {_EXAMPLE}, or leave it empty for a SQLite file"
        )
    if url.port is not None and not 0 < url.port < 65_536:
        raise ValueError(f"FRAUD_DATABASE_URL names the port {url.port}: ports are numbers from 1 to 65535")
    if url.get_backend_name() == "postgresql" and not url.database:
        raise ValueError(f"FRAUD_DATABASE_URL names no database: write its name at the end, {_EXAMPLE}")
    return url


def place(url: sa.URL) -> str:
    """The location of the database in words, without user and password."""
    if url.get_backend_name() == "sqlite":
        return f"the SQLite database {url.database or 'in memory'}"
    host = url.host or url.query.get("host") or "this machine's socket"
    host = host if isinstance(host, str) else ",".join(host)
    return f"the PostgreSQL database at {host}{f':{url.port}' if url.port else ''}"


def address(text: str) -> str:
    """The URL that a text holds, without user, password and options."""
    url = read_url(text)
    return sa.URL.create(url.drivername, host=url.host, port=url.port, database=url.database).render_as_string()
