"""Posts messages to the webhook of FRAUD_ALERT_WEBHOOK_URL.

Belongs here: one message, and why it was not accepted. Must not be here: the content, and the time of another try.

The URL is a secret of most webhooks, so no error names it.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

import httpx

TIMEOUT: Final = timedelta(seconds=10)
_TOO_MANY_REQUESTS: Final = 429


class WebhookError(RuntimeError):
    """The webhook did not take a message."""


class WebhookAwayError(WebhookError):
    """It takes nothing now; try again later."""


class WebhookRefusedError(WebhookError):
    """It does not want this message; it may want others."""


def open_client() -> httpx.Client:
    """A client for one message or several."""
    return httpx.Client(timeout=TIMEOUT.total_seconds())


def post(client: httpx.Client, url: str, body: Mapping[str, Any]) -> None:
    """Send a message as JSON. Raises WebhookAwayError and WebhookRefusedError."""
    try:
        answer = client.post(url, json=dict(body))
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise WebhookAwayError(f"the alert webhook cannot be reached ({type(error).__name__})") from None
    if answer.is_success:
        return
    what = "see that FRAUD_ALERT_WEBHOOK_URL is right and takes JSON"
    away = answer.is_server_error or answer.status_code == _TOO_MANY_REQUESTS
    raise (WebhookAwayError if away else WebhookRefusedError)(
        f"the alert webhook answered {answer.status_code}: {what}"
    )
