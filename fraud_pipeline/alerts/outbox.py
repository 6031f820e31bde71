"""Posts new alerts to a webhook: at least once, in order for each customer, and ids only.

Belongs here: the content of a post, and when to give up until later. Must not be here: SQL (`database/alerts.py`), the
caller and its interval.

An alert counts as posted once the webhook has accepted it, so a crash in between posts it again. `alert` numbers never
repeat, so a receiver can drop the second post. An alert that was refused is held until its next try, and only later
alerts of its customer wait with it. One sensor posts, and the daemon evaluates it once at a time.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from fraud_pipeline.alerts.backoff import FIRST_PAUSE, LONGEST_PAUSE
from fraud_pipeline.alerts.webhook import TIMEOUT, WebhookAwayError, WebhookRefusedError, open_client, post
from fraud_pipeline.database import Database
from fraud_pipeline.database.alerts import Alert, Alerts

# The daemon gives up an evaluation after 60 seconds; one more post may take 3 timeouts.
BUDGET: Final = timedelta(seconds=60) - 3 * TIMEOUT
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

log: Final = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Posted:
    """The result of one call.

    `held` alerts were refused, now or before, and wait for another try; `waiting` is true if time ran out.
    """

    alerts: int
    held: int
    waiting: bool

    def __str__(self) -> str:
        held = f", {self.held} held back until the webhook takes them" if self.held else ""
        return f"{self.alerts} alerts posted{held}{', more are waiting' if self.waiting else ''}"


def post_new_alerts(
    database: Database, url: str, *, limit: int = 100, clock: Callable[[], float] = time.time
) -> Posted:
    """Post new alerts, at most `limit`, and as many refused ones that are due for another try.

    Raises WebhookAwayError when the webhook accepts nothing; call again later. Raises DatabaseUnavailableError when
    the database is away.
    """
    started, posted = clock(), 0
    until = started + BUDGET.total_seconds()
    with database.transaction(read_only=True) as connection:
        alerts = Alerts(connection).to_post(now=_microseconds(started), limit=limit)
    held: set[str] = set()
    waiting = False
    with open_client() as client:
        for alert in alerts:
            if waiting := clock() > until:
                break
            if alert.customer_id in held:
                continue
            try:
                post(client, url, body(alert))
            except WebhookRefusedError as error:
                _hold(database, alert, at=clock(), why=error)
                held.add(alert.customer_id)
            except WebhookAwayError as error:
                # This alert may be the reason: others go first when the webhook is tried again.
                _hold(database, alert, at=clock(), why=error)
                raise
            else:
                with database.transaction() as connection:
                    Alerts(connection).posted(alert, at=_microseconds(clock()))
                posted += 1
    with database.transaction(read_only=True) as connection:
        return Posted(alerts=posted, held=Alerts(connection).held(), waiting=waiting)


def body(alert: Alert) -> dict[str, Any]:
    """The body of a post: ids and the decision, never what was bought."""
    return {
        "text": f"alert {alert.number}: {alert.decision} of transaction {alert.transaction_id}",
        "alert": alert.number,
        "transaction_id": alert.transaction_id,
        "customer_id": alert.customer_id,
        "decision": alert.decision,
        "created_at": (_EPOCH + timedelta(microseconds=alert.created_at)).isoformat(),
    }


def _hold(database: Database, alert: Alert, *, at: float, why: Exception) -> None:
    """Leave an alert alone as long again as it is old, within the bounds of all our pauses."""
    pause = timedelta(microseconds=_microseconds(at) - alert.created_at)
    again = at + min(max(pause, FIRST_PAUSE), LONGEST_PAUSE).total_seconds()
    log.warning("alert %d waits, and later ones of its customer: %s", alert.number, why)
    with database.transaction() as connection:
        Alerts(connection).hold(alert, until=_microseconds(again))


def _microseconds(seconds: float) -> int:
    return round(seconds * 1_000_000)
