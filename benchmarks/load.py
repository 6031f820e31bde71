"""A load generator over plain HTTP/1.1 keep-alive connections, light enough to share the machine with what it measures.

Belongs here: sending prepared requests at a rate or from a number of clients, and what came back when. Must not be
here: what is measured (`http.py`).

Open loop: a request has an instant at which it is due, and its latency counts from there, so that a stalled server
cannot hide the requests it kept from being sent. Beyond what this generator can send, latency counts from sending.
"""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

REFUSED = 503


@dataclass(slots=True)
class Outcome:
    """Seconds from due to answered, with the instant they were due, by status."""

    seconds: dict[int, list[float]] = field(default_factory=dict)
    due: dict[int, list[float]] = field(default_factory=dict)
    errors: Counter[str] = field(default_factory=Counter)
    elapsed: float = 0.0

    def add(self, status: int, *, due: float, seconds: float) -> None:
        self.seconds.setdefault(status, []).append(seconds)
        self.due.setdefault(status, []).append(due)

    @property
    def answered(self) -> int:
        return sum(map(len, self.seconds.values()))

    @property
    def per_second(self) -> float:
        """Good answers per second."""
        return len(self.seconds.get(200, ())) / self.elapsed if self.elapsed else 0.0

    def milliseconds(self, quantile: float, *, status: int = 200) -> float:
        """A quantile of the latency of one status, NaN without any."""
        found = self.seconds.get(status)
        return float(np.quantile(found, quantile)) * 1e3 if found else float("nan")

    def of(self, status: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """When requests of one status were due, and their seconds."""
        return np.array(self.due.get(status, ())), np.array(self.seconds.get(status, ()))


class _Connection(asyncio.Protocol):
    """One keep-alive connection; one request at a time."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.answer: asyncio.Future[int] | None = None
        self.body = b""
        self._buffer = b""
        self._close = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport  # type: ignore[assignment]  # a stream's transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._buffer[:end].lower()
        at = head.find(b"content-length:")
        size = int(head[at + 15 : head.find(b"\r", at) if b"\r" in head[at:] else None]) if at >= 0 else 0
        if len(self._buffer) < end + 4 + size:
            return
        status = int(head[9:12])
        self.body = self._buffer[end + 4 : end + 4 + size]
        self._buffer = self._buffer[end + 4 + size :]
        if b"connection: close" in head and self.transport:
            self.transport.close()
        if self.answer and not self.answer.done():
            self.answer.set_result(status)

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None
        if self.answer and not self.answer.done():
            self.answer.set_exception(exc or ConnectionError("closed without an answer"))

    async def ask(self, request: bytes) -> int:
        """Send a prepared request; the status of its answer."""
        if self.transport is None:
            raise ConnectionError("not connected")
        self.answer = asyncio.get_running_loop().create_future()
        self.transport.write(request)
        return await self.answer


class Client:
    """Connections to one server, opened as needed and used again."""

    def __init__(self, port: int, *, timeout: float = 20.0) -> None:
        self.port, self._timeout = port, timeout
        self._idle: deque[_Connection] = deque()

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """Status and body."""
        while self._idle:
            connection = self._idle.pop()
            if connection.transport is not None and not connection.transport.is_closing():
                break
        else:
            loop = asyncio.get_running_loop()
            _, connection = await loop.create_connection(_Connection, "127.0.0.1", self.port)
        status = await asyncio.wait_for(connection.ask(request), self._timeout)
        self._idle.append(connection)
        return status, connection.body

    def close(self) -> None:
        for connection in self._idle:
            if connection.transport:
                connection.transport.close()


async def _timed(client: Client, request: bytes, outcome: Outcome, *, due: float) -> None:
    try:
        status, _ = await client.ask(request)
        outcome.add(status, due=due, seconds=time.perf_counter() - due)
    except (OSError, TimeoutError) as error:
        outcome.errors[type(error).__name__] += 1


async def open_loop(
    client: Client, requests: Iterator[bytes], *, rate: float, seconds: float, from_sending: bool = False
) -> Outcome:
    """Requests at a fixed rate, whatever the server does."""
    outcome, tasks, started = Outcome(), set[asyncio.Task[None]](), time.perf_counter()
    for number in range(round(rate * seconds)):
        due = started + number / rate
        wait = due - time.perf_counter()
        if wait > 0:
            await asyncio.sleep(wait)
        elif number % 10 == 0:
            await asyncio.sleep(0)
        if time.perf_counter() - started > 1.5 * seconds:
            break  # this machine cannot send more
        due = time.perf_counter() if from_sending else due
        task = asyncio.create_task(_timed(client, next(requests), outcome, due=due))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    if tasks:
        await asyncio.wait(tasks)
    outcome.elapsed = time.perf_counter() - started
    return outcome


async def closed_loop(client: Client, requests: Iterator[bytes], *, clients: int, seconds: float) -> Outcome:
    """Each of some clients sends its next request when it has its answer."""
    outcome, started = Outcome(), time.perf_counter()

    async def one() -> None:
        while (due := time.perf_counter()) - started < seconds:
            await _timed(client, next(requests), outcome, due=due)
            if outcome.errors.total() > 100:
                return

    await asyncio.gather(*(one() for _ in range(clients)))
    outcome.elapsed = time.perf_counter() - started
    return outcome


def prepared(method: str, path: str, *, body: bytes = b"", token: str = "") -> bytes:
    """The bytes of a request."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(body)}"]
    if body:
        lines.append("Content-Type: application/json")
    if token:
        lines.append(f"Authorization: Bearer {token}")
    return "\r\n".join([*lines, "", ""]).encode() + body
