"""A server that receives posts of alerts and reports.

Must not be here: assertions about posts.
"""

import json
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Webhook:
    """A server that keeps the posts it accepts; `refuse` gives the HTTP status by which it refuses an alert number."""

    def __init__(self) -> None:
        self.received: list[dict[str, Any]] = []
        self.requests: Counter[int | None] = Counter()
        self.refuse: dict[int | None, int] = {}
        webhook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                payload = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                number = payload.get("alert")
                webhook.requests[number] += 1
                status = webhook.refuse.get(number, 204)
                if status == 204:
                    webhook.received.append(payload)
                self.send_response(status)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
                """Quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}/a-secret-path"

    @property
    def ids(self) -> list[str]:
        return [payload["transaction_id"] for payload in self.received]
