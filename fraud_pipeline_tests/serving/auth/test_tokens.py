"""Tokens and keys: valid ones are accepted, and everything else is refused."""

import base64
import hashlib
import hmac
import json
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from jwt import api_jws
from jwt.algorithms import ECAlgorithm, HMACAlgorithm, OKPAlgorithm, RSAAlgorithm

from fraud_pipeline.settings import Settings
from serving.auth.keys import KeyFileError, KeySet, create_keys, open_keys
from serving.auth.tokens import (
    LEEWAY,
    MAX_TOKEN_BYTES,
    SCOPES,
    Caller,
    TokenVerifier,
    UnauthorizedError,
    issue_token,
    issue_token_for,
)

ISSUER: Final = "fraud-detect"
AUDIENCE: Final = "fraud-detect-http"
Jwk = dict[str, Any]

ED25519: Final = ed25519.Ed25519PrivateKey.generate()
RSA_2048: Final = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
RSA_1024: Final = rsa.generate_private_key(public_exponent=65_537, key_size=1_024)  # noqa: S505  # to be refused
SECRET: Final = bytes(range(32))
OKP_KEY: Final[Jwk] = {"kid": "okp", **OKPAlgorithm.to_jwk(ED25519, as_dict=True)}
RSA_KEY: Final[Jwk] = {"kid": "rsa", **RSAAlgorithm.to_jwk(RSA_2048, as_dict=True)}
RSA_PUBLIC: Final[Jwk] = {"kid": "rsa", **RSAAlgorithm.to_jwk(RSA_2048.public_key(), as_dict=True)}
OCT_KEY: Final[Jwk] = {"kid": "oct", **HMACAlgorithm.to_jwk(SECRET, as_dict=True)}


def write_keys(path: Path, *keys: Jwk, mode: int = 0o600) -> Path:
    """A file of keys, put there in one step as a careful operator does."""
    unfinished = path.with_suffix(".new")
    unfinished.write_text(json.dumps({"keys": keys}))
    unfinished.chmod(mode)
    return unfinished.replace(path)


def key_set(path: Path, *keys: Jwk) -> KeySet:
    """Keys that are looked at on every use."""
    return KeySet(write_keys(path, *keys), check_every=0)


def verifier_of(keys: KeySet, **options: Any) -> TokenVerifier:
    return TokenVerifier(keys, issuer=ISSUER, audience=AUDIENCE, **options)


def issue(keys: KeySet, *, subject: str = "shop-7", lifetime: timedelta = timedelta(hours=1)) -> str:
    return issue_token(
        keys, subject=subject, scopes={"score", "feedback"}, lifetime=lifetime, issuer=ISSUER, audience=AUDIENCE
    )


def bearer(token: str | bytes) -> bytes:
    return b"Bearer " + (token.encode() if isinstance(token, str) else token)


def good_claims() -> dict[str, Any]:
    now = int(time.time())
    return {"iss": ISSUER, "aud": AUDIENCE, "sub": "shop-7", "scope": "score", "iat": now, "nbf": now, "exp": now + 600}


def signed(claims: dict[str, Any], **header: Any) -> bytes:
    """A header with a validly signed token of any content."""
    headers = {"kid": "okp", "typ": "at+jwt", **header}
    return bearer(api_jws.encode(json.dumps(claims).encode(), ED25519, "EdDSA", headers))


def segment(part: bytes) -> bytes:
    return base64.urlsafe_b64encode(part).rstrip(b"=")


def signed_hs256(secret: bytes, **header: Any) -> bytes:
    """As an attacker writes it, past the library's refusal to sign with a public key."""
    parts = [{"alg": "HS256", "typ": "at+jwt", **header}, good_claims()]
    text = b".".join(segment(json.dumps(part).encode()) for part in parts)
    return bearer(text + b"." + segment(hmac.digest(secret, text, hashlib.sha256)))


def refusal(verifier: TokenVerifier, header: bytes | None) -> UnauthorizedError:
    with pytest.raises(UnauthorizedError) as caught:
        verifier.verify(header)
    assert caught.value.status == 401
    return caught.value


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> KeySet:
    return key_set(tmp_path_factory.mktemp("keys") / "keys.json", OKP_KEY, RSA_KEY, OCT_KEY)


@pytest.fixture(scope="module")
def verifier(keys: KeySet) -> TokenVerifier:
    return verifier_of(keys)


class TestGoodTokens:
    @pytest.mark.parametrize("jwk", [OKP_KEY, RSA_KEY, OCT_KEY], ids=lambda jwk: jwk["kty"])
    def test_what_was_issued_is_verified(self, tmp_path: Path, jwk: Jwk) -> None:
        keys = key_set(tmp_path / "keys.json", jwk)
        before = int(time.time())
        caller = verifier_of(keys).verify(bearer(issue(keys)))
        assert caller == Caller("shop-7", frozenset({"score", "feedback"}), caller.expires_at)
        assert before + 3_600 <= caller.expires_at <= time.time() + 3_600

    def test_the_public_half_verifies_what_the_private_half_signed_and_signs_nothing(self, tmp_path: Path) -> None:
        token = issue(key_set(tmp_path / "private.json", RSA_KEY))
        public = key_set(tmp_path / "public.json", RSA_PUBLIC)
        assert verifier_of(public).verify(bearer(token)).subject == "shop-7"
        with pytest.raises(KeyFileError, match="public keys only"):
            issue(public)

    def test_a_caller_is_remembered(self, keys: KeySet, verifier: TokenVerifier) -> None:
        header = bearer(issue(keys))
        assert verifier.verify(header) is verifier.verify(header)

    def test_no_more_callers_are_remembered_than_asked(self, keys: KeySet) -> None:
        verifier = verifier_of(keys, max_remembered=2)
        headers = [bearer(issue(keys, subject=f"shop-{n}")) for n in range(5)]
        assert [verifier.verify(header).subject for header in headers * 2] == [f"shop-{n}" for n in range(5)] * 2
        assert len(verifier._remembered) == 2

    def test_the_scheme_is_written_as_anybody_likes_and_nbf_may_be_left_out(self, verifier: TokenVerifier) -> None:
        claims = {name: value for name, value in good_claims().items() if name != "nbf"}
        assert verifier.verify(signed(claims).replace(b"Bearer", b"bEARER")).scopes == {"score"}

    def test_several_audiences_may_be_ours_among_others(self, verifier: TokenVerifier) -> None:
        assert verifier.verify(signed(good_claims() | {"aud": ["another", AUDIENCE]})).subject == "shop-7"


class TestForgedTokens:
    @given(data=st.data())
    def test_no_byte_of_a_token_can_be_changed(
        self, data: st.DataObject, keys: KeySet, verifier: TokenVerifier
    ) -> None:
        kid = data.draw(st.sampled_from(["okp", "rsa", "oct"]))
        key = keys.find(kid)
        assert key is not None
        assert key.signing is not None
        token = jwt.encode(good_claims(), key.signing, key.algorithm, headers={"kid": kid, "typ": "at+jwt"}).encode()
        assert verifier.verify(bearer(token)).subject == "shop-7"
        position = data.draw(st.integers(0, len(token) - 1))
        byte = data.draw(st.integers(0, 255).filter(lambda byte: byte != token[position]))
        changed = token[:position] + bytes([byte]) + token[position + 1 :]
        shorter = token[:position] + token[position + 1 :]
        for other in (changed, shorter):
            refusal(verifier, bearer(other))

    @given(header=st.binary(max_size=200))
    def test_noise_is_refused(self, verifier: TokenVerifier, header: bytes) -> None:
        refusal(verifier, header)
        refusal(verifier, bearer(header))

    @given(
        parts=st.tuples(
            st.dictionaries(
                st.sampled_from(["alg", "kid", "typ", "crit", "b64"]),
                st.sampled_from(
                    [
                        "EdDSA",
                        "HS256",
                        "none",
                        "",
                        "okp",
                        "oct",
                        "at+jwt",
                        None,
                        1,
                        True,
                        False,
                        [],
                        {},
                        ["b64"],
                        float("nan"),
                    ]
                ),
            ),
            st.recursive(
                st.none() | st.integers() | st.text(),
                lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from([*good_claims(), "x"]), inner),
                max_leaves=5,
            ),
        ),
        signature=st.binary(max_size=64),
    )
    def test_well_formed_noise_is_refused(
        self, verifier: TokenVerifier, parts: tuple[Any, Any], signature: bytes
    ) -> None:
        segments = [*(segment(json.dumps(part).encode()) for part in parts), segment(signature)]
        refusal(verifier, bearer(b".".join(segments)))

    def test_an_unsigned_token_is_refused(self, verifier: TokenVerifier) -> None:
        for alg in ("none", "None", "NONE", ""):
            for kid in ("okp", "rsa", "oct"):
                parts = ({"alg": alg, "typ": "at+jwt", "kid": kid}, good_claims())
                text = b".".join(segment(json.dumps(part).encode()) for part in parts)
                refusal(verifier, bearer(text + b"."))

    def test_a_public_key_is_no_secret(self, verifier: TokenVerifier) -> None:
        public = RSA_2048.public_key()
        pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        der = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        raw = ED25519.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        for secret in (pem, pem.strip(), der, raw, json.dumps(RSA_PUBLIC).encode(), b""):
            for kid in ("rsa", "okp", "oct"):
                refusal(verifier, signed_hs256(secret, kid=kid))

    def test_a_key_verifies_only_by_the_algorithm_of_its_type(self, verifier: TokenVerifier) -> None:
        assert verifier.verify(signed_hs256(SECRET, kid="oct")).subject == "shop-7"
        refusal(verifier, signed_hs256(SECRET, kid="oct", alg="HS512"))
        for algorithm in ("RS384", "RS512", "PS256"):
            headers = {"kid": "rsa", "typ": "at+jwt"}
            refusal(verifier, bearer(jwt.encode(good_claims(), RSA_2048, algorithm, headers=headers)))

    def test_a_key_of_the_set_signs_only_under_its_own_id(self, verifier: TokenVerifier) -> None:
        refusal(verifier, signed_hs256(SECRET, kid="rsa"))
        refusal(verifier, signed(good_claims(), kid="rsa"))

    @pytest.mark.parametrize("kid", ["unknown", "", None, 7, ["okp"]])
    def test_a_token_must_name_a_key_that_is_known(self, verifier: TokenVerifier, kid: object) -> None:
        refusal(verifier, signed_hs256(SECRET, **({} if kid is None else {"kid": kid})))

    @pytest.mark.parametrize("kind", ["JWT", "AT+JWT", "id+jwt", "", None, 7])
    def test_only_access_tokens_are_accepted(self, verifier: TokenVerifier, kind: object) -> None:
        refusal(verifier, signed(good_claims(), typ=kind))

    def test_an_extension_that_must_be_understood_is_not(self, verifier: TokenVerifier) -> None:
        refusal(verifier, signed(good_claims(), crit=["exp"], exp=1))


class TestClaims:
    @pytest.mark.parametrize("name", ["iss", "aud", "sub", "scope", "iat", "exp"])
    def test_a_missing_claim_is_named_among_those_needed(self, verifier: TokenVerifier, name: str) -> None:
        lacking = {key: value for key, value in good_claims().items() if key != name}
        for claims in (lacking, lacking | {name: None}):
            assert name in refusal(verifier, signed(claims)).message

    @pytest.mark.parametrize(
        ("wrong", "why"),
        [
            ({"iss": "somebody"}, "another issuer"),
            ({"iss": [ISSUER]}, "another issuer"),
            ({"aud": "another-service"}, "another service"),
            ({"aud": ["another-service"]}, "another service"),
            ({"exp": 1_000_000_000}, "expired"),
            ({"nbf": 9_000_000_000}, "not valid yet"),
            ({"iat": 9_000_000_000}, "not valid yet"),
            ({"sub": ""}, "not valid"),
            ({"sub": 7}, "not valid"),
            ({"scope": ["score"]}, "not valid"),
            ({"exp": "soon"}, "not valid"),
            ({"exp": float("inf")}, "not valid"),
            ({"nbf": float("nan")}, "not valid"),
            ({"iat": {}}, "not valid"),
        ],
        ids=str,
    )
    def test_a_wrong_claim_is_refused_with_the_reason(
        self, verifier: TokenVerifier, wrong: dict[str, Any], why: str
    ) -> None:
        error = refusal(verifier, signed(good_claims() | wrong))
        assert why in error.message
        assert error.headers == {"WWW-Authenticate": 'Bearer error="invalid_token"'}

    def test_a_token_without_scopes_is_known_and_may_do_nothing(self, verifier: TokenVerifier) -> None:
        assert verifier.verify(signed(good_claims() | {"scope": ""})).scopes == frozenset()

    def test_a_remembered_caller_ends_with_the_token(self, keys: KeySet) -> None:
        now = [time.time()]
        verifier = verifier_of(keys, clock=lambda: now[0])
        header = bearer(issue(keys, lifetime=timedelta(minutes=5)))
        expires_at = verifier.verify(header).expires_at
        now[0] = expires_at + LEEWAY - 0.01
        assert verifier.verify(header).expires_at == expires_at
        now[0] = expires_at + LEEWAY
        assert "expired" in refusal(verifier, header).message

    def test_clocks_may_differ_by_the_leeway(self, verifier: TokenVerifier) -> None:
        now = int(time.time())
        late = good_claims() | {"iat": now + LEEWAY - 2, "nbf": now + LEEWAY - 2}
        assert verifier.verify(signed(late)).subject == "shop-7"
        refusal(verifier, signed(good_claims() | {"exp": now - LEEWAY}))

    def test_a_long_token_is_not_read(self, verifier: TokenVerifier) -> None:
        assert verifier.verify(signed(good_claims() | {"x": "y" * 2_500})).subject == "shop-7"
        assert f"{MAX_TOKEN_BYTES} bytes" in refusal(verifier, signed(good_claims() | {"x": "y" * 3_500})).message


class TestWhatIsSaid:
    @pytest.mark.parametrize("header", [None, b"", b"Bearer", b"Bearer ", b"Basic dXNlcjpwYXNz", b"token"])
    def test_who_sends_no_token_is_told_how(self, verifier: TokenVerifier, header: bytes | None) -> None:
        error = refusal(verifier, header)
        assert error.message == "Send a token: Authorization: Bearer <token>"
        assert error.headers == {"WWW-Authenticate": "Bearer"}

    @given(secret=st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=12))
    def test_no_message_holds_what_was_sent(self, verifier: TokenVerifier, secret: str) -> None:
        for header in (
            bearer(secret),
            secret.encode(),
            signed(good_claims() | {"iss": secret}),
            signed(good_claims() | {"aud": secret, "sub": secret}),
            signed(good_claims() | {"exp": f"on {secret}"}),
            signed(good_claims(), kid=secret),
            signed(good_claims(), typ=secret, crit=[secret]),
        ):
            error = refusal(verifier, header)
            assert secret not in f"{error} {error.headers}"
            assert error.__cause__ is None
            assert error.__suppress_context__ or error.__context__ is None

    def test_a_key_shows_nothing_of_itself(self, keys: KeySet) -> None:
        assert repr(keys.find("oct")) == "Key(kid='oct', algorithm='HS256')"


class TestIssuing:
    @pytest.mark.parametrize(
        ("wrong", "why"),
        [
            ({"scopes": set()}, "admin, feedback, metrics, score"),
            ({"scopes": {"score", "root"}}, "admin, feedback, metrics, score"),
            ({"subject": " "}, "subject"),
            ({"subject": "x" * 201}, "subject"),
            ({"lifetime": timedelta(0)}, "at least a second"),
            ({"lifetime": timedelta(days=-1)}, "at least a second"),
        ],
    )
    def test_what_no_token_can_say_is_refused(self, keys: KeySet, wrong: dict[str, Any], why: str) -> None:
        right: dict[str, Any] = {"subject": "shop-7", "scopes": {"score"}, "lifetime": timedelta(hours=1)}
        with pytest.raises(ValueError, match=why):
            issue_token(keys, **(right | wrong), issuer=ISSUER, audience=AUDIENCE)

    def test_the_longest_subject_with_all_scopes_fits(self, keys: KeySet, verifier: TokenVerifier) -> None:
        subject = "\N{PERSON BOWING DEEPLY}" * 200
        token = issue_token(
            keys, subject=subject, scopes=SCOPES, lifetime=timedelta(days=3650), issuer=ISSUER, audience=AUDIENCE
        )
        assert verifier.verify(bearer(token)).scopes == SCOPES

    def test_a_token_is_issued_from_the_settings_alone(self, tmp_path: Path) -> None:
        settings = Settings(home=tmp_path / "home", jwt_issuer="bank", jwt_audience="desk")
        token = issue_token_for(settings, subject="shop-7", scopes=["score"], lifetime=timedelta(hours=12))
        verifier = TokenVerifier(open_keys(settings), issuer="bank", audience="desk")
        assert verifier.verify(bearer(token)).scopes == {"score"}


class TestKeyFile:
    def test_a_fresh_key_is_secret_from_its_first_moment_and_no_two_are_alike(self, tmp_path: Path) -> None:
        paths = [tmp_path / "not" / "yet" / "there" / name for name in ("a.json", "b.json")]
        for path in paths:
            create_keys(path)
            assert path.stat().st_mode & 0o777 == 0o600
            key, _ = KeySet(path).to_sign()
            assert key.algorithm == "EdDSA"
        assert paths[0].read_text() != paths[1].read_text()
        assert sorted(paths[0].parent.iterdir()) == paths

    def test_keys_are_never_overwritten_however_many_start_at_once(self, tmp_path: Path) -> None:
        path = tmp_path / "keys.json"

        def create(_: int) -> str | None:
            try:
                create_keys(path)
            except FileExistsError:
                return None
            return path.read_text()

        with ThreadPoolExecutor(8) as pool:
            written = [text for text in pool.map(create, range(8)) if text is not None]
        assert written == [path.read_text()]
        assert list(tmp_path.iterdir()) == [path]

    def test_our_own_file_is_made_at_first_use_and_kept(self, tmp_path: Path) -> None:
        settings = Settings(home=tmp_path / "home")
        assert open_keys(settings).to_sign()[0].kid == open_keys(settings).to_sign()[0].kid

    def test_a_file_that_a_setting_names_must_exist(self, tmp_path: Path) -> None:
        with pytest.raises(KeyFileError, match="FRAUD_JWT_KEYS"):
            open_keys(Settings(home=tmp_path, jwt_keys=tmp_path / "absent.json"))

    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601, 0o644])
    @pytest.mark.parametrize("jwk", [OKP_KEY, RSA_KEY, OCT_KEY], ids=lambda jwk: jwk["kty"])
    def test_secrets_that_others_may_use_are_refused(self, tmp_path: Path, jwk: Jwk, mode: int) -> None:
        path = write_keys(tmp_path / "keys.json", RSA_PUBLIC | {"kid": "first"}, jwk, mode=mode)
        with pytest.raises(KeyFileError, match=f"{mode:04o}.*chmod 600"):
            KeySet(path)

    def test_public_keys_are_for_everybody(self, tmp_path: Path) -> None:
        assert KeySet(write_keys(tmp_path / "keys.json", RSA_PUBLIC, mode=0o644)).find("rsa") is not None

    @pytest.mark.parametrize(
        ("wrong", "why"),
        [
            ({"kid": None}, "no kid"),
            ({"kid": 7}, "no kid"),
            ({"kty": "EC"}, "unknown kty"),
            ({"kty": ["OKP"]}, "unknown kty"),
            ({"alg": "RS256"}, "something else"),
            ({"use": "enc"}, "something else"),
            ({"x": None}, "damaged"),
            ({"x": "AAAA"}, "damaged"),
            ({"d": OKPAlgorithm.to_jwk(ed25519.Ed25519PrivateKey.generate(), as_dict=True)["d"]}, "damaged"),
            ({"crv": "P-256"}, "damaged"),
            (OKPAlgorithm.to_jwk(ed448.Ed448PrivateKey.generate(), as_dict=True), "curve"),
            (ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP256R1()), as_dict=True), "unknown kty"),
            (
                RSAAlgorithm.to_jwk(RSA_1024, as_dict=True),
                "2048",
            ),
            (HMACAlgorithm.to_jwk(bytes(31), as_dict=True), "32 random bytes"),
            (
                HMACAlgorithm.to_jwk(
                    RSA_2048.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), as_dict=True
                ),
                "damaged",
            ),
            ({"kty": "oct", "k": ""}, "damaged"),
            ({"kty": "oct"}, "damaged"),
            ({"kty": "RSA"}, "damaged"),
        ],
        ids=lambda case: str(sorted(case)) if isinstance(case, dict) else case,
    )
    def test_a_key_that_cannot_be_trusted_is_refused_without_quoting_it(
        self, tmp_path: Path, wrong: Jwk, why: str
    ) -> None:
        bad = OKP_KEY | wrong
        path = write_keys(tmp_path / "keys.json", RSA_PUBLIC, bad)
        with pytest.raises(KeyFileError, match=rf"keys\[1\] .*{why}") as caught:
            KeySet(path)
        assert not any(str(bad[name]) in str(caught.value) for name in ("d", "k", "x") if bad.get(name))
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__ or caught.value.__context__ is None

    @pytest.mark.parametrize(
        "text", ["", "{", "[]", "{}", '{"keys": []}', '{"keys": [1]}', '{"keys": {}}', "[" * 99_999]
    )
    def test_what_is_no_key_set_is_refused(self, tmp_path: Path, text: str) -> None:
        path = tmp_path / "keys.json"
        path.write_text(text)
        with pytest.raises(KeyFileError, match="JWK set"):
            KeySet(path)

    def test_two_keys_with_one_id_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(KeyFileError, match=r"keys\[1\] repeats a kid"):
            KeySet(write_keys(tmp_path / "keys.json", OKP_KEY, RSA_KEY | {"kid": "okp"}))


class TestRotation:
    def test_both_keys_hold_until_the_old_one_is_taken_out(self, tmp_path: Path) -> None:
        path = tmp_path / "keys.json"
        keys = key_set(path, OKP_KEY)
        verifier = verifier_of(keys)
        old = bearer(issue(keys))
        verifier.verify(old)

        write_keys(path, RSA_KEY, OKP_KEY)
        verifier.verify(old)
        new = bearer(issue(keys))
        assert jwt.get_unverified_header(new.split()[1])["kid"] == "rsa"
        verifier.verify(new)

        write_keys(path, RSA_KEY)
        verifier.verify(new)
        refusal(verifier, old)

    @pytest.mark.parametrize(
        "spoil",
        [
            lambda path: path.write_text('{"keys": ['),
            lambda path: path.unlink(),
            lambda path: write_keys(path, RSA_KEY, mode=0o644),
        ],
        ids=["half written", "gone", "readable by others"],
    )
    def test_a_spoiled_file_changes_nothing_and_is_told_once(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture, spoil: Callable[[Path], object]
    ) -> None:
        path = tmp_path / "keys.json"
        keys = key_set(path, OKP_KEY)
        verifier = verifier_of(keys)
        header = bearer(issue(keys))
        spoil(path)
        for _ in range(3):
            verifier.verify(header)
        assert [record.levelname for record in caplog.records] == ["ERROR"]
        assert str(OKP_KEY["d"]) not in caplog.text

        path.unlink(missing_ok=True)
        write_keys(path, RSA_KEY)
        refusal(verifier, header)

    def test_a_file_changed_in_place_within_one_tick_of_its_clock_is_noticed(self, tmp_path: Path) -> None:
        path = tmp_path / "keys.json"
        keys = key_set(path, OKP_KEY)
        before = path.stat()
        path.write_text(json.dumps({"keys": [RSA_KEY]}))
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        keys.refresh()
        assert keys.find("okp") is None

    def test_the_file_is_looked_at_no_more_often_than_asked(self, tmp_path: Path) -> None:
        path = write_keys(tmp_path / "keys.json", OKP_KEY)
        keys = KeySet(path, check_every=3_600)
        write_keys(path, RSA_KEY)
        keys.refresh()
        assert keys.find("okp") is not None
