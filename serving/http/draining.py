"""Shutdown of a worker: answers close their connections before the server stops.

Belongs here: the time between SIGTERM and the server's own shutdown. Must not be here: content of answers.

The server alone would close idle connections at once, and with them requests that are already on their way.
"""

import asyncio
import signal
from types import FrameType
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_CLOSE: Final = (b"connection", b"close")


class Draining:
    """From SIGTERM on, every answer ends its connection; after `seconds` the server's own shutdown follows."""

    def __init__(self, app: ASGIApp, *, seconds: float = 1.0) -> None:
        self._app = app
        self._seconds = seconds
        self.begun = False

    def install(self) -> None:
        """Install our handler of SIGTERM before the server's; call it on the running loop, in the main thread."""
        loop = asyncio.get_running_loop()
        shutdown = signal.getsignal(signal.SIGTERM)

        def begin(number: int, frame: FrameType | None) -> None:
            delay = 0.0 if self.begun else self._seconds
            self.begun = True
            if callable(shutdown):
                loop.call_soon_threadsafe(loop.call_later, delay, shutdown, number, frame)

        signal.signal(signal.SIGTERM, begin)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def sent(message: Message) -> None:
            if self.begun and message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), _CLOSE]}
            await send(message)

        await self._app(scope, receive, sent)
