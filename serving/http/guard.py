"""The one entrance of the HTTP service: each path has its scopes, and everything else is closed.

Belongs here: the order of the checks and the table of paths. Must not be here: verification of tokens
(`serving/auth/tokens.py`), counting of limits (`limits.py`), what a path does (`endpoints.py`).
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from starlette import types as asgi

from serving.auth.tokens import Caller, ForbiddenError, RefusedError, Scope, TokenVerifier, UnauthorizedError
from serving.http.answers import answer, error_body
from serving.http.limits import BodyLimit, ConcurrencyLimit, RateLimiter
from serving.http.routes import Routes

Paths = Mapping[tuple[str, str], frozenset[Scope]]

OPEN: Final = frozenset({"/livez", "/readyz", "/healthz"})
"""Paths that anybody may ask."""
PATHS: Final[Paths] = MappingProxyType(
    {
        ("POST", "/score"): frozenset({"score"}),
        ("POST", "/score_batch"): frozenset({"score"}),
        ("POST", "/feedback"): frozenset({"feedback"}),
        ("GET", "/decisions/{transaction_id}"): frozenset({"score"}),
        ("GET", "/model"): frozenset({"score"}),
        ("GET", "/openapi.json"): frozenset({"admin"}),
        ("GET", "/metrics"): frozenset({"metrics", "admin"}),
    }
)
"""Method and path -> scopes, any one of which is enough; a last {name} matches the rest of the path."""


def guarded(
    app: asgi.ASGIApp,
    *,
    open_app: asgi.ASGIApp,
    paths: Paths = PATHS,
    verifier: TokenVerifier,
    rate_limiter: RateLimiter,
    max_body_bytes: int,
    max_in_flight: int,
    on_refusal: Callable[[str], None],
) -> asgi.ASGIApp:
    """`app` behind every check, from the inside out, and `open_app` at the open paths; refusals are counted by code."""
    admitted = Admission(app, paths=paths, verifier=verifier, rate_limiter=rate_limiter, on_refusal=on_refusal)
    limited = ConcurrencyLimit(admitted, max_in_flight=max_in_flight, on_refusal=on_refusal)
    closed = BodyLimit(limited, max_bytes=max_body_bytes, on_refusal=on_refusal)
    return OpenPaths(closed, open_app=open_app)


class OpenPaths:
    """Sends the lifespan and the open paths to `open_app`, every other request to `app`, and closes web sockets."""

    def __init__(self, app: asgi.ASGIApp, *, open_app: asgi.ASGIApp) -> None:
        self._app = app
        self._open_app = open_app

    async def __call__(self, scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        if scope["type"] == "http":
            await (self._open_app if scope["path"] in OPEN else self._app)(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._open_app(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008})


class Admission:
    """Lets a request into the application if its token, its rate and its scopes allow it.

    A path in no table is closed: 401 without a token, 404 with one. The Caller is stored in
    `scope["state"]["caller"]`.
    """

    def __init__(
        self,
        app: asgi.ASGIApp,
        *,
        paths: Paths,
        verifier: TokenVerifier,
        rate_limiter: RateLimiter,
        on_refusal: Callable[[str], None],
    ) -> None:
        self._app = app
        self._verifier = verifier
        self._rate_limiter = rate_limiter
        self._on_refusal = on_refusal
        self._methods: dict[str, dict[str, frozenset[Scope]]] = {}
        for (method, path), scopes in paths.items():
            self._methods.setdefault(path, {})[method] = scopes
        self._routes = Routes(self._methods)

    async def __call__(self, scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        try:
            caller = await self._check(scope)
        except RefusedError as error:
            self._on_refusal(error.code)
            body = error_body(code=error.code, message=error.message)
            await answer(body, status=error.status, headers=error.headers)(scope, receive, send)
            return
        scope.setdefault("state", {})["caller"] = caller
        await self._app(scope, receive, send)

    async def _check(self, scope: asgi.Scope) -> Caller:
        caller = self._verifier.verify(_authorization(scope))
        wait = await self._rate_limiter.hit(caller.subject)
        if wait is not None:
            raise RefusedError(
                status=429,
                code="rate_limited",
                message="Too many requests per second from this caller; wait, then send it again.",
                headers={"Retry-After": f"{wait:.0f}"},
            )
        needed = self._needed_scopes(scope["method"], scope["path"])
        if needed.isdisjoint(caller.scopes):
            raise ForbiddenError(needed)
        return caller

    def _needed_scopes(self, method: str, path: str) -> frozenset[Scope]:
        methods = self._methods.get(self._routes.of(path))
        if methods is None:
            raise RefusedError(
                status=404, code="unknown_path", message="Nothing is here: /openapi.json lists the paths."
            )
        if method not in methods:
            raise RefusedError(
                status=405,
                code="wrong_method",
                message="Ask this path with a method of the Allow header.",
                headers={"Allow": ", ".join(sorted(methods))},
            )
        return methods[method]


def _authorization(scope: asgi.Scope) -> bytes | None:
    values: list[bytes] = [value for name, value in scope["headers"] if name == b"authorization"]
    if len(values) > 1:
        raise UnauthorizedError("Send one Authorization header.", challenge="Bearer")
    return values[0] if values else None
