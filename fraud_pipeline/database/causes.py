"""The cause of a database error in a sentence, and whether the values of a statement may have caused it.

Belongs here: the meaning of PostgreSQL's and SQLite's codes, in words. Must not be here: who waits or dead-letters
because of it. No sentence holds a value, because the drivers' own texts quote keys, rows and whole statements.

PostgreSQL's codes (SQLSTATE) have classes. Most classes mean that the server, the tables or the user's rights are
wrong, which no record can cause. The others may concern a value, or a constraint that every value violates. A failed
connection has no code, only a text of the client library, which holds no values.
"""

import re
import sqlite3
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

import psycopg
import sqlalchemy as sa

from fraud_pipeline.database.urls import place


@dataclass(frozen=True, slots=True)
class Cause:
    """Problem and remedy of a database error.

    `by_values`: the values of the statement may be the cause. `retry`: an immediate retry may help.
    """

    problem: str
    remedy: str
    by_values: bool = False
    retry: bool = False


_URL: Final = "correct FRAUD_DATABASE_URL"
_RELEASE: Final = "the tables are not of this release: run `fraud-detect migrate`, or start the release that made them"
_CONNECTING: Final = (
    (r"password authentication failed|no password supplied", "refuses the user {user} with this password", _URL),
    (r'role ".*" does not exist', "has no user {user}", f"create it, or {_URL}"),
    (r'database ".*" does not exist|no such database', "has no database {database}", f"create it, or {_URL}"),
    (r"permission denied for database", "does not let the user {user} connect to {database}", "GRANT CONNECT to it"),
    (r"not currently accepting connections", "has closed the database {database}", "open it: ALTER DATABASE"),
    (
        r"no pg_hba.conf entry|pg_hba.conf rejects",
        "lets nobody in as {user} from here",
        "add a line to its pg_hba.conf",
    ),
    (
        r"too many (clients|connections)|remaining connection slots|max_client_conn|no more connections allowed",
        "has no connection left",
        "raise its max_connections, start fewer processes, or put PgBouncer before it",
    ),
    (r"starting up|shutting down|recovery mode|not yet accepting", "is starting or stopping", "wait for it"),
    (r"resolve host|translate host name|Name or service not known", "does not answer (nobody knows that host)", _URL),
    (r"Connection refused", "does not answer (nobody listens there)", f"start it, or {_URL}"),
    (r"No such file or directory", "does not answer (there is no such socket)", f"start it, or {_URL}"),
    (r"time-?d? ?out", "does not answer in time", "see whether a firewall lies between, and that it runs"),
    (r"SSL|certificate", "cannot agree on encryption with us", "check sslmode and certificates in FRAUD_DATABASE_URL"),
    (r"unsupported startup parameter", "is a pooler that refuses one of our settings", "see its log, and allow it"),
    (r"invalid (connection|URI|percent)|invalid .* value|missing \"=\"", "is asked for with an unknown option", _URL),
)
"""Pattern in the text of client library or server -> problem and remedy; the first match counts."""
_SQLSTATES: Final = MappingProxyType(
    {
        "08": ("does not answer any more", "see that it runs"),
        "25006": (
            "only reads now",
            "connect to the primary, not to a standby, or switch default_transaction_read_only off",
        ),
        "25P03": ("ended a transaction that was idle for too long", "see why this process stood still"),
        "26": ("has lost a prepared statement", "let its pooler keep sessions, or report this"),
        "28": ("does not let us in any more", "see the user's password and rights"),
        "3D": ("has no database of that name any more", _URL),
        "40": ("ended one of two transactions that waited for each other", "ask again"),
        "42": ("{primary}", _RELEASE),
        "42501": ("{primary}", "give the user {user} this right with GRANT, or let it own the tables"),
        "53": ("is out of resources, and {primary}", "see its memory, disk and connections"),
        "53100": ("has no room left on its disk", "make room there"),
        "53300": ("has no connection left", "raise its max_connections, or put PgBouncer before it"),
        "55": ("is not in a state for that, and {primary}", "see its log"),
        "57": ("does not answer, and {primary}", "see that it runs"),
        "57014": ("gave up a statement that took too long", "see its load, or raise FRAUD_STATEMENT_TIMEOUT"),
        "58": ("has a system error, and {primary}", "see its log and its disk"),
        "XX": ("has an internal error", "see its log: an index or a table may be damaged"),
        "22": ("has a column that a value does not fit{where}", _RELEASE),
        "23": (
            "has a rule that refuses a row{where}",
            "see who made that rule, and remove it if it is not this release's",
        ),
        "P0": ("has a trigger that refuses a row", "correct or remove that trigger"),
    }
)
"""SQLSTATE or its class -> problem and remedy. `primary` is the server's first line, if it names no values."""
_MAY_BE_VALUES: Final = frozenset(("0A", "21", "22", "23", "27", "44", "54", "P0"))
_SQLITE: Final = MappingProxyType(
    {
        "READONLY": (
            "cannot be written to",
            "let this user own it and its directory, and see that the disk is no read-only one",
        ),
        "PERM": ("cannot be used by this user", "let this user own it"),
        "CANTOPEN": ("cannot be opened", "see that its directory exists, and that this user may write to it"),
        "FULL": ("does not fit on its disk any more", "make room there"),
        "IOERR": ("cannot be read or written", "see its disk"),
        "BUSY": ("is locked by another process for too long", "see which process writes to it, or use PostgreSQL"),
        "LOCKED": ("is locked by another process for too long", "see which process writes to it, or use PostgreSQL"),
        "CORRUPT": ("is damaged", "restore a backup: docs/how-to/back-up.md"),
        "NOTADB": ("is no SQLite database", f"move it away, or {_URL}"),
        "CONSTRAINT": (
            "has a rule that refuses a row",
            "see who made that rule, and remove it if it is not this release's",
        ),
        "MISMATCH": ("has a column that a value does not fit", _RELEASE),
        "TOOBIG": ("has a column that a value does not fit", _RELEASE),
    }
)
_SQLITE_MAY_BE_VALUES: Final = frozenset(("CONSTRAINT", "MISMATCH", "TOOBIG", "RANGE"))
_UNKNOWN: Final = "see its log, and run `fraud-detect doctor`"


def cause_of(error: Exception, url: sa.URL) -> Cause:
    """The cause of an error that SQLAlchemy or a driver raised for this URL."""
    driver = getattr(error, "orig", None) or error
    retry = bool(getattr(error, "connection_invalidated", False))
    if isinstance(driver, sqlite3.Error):
        cause = _of_sqlite(driver)
    elif isinstance(error, sa.exc.TimeoutError):
        cause = Cause("has no connection left for this process", "see its load: statements take too long")
    elif not isinstance(driver, psycopg.Error):
        cause = Cause(f"gave an answer that was not expected ({type(driver).__name__})", _RELEASE, by_values=True)
    elif driver.sqlstate:
        cause = _of_sqlstate(driver, driver.sqlstate, user=url.username or "")
    elif isinstance(error, sa.exc.DBAPIError) and error.statement is None:
        cause = _of_connecting(str(driver), url)
    else:
        # The driver itself refuses only values; otherwise the connection broke.
        away = isinstance(driver, psycopg.OperationalError | psycopg.InterfaceError)
        what = "does not answer any more" if away else "cannot hold a value"
        cause = Cause(f"{what} ({type(driver).__name__})", _UNKNOWN, by_values=not away)
    return Cause(f"{place(url)} {cause.problem}", cause.remedy, by_values=cause.by_values, retry=cause.retry or retry)


def _of_connecting(text: str, url: sa.URL) -> Cause:
    names = {"user": url.username or "of this process", "database": url.database or ""}
    for pattern, problem, remedy in _CONNECTING:
        if re.search(pattern, text):
            return Cause(problem.format(**names), remedy)
    last = text.strip().splitlines()[-1] if text.strip() else "no reason given"
    return Cause(f"cannot be connected to: {last}", _URL)


def _of_sqlstate(error: psycopg.Error, state: str, *, user: str) -> Cause:
    by_values = state[:2] in _MAY_BE_VALUES
    problem, remedy = (
        _SQLSTATES.get(state) or _SQLSTATES.get(state[:2]) or ("refused a statement", "see its log, and report this")
    )
    diagnosis = error.diag
    names = [name for name in (diagnosis.table_name, diagnosis.column_name, diagnosis.constraint_name) if name]
    # A foreign function may write values into any error that it raises.
    quotable = not by_values and not diagnosis.context and diagnosis.message_primary
    words = problem.format(
        primary=f"says: {diagnosis.message_primary}" if quotable else "refused a statement",
        where=f" ({', '.join(names)})" if names else "",
    )
    return Cause(
        f"{words} (SQLSTATE {state})",
        remedy.format(user=user or "of this process"),
        by_values=by_values,
        retry=state[:2] == "40",
    )


def _of_sqlite(error: sqlite3.Error) -> Cause:
    name = (getattr(error, "sqlite_errorname", None) or "").removeprefix("SQLITE_").partition("_")[0]
    by_values = name in _SQLITE_MAY_BE_VALUES or not name
    if name in _SQLITE:
        return Cause(*_SQLITE[name], by_values=by_values)
    if name == "ERROR":  # the text names a missing table or column and no values
        return Cause(f"says: {error}", _RELEASE)
    return Cause(f"refused a statement ({name or type(error).__name__})", _UNKNOWN, by_values=by_values)
