"""The keys that sign and verify tokens, stored in a JWK set file.

Belongs here: creating, reading and watching that file, and the minimum strength of keys. Must not be here: tokens,
HTTP. The type of a key decides its one algorithm. The algorithm that a token names is ignored.
"""

import json
import logging
import os
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from jwt.algorithms import OKPAlgorithm

from fraud_pipeline.settings import Settings

Algorithm = Literal["EdDSA", "RS256", "HS256"]
VerifyingKey = Ed25519PublicKey | RSAPublicKey | bytes
SigningKey = Ed25519PrivateKey | RSAPrivateKey | bytes
Stamp = tuple[int, int, int]

CHECK_EVERY: Final = 1.0
"""Seconds between two checks of the file."""

log: Final = logging.getLogger(__name__)
_ALGORITHMS: Final[Mapping[str, Algorithm]] = MappingProxyType({"OKP": "EdDSA", "RSA": "RS256", "oct": "HS256"})
_PRIVATE: Final = 0o600
_SECRET_PARTS: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
"""Of a key as JSON (RFC 7518)."""
_FOR_GROUP: Final = 0o640


class KeyFileError(RuntimeError):
    """The key file cannot be used. The message says what to do and contains nothing of any key."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path} {why}")


@dataclass(frozen=True, slots=True)
class Key:
    """One key; `signing` is None where only the public half is known."""

    kid: str
    algorithm: Algorithm
    verifying: VerifyingKey = field(repr=False)
    signing: SigningKey | None = field(repr=False)


class KeySet:
    """The keys of a file, read again when the file changes. A file that became unusable changes nothing.

    The first key signs. The others verify tokens that they signed before (`rotate_keys`).
    """

    def __init__(self, path: Path, *, check_every: float = CHECK_EVERY) -> None:
        self._path = path
        self._check_every = check_every
        self._check_at = time.monotonic() + check_every
        self._stamp = _stamp(path)
        self._keys = read_keys(path)
        self._generation = 1

    def refresh(self) -> int:
        """Read the file again if it changed; returns the number of reads so far, which shows a change of keys."""
        now = time.monotonic()
        if now >= self._check_at:
            self._check_at = now + self._check_every
            stamp = _stamp(self._path)
            if stamp != self._stamp:
                self._stamp = stamp
                self._read_again()
        return self._generation

    def find(self, kid: str | None) -> Key | None:
        """The key of this id."""
        return self._keys.get(kid) if kid is not None else None

    def to_sign(self) -> tuple[Key, SigningKey]:
        """The first key that can sign, and its algorithm. Raises KeyFileError."""
        for key in self._keys.values():
            if key.signing is not None:
                return key, key.signing
        raise KeyFileError(self._path, "holds public keys only: let the owner of the private keys issue tokens")

    def _read_again(self) -> None:
        try:
            self._keys = read_keys(self._path)
        except KeyFileError as error:
            log.error("%s (the keys read before stay in use)", error)  # noqa: TRY400  # a trace could quote the file
        else:
            self._generation += 1
            log.info("keys read again: %s", ", ".join(self._keys))


def open_keys(settings: Settings) -> KeySet:
    """The keys of these settings; our own file is made at first use, a file named by a setting must exist."""
    if settings.jwt_keys is None and not settings.keys_file.exists():
        try:
            create_keys(settings.keys_file)
        except FileExistsError:
            log.debug("another process was first to make the keys")
    if settings.public_keys is not None:
        publish_keys(settings.keys_file, settings.public_keys)
    return KeySet(settings.keys_file)


def create_keys(path: Path) -> None:
    """Write a fresh Ed25519 key that only the owner can read; FileExistsError rather than replace a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = _written_beside(path, _key_set([_new_key()]))
    try:
        # Unlike a rename, a link never replaces a file that another process created first.
        path.hardlink_to(unfinished)
    finally:
        unfinished.unlink()


def rotate_keys(path: Path, *, keep: int = 1) -> str:
    """Put a fresh key first, so that it signs, and keep the `keep` newest of the others; the fresh key's id.

    Processes follow the file. Raises KeyFileError when it cannot be used as it is.
    """
    read_keys(path)
    kept = json.loads(path.read_text(encoding="utf-8"))["keys"][:keep]
    fresh = _new_key()
    write_secret(path, _key_set([fresh, *kept]))
    return fresh["kid"]


def publish_keys(path: Path, public: Path) -> None:
    """Write the public halves of a file's keys to another one, for processes that only verify. Raises KeyFileError."""
    if any(isinstance(key.verifying, bytes) for key in read_keys(path).values()):
        raise KeyFileError(path, "holds shared secrets, which have no public half: use OKP or RSA keys")
    keys = json.loads(path.read_text(encoding="utf-8"))["keys"]
    text = _key_set([{name: part for name, part in key.items() if name not in _SECRET_PARTS} for key in keys])
    if not public.exists() or public.read_text(encoding="utf-8") != text:
        write_secret(public, text)


def write_secret(path: Path, text: str, *, for_group: bool = False) -> None:
    """Put a file there, whole from the first moment, that only its owner can read, or its group too."""
    unfinished = _written_beside(path, text)
    if for_group:
        unfinished.chmod(_FOR_GROUP)
    unfinished.replace(path)


def _key_set(jwks: list[dict[str, str]]) -> str:
    return json.dumps({"keys": jwks}, indent=2)


def _new_key() -> dict[str, str]:
    return {"kid": secrets.token_hex(8), **OKPAlgorithm.to_jwk(Ed25519PrivateKey.generate(), as_dict=True)}


def _written_beside(path: Path, text: str) -> Path:
    """A file next to `path` that only the owner can read."""
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _PRIVATE), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    return unfinished


def read_keys(path: Path) -> dict[str, Key]:
    """Key id -> key, in the order of the file. Raises KeyFileError."""
    try:
        with path.open(encoding="utf-8") as file:
            mode = os.fstat(file.fileno()).st_mode & 0o777
            document = json.load(file)
    except FileNotFoundError:
        raise KeyFileError(
            path, "does not exist: name a JWK set in FRAUD_JWT_KEYS, or leave it empty to have one made"
        ) from None
    except OSError as error:
        raise KeyFileError(
            path, f"cannot be read ({error.strerror}): let the service's user, and only it, read it"
        ) from None
    except (ValueError, RecursionError):
        raise KeyFileError(path, "is not JSON: write a JWK set (RFC 7517)") from None
    entries = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(entries, list) or not entries or not all(isinstance(entry, dict) for entry in entries):
        raise KeyFileError(path, 'is not a JWK set: write {"keys": [...]} with at least one key')
    if mode & 0o077 and any("d" in entry or entry.get("kty") == "oct" for entry in entries):
        raise KeyFileError(
            path, f"holds secrets and others may use it (mode {mode:04o}): chmod 600 it, and replace its keys"
        )
    keys: dict[str, Key] = {}
    for position, entry in enumerate(entries):
        key = _key(entry, path=path, position=position)
        if key.kid in keys:
            raise KeyFileError(path, f"keys[{position}] repeats a kid: give each key its own")
        keys[key.kid] = key
    return keys


def _key(entry: Mapping[str, Any], *, path: Path, position: int) -> Key:
    where = f"keys[{position}]"
    kid, kind = entry.get("kid"), entry.get("kty")
    if not isinstance(kid, str) or not kid:
        raise KeyFileError(path, f"{where} has no kid: give each key an id of its own")
    algorithm = _ALGORITHMS.get(kind) if isinstance(kind, str) else None
    if algorithm is None:
        raise KeyFileError(path, f"{where} has an unknown kty: use OKP (Ed25519), RSA or oct")
    if entry.get("alg", algorithm) != algorithm or entry.get("use", "sig") != "sig":
        raise KeyFileError(path, f"{where} is meant for something else: {kind} keys here sign with {algorithm}")
    try:
        jwk = jwt.PyJWK(dict(entry), algorithm)
        key = jwk.Algorithm.prepare_key(jwk.key)
        weakness = jwk.Algorithm.check_key_length(key)
    except (jwt.PyJWTError, KeyError, TypeError, ValueError, AttributeError):
        # The library quotes the key in its error message.
        raise KeyFileError(path, f"{where} is damaged: replace this {kind} key") from None
    if weakness:
        raise KeyFileError(path, f"{where} is too short: RSA keys need 2048 bits, oct keys 32 random bytes")
    match key:
        case Ed25519PrivateKey() | RSAPrivateKey():
            return Key(kid, algorithm, verifying=key.public_key(), signing=key)
        case Ed25519PublicKey() | RSAPublicKey():
            return Key(kid, algorithm, verifying=key, signing=None)
        case bytes():
            return Key(kid, algorithm, verifying=key, signing=key)
    raise KeyFileError(path, f"{where} has an unknown curve: OKP keys here are Ed25519")


def _stamp(path: Path) -> Stamp | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size
