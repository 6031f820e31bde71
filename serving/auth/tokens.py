"""Tokens: the identity of a caller and its scopes.

Belongs here: scopes, issuing and verifying tokens (JWT access tokens, RFC 9068), the answers 401 and 403. Must not be
here: where keys come from (`keys.py`), which path needs which scope (`serving/http/guard.py`). No message ever
contains a token.
"""

import secrets
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import timedelta
from types import MappingProxyType
from typing import Final, Literal, get_args

import jwt

from fraud_pipeline.settings import Settings
from serving.auth.keys import KeySet, open_keys
from serving.errors import RequestError

Scope = Literal["score", "feedback", "metrics", "admin"]

SCOPES: Final[frozenset[str]] = frozenset(get_args(Scope))
TOKEN_TYPE: Final = "at+jwt"  # noqa: S105  # a media type
MAX_TOKEN_BYTES: Final = 4_096
MAX_SUBJECT_LENGTH: Final = 200
LEEWAY: Final = 5
"""Seconds that the issuer's clock may differ from ours."""

_REQUIRED: Final = ("iss", "aud", "sub", "scope", "iat", "exp")
_UNVERIFIED: Final = "The token is not valid here; get one from the issuer of this service."
_EXPIRED: Final = "The token has expired; get a new one."
_EXPLAINED: Final[Mapping[type[Exception], str]] = MappingProxyType(
    {
        jwt.ExpiredSignatureError: _EXPIRED,
        jwt.ImmatureSignatureError: "The token is not valid yet; wait, or set the issuer's clock right.",
        jwt.InvalidAudienceError: "The token is meant for another service; get one with this service's audience.",
        jwt.InvalidIssuerError: "The token comes from another issuer; get one from the issuer of this service.",
        jwt.MissingRequiredClaimError: f"The token lacks a claim; it needs {', '.join(_REQUIRED)}.",
    }
)
"""Messages about a token whose signature is valid."""


class RefusedError(RequestError):
    """A caller is turned away before the request is looked at."""

    def __init__(self, *, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status=status, code=code, message=message)
        self.headers: Mapping[str, str] = headers or {}


class UnauthorizedError(RefusedError):
    """The caller is not authenticated (401)."""

    def __init__(self, message: str, *, challenge: str = 'Bearer error="invalid_token"') -> None:
        super().__init__(status=401, code="unauthorized", message=message, headers={"WWW-Authenticate": challenge})


class ForbiddenError(RefusedError):
    """The caller is known and may not do this (403); any one of `needed` would do."""

    def __init__(self, needed: Collection[str]) -> None:
        names = sorted(needed)
        super().__init__(
            status=403,
            code="forbidden",
            message=f"This needs the scope {' or '.join(names)}; get a token that has it.",
            headers={"WWW-Authenticate": f'Bearer error="insufficient_scope", scope="{" ".join(names)}"'},
        )


@dataclass(frozen=True, slots=True)
class Caller:
    """The caller, its scopes, and when its token expires (seconds since 1970)."""

    subject: str
    scopes: frozenset[str]
    expires_at: int


def issue_token(
    keys: KeySet, *, subject: str, scopes: Collection[str], lifetime: timedelta, issuer: str, audience: str
) -> str:
    """A signed token. Raises ValueError for claims that a token cannot hold, KeyFileError without a key that signs."""
    if not subject.strip() or len(subject) > MAX_SUBJECT_LENGTH:
        raise ValueError(f"a subject names the caller in 1 to {MAX_SUBJECT_LENGTH} characters")
    if not scopes or not SCOPES.issuperset(scopes):
        raise ValueError(f"scopes are one or more of {', '.join(sorted(SCOPES))}")
    seconds = int(lifetime.total_seconds())
    if seconds < 1:
        raise ValueError("a token must live for at least a second: write for example 12h")
    key, signing = keys.to_sign()
    now = int(time.time())
    claims = {
        "iss": issuer,
        "aud": audience,
        "sub": subject,
        "scope": " ".join(sorted(scopes)),
        "iat": now,
        "nbf": now,
        "exp": now + seconds,
        "jti": secrets.token_hex(8),
    }
    return jwt.encode(claims, signing, key.algorithm, headers={"kid": key.kid, "typ": TOKEN_TYPE})


def issue_token_for(settings: Settings, *, subject: str, scopes: Collection[str], lifetime: timedelta) -> str:
    """A token for the service of these settings, as `issue_token`; makes the keys if there are none yet."""
    return issue_token(
        open_keys(settings),
        subject=subject,
        scopes=scopes,
        lifetime=lifetime,
        issuer=settings.jwt_issuer,
        audience=settings.jwt_audience,
    )


class TokenVerifier:
    """Turns an Authorization header into a Caller. Verified callers are cached, because a signature costs 0.1 ms.

    A cached caller is dropped when its token expires and when the keys change.
    """

    def __init__(
        self,
        keys: KeySet,
        *,
        issuer: str,
        audience: str,
        max_remembered: int = 1_024,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._keys = keys
        self._issuer = issuer
        self._audience = audience
        self._max_remembered = max_remembered
        self._clock = clock
        self._generation = keys.refresh()
        self._remembered: dict[bytes, Caller] = {}

    def verify(self, header: bytes | None) -> Caller:
        """The caller of this Authorization header. Raises UnauthorizedError."""
        generation = self._keys.refresh()
        if generation != self._generation:
            self._generation = generation
            self._remembered.clear()
        if header is None:
            raise UnauthorizedError("Send a token: Authorization: Bearer <token>", challenge="Bearer")
        caller = self._remembered.get(header)
        if caller is None:
            caller = self._caller(_token(header))
            if len(self._remembered) >= self._max_remembered:
                del self._remembered[next(iter(self._remembered))]
            self._remembered[header] = caller
        if caller.expires_at + LEEWAY <= self._clock():
            del self._remembered[header]
            raise UnauthorizedError(_EXPIRED)
        return caller

    def _caller(self, token: bytes) -> Caller:
        try:
            header = jwt.get_unverified_header(token)
            key = self._keys.find(header.get("kid"))
            if key is None or header.get("typ") != TOKEN_TYPE:
                raise UnauthorizedError(_UNVERIFIED)
            claims = jwt.decode(
                token,
                key.verifying,
                algorithms=[key.algorithm],
                issuer=self._issuer,
                audience=self._audience,
                leeway=LEEWAY,
                options={"require": list(_REQUIRED)},
            )
        except jwt.PyJWTError as error:
            # The library quotes the text that it could not read.
            raise UnauthorizedError(_EXPLAINED.get(type(error), _UNVERIFIED)) from None
        if not claims["sub"] or not isinstance(claims["scope"], str):
            raise UnauthorizedError(_UNVERIFIED)
        return Caller(claims["sub"], frozenset(claims["scope"].split()), int(claims["exp"]))


def _token(header: bytes) -> bytes:
    kind, _, token = header.partition(b" ")
    if kind.lower() != b"bearer" or not token:
        raise UnauthorizedError("Send a token: Authorization: Bearer <token>", challenge="Bearer")
    if len(token) > MAX_TOKEN_BYTES:
        raise UnauthorizedError(f"The token is too long; {MAX_TOKEN_BYTES} bytes are read.")
    return token
