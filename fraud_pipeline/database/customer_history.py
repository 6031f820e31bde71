"""Customers' events as of a version: single events, or tiles for many of them.

Belongs here: the statements. Must not be here: when each is needed (`fraud_pipeline/scoring/customer_cache.py`).

The request for each customer is one record, so that any number of customers takes one round trip.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any, Final

import sqlalchemy as sa
from numpy.typing import NDArray

from fraud_pipeline.database.engine import DatabaseUnavailableError, translated
from fraud_pipeline.database.statements import as_json, given_records
from fraud_pipeline.database.tables import CUSTOMERS, TRANSACTIONS
from fraud_pipeline.schema.transactions import TRANSACTION_COLUMNS

_EVENT: Final = [TRANSACTIONS.c[name] for name in TRANSACTION_COLUMNS]
_OF: Final = TRANSACTIONS.c.customer_id
_TIME: Final = TRANSACTIONS.c.event_time
_VERSION: Final = TRANSACTIONS.c.customer_version
# The `+ 0` keeps a search by time from using the index by version, which holds the events of all time.
_ANY_VERSION: Final[sa.ColumnElement[int]] = _VERSION + 0


class HistoryReadError(DatabaseUnavailableError):
    """History could not be read; storing may still work."""


class CustomerHistory:
    """Reads customers' events within one transaction, in columns of TRANSACTIONS. Raises HistoryReadError."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection
        self._dialect = connection.dialect.name

    def first_events(
        self, customers: Sequence[str], *, since: NDArray[Any], up_to: NDArray[Any], at_most: int
    ) -> Sequence[Any]:
        """Events from `since` on (microseconds) of versions up to `up_to`, at most `at_most` of each customer."""
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
        """The newest version of a customer; 0 for an unknown customer."""
        newest = sa.select(CUSTOMERS.c.version).where(CUSTOMERS.c.customer_id == customer)
        return sum(row[0] for row in self._rows(newest, {}))

    def tiles(self, customer: str, *, since: int, up_to: int, width: int) -> Sequence[Any]:
        """Start, number of events and sum of amounts of each tile from `since` on, of versions up to `up_to`."""
        # One statement: for a short span of time PostgreSQL would scan the events of all customers.
        events = (
            sa.select((_TIME - _TIME % width).label("start"), TRANSACTIONS.c.amount_cents)
            .where(TRANSACTIONS.c.customer_id == customer)
            .where(since <= _TIME, sa.literal(up_to) >= _ANY_VERSION)
            .subquery()
        )
        total = sa.func.sum(events.c.amount_cents).cast(sa.BigInteger)
        return self._rows(sa.select(events.c.start, sa.func.count(), total).group_by(events.c.start), {})

    def _rows(self, statement: sa.Select[Any], parameters: dict[str, Any]) -> Sequence[Any]:
        with translated(self._connection.engine.url, HistoryReadError):
            return self._connection.execute(statement, parameters).all()


# Cached, because SQLAlchemy compiles a statement object only once.
@cache
def _first_events(dialect: str) -> sa.Select[Any]:
    requested = given_records(dialect, _OF, since=sa.BigInteger, up_to=sa.BigInteger)
    at_most: sa.BindParameter[int] = sa.bindparam("at_most")
    if dialect == "postgresql":
        return _of_each(
            requested, requested.c.since <= _TIME, requested.c.up_to >= _ANY_VERSION, order=_TIME, at_most=at_most
        )
    # SQLite has no LATERAL, but every row has a rowid.
    same = TRANSACTIONS.alias("same")
    numbers: sa.Select[Any] = (
        sa.select(sa.literal_column("same.rowid"))
        .select_from(same)
        .where(same.c.customer_id == requested.c.customer_id, same.c.event_time >= requested.c.since)
        .where(same.c.customer_version + 0 <= requested.c.up_to)
        .limit(at_most)
        .correlate(requested)
    )
    number: sa.ColumnElement[int] = sa.literal_column("transactions.rowid")
    return sa.select(*_EVENT).select_from(requested.join(TRANSACTIONS, number.in_(numbers.scalar_subquery())))


@cache
def _later_events(dialect: str) -> sa.Select[Any]:
    requested = given_records(dialect, _OF, above=sa.BigInteger, up_to=sa.BigInteger)
    conditions = requested.c.above < _VERSION, requested.c.up_to >= _VERSION
    if dialect == "postgresql":
        return _of_each(requested, *conditions, order=_VERSION)
    return sa.select(*_EVENT).select_from(
        requested.join(TRANSACTIONS, sa.and_(requested.c.customer_id == _OF, *conditions))
    )


@cache
def _events_of_tiles(dialect: str) -> sa.Select[Any]:
    requested = given_records(dialect, _OF, since=sa.BigInteger, up_to=sa.BigInteger)
    until = requested.c.since + sa.bindparam("width", type_=sa.BigInteger)
    conditions = requested.c.since <= _TIME, until > _TIME, requested.c.up_to >= _ANY_VERSION
    if dialect == "postgresql":
        return _of_each(requested, *conditions, order=_TIME)
    return sa.select(*_EVENT).select_from(
        requested.join(TRANSACTIONS, sa.and_(requested.c.customer_id == _OF, *conditions))
    )


def _of_each(
    requested: sa.Subquery,
    *conditions: sa.ColumnElement[bool],
    order: sa.Column[int],
    at_most: sa.BindParameter[int] | None = None,
) -> sa.Select[Any]:
    """Events of each record's customer, read record by record with the index of this order.

    One customer with very many events distorts PostgreSQL's estimates: with a join, or without an order, it would read
    the whole table.
    """
    theirs = sa.select(*_EVENT).where(requested.c.customer_id == _OF, *conditions).order_by(order)
    theirs = theirs.offset(0) if at_most is None else theirs.limit(at_most)
    events = theirs.correlate(requested).lateral()
    return sa.select(*events.c).select_from(requested.join(events, sa.true()))
