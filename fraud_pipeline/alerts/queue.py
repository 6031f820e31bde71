"""The analysts' work on alerts: list, take the next, note, resolve; each step is recorded.

Belongs here: the rules of that work; a verdict becomes a fraud report. Must not be here: SQL (`database/alerts.py`),
words for a shell.

    open -> in_review -> confirmed_fraud | legitimate | duplicate
"""

from fraud_pipeline.database import Database
from fraud_pipeline.database.alerts import Alert, AlertEvent, Alerts, AnalystVerdict, Status
from fraud_pipeline.database.batch import Batch
from fraud_pipeline.schema.transactions import now_microseconds

__all__ = ["Alert", "AlertError", "AlertEvent", "add_note", "history", "listed", "resolve", "take", "take_next"]


class AlertError(ValueError):
    """The alert does not allow this step; the message says why and which step it allows."""


def listed(
    database: Database, *, status: Status | None = None, assignee: str | None = None, limit: int = 50
) -> list[Alert]:
    """The oldest alerts, of one status and one assignee if given."""
    with database.transaction(read_only=True) as connection:
        return Alerts(connection).all(status=status, assignee=assignee, limit=limit)


def history(database: Database, transaction_id: str) -> list[AlertEvent]:
    """The steps of an alert and who took them, oldest first."""
    with database.transaction(read_only=True) as connection:
        return Alerts(connection).events(transaction_id)


def take_next(database: Database, *, who: str, note: str = "") -> Alert | None:
    """Assign the oldest open alert to `who` alone; None when there is none. Raises AlertError."""
    _check_texts(who, note)
    with database.transaction() as connection:
        alerts = Alerts(connection)
        alert = alerts.next_open()
        return None if alert is None else _taken(alerts, alert, who=who, note=note)


def take(database: Database, transaction_id: str, *, who: str, version: int, note: str = "") -> Alert:
    """Assign this alert to `who`, also from a colleague, if it still has this `version`. Raises AlertError."""
    _check_texts(who, note)
    with database.transaction() as connection:
        alerts = Alerts(connection)
        alert = _existing(alerts, transaction_id)
        if alert.version != version:
            raise AlertError(f"{_named(alert)} has changed since you looked: list the alerts again")
        if alert.resolved_at is not None:
            raise AlertError(f"{_named(alert)} is resolved already, as {alert.status}")
        return _taken(alerts, alert, who=who, note=note)


def add_note(database: Database, transaction_id: str, *, who: str, note: str) -> Alert:
    """Add a note to an alert, also to one that another person has in review. Raises AlertError."""
    _check_texts(who, note)
    with database.transaction() as connection:
        alerts = Alerts(connection)
        return alerts.change(
            _existing(alerts, transaction_id), event=AlertEvent(now_microseconds(), who, "noted", note)
        )


def resolve(database: Database, transaction_id: str, *, who: str, verdict: AnalystVerdict, note: str = "") -> Alert:
    """Close an alert that `who` has in review; unless it is a duplicate, the verdict is a fraud report from now on.

    Nothing is learned from a transaction that has left history. The same verdict again changes nothing. Raises
    AlertError.
    """
    _check_texts(who, note)
    with database.transaction() as connection:
        alerts, now = Alerts(connection), now_microseconds()
        alert = _existing(alerts, transaction_id)
        if alert.status == verdict and alert.assignee == who:
            return alert
        if alert.resolved_at is not None:
            raise AlertError(f"{_named(alert)} is resolved already, as {alert.status} by {alert.assignee}")
        if alert.status == "open":
            raise AlertError(f"{_named(alert)} is open: take it first")
        if alert.assignee != who:
            raise AlertError(f"{_named(alert)} is in review by {alert.assignee}: take it over first")
        if verdict != "duplicate":
            Batch(connection).add_report(transaction_id, reported_at=now, is_fraud=verdict == "confirmed_fraud")
        return alerts.change(alert, event=AlertEvent(now, who, verdict, note), status=verdict, resolved_at=now)


def _check_texts(*texts: str) -> None:
    """AlertError for text that not every database can keep."""
    for text in texts:
        if "\x00" in text or any("\ud800" <= character <= "\udfff" for character in text):
            raise AlertError("a name or a note holds a character that cannot be stored: leave it out")


def _taken(alerts: Alerts, alert: Alert, *, who: str, note: str) -> Alert:
    now = now_microseconds()
    event = AlertEvent(now, who, "taken", note)
    return alerts.change(alert, event=event, status="in_review", assignee=who, taken_at=now)


def _existing(alerts: Alerts, transaction_id: str) -> Alert:
    alert = alerts.find(transaction_id)
    if alert is None:
        raise AlertError("there is no alert of that transaction: list the alerts to see their ids")
    return alert


def _named(alert: Alert) -> str:
    return f"alert {alert.number}"
