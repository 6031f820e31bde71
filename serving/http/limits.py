"""Limits of a caller: requests per second, bytes per request, requests at once.

Belongs here: the three limits, each usable alone. Must not be here: identity of the caller, meaning of a request. The
limits on bytes and on requests at once wrap any ASGI application and refuse requests before it sees them.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from limits import RateLimitItemPerSecond
from limits.aio.storage import MemoryStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from limits.errors import StorageError
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.http.answers import answer, error_body

if TYPE_CHECKING:
    from limits.aio.storage import RedisStorage
    from redis.asyncio import BlockingConnectionPool

RATE_WINDOW: Final = 1
"""Seconds. A caller that waits for the window is accepted again."""
STORAGE_TIMEOUT: Final = 0.25
STORAGE_RETRY: Final = 5.0
STORAGE_CONNECTIONS: Final = 16
WORTH_DISCARDING: Final = 8
"""A body up to this many times too long is read to its end after the refusal. A client that is cut off while it writes
would not read the reason.
"""

log: Final = logging.getLogger(__name__)


class RateLimiter:
    """Requests per second and subject, over a sliding window, in this process or in a Redis that all workers share.

    While that Redis is away, each process counts alone and tries Redis again every few seconds.
    """

    def __init__(
        self, *, per_second: int, storage: str = "", on_storage_failure: Callable[[], None] = lambda: None
    ) -> None:
        if storage and not storage.startswith(("redis://", "rediss://")):
            raise ValueError("FRAUD_RATE_LIMIT_STORAGE is no Redis URL: write redis://host:6379, or leave it empty")
        self._limit = RateLimitItemPerSecond(per_second)
        self._memory = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._pool = _connections(storage) if storage else None
        self._shared = SlidingWindowCounterRateLimiter(_redis(storage, self._pool)) if self._pool else None
        self._on_storage_failure = on_storage_failure
        self._failing = False
        self._ask_at = 0.0

    async def hit(self, subject: str) -> float | None:
        """Count a request: seconds to wait before the next, or None if it may go ahead."""
        allowed = await self._hit_shared(subject)
        if allowed is None:
            allowed = await self._memory.hit(self._limit, subject)
        return None if allowed else RATE_WINDOW

    async def close(self) -> None:
        """Give back the connections to the shared storage."""
        if self._pool is not None:
            await self._pool.aclose()

    async def _hit_shared(self, subject: str) -> bool | None:
        now = time.monotonic()
        if self._shared is None or now < self._ask_at:
            return None
        if self._failing:
            # One request probes Redis for all the others.
            self._ask_at = now + STORAGE_RETRY
        try:
            async with asyncio.timeout(STORAGE_TIMEOUT):
                allowed = await self._shared.hit(self._limit, subject)
        except (StorageError, OSError) as error:
            if not self._failing:
                log.warning("rate limits are per process: the shared storage failed (%s)", type(error).__name__)
            self._failing = True
            self._ask_at = now + STORAGE_RETRY
            self._on_storage_failure()
            return None
        if self._failing:
            log.warning("rate limits are shared again")
            self._failing = False
            self._ask_at = 0.0
        return allowed


class ConcurrencyLimit:
    """At most `max_in_flight` requests in the application at once; the next is turned away (503) without waiting."""

    def __init__(self, app: ASGIApp, *, max_in_flight: int, on_refusal: Callable[[str], None]) -> None:
        self._app = app
        self._max_in_flight = max_in_flight
        self._on_refusal = on_refusal
        self.in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.in_flight >= self._max_in_flight:
            self._on_refusal("overloaded")
            await _OVERLOADED(scope, receive, send)
            return
        self.in_flight += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self.in_flight -= 1


class BodyLimit:
    """Refuses (413) a body longer than `max_bytes`: unread by its Content-Length, else as soon as it is exceeded."""

    def __init__(self, app: ASGIApp, *, max_bytes: int, on_refusal: Callable[[str], None]) -> None:
        self._app = app
        self._max_bytes = max_bytes
        self._on_refusal = on_refusal
        message = f"The body is longer than {max_bytes} bytes; send several smaller requests."
        self._too_large = _refusal(status=413, code="body_too_large", message=message, headers={})
        self._endless = _refusal(status=413, code="body_too_large", message=message, headers={"Connection": "close"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        length = _announced_length(scope["headers"])
        if length is None:
            await self._count(scope, receive, send)
        elif length <= self._max_bytes:
            await self._app(scope, receive, send)
        else:
            self._on_refusal("body_too_large")
            short = length <= WORTH_DISCARDING * self._max_bytes
            await (self._too_large if short else self._endless)(scope, receive, send)

    async def _count(self, scope: Scope, receive: Receive, send: Send) -> None:
        received = 0
        refused = started = False

        async def counted() -> Message:
            nonlocal received, refused
            if not refused:
                message = await receive()
                received += len(message.get("body", b""))
                if received <= self._max_bytes:
                    return message
                refused = True
                self._on_refusal("body_too_large")
                if not started:
                    await self._endless(scope, receive, send)
            # To the application, the caller is gone.
            return {"type": "http.disconnect"}

        async def sent(message: Message) -> None:
            nonlocal started
            if started or not refused:
                started = True
                await send(message)

        await self._app(scope, counted, sent)


def _announced_length(headers: Iterable[tuple[bytes, bytes]]) -> int | None:
    """The value of Content-Length, which the server enforces; None where bytes must be counted."""
    length: int | None = None
    for name, value in headers:
        if name == b"transfer-encoding":
            return None
        if name == b"content-length":
            if not value.isdigit() or len(value) > 18:
                return None
            length = max(length or 0, int(value))
    return length


def _connections(url: str) -> "BlockingConnectionPool":
    """Connections that requests wait for: to open one for each of a burst takes longer than the burst."""
    from redis.asyncio import BlockingConnectionPool  # noqa: PLC0415 - loads OpenTelemetry, and few use Redis

    return BlockingConnectionPool.from_url(url, max_connections=STORAGE_CONNECTIONS, timeout=STORAGE_TIMEOUT)


def _redis(url: str, pool: "BlockingConnectionPool") -> "RedisStorage":
    from limits.aio.storage import RedisStorage  # noqa: PLC0415 - as above

    return RedisStorage(
        f"async+{url}",
        wrap_exceptions=True,
        implementation="redispy",
        connection_pool=pool,  # type: ignore[arg-type]  # documented, and missing from the annotation
    )


def _refusal(*, status: int, code: str, message: str, headers: dict[str, str]) -> Response:
    return answer(error_body(code=code, message=message), status=status, headers=headers)


_OVERLOADED: Final = _refusal(
    status=503,
    code="overloaded",
    message="Too many requests at once; send the same request again.",
    headers={"Retry-After": "1"},
)
