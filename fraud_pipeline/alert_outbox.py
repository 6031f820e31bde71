"""New alerts to a webhook: at least once, a customer's in their order, and ids only.

Belongs here: what is posted, and when to give up until later. Must not be here: SQL (`database/alerts.py`), who calls
this and how often.

An alert counts as posted once the webhook has taken it, so a crash in between posts it again; `alert` numbers never
repeat, and tell a receiver so. One poster at a time, by a lease: two would overtake each other.
"""

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import httpx

from fraud_pipeline.database import Database
from fraud_pipeline.database.alerts import Alert, Alerts

OUTBOX: Final = "alert webhook"
TIMEOUT: Final = timedelta(seconds=10)
# Longer than a call may take, because the clocks of two machines differ a little.
LEASE: Final = timedelta(seconds=60)
BUDGET: Final = LEASE - 3 * TIMEOUT
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class WebhookAwayError(RuntimeError):
    """The webhook did not take an alert; it and all after it wait for the next call."""


@dataclass(frozen=True, slots=True)
class Posted:
    """What one call did; `waiting` when another poster is at work, or when there was no time for all."""

    alerts: int
    waiting: bool


def post_new_alerts(
    database: Database, url: str, *, limit: int = 100, clock: Callable[[], float] = time.time
) -> Posted:
    """Post the oldest alerts that were not posted yet, at most `limit`.

    Raises WebhookAwayError when the webhook does not take one: call again later. Raises
    DatabaseUnavailableError when the database is away.
    """
    started, holder, posted = clock(), uuid.uuid4().hex, 0
    until = started + BUDGET.total_seconds()
    if not _lease(database, holder, now=started, until=started + LEASE.total_seconds()):
        return Posted(alerts=0, waiting=True)
    try:
        with database.transaction(read_only=True) as connection:
            alerts = Alerts(connection).not_posted(limit=limit)
        with httpx.Client(timeout=TIMEOUT.total_seconds()) as client:
            for alert in alerts:
                if clock() > until:
                    break
                _post(client, url, alert)
                with database.transaction() as connection:
                    Alerts(connection).posted(alert, at=round(clock() * 1_000_000))
                posted += 1
    finally:
        _lease(database, holder, now=clock(), until=0)
    return Posted(alerts=posted, waiting=posted < len(alerts))


def body(alert: Alert) -> dict[str, Any]:
    """What is posted: ids and what was decided, never what was bought."""
    return {
        "text": f"alert {alert.number}: {alert.decision} of transaction {alert.transaction_id}",
        "alert": alert.number,
        "transaction_id": alert.transaction_id,
        "customer_id": alert.customer_id,
        "decision": alert.decision,
        "created_at": (_EPOCH + timedelta(microseconds=alert.created_at)).isoformat(),
    }


def _post(client: httpx.Client, url: str, alert: Alert) -> None:
    # The URL is a secret of most webhooks, so it is in no message.
    try:
        answer = client.post(url, json=body(alert))
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise WebhookAwayError(f"the alert webhook cannot be reached ({type(error).__name__})") from None
    if not answer.is_success:
        raise WebhookAwayError(
            f"the alert webhook answered {answer.status_code} to alert {alert.number}: see that "
            "FRAUD_ALERT_WEBHOOK_URL is right and takes JSON"
        )


def _lease(database: Database, holder: str, *, now: float, until: float) -> bool:
    with database.transaction() as connection:
        return Alerts(connection).lease(
            OUTBOX, holder=holder, now=round(now * 1_000_000), until=round(until * 1_000_000)
        )
