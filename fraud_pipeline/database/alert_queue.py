"""Statements that read the analysts' queue: pages of a filter, its size, and one alert by its number.

Belongs here: reading in bounded pages. Must not be here: changes of an alert (`alerts.py`), the order of the queue
(`fraud_pipeline/alerts/urgency.py`).

A page begins after the last row of the page before it, so the hundredth page costs as much as the first.
"""

import json
import operator
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

import sqlalchemy as sa

from fraud_pipeline.database.alerts import ALERT_COLUMNS, Alert, is_awake
from fraud_pipeline.database.engine import Database
from fraud_pipeline.database.tables import ALERTS, DECISIONS

QueueState = Literal["open", "in_review", "snoozed", "resolved"]
_RESOLVED: Final = ("confirmed_fraud", "legitimate", "duplicate")
_UNRESOLVED: Final = ("open", "in_review")
_EXPORTED: Final = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertFilter:
    """The alerts of one state, narrowed by whatever is given; `now` decides who is snoozed (microseconds)."""

    state: QueueState
    now: int
    assignee: str | None = None
    customer_id: str | None = None
    merchant_id: str | None = None
    decision: str | None = None
    min_amount_cents: int | None = None
    min_probability: float | None = None
    created_before: int | None = None


@dataclass(frozen=True, slots=True)
class QueueRow:
    """An alert with the reasons of its decision."""

    alert: Alert
    reasons: tuple[str, ...]


def read_queue(database: Database, chosen: AlertFilter, *, limit: int, after: Alert | None = None) -> list[QueueRow]:
    """A page of the filter after an alert: the most urgent first, of resolved alerts the newest first."""
    columns, query = ALERTS.c, sa.select(*ALERT_COLUMNS).where(*_conditions(chosen)).limit(limit)
    if chosen.state == "resolved":
        query = query.order_by(columns.number.desc())
        query = query if after is None else query.where(columns.number < after.number)
    else:
        query = query.order_by(columns.queue_order, columns.number)
        if after is not None:
            place = sa.tuple_(columns.queue_order, columns.number)
            query = query.where(place > sa.tuple_(sa.literal(after.queue_order), sa.literal(after.number)))
    with database.transaction(read_only=True) as connection:
        alerts = [Alert(*row) for row in connection.execute(query)]
        reasons = _reasons(connection, [alert.transaction_id for alert in alerts])
    return [QueueRow(alert, reasons.get(alert.transaction_id, ())) for alert in alerts]


def read_whole_queue(database: Database, chosen: AlertFilter) -> Iterator[QueueRow]:
    """Every row of the filter, read page by page."""
    after = None
    while page := read_queue(database, chosen, limit=_EXPORTED, after=after):
        yield from page
        after = page[-1].alert


def count_queue(database: Database, chosen: AlertFilter, *, up_to: int) -> int:
    """The number of alerts of the filter, counted no further than `up_to`."""
    some = sa.select(ALERTS.c.number).where(*_conditions(chosen)).limit(up_to).subquery()
    return int(database.rows(sa.select(sa.func.count()).select_from(some))[0][0])


def read_alert(database: Database, number: int) -> Alert | None:
    """The alert with this number."""
    return _first(database, ALERTS.c.number == number)


def read_alert_of(database: Database, transaction_id: str) -> Alert | None:
    """The alert of a transaction."""
    return _first(database, ALERTS.c.transaction_id == transaction_id)


def read_alerts_of_customer(database: Database, customer_id: str, *, limit: int) -> list[Alert]:
    """The customer's alerts of every status, the newest first."""
    query = sa.select(*ALERT_COLUMNS).where(ALERTS.c.customer_id == customer_id)
    return [Alert(*row) for row in database.rows(query.order_by(ALERTS.c.number.desc()).limit(limit))]


def read_assignees(database: Database) -> list[str]:
    """Who has alerts in review, in alphabetical order."""
    query = sa.select(ALERTS.c.assignee).where(ALERTS.c.status == "in_review").distinct()
    return sorted(row[0] for row in database.rows(query) if row[0])


def _conditions(chosen: AlertFilter) -> list[sa.ColumnElement[bool]]:
    columns = ALERTS.c
    states: dict[QueueState, list[sa.ColumnElement[bool]]] = {
        "open": [columns.status == "open", is_awake(chosen.now)],
        "in_review": [columns.status == "in_review", is_awake(chosen.now)],
        "snoozed": [columns.status.in_(_UNRESOLVED), columns.snoozed_until > chosen.now],
        "resolved": [columns.status.in_(_RESOLVED)],
    }
    limits: list[tuple[sa.ColumnElement[Any], Callable[[Any, Any], Any], object]] = [
        (columns.assignee, operator.eq, chosen.assignee),
        (columns.customer_id, operator.eq, chosen.customer_id),
        (columns.merchant_id, operator.eq, chosen.merchant_id),
        (columns.decision, operator.eq, chosen.decision),
        (sa.func.abs(columns.amount_cents), operator.ge, chosen.min_amount_cents),
        (columns.probability, operator.ge, chosen.min_probability),
        (columns.created_at, operator.lt, chosen.created_before),
    ]
    narrower = (compare(column, value) for column, compare, value in limits if value is not None)
    return [*states[chosen.state], *narrower]


def _reasons(connection: sa.Connection, ids: list[str]) -> dict[str, tuple[str, ...]]:
    query = sa.select(DECISIONS.c.transaction_id, DECISIONS.c.reasons).where(DECISIONS.c.transaction_id.in_(ids))
    return {id_: tuple(text for _, text in json.loads(reasons)) for id_, reasons in connection.execute(query)}


def _first(database: Database, condition: sa.ColumnElement[bool]) -> Alert | None:
    rows: Any = database.rows(sa.select(*ALERT_COLUMNS).where(condition))
    return next((Alert(*row) for row in rows), None)
