"""Statements about alerts: their assignees, their history, and whether they were posted.

Belongs here: the statements of one open transaction. Must not be here: the rules of the analysts' work
(`fraud_pipeline/alerts/queue.py`), opening alerts (`batch.py`), posting (`fraud_pipeline/alerts/outbox.py`).
"""

from dataclasses import dataclass
from typing import Any, Final, Literal

import sqlalchemy as sa

from fraud_pipeline.database.tables import ALERT_EVENTS, ALERTS, FRAUD_REPORTS

AnalystVerdict = Literal["confirmed_fraud", "legitimate", "duplicate"]
FraudKind = Literal["lost_or_stolen", "account_takeover", "friendly_fraud"]
"""The kind of a confirmed fraud; None where the analyst named none."""
Status = Literal["open", "in_review", "confirmed_fraud", "legitimate", "duplicate"]
What = Literal[
    "taken",
    "assigned",
    "released",
    "snoozed",
    "noted",
    "reopened",
    "confirmed_fraud",
    "legitimate",
    "duplicate",
    "lost_or_stolen",
    "account_takeover",
    "friendly_fraud",
]
"""One step; a confirmed fraud of a named kind is stored as that kind."""


@dataclass(frozen=True, slots=True)
class Alert:
    """A transaction that needs a person's review; times in microseconds since 1970-01-01 UTC.

    `version` counts the changes, so that a change based on an older state is refused. `queue_order` is the place in the
    queue, the smallest first; amount, merchant and score are None where they were unknown.
    """

    number: int
    transaction_id: str
    customer_id: str
    created_at: int
    decision: str
    status: Status
    assignee: str | None
    taken_at: int | None
    resolved_at: int | None
    version: int
    merchant_id: str | None
    amount_cents: int | None
    probability: float | None
    expected_loss_cents: int | None
    queue_order: float
    snoozed_until: int | None
    fraud_kind: FraudKind | None


@dataclass(frozen=True, slots=True)
class AlertEvent:
    """One line of an alert's history."""

    at: int
    who: str
    what: What
    note: str


ALERT_COLUMNS: Final = [ALERTS.c[name] for name in Alert.__slots__]
_EVENT: Final = [ALERT_EVENTS.c[name] for name in AlertEvent.__slots__]


def is_awake(now: int) -> sa.ColumnElement[bool]:
    """The condition that an alert is not snoozed at an instant (microseconds)."""
    return sa.or_(ALERTS.c.snoozed_until.is_(None), ALERTS.c.snoozed_until <= now)


class Alerts:
    """The alerts, within one open transaction."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def all(self, *, status: Status | None, assignee: str | None, limit: int) -> list[Alert]:
        """The oldest alerts, of one status and one assignee if given."""
        query = sa.select(*ALERT_COLUMNS).order_by(ALERTS.c.number).limit(limit)
        if status is not None:
            query = query.where(ALERTS.c.status == status)
        return self._read(query if assignee is None else query.where(ALERTS.c.assignee == assignee))

    def find(self, transaction_id: str) -> Alert | None:
        """The alert of a transaction; its row is locked until this database transaction ends."""
        query = sa.select(*ALERT_COLUMNS).where(ALERTS.c.transaction_id == transaction_id).with_for_update()
        return next(iter(self._read(query)), None)

    def next_open(self, *, now: int) -> Alert | None:
        """The most urgent open alert that is not snoozed and that no other transaction has locked."""
        # SQLite has no row locks: it allows one writing transaction at a time, so no alert is taken twice.
        first = (
            sa.select(*ALERT_COLUMNS)
            .where(ALERTS.c.status == "open", is_awake(now))
            .order_by(ALERTS.c.queue_order, ALERTS.c.number)
            .limit(1)
        )
        return next(iter(self._read(first.with_for_update(skip_locked=True))), None)

    def change(self, alert: Alert, *, event: AlertEvent, **values: Any) -> Alert:
        """Change an alert that this transaction has locked, and store who did it."""
        changed = (
            sa.update(ALERTS)
            .where(ALERTS.c.number == alert.number)
            .values(version=ALERTS.c.version + 1, **values)
            .returning(*ALERT_COLUMNS)
        )
        (updated,) = self._read(changed)
        self._connection.execute(
            sa.insert(ALERT_EVENTS).values(
                transaction_id=updated.transaction_id, at=event.at, who=event.who, what=event.what, note=event.note
            )
        )
        return updated

    def labels(self, transaction_id: str) -> list[tuple[int, bool]]:
        """The fraud reports on a transaction, oldest first: when, and whether it was fraud."""
        reports = FRAUD_REPORTS.c
        of_transaction = reports.transaction_id == transaction_id
        query = sa.select(reports.reported_at, reports.is_fraud).where(of_transaction).order_by(reports.reported_at)
        return [(row[0], row[1]) for row in self._connection.execute(query)]

    def events(self, transaction_id: str) -> list[AlertEvent]:
        """The events of an alert, oldest first."""
        of_alert = ALERT_EVENTS.c.transaction_id == transaction_id
        rows = self._connection.execute(sa.select(*_EVENT).where(of_alert).order_by(ALERT_EVENTS.c.number))
        return [AlertEvent(*row) for row in rows]

    def to_post(self, *, now: int, limit: int) -> list[Alert]:
        """The oldest alerts that were never posted, then those whose retry is due; at most `limit` of each.

        While an alert of a customer waits for its retry, the customer's later alerts are left out.
        """
        held = sa.select(ALERTS.c.customer_id).where(ALERTS.c.retry_at.is_not(None))
        new = sa.select(*ALERT_COLUMNS).where(ALERTS.c.posted_at.is_(None), ALERTS.c.customer_id.not_in(held))
        again = sa.select(*ALERT_COLUMNS).where(ALERTS.c.retry_at <= now)
        return [
            *self._read(new.order_by(ALERTS.c.number).limit(limit)),
            *self._read(again.order_by(ALERTS.c.retry_at, ALERTS.c.number).limit(limit)),
        ]

    def posted(self, alert: Alert, *, at: int) -> None:
        """Store that an alert was posted."""
        self._note(alert, posted_at=at, retry_at=None)

    def hold(self, alert: Alert, *, until: int) -> None:
        """Store that the webhook did not accept an alert, and when to retry."""
        self._note(alert, retry_at=until)

    def held(self) -> int:
        """The number of alerts that wait for a retry."""
        waiting = sa.select(sa.func.count()).where(ALERTS.c.retry_at.is_not(None))
        return int(self._connection.execute(waiting).scalar_one())

    def _note(self, alert: Alert, **values: int | None) -> None:
        self._connection.execute(sa.update(ALERTS).where(ALERTS.c.number == alert.number).values(**values))

    def _read(self, statement: Any) -> list[Alert]:
        return [Alert(*row) for row in self._connection.execute(statement)]
