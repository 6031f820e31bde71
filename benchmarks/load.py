"""A load generator over HTTP/1.1 keep-alive connections, light enough to share the machine with the measured server.

Belongs here: sending prepared requests at a rate or from a number of clients, and their outcomes. Must not be here:
measurements (`http.py`).

In an open loop each request has a due time, and its latency counts from there, so that a stalled server cannot hide
requests that it delayed. Above the generator's own highest rate, latency counts from sending.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(slots=True)
class Outcome:
    """Due time and latency in seconds of each request, by status; 0 is a broken connection."""

    seconds: dict[int, list[float]] = field(default_factory=dict)
    due: dict[int, list[float]] = field(default_factory=dict)
    elapsed: float = 0.0

    def add(self, status: int, *, due: float, seconds: float) -> None:
        self.seconds.setdefault(status, []).append(seconds)
        self.due.setdefault(status, []).append(due)

    @property
    def answered(self) -> int:
        return sum(map(len, self.seconds.values()))

    @property
    def per_second(self) -> float:
        """Successful answers per second."""
        return len(self.seconds.get(200, ())) / self.elapsed if self.elapsed else 0.0

    def milliseconds(self, quantile: float, *, status: int = 200) -> float:
        """A quantile of the latency of one status, NaN without any."""
        seconds = self.seconds.get(status)
        return float(np.quantile(seconds, quantile)) * 1e3 if seconds else float("nan")

    def of(self, status: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Due times and latencies of the requests of one status."""
        return np.array(self.due.get(status, ())), np.array(self.seconds.get(status, ()))


class Connection(asyncio.Protocol):
    """One keep-alive connection with one request at a time; `answered` is called with its status, 0 if it broke."""

    def __init__(self, answered: Callable[["Connection", int], None]) -> None:
        self.body = b""
        self.due = 0.0
        self._answered = answered
        self._transport: asyncio.Transport | None = None
        self._buffer = b""
        self._busy = False

    @property
    def usable(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # a stream's transport

    def send(self, request: bytes, *, due: float) -> None:
        """Send a prepared request; `answered` is called with its answer."""
        self.due, self._busy = due, True
        if self._transport is None:
            self._end(0)
        else:
            self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._buffer[:end].lower()
        at = head.find(b"content-length:")
        size = int(head[at + 15 :].split(b"\r", 1)[0]) if at >= 0 else 0
        if len(self._buffer) < end + 4 + size:
            return
        self.body = self._buffer[end + 4 : end + 4 + size]
        self._buffer = self._buffer[end + 4 + size :]
        if b"connection: close" in head and self._transport:
            self._transport.close()
        self._end(int(head[9:12]))

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio calls it so
        self._transport = None
        self._end(0)

    def close(self) -> None:
        if self._transport:
            self._transport.close()

    def _end(self, status: int) -> None:
        if self._busy:
            self._busy = False
            self._answered(self, status)


class Client:
    """Connections to one server, opened as needed and reused."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._idle: deque[Connection] = deque()
        self._waiting: dict[Connection, Callable[[Connection, int], None]] = {}

    async def send(self, request: bytes, *, due: float, then: Callable[[Connection, int], None]) -> None:
        """Send a prepared request; `then` is called after the answer."""
        while self._idle:
            connection = self._idle.pop()
            if connection.usable:
                break
        else:
            loop = asyncio.get_running_loop()
            _, connection = await loop.create_connection(lambda: Connection(self._answered), "127.0.0.1", self.port)
        self._waiting[connection] = then
        connection.send(request, due=due)

    async def answer_to(self, request: bytes) -> tuple[int, bytes]:
        """Status and body."""
        answer: asyncio.Future[tuple[int, bytes]] = asyncio.get_running_loop().create_future()
        await self.send(request, due=0.0, then=lambda connection, status: answer.set_result((status, connection.body)))
        return await answer

    def close(self) -> None:
        for connection in self._idle:
            connection.close()

    def _answered(self, connection: Connection, status: int) -> None:
        self._waiting.pop(connection)(connection, status)
        if connection.usable:
            self._idle.append(connection)


async def open_loop(
    client: Client, requests: Iterator[bytes], *, rate: float, seconds: float, from_sending: bool = False
) -> Outcome:
    """Send requests at a fixed rate, independent of the answers; stops early when this machine cannot send so many."""
    outcome, sent, started = Outcome(), 0, time.perf_counter()

    def answered(connection: Connection, status: int) -> None:
        outcome.add(status, due=connection.due, seconds=time.perf_counter() - connection.due)

    while sent < rate * seconds and (now := time.perf_counter() - started) < 1.5 * seconds:
        owed = min(int(now * rate) + 1, round(rate * seconds)) - sent
        # A few at a time, so that answers are read as they arrive.
        for _ in range(min(owed, 10)):
            due = time.perf_counter() if from_sending else started + sent / rate
            await client.send(next(requests), due=due, then=answered)
            sent += 1
        ahead = started + sent / rate - time.perf_counter()
        await asyncio.sleep(max(0.0, ahead))
    until = time.perf_counter() + 20
    while outcome.answered < sent and time.perf_counter() < until:  # noqa: ASYNC110 - a benchmark may poll
        await asyncio.sleep(0.01)
    outcome.elapsed = time.perf_counter() - started
    return outcome


async def closed_loop(client: Client, requests: Iterator[bytes], *, clients: int, seconds: float) -> Outcome:
    """Each client sends its next request after its last answer."""
    outcome, started = Outcome(), time.perf_counter()

    async def send_requests() -> None:
        while (due := time.perf_counter()) - started < seconds:
            status, _ = await client.answer_to(next(requests))
            outcome.add(status, due=due, seconds=time.perf_counter() - due)

    await asyncio.gather(*(send_requests() for _ in range(clients)))
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
