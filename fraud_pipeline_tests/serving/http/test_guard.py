"""The entrance: every path is closed but three, and every request passes the same checks in the same order."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import Message

from serving.auth.keys import KeySet, create_keys
from serving.auth.tokens import SCOPES, Scope, TokenVerifier, issue_token
from serving.http.guard import OPEN, PATHS, guarded
from serving.http.limits import RateLimiter

ISSUER: Final = "fraud-detect"
AUDIENCE: Final = "fraud-detect-http"
ALL_PATHS: Final = [(method, path.replace("{transaction_id}", "t/1")) for method, path in PATHS]


class Service:
    """An application that answers everywhere, behind the guard, and the tokens to ask it."""

    def __init__(self, home: Path, **options: Any) -> None:
        create_keys(home / "keys.json")
        self._keys = KeySet(home / "keys.json")
        self.refusals: Counter[str] = Counter()
        self.started = 0
        self.both_held = asyncio.Barrier(3)
        self.free = asyncio.Event()
        app = Starlette(
            routes=[Route("/held", self._held), Route("/{path:path}", _who, methods=["GET", "POST", "DELETE", "HEAD"])],
            lifespan=self._lifespan,
        )
        settings: dict[str, Any] = {
            "verifier": TokenVerifier(self._keys, issuer=ISSUER, audience=AUDIENCE),
            "rate_limiter": RateLimiter(per_second=1_000),
            "max_body_bytes": 100,
            "max_in_flight": 2,
            "on_refusal": self._count,
        }
        self.guard = guarded(app, open_app=app, **(settings | options))

    def token(self, *scopes: Scope, subject: str = "shop-7") -> dict[str, str]:
        """The headers of a caller with these scopes."""
        issued = issue_token(
            self._keys, subject=subject, scopes=scopes, lifetime=timedelta(hours=1), issuer=ISSUER, audience=AUDIENCE
        )
        return {"Authorization": f"Bearer {issued}"}

    def run(self, story: Callable[[httpx.AsyncClient], Awaitable[None]]) -> None:
        """Ask it on one event loop."""

        async def main() -> None:
            transport = httpx.ASGITransport(self.guard)
            async with asyncio.timeout(30), httpx.AsyncClient(transport=transport, base_url="http://service") as client:
                await story(client)

        asyncio.run(main())

    def call(self, method: str, path: str, **options: Any) -> httpx.Response:
        """One request."""
        answers: list[httpx.Response] = []

        async def story(client: httpx.AsyncClient) -> None:
            answers.append(await client.request(method, path, **options))

        self.run(story)
        return answers[0]

    def _count(self, reason: str) -> None:
        self.refusals[reason] += 1

    @asynccontextmanager
    async def _lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        self.started += 1
        yield

    async def _held(self, request: Request) -> JSONResponse:
        await self.both_held.wait()
        await self.free.wait()
        return await _who(request)


async def _who(request: Request) -> JSONResponse:
    caller = getattr(request.state, "caller", None)
    return JSONResponse(caller and {"subject": caller.subject, "scopes": sorted(caller.scopes)})


@pytest.fixture
def service(tmp_path: Path) -> Service:
    return Service(tmp_path)


def error_of(response: httpx.Response) -> Mapping[str, Any]:
    body = response.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"code", "message", "fields"}
    error: dict[str, Any] = body["error"]
    return error


class TestWhoMayDoWhat:
    def test_only_three_paths_are_open(self, service: Service) -> None:
        assert sorted(OPEN) == ["/healthz", "/livez", "/readyz"]
        for path in OPEN:
            assert service.call("GET", path).json() is None

    @pytest.mark.parametrize(("method", "path"), [*ALL_PATHS, ("GET", "/anything"), ("GET", "/"), ("GET", "/livez/")])
    def test_every_other_path_is_closed_without_a_token(self, service: Service, method: str, path: str) -> None:
        for headers in ({}, {"Authorization": "Bearer no.good.token"}):
            answer = service.call(method, path, headers=headers)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"].startswith("Bearer")
            assert error_of(answer)["code"] == "unauthorized"
        assert service.refusals == {"unauthorized": 2}

    @pytest.mark.parametrize(("method", "path"), list(PATHS))
    def test_a_path_wants_one_of_its_scopes_and_no_other_will_do(
        self, service: Service, method: str, path: str
    ) -> None:
        needed = PATHS[method, path]
        for scope in needed:
            answer = service.call(method, path, headers=service.token(scope))
            assert answer.json() == {"subject": "shop-7", "scopes": [scope]}
        other_scopes: list[Any] = sorted(SCOPES - needed)
        answer = service.call(method, path, headers=service.token(*other_scopes))
        assert answer.status_code == 403
        assert " or ".join(sorted(needed)) in error_of(answer)["message"]
        assert f'scope="{" ".join(sorted(needed))}"' in answer.headers["www-authenticate"]
        assert service.refusals == {"forbidden": 1}

    @pytest.mark.parametrize(
        "path", ["/held", "/", "/score/", "/SCORE", "//score", "/decisions", "/model/x", "/docs.json"]
    )
    def test_a_route_that_the_table_does_not_name_is_closed(self, service: Service, path: str) -> None:
        for method in ("GET", "POST"):
            answer = service.call(method, path, headers=service.token("score", "feedback", "metrics", "admin"))
            assert (answer.status_code, error_of(answer)["code"]) == (404, "unknown_path")
        assert service.refusals == {"unknown_path": 2}

    @pytest.mark.parametrize(
        ("method", "path", "allowed"),
        [("GET", "/score", "POST"), ("DELETE", "/decisions/t-1", "GET"), ("HEAD", "/model", "GET")],
    )
    def test_a_method_that_the_table_does_not_name_is_closed(
        self, service: Service, method: str, path: str, allowed: str
    ) -> None:
        answer = service.call(method, path, headers=service.token("score"))
        assert (answer.status_code, answer.headers["allow"]) == (405, allowed)
        assert service.refusals == {"wrong_method": 1}

    def test_the_longest_beginning_decides(self, tmp_path: Path) -> None:
        paths: dict[tuple[str, str], frozenset[Scope]] = {
            ("GET", "/a/{id}"): frozenset({"score"}),
            ("GET", "/a/b/{id}"): frozenset({"admin"}),
        }
        service = Service(tmp_path, paths=paths)
        assert service.call("GET", "/a/b/c", headers=service.token("score")).status_code == 403
        assert service.call("GET", "/a/c/b", headers=service.token("score")).status_code == 200

    @pytest.mark.parametrize("path", ["/a/{id}/b", "/{a}/{b}", "/a/{id"])
    def test_a_table_that_could_open_too_much_is_refused(self, tmp_path: Path, path: str) -> None:
        with pytest.raises(ValueError, match="last {name}"):
            Service(tmp_path, paths={("GET", path): frozenset({"score"})})

    def test_two_tokens_are_none(self, service: Service) -> None:
        token, other_token = (service.token("score")["Authorization"] for _ in range(2))
        answer = service.call("POST", "/score", headers=[("Authorization", token), ("Authorization", other_token)])
        assert answer.status_code == 401

    def test_the_lifespan_passes_and_web_sockets_do_not(self, service: Service) -> None:
        async def sent(*messages: Message, **scope: Any) -> list[Message]:
            waiting = iter(messages)
            answers: list[Message] = []

            async def receive() -> Message:
                return next(waiting)

            async def send(message: Message) -> None:
                answers.append(message)

            await service.guard(scope, receive, send)
            return answers

        life = sent({"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}, type="lifespan")
        assert asyncio.run(life) == [
            {"type": "lifespan.startup.complete"},
            {"type": "lifespan.shutdown.complete"},
        ]
        assert service.started == 1
        socket = sent({"type": "websocket.connect"}, type="websocket", path="/livez", headers=[])
        assert asyncio.run(socket) == [{"type": "websocket.close", "code": 1008}]


class TestOrderOfChecks:
    def test_a_long_body_is_refused_before_the_token_is_looked_at(self, service: Service) -> None:
        assert error_of(service.call("POST", "/score", content=bytes(101)))["code"] == "body_too_large"
        assert service.refusals == {"body_too_large": 1}

    def test_a_path_that_is_open_is_never_overloaded(self, tmp_path: Path) -> None:
        paths: dict[tuple[str, str], frozenset[Scope]] = {("GET", "/held"): frozenset({"score"})}
        service = Service(tmp_path, paths=paths)
        headers = service.token("score")

        async def story(client: httpx.AsyncClient) -> None:
            held = [asyncio.create_task(client.get("/held", headers=headers)) for _ in range(2)]
            await service.both_held.wait()
            refused = await client.get("/held")  # not even its missing token is looked at
            assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
            assert (await client.get("/livez")).status_code == 200
            service.free.set()
            assert [answer.status_code for answer in await asyncio.gather(*held)] == [200, 200]
            assert (await client.get("/held")).status_code == 401  # a slot is free again

        service.run(story)
        assert service.refusals == {"overloaded": 1, "unauthorized": 1}

    def test_each_caller_has_a_rate_of_its_own_that_refusals_count_towards(self, tmp_path: Path) -> None:
        service = Service(tmp_path, rate_limiter=RateLimiter(per_second=3))
        headers = service.token("score")
        other = service.token("score", subject="shop-8")

        async def story(client: httpx.AsyncClient) -> None:
            codes = Counter([(await client.get("/unknown", headers=headers)).status_code for _ in range(20)])
            assert codes[404] >= 3
            assert codes[429] == 20 - codes[404] > 0
            while (limited := await client.post("/score", headers=headers)).status_code != 429:
                pass
            assert limited.headers["retry-after"] == "1"
            assert error_of(limited)["code"] == "rate_limited"
            assert (await client.post("/score", headers=other)).status_code == 200
            assert (await client.post("/score")).status_code == 401

        service.run(story)
