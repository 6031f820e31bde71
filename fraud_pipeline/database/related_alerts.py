"""Statements for the alerts that may belong to one attack: same customer, same device, same merchant.

Belongs here: reading them, bounded. Must not be here: verdicts (`fraud_pipeline/alerts/queue.py`).
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from fraud_pipeline.database.alerts import ALERT_COLUMNS, Alert
from fraud_pipeline.database.engine import Database
from fraud_pipeline.database.tables import ALERTS, TRANSACTIONS
from fraud_pipeline.schema.fields import NO_MERCHANT
from fraud_pipeline.schema.transactions import DAY

NEAR: Final = 3 * DAY
"""How far apart alerts of one attack may be."""
MOST: Final = 50
_SEARCHED: Final = 2_000
_UNRESOLVED: Final = ("open", "in_review")


@dataclass(frozen=True, slots=True)
class RelatedAlert:
    """An unresolved alert, and what it has in common with another: `customer`, `merchant` or own fields."""

    alert: Alert
    in_common: tuple[str, ...]


def read_related(database: Database, alert: Alert, *, identifiers: Collection[str]) -> list[RelatedAlert]:
    """Unresolved alerts that share the customer, or within three days the merchant or one of these own fields.

    At most 50, those with most in common first. Own fields are compared among the 2,000 newest unresolved alerts.
    """
    has_merchant = alert.merchant_id not in (None, NO_MERCHANT)
    others = (ALERTS.c.number != alert.number, ALERTS.c.status.in_(_UNRESOLVED))
    of_customer = sa.select(*ALERT_COLUMNS).where(ALERTS.c.customer_id == alert.customer_id, *others)
    near = ALERTS.c.created_at.between(alert.created_at - NEAR, alert.created_at + NEAR)
    of_merchant = sa.select(*ALERT_COLUMNS).where(ALERTS.c.merchant_id == alert.merchant_id, near, *others)
    with database.transaction(read_only=True) as connection:
        found = [Alert(*row) for row in connection.execute(_newest(of_customer))]
        if has_merchant:
            found += [Alert(*row) for row in connection.execute(_newest(of_merchant))]
        shared = _sharing(connection, alert, names=identifiers, condition=sa.and_(near, *others)) if identifiers else {}
    alerts = {other.number: other for other in [*found, *(other for other, _ in shared.values())]}
    related = [
        RelatedAlert(
            other,
            (
                *(("customer",) if other.customer_id == alert.customer_id else ()),
                *(shared[number][1] if number in shared else ()),
                *(("merchant",) if has_merchant and other.merchant_id == alert.merchant_id else ()),
            ),
        )
        for number, other in alerts.items()
    ]
    return sorted(related, key=lambda item: (-len(item.in_common), item.alert.queue_order, item.alert.number))[:MOST]


def _newest(query: sa.Select[Any]) -> sa.Select[Any]:
    return query.order_by(ALERTS.c.number.desc()).limit(MOST)


def _sharing(
    connection: sa.Connection, alert: Alert, *, names: Collection[str], condition: sa.ColumnElement[bool]
) -> dict[int, tuple[Alert, tuple[str, ...]]]:
    """Alerts whose transaction has the same value in one of these own fields, with the names of those fields."""
    own = TRANSACTIONS.c.own_fields
    text = connection.execute(sa.select(own).where(TRANSACTIONS.c.transaction_id == alert.transaction_id)).scalar()
    values = {name: value for name, value in _values(text).items() if name in names}
    if not values:
        return {}
    same_transaction = TRANSACTIONS.c.transaction_id == ALERTS.c.transaction_id
    query = (
        sa.select(*ALERT_COLUMNS, own)
        .join(TRANSACTIONS, same_transaction)
        .where(condition, own.is_not(None))
        .order_by(ALERTS.c.number.desc())
        .limit(_SEARCHED)
    )
    sharing = {}
    for *columns, other in connection.execute(query):
        theirs = _values(other)
        if common := tuple(name for name, value in values.items() if theirs.get(name) == value):
            sharing[columns[0]] = (Alert(*columns), common)
    return sharing


def _values(own_fields: str | None) -> Mapping[str, Any]:
    values: Mapping[str, Any] = json.loads(own_fields or "{}")
    return values
