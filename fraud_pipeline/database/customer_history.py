"""Customers' events as of a version: few one by one, many as tiles.

Belongs here: the statements. Must not be here: which of them is needed when (`fraud_pipeline/customer_memory.py`).

What is asked about each customer comes as one record each, so that any number of them is one round trip.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any, Final

import sqlalchemy as sa
from numpy.typing import NDArray

from fraud_pipeline.database.engine import DatabaseUnavailableError, translated
from fraud_pipeline.database.statements import as_json, given_records
from fraud_pipeline.database.tables import CUSTOMERS, TRANSACTIONS
from fraud_pipeline.transactions import TRANSACTION_COLUMNS

_EVENT: Final = [TRANSACTIONS.c[name] for name in TRANSACTION_COLUMNS]
_OF: Final = TRANSACTIONS.c.customer_id
_TIME: Final = TRANSACTIONS.c.event_time
_VERSION: Final = TRANSACTIONS.c.customer_version
# What is asked for by time must not be searched for by version: that index also has the events of all time.
_ANY_VERSION: Final[sa.ColumnElement[int]] = _VERSION + 0


class HistoryReadError(DatabaseUnavailableError):
    """History could not be read; storing may still work."""


class CustomerHistory:
    """Reads customers' events within one transaction; rows are in columns of TRANSACTIONS. Raises HistoryReadError."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection
        self._dialect = connection.dialect.name

    def first_events(
        self, customers: Sequence[str], *, since: NDArray[Any], up_to: NDArray[Any], at_most: int
    ) -> Sequence[Any]:
        """Events from `since` on (microseconds) of versions up to `up_to`, of each customer at most so many of them."""
        records = {"customer_id": customers, "since": since.tolist(), "up_to": up_to.tolist()}
        return self._rows(_first_events(self._dialect), as_json(records) | {"at_most": at_most})

    def later_events(self, customers: Sequence[str], *, above: NDArray[Any], up_to: NDArray[Any]) -> Sequence[Any]:
        """Events that became known in versions above `above` up to `up_to`."""
        records = {"customer_id": customers, "above": above.tolist(), "up_to": up_to.tolist()}
        return self._rows(_later_events(self._dialect), as_json(records))

    def events_of_tiles(
        self, customers: Sequence[str], *, starts: NDArray[Any], up_to: NDArray[Any], width: int
    ) -> Sequence[Any]:
        """Events in the `width` microseconds from `starts` on, of versions up to `up_to`."""
        records = {"customer_id": customers, "since": starts.tolist(), "up_to": up_to.tolist()}
        return self._rows(_events_of_tiles(self._dialect), as_json(records) | {"width": width})

    def version(self, customer: str) -> int:
        """The newest version of a customer; 0 for one that is not known."""
        newest = sa.select(CUSTOMERS.c.version).where(CUSTOMERS.c.customer_id == customer)
        return sum(row[0] for row in self._rows(newest, {}))

    def tiles(self, customer: str, *, since: int, until: int | None, up_to: int, width: int) -> Sequence[Any]:
        """Beginning, number of events and sum of amounts of each tile in [since, until), of versions up to `up_to`."""
        chosen = (
            sa.select((_TIME - _TIME % width).label("start"), TRANSACTIONS.c.amount_cents)
            .where(TRANSACTIONS.c.customer_id == customer)
            .where(since <= _TIME, sa.literal(up_to) >= _ANY_VERSION)
        )
        events = (chosen if until is None else chosen.where(until > _TIME)).subquery()
        total = sa.func.sum(events.c.amount_cents).cast(sa.BigInteger)
        return self._rows(sa.select(events.c.start, sa.func.count(), total).group_by(events.c.start), {})

    def _rows(self, statement: sa.Select[Any], parameters: dict[str, Any]) -> Sequence[Any]:
        with translated(HistoryReadError):
            return self._connection.execute(statement, parameters).all()


# A statement that is made once is also compiled and keyed once.
@cache
def _first_events(dialect: str) -> sa.Select[Any]:
    wanted = given_records(dialect, _OF, since=sa.BigInteger, up_to=sa.BigInteger)
    if dialect == "postgresql":
        theirs = _at_most(TRANSACTIONS, wanted, _EVENT).lateral()
        return sa.select(*theirs.c).select_from(wanted.join(theirs, sa.true()))
    # SQLite knows no LATERAL, but gives every row a number.
    number: sa.ColumnElement[int] = sa.literal_column("transactions.rowid")
    same = TRANSACTIONS.alias("same")
    numbers = _at_most(same, wanted, [sa.literal_column("same.rowid")]).scalar_subquery()
    return sa.select(*_EVENT).select_from(wanted.join(TRANSACTIONS, number.in_(numbers)))


def _at_most(events: sa.FromClause, wanted: sa.Subquery, columns: Sequence[Any]) -> sa.Select[Any]:
    return (
        sa.select(*columns)
        .select_from(events)
        .where(
            events.c.customer_id == wanted.c.customer_id,
            events.c.event_time >= wanted.c.since,
            events.c.customer_version + 0 <= wanted.c.up_to,
        )
        .limit(sa.bindparam("at_most"))
        .correlate(wanted)
    )


@cache
def _later_events(dialect: str) -> sa.Select[Any]:
    wanted = given_records(dialect, _OF, above=sa.BigInteger, up_to=sa.BigInteger)
    return sa.select(*_EVENT).select_from(
        wanted.join(
            TRANSACTIONS,
            sa.and_(wanted.c.customer_id == _OF, wanted.c.above < _VERSION, wanted.c.up_to >= _VERSION),
        )
    )


@cache
def _events_of_tiles(dialect: str) -> sa.Select[Any]:
    wanted = given_records(dialect, _OF, since=sa.BigInteger, up_to=sa.BigInteger)
    return sa.select(*_EVENT).select_from(
        wanted.join(
            TRANSACTIONS,
            sa.and_(
                *(wanted.c.customer_id == _OF, wanted.c.up_to >= _ANY_VERSION),
                *(wanted.c.since <= _TIME, wanted.c.since + sa.bindparam("width", type_=sa.BigInteger) > _TIME),
            ),
        )
    )
