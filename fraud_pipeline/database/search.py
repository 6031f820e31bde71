"""Statements that find what an analyst types: an alert, a transaction, a customer, a merchant, an own field.

Belongs here: bounded look-ups by index. Must not be here: pages, links.
"""

import json
from dataclasses import dataclass
from typing import Any, Final

import pandas as pd
import sqlalchemy as sa

from fraud_pipeline.database.alert_queue import read_alert
from fraud_pipeline.database.engine import Database
from fraud_pipeline.database.tables import ALERTS, CUSTOMERS, DECISIONS, TRANSACTIONS
from fraud_pipeline.schema.transactions import microsecond

OWN_FIELD_SPAN: Final = pd.Timedelta(days=1)
"""Transactions older than this are searched by own fields only if they raised an alert."""
MOST: Final = 50
_MAX_NUMBER: Final = 2**62


@dataclass(frozen=True, slots=True)
class OwnFieldHit:
    """A transaction with the term in one of its own fields."""

    transaction_id: str
    field: str
    event_time: pd.Timestamp


@dataclass(frozen=True, slots=True)
class Found:
    """What a term is: each is None or empty where it is nothing of that kind.

    `customer` and `merchant` are the newest transaction of the customer or merchant with that id.
    """

    alert: int | None
    transaction: str | None
    customer: str | None
    merchant: str | None
    own_fields: tuple[OwnFieldHit, ...]

    @property
    def is_empty(self) -> bool:
        """Whether nothing was found."""
        return not (self.own_fields or any((self.alert, self.transaction, self.customer, self.merchant)))


def find(database: Database, term: str, *, now: pd.Timestamp) -> Found:
    """Everything that has exactly this id, or this value in an own field; letter case counts."""
    with database.transaction(read_only=True) as connection:
        transaction = _exists(connection, TRANSACTIONS, term) or _exists(connection, DECISIONS, term)
        known = connection.execute(sa.select(CUSTOMERS.c.version).where(CUSTOMERS.c.customer_id == term)).first()
        customer = _newest(connection, TRANSACTIONS.c.customer_id, term) if known else None
        merchant = _newest(connection, TRANSACTIONS.c.merchant_id, term)
        hits = _by_own_field(connection, term, start=microsecond(now - OWN_FIELD_SPAN))
    number = int(term) if term.isdecimal() and int(term) < _MAX_NUMBER else None
    alert = None if number is None else read_alert(database, number)
    return Found(alert.number if alert else None, term if transaction else None, customer, merchant, tuple(hits))


def _exists(connection: sa.Connection, table: sa.Table, term: str) -> bool:
    query = sa.select(table.c.transaction_id).where(table.c.transaction_id == term)
    return connection.execute(query).first() is not None


def _newest(connection: sa.Connection, column: sa.Column[Any], term: str) -> str | None:
    """The newest transaction with this value; an index holds column and time."""
    query = sa.select(TRANSACTIONS.c.transaction_id).where(column == term)
    return connection.execute(query.order_by(TRANSACTIONS.c.event_time.desc()).limit(1)).scalar()


def _by_own_field(connection: sa.Connection, term: str, *, start: int) -> list[OwnFieldHit]:
    """Transactions of the last day, and those of alerts, whose own fields hold the term as a whole value."""
    columns = TRANSACTIONS.c
    holds = columns.own_fields.contains(json.dumps(term), autoescape=True)
    selected = sa.select(columns.transaction_id, columns.event_time, columns.own_fields)
    recent = selected.where(columns.event_time >= start, holds).order_by(columns.event_time.desc()).limit(MOST)
    of_alerts = (
        selected.join(ALERTS, ALERTS.c.transaction_id == columns.transaction_id)
        .where(holds)
        .order_by(ALERTS.c.number.desc())
        .limit(MOST)
    )
    hits = {}
    for query in (recent, of_alerts):
        for transaction_id, event_time, own_fields in connection.execute(query):
            names = [name for name, value in json.loads(own_fields).items() if value == term]
            if names:
                at = pd.Timestamp(event_time, unit="us", tz="UTC")
                hits[transaction_id] = OwnFieldHit(transaction_id, ", ".join(names), at)
    return sorted(hits.values(), key=lambda hit: hit.event_time, reverse=True)[:MOST]
