"""The analysts' work on alerts: take, assign, snooze, note, resolve, undo; each step is recorded.

Belongs here: the rules of that work; a verdict becomes a fraud report. Must not be here: SQL (`database/alerts.py`),
words for a shell.

    open -> in_review -> confirmed_fraud | legitimate | duplicate
    open <- in_review <-
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from fraud_pipeline.database import Database
from fraud_pipeline.database.alerts import Alert, AlertEvent, Alerts, AnalystVerdict, FraudKind, Status
from fraud_pipeline.database.batch import Batch
from fraud_pipeline.schema.transactions import DAY, now_microseconds

__all__ = [
    "Alert",
    "AlertError",
    "AlertEvent",
    "Resolution",
    "add_note",
    "assign",
    "history",
    "listed",
    "release",
    "resolve",
    "resolve_all",
    "snooze",
    "take",
    "take_next",
    "undo",
]

UNDO_WITHIN: Final = DAY
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class AlertError(ValueError):
    """The alert does not allow this step; the message says why and which step it allows."""


@dataclass(frozen=True, slots=True)
class Resolution:
    """The result of `resolve_all`: ids of the alerts that are resolved now, and why each other one is not."""

    resolved: tuple[str, ...]
    refusals: tuple[str, ...]


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
    """Assign the most urgent open alert to `who` alone; None when there is none. Raises AlertError."""
    _check_texts(who, note)
    with database.transaction() as connection:
        alerts = Alerts(connection)
        alert = alerts.next_open(now=now_microseconds())
        return None if alert is None else _taken(alerts, alert, who=who, note=note)


def take(database: Database, transaction_id: str, *, who: str, version: int, note: str = "") -> Alert:
    """Assign this alert to `who`, also from a colleague, if it still has this `version`. Raises AlertError."""
    _check_texts(who, note)
    with database.transaction() as connection:
        alerts = Alerts(connection)
        return _taken(alerts, _unchanged(alerts, transaction_id, version=version), who=who, note=note)


def assign(database: Database, transaction_id: str, *, who: str, assignee: str, version: int) -> Alert:
    """Put an alert into a colleague's review, if it still has this `version`. Raises AlertError."""
    assignee = assignee.strip()
    _check_texts(who, assignee)
    if not assignee:
        raise AlertError("an alert is assigned to a person: give a name")
    with database.transaction() as connection:
        alerts, now = Alerts(connection), now_microseconds()
        alert = _unchanged(alerts, transaction_id, version=version)
        event = AlertEvent(now, who, "assigned", f"to {assignee}")
        return alerts.change(
            alert, event=event, status="in_review", assignee=assignee, taken_at=now, snoozed_until=None
        )


def release(database: Database, transaction_id: str, *, who: str, note: str = "") -> Alert:
    """Return an alert that `who` has in review to the queue, where it keeps its place. Raises AlertError."""
    _check_texts(who, note)
    with database.transaction() as connection:
        alerts = Alerts(connection)
        alert = _mine(_existing(alerts, transaction_id), who=who)
        event = AlertEvent(now_microseconds(), who, "released", note)
        return alerts.change(alert, event=event, status="open", assignee=None, taken_at=None)


def snooze(database: Database, transaction_id: str, *, who: str, until: int, note: str = "") -> Alert:
    """Hide an alert until an instant (microseconds); it keeps its assignee. Raises AlertError."""
    _check_texts(who, note)
    with database.transaction() as connection:
        alerts, now = Alerts(connection), now_microseconds()
        alert = _unresolved(_existing(alerts, transaction_id))
        if alert.assignee not in (None, who):
            raise AlertError(f"{_named(alert)} is in review by {alert.assignee}: take it over first")
        if until <= now:
            raise AlertError("an alert sleeps until a later moment: choose one in the future")
        moment = f"until {_EPOCH + timedelta(microseconds=until):%Y-%m-%d %H:%M} UTC"
        event = AlertEvent(now, who, "snoozed", f"{moment} {note}".strip())
        return alerts.change(alert, event=event, snoozed_until=until)


def add_note(database: Database, transaction_id: str, *, who: str, note: str) -> Alert:
    """Add a note to an alert, also to one that another person has in review. Raises AlertError."""
    _check_texts(who, note)
    with database.transaction() as connection:
        alerts = Alerts(connection)
        return alerts.change(
            _existing(alerts, transaction_id), event=AlertEvent(now_microseconds(), who, "noted", note)
        )


def resolve(
    database: Database,
    transaction_id: str,
    *,
    who: str,
    verdict: AnalystVerdict,
    kind: FraudKind | None = None,
    note: str = "",
) -> Alert:
    """Close an alert that `who` has in review; unless it is a duplicate, the verdict is a fraud report from now on.

    `kind` names the kind of a confirmed fraud. Nothing is learned from a transaction that has left history. The same
    verdict again changes nothing. Raises AlertError.
    """
    _check_verdict(verdict, kind)
    _check_texts(who, note)
    with database.transaction() as connection:
        alerts = Alerts(connection)
        alert = _existing(alerts, transaction_id)
        if (alert.status, alert.fraud_kind, alert.assignee) == (verdict, kind, who):
            return alert
        mine = _mine(alert, who=who)
        return _resolved(alerts, Batch(connection), mine, verdict=verdict, kind=kind, note=note)


def resolve_all(
    database: Database,
    transaction_ids: Sequence[str],
    *,
    who: str,
    verdict: AnalystVerdict,
    kind: FraudKind | None = None,
    note: str = "",
) -> Resolution:
    """Close the open alerts among these, and those that `who` has in review; the others stay as they are.

    All of them change in one transaction. Raises AlertError for a verdict or a text that cannot be stored.
    """
    _check_verdict(verdict, kind)
    _check_texts(who, note)
    resolved, refusals = [], []
    with database.transaction() as connection:
        alerts = Alerts(connection)
        # Sorted, so that two analysts never wait for each other.
        for transaction_id in sorted(set(transaction_ids)):
            try:
                alert = _existing(alerts, transaction_id)
                mine = _taken(alerts, alert, who=who, note="") if alert.status == "open" else _mine(alert, who=who)
            except AlertError as error:
                refusals.append(str(error))
                continue
            _resolved(alerts, Batch(connection), mine, verdict=verdict, kind=kind, note=note)
            resolved.append(transaction_id)
    return Resolution(tuple(resolved), tuple(refusals))


def undo(database: Database, transaction_id: str, *, who: str) -> Alert:
    """Take back a verdict of `who` within a day: the alert is in review again, and the label is as it was before.

    A label that somebody else has changed since then stays. Raises AlertError.
    """
    _check_texts(who)
    with database.transaction() as connection:
        alerts, now = Alerts(connection), now_microseconds()
        alert = _existing(alerts, transaction_id)
        if alert.resolved_at is None:
            raise AlertError(f"{_named(alert)} is not resolved: there is no verdict to take back")
        if alert.assignee != who:
            raise AlertError(f"{_named(alert)} was resolved by {alert.assignee}, who alone can take that back")
        if now - alert.resolved_at > UNDO_WITHIN:
            raise AlertError(f"{_named(alert)} was resolved more than a day ago: report the right label instead")
        labels = alerts.labels(transaction_id)
        before = [is_fraud for reported_at, is_fraud in labels if reported_at < alert.resolved_at]
        if alert.status != "duplicate" and labels and labels[-1][1] == (alert.status == "confirmed_fraud"):
            # Without an earlier report, a withdrawal says the same: not known to be fraud.
            Batch(connection).add_report(transaction_id, reported_at=now, is_fraud=before[-1] if before else False)
        event = AlertEvent(now, who, "reopened", "")
        return alerts.change(alert, event=event, status="in_review", resolved_at=None, fraud_kind=None)


def _resolved(
    alerts: Alerts, batch: Batch, alert: Alert, *, verdict: AnalystVerdict, kind: FraudKind | None, note: str
) -> Alert:
    now = now_microseconds()
    if verdict != "duplicate":
        batch.add_report(alert.transaction_id, reported_at=now, is_fraud=verdict == "confirmed_fraud")
    event = AlertEvent(now, alert.assignee or "", kind or verdict, note)
    return alerts.change(alert, event=event, status=verdict, resolved_at=now, fraud_kind=kind, snoozed_until=None)


def _check_verdict(verdict: AnalystVerdict, kind: FraudKind | None) -> None:
    if kind is not None and verdict != "confirmed_fraud":
        raise AlertError(f"a kind of fraud belongs to a confirmed fraud: leave it out of {verdict}")


def _check_texts(*texts: str) -> None:
    """AlertError for text that not every database can keep."""
    for text in texts:
        if "\x00" in text or any("\ud800" <= character <= "\udfff" for character in text):
            raise AlertError("a name or a note holds a character that cannot be stored: leave it out")


def _taken(alerts: Alerts, alert: Alert, *, who: str, note: str) -> Alert:
    now = now_microseconds()
    event = AlertEvent(now, who, "taken", note)
    return alerts.change(alert, event=event, status="in_review", assignee=who, taken_at=now, snoozed_until=None)


def _existing(alerts: Alerts, transaction_id: str) -> Alert:
    alert = alerts.find(transaction_id)
    if alert is None:
        raise AlertError("there is no alert of that transaction: list the alerts to see their ids")
    return alert


def _unresolved(alert: Alert) -> Alert:
    if alert.resolved_at is not None:
        raise AlertError(f"{_named(alert)} is resolved already, as {alert.status} by {alert.assignee}")
    return alert


def _unchanged(alerts: Alerts, transaction_id: str, *, version: int) -> Alert:
    alert = _existing(alerts, transaction_id)
    if alert.version != version:
        raise AlertError(f"{_named(alert)} has changed since you looked: list the alerts again")
    return _unresolved(alert)


def _mine(alert: Alert, *, who: str) -> Alert:
    if _unresolved(alert).assignee != who:
        holder = f"in review by {alert.assignee}: take it over first" if alert.assignee else "open: take it first"
        raise AlertError(f"{_named(alert)} is {holder}")
    return alert


def _named(alert: Alert) -> str:
    return f"alert {alert.number}"
