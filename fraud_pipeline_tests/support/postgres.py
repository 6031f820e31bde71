"""Databases on a PostgreSQL server.

Must not be here: starting the server.
"""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa


@contextmanager
def new_database(beside: str) -> Iterator[str]:
    """A new, empty database on the server of this one, dropped afterwards."""
    name = f"test_{uuid.uuid4().hex}"
    url = sa.make_url(beside).set(drivername="postgresql")
    server = sa.create_engine(url.set(drivername="postgresql+psycopg"))
    try:
        with server.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(sa.text(f"CREATE DATABASE {name}"))
            try:
                yield url.set(database=name).render_as_string(hide_password=False)
            finally:
                connection.execute(sa.text(f"DROP DATABASE {name} WITH (FORCE)"))
    finally:
        server.dispose()
