"""Ways in which a database refuses every user while processes run, each with its reversal.

Must not be here: assertions.
"""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

ROLE: Final = "fraud_of_tests"
"""A user who may do all that a user of ours needs, and owns nothing."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Statements of the owner that begin and end a refusal; `word` is part of the doctor's finding."""

    begin: str
    end: str
    word: str


_SETTING: Final = "ALTER DATABASE {database} {change}"
REFUSALS: Final = {
    "a right withdrawn": Refusal(
        f"REVOKE INSERT ON decisions FROM {ROLE}", f"GRANT INSERT ON decisions TO {ROLE}", "decisions"
    ),
    "a right withdrawn that only alerts need": Refusal(
        f"REVOKE INSERT ON alerts FROM {ROLE}", f"GRANT INSERT ON alerts TO {ROLE}", "alerts"
    ),
    "a column renamed": Refusal(
        "ALTER TABLE decisions RENAME COLUMN reasons TO reasons_new",
        "ALTER TABLE decisions RENAME COLUMN reasons_new TO reasons",
        "reasons",
    ),
    "a table renamed": Refusal(
        "ALTER TABLE customers RENAME TO customers_new", "ALTER TABLE customers_new RENAME TO customers", "customers"
    ),
    "a rule that no row meets": Refusal(
        "ALTER TABLE decisions ADD CONSTRAINT odd CHECK (false) NOT VALID",
        "ALTER TABLE decisions DROP CONSTRAINT odd",
        "odd",
    ),
    "a trigger that fails": Refusal(
        "CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS "
        "$$BEGIN RAISE EXCEPTION 'no %', NEW.transaction_id; END$$; "
        "CREATE TRIGGER fails BEFORE INSERT ON transactions FOR EACH ROW EXECUTE FUNCTION fail()",
        "DROP TRIGGER fails ON transactions; DROP FUNCTION fail",
        "trigger",
    ),
    "a type too narrow": Refusal(
        "ALTER TABLE transactions ALTER event_time TYPE integer USING event_time / 1000000",
        "ALTER TABLE transactions ALTER event_time TYPE bigint USING event_time * 1000000::bigint",
        "event_time",
    ),
    "a column that wants a value": Refusal(
        "ALTER TABLE transactions ADD tenant int NOT NULL DEFAULT 0; "
        "ALTER TABLE transactions ALTER tenant DROP DEFAULT",
        "ALTER TABLE transactions DROP COLUMN tenant",
        "tenant",
    ),
    "a server that only reads": Refusal(
        _SETTING.format(database="{database}", change="SET default_transaction_read_only = on"),
        _SETTING.format(database="{database}", change="RESET default_transaction_read_only"),
        "only reads",
    ),
}


def as_user(owner_url: str) -> str:
    """The same database as a user who owns nothing and has all rights on the present tables."""
    with closing(_connected(owner_url)) as connection:
        has_role = connection.execute(sa.text("SELECT 1 FROM pg_roles WHERE rolname = :name"), {"name": ROLE}).scalar()
        if has_role is None:
            connection.execute(sa.text(f"CREATE ROLE {ROLE} LOGIN PASSWORD '{ROLE}'"))
        connection.execute(sa.text(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {ROLE}"))
    return sa.make_url(owner_url).set(username=ROLE, password=ROLE).render_as_string(hide_password=False)


@contextmanager
def refusing(owner_url: str, refusal: Refusal) -> Iterator[None]:
    """The database refuses while the block runs; sessions that were there before are ended, as after a deploy."""
    name = sa.make_url(owner_url).database
    with closing(_connected(owner_url)) as connection:
        _run(connection, refusal.begin.replace("{database}", str(name)))
        try:
            yield
        finally:
            connection.exec_driver_sql("SET default_transaction_read_only = off")
            _run(connection, refusal.end.replace("{database}", str(name)))


def _run(connection: sa.Connection, statement: str) -> None:
    connection.exec_driver_sql(statement.replace("%", "%%"))
    connection.execute(
        sa.text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = :name"), {"name": ROLE}
    )


def _connected(url: str) -> sa.Connection:
    made = sa.make_url(url).set(drivername="postgresql+psycopg")
    return sa.create_engine(made, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool).connect()
