"""Authentication: the tokens that are accepted, and every kind that is not."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from pydantic import SecretStr

from services.runtime.access.auth import MAX_TOKEN_CHARS, Authenticator, Caller, mint_token, user_id_of
from services.runtime.access.signing_keys import JWKS_MIN_INTERVAL_S, JWKS_TTL_S, JwksKeys
from services.runtime.settings import AuthSettings
from services.runtime.web.problems import Problem

SECRET = "a development secret of 32 bytes!"
USER = "11111111-1111-4111-8111-111111111111"
FAR_S = 4_000_000_000

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def shared_secret(**settings: Any) -> Authenticator:
    return Authenticator(AuthSettings(secret=SecretStr(SECRET), **settings))


def signed(claims: dict[str, Any], *, key: Any = SECRET, algorithm: str = "HS256", **header: Any) -> str:
    return jwt.encode(claims, key, algorithm=algorithm, headers=header)


def handmade(header: bytes, claims: bytes = b"{}") -> str:
    """Return a token with any header and claims, correctly signed with SECRET."""
    signing_input = b".".join(base64.urlsafe_b64encode(part).rstrip(b"=") for part in (header, claims))
    signature = hmac.new(SECRET.encode(), signing_input, hashlib.sha256).digest()
    return (signing_input + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()


async def refusal(authenticator: Authenticator, token: str) -> Problem:
    with pytest.raises(Problem) as refused:
        await authenticator.authenticate(token)
    assert refused.value.status == 401
    assert refused.value.headers["WWW-Authenticate"].startswith("Bearer")
    assert token not in str(refused.value)
    return refused.value


async def test_a_minted_token_is_believed() -> None:
    now_s = int(time.time())
    token = mint_token(SECRET, USER, scopes=["producer", "import"], ttl_s=60, now_s=now_s)
    assert await shared_secret().authenticate(token) == Caller(
        user_id=USER,
        scopes=frozenset({"producer", "import"}),
        expires_at_s=now_s + 60,
        claim=USER,
    )


async def test_a_wrong_signature_is_refused() -> None:
    token = mint_token("another secret that is long enough.", USER)
    assert (await refusal(shared_secret(), token)).detail == "The signature of the token is wrong."


async def test_changed_claims_are_refused() -> None:
    header, _, signature = mint_token(SECRET, USER).split(".")
    claims = base64.urlsafe_b64encode(json.dumps({"sub": "root", "exp": FAR_S}).encode()).decode().rstrip("=")
    await refusal(shared_secret(), f"{header}.{claims}.{signature}")


@pytest.mark.parametrize("name", ["none", "None", "NONE", ""])
async def test_an_unsigned_token_is_refused(name: str) -> None:
    header, claims = json.dumps({"alg": name}), json.dumps({"sub": USER, "exp": FAR_S})
    token = handmade(header.encode(), claims.encode())
    await refusal(shared_secret(), token)
    await refusal(shared_secret(), token.rsplit(".", 1)[0] + ".")


async def test_another_algorithm_of_the_same_secret_is_refused() -> None:
    token = signed({"sub": USER, "exp": FAR_S}, key=SECRET * 2, algorithm="HS512")
    assert "HS256" in str((await refusal(shared_secret(), token)).detail)


async def test_an_expired_token_is_refused() -> None:
    token = mint_token(SECRET, USER, ttl_s=60, now_s=time.time() - 61)
    assert (await refusal(shared_secret(), token)).detail == "The token has expired."


async def test_a_token_within_the_leeway_is_still_believed() -> None:
    token = mint_token(SECRET, USER, ttl_s=60, now_s=time.time() - 61)
    assert (await shared_secret(leeway_s=30).authenticate(token)).user_id == USER


async def test_a_token_without_exp_is_refused() -> None:
    assert "exp" in str((await refusal(shared_secret(), signed({"sub": USER}))).detail)


async def test_a_token_that_is_not_valid_yet_is_refused() -> None:
    await refusal(shared_secret(), signed({"sub": USER, "exp": FAR_S, "nbf": FAR_S - 10}))


async def test_issuer_and_audience_are_checked_when_set() -> None:
    strict = shared_secret(issuer="https://issuer.example", audience="gapless")
    good = {"iss": "https://issuer.example", "aud": ["other", "gapless"], "sub": USER, "exp": FAR_S}
    assert (await strict.authenticate(signed(good))).user_id == USER
    for changed in ({"iss": "https://evil.example"}, {"aud": "other"}):
        await refusal(strict, signed(good | changed))
    for missing in ("iss", "aud"):
        await refusal(strict, signed({key: value for key, value in good.items() if key != missing}))


async def test_issuer_and_audience_do_not_matter_when_not_set() -> None:
    token = signed({"iss": "https://any.example", "aud": "any", "sub": USER, "exp": FAR_S})
    assert (await shared_secret().authenticate(token)).user_id == USER


async def test_a_uuid_in_any_case_is_taken_in_lower_case() -> None:
    upper = "AAAAAAAA-BBBB-4CCC-8DDD-EEEEEEEEEEEE"
    caller = await shared_secret().authenticate(mint_token(SECRET, upper))
    assert (caller.user_id, caller.claim) == (upper.lower(), upper)


async def test_a_name_becomes_a_uuid_of_issuer_and_name() -> None:
    authenticator = shared_secret()
    issuer = "https://issuer.example"
    with_issuer = await authenticator.authenticate(signed({"sub": "bob", "iss": issuer, "exp": FAR_S}))
    without = await authenticator.authenticate(signed({"sub": "bob", "exp": FAR_S}))
    assert with_issuer.user_id == str(uuid5(uuid5(NAMESPACE_URL, issuer), "bob"))
    assert without.user_id == str(uuid5(uuid5(NAMESPACE_URL, ""), "bob")) == user_id_of("bob")
    assert with_issuer.user_id != without.user_id


def test_other_spellings_of_a_uuid_are_names_of_their_own() -> None:
    for spelling in (f"urn:uuid:{USER}", f"{{{USER}}}", USER.replace("-", ""), f" {USER}", f"{USER}\n"):
        assert user_id_of(spelling) != USER
        assert str(UUID(user_id_of(spelling))) == user_id_of(spelling)


async def test_another_claim_can_name_the_user() -> None:
    authenticator = shared_secret(user_claim="uid")
    assert (await authenticator.authenticate(signed({"uid": USER, "sub": 7, "exp": FAR_S}))).user_id == USER
    assert (await authenticator.authenticate(signed({"uid": 42, "exp": FAR_S}))).claim == "42"
    assert "uid" in str((await refusal(authenticator, signed({"sub": USER, "exp": FAR_S}))).detail)


@pytest.mark.parametrize("value", ["", None, True, 1.5, ["bob"], {"a": 1}, "x" * 256, "\ud800"])
async def test_a_user_claim_that_is_no_short_text_is_refused(value: object) -> None:
    claims = json.dumps({"sub": value, "exp": FAR_S}).encode()
    await refusal(shared_secret(), handmade(b'{"alg":"HS256"}', claims))


@pytest.mark.parametrize(
    ("claims", "scopes"),
    [
        ({"scope": "producer  other"}, {"producer", "other"}),
        ({"scp": ["producer", 7, "import"]}, {"producer", "import"}),
        ({"scp": "import"}, {"import"}),
        ({"scope": {"producer": True}}, set()),
        ({}, set()),
    ],
)
async def test_scopes_come_from_scope_or_scp(claims: dict[str, Any], scopes: set[str]) -> None:
    caller = await shared_secret().authenticate(signed({"sub": USER, "exp": FAR_S} | claims))
    assert caller.scopes == scopes


@pytest.mark.parametrize(
    "token",
    [
        "",
        "x",
        "a.b.c",
        "..",
        "\x00",
        "\udcff.\udcff.\udcff",
        "e" * (MAX_TOKEN_CHARS + 1),
        handmade(b"[" * 3000),
        handmade(b'{"alg":["HS256"]}'),
        handmade(b'{"alg":"HS256","kid":7}'),
        handmade(b'{"alg":"HS256","crit":["x"]}'),
        handmade(b'{"alg":"HS256"}', b"[]"),
        handmade(b'{"alg":"HS256"}', b"\xff"),
        handmade(b'{"alg":"HS256"}', b'{"a":' + b"[" * 3000),
        handmade(b'{"alg":"HS256"}', b'{"sub":"bob","exp":1e400}'),
        handmade(b'{"alg":"HS256"}', b'{"sub":"bob","exp":NaN}'),
        handmade(b'{"alg":"HS256"}', b'{"sub":"bob","exp":' + b"9" * 400 + b"}"),
        handmade(b'{"alg":"HS256"}', b'{"sub":"bob","exp":"soon"}'),
        handmade(b'{"alg":"HS256"}', b'{"sub":"bob","exp":4000000000,"iss":7}'),
        handmade(b'{"alg":"HS256"}', b'{"sub":"bob","exp":4000000000,"iss":"\\ud800"}'),
    ],
)
async def test_whatever_a_stranger_sends_is_refused_and_never_an_error_of_ours(token: str) -> None:
    with pytest.raises(Problem) as refused:
        await shared_secret().authenticate(token)
    assert refused.value.reason == "unauthorized"


async def test_a_remembered_token_is_refused_once_it_expires() -> None:
    now_s = time.time()
    clock = [now_s]
    authenticator = Authenticator(AuthSettings(secret=SecretStr(SECRET)), now_s=lambda: clock[0])
    token = mint_token(SECRET, USER, ttl_s=2, now_s=now_s)
    assert (await authenticator.authenticate(token)).user_id == USER
    assert token.encode() not in repr(vars(authenticator)).encode()
    clock[0] = now_s + 2
    with pytest.MonkeyPatch.context() as patch:  # PyJWT reads the clock itself
        patch.setattr("jwt.api_jwt.datetime", _clock_at(now_s + 2))
        assert (await refusal(authenticator, token)).detail == "The token has expired."


def _clock_at(now_s: float) -> Any:
    import datetime as module

    class Clock(module.datetime):
        @classmethod
        def now(cls, tz: module.tzinfo | None = None) -> module.datetime:  # type: ignore[override]
            return module.datetime.fromtimestamp(now_s, tz)

    return Clock


async def test_a_token_that_was_verified_is_not_verified_again(monkeypatch: pytest.MonkeyPatch) -> None:
    authenticator = shared_secret()
    token = mint_token(SECRET, USER)
    first = await authenticator.authenticate(token)
    monkeypatch.setattr(authenticator, "_verify", None)
    assert await authenticator.authenticate(token) is first


class Issuer:
    """An issuer's JWKS, served by a thread on 127.0.0.1."""

    def __init__(self) -> None:
        self.keys: list[dict[str, Any]] = []
        self.fetches = 0
        self.broken = False
        self.redirects_to: str | None = None
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.fetches += 1
                body = json.dumps({"keys": issuer.keys}).encode()
                if issuer.redirects_to is not None and self.path == "/jwks":
                    self.send_response(302)
                    self.send_header("Location", issuer.redirects_to)
                else:
                    self.send_response(500 if issuer.broken else 200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = HTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}/jwks"

    def publish(self, public_key: Any, algorithm: str, kid: str, **members: Any) -> None:
        to_jwk = jwt.get_algorithm_by_name(algorithm).to_jwk(public_key, as_dict=True)
        self.keys.append(to_jwk | {"kid": kid, "alg": algorithm} | members)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


def by_published_keys(of: Issuer, *, issuer: str = "*", audience: str = "*") -> Authenticator:
    return Authenticator(AuthSettings(jwks_url=of.url, issuer=issuer, audience=audience))


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    issuer = Issuer()
    yield issuer
    issuer.close()


RSA_KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PRIVATE_KEYS: dict[str, Any] = {
    "RS256": RSA_KEY,
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}
CLAIMS = {"sub": USER, "exp": FAR_S}


@pytest.mark.parametrize("algorithm", sorted(PRIVATE_KEYS))
async def test_a_token_signed_with_a_published_key_is_believed(issuer: Issuer, algorithm: str) -> None:
    private_key = PRIVATE_KEYS[algorithm]
    issuer.publish(private_key.public_key(), algorithm, "k1")
    authenticator = by_published_keys(issuer)
    token = signed(CLAIMS, key=private_key, algorithm=algorithm, kid="k1")
    assert (await authenticator.authenticate(token)).user_id == USER
    without_kid = signed(CLAIMS, key=private_key, algorithm=algorithm)
    assert (await authenticator.authenticate(without_kid)).user_id == USER
    assert issuer.fetches == 1


async def test_a_token_signed_with_an_unpublished_key_is_refused(issuer: Issuer) -> None:
    issuer.publish(RSA_KEY.public_key(), "RS256", "k1")
    authenticator = by_published_keys(issuer)
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    same_kid = await refusal(authenticator, signed(CLAIMS, key=other, algorithm="RS256", kid="k1"))
    assert same_kid.detail == "The signature of the token is wrong."
    await refusal(authenticator, signed(CLAIMS, key=other, algorithm="RS256", kid="k2"))


async def test_a_published_key_is_never_taken_for_a_shared_secret(issuer: Issuer) -> None:
    issuer.publish(RSA_KEY.public_key(), "RS256", "k1")
    pem = RSA_KEY.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    header, claims = (
        base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=")
        for part in ({"alg": "HS256", "typ": "JWT", "kid": "k1"}, CLAIMS)
    )
    signature = hmac.new(pem, header + b"." + claims, hashlib.sha256).digest()
    token = b".".join((header, claims, base64.urlsafe_b64encode(signature).rstrip(b"="))).decode()
    authenticator = by_published_keys(issuer)
    assert "RS256" in str((await refusal(authenticator, token)).detail)


async def test_a_symmetric_key_in_a_jwks_is_not_used(issuer: Issuer) -> None:
    secret = base64.urlsafe_b64encode(SECRET.encode()).decode().rstrip("=")
    issuer.keys.append({"kty": "oct", "k": secret, "kid": "k1", "alg": "HS256"})
    issuer.publish(RSA_KEY.public_key(), "RS256", "k2")
    authenticator = by_published_keys(issuer)
    await refusal(authenticator, signed(CLAIMS, kid="k1"))
    await refusal(authenticator, mint_token(SECRET, USER))


async def test_the_key_of_another_algorithm_is_not_used(issuer: Issuer) -> None:
    issuer.publish(PRIVATE_KEYS["ES256"].public_key(), "ES256", "k1")
    authenticator = by_published_keys(issuer)
    await refusal(authenticator, signed(CLAIMS, key=RSA_KEY, algorithm="RS256", kid="k1"))


async def test_a_key_for_encryption_is_not_used(issuer: Issuer) -> None:
    issuer.publish(RSA_KEY.public_key(), "RS256", "k1", use="enc")
    authenticator = by_published_keys(issuer)
    await refusal_or_unavailable(authenticator, signed(CLAIMS, key=RSA_KEY, algorithm="RS256", kid="k1"))


async def refusal_or_unavailable(authenticator: Authenticator, token: str) -> None:
    with pytest.raises(Problem):
        await authenticator.authenticate(token)


async def test_keys_that_cannot_be_fetched_are_unavailable_not_unauthorized(issuer: Issuer) -> None:
    issuer.broken = True
    authenticator = by_published_keys(issuer)
    token = signed(CLAIMS, key=RSA_KEY, algorithm="RS256", kid="k1")
    for _ in range(3):
        with pytest.raises(Problem) as problem:
            await authenticator.authenticate(token)
        assert (problem.value.reason, problem.value.retry_after_s) == ("unavailable", JWKS_MIN_INTERVAL_S)
    assert issuer.fetches == 1, "strangers must not make us hammer the issuer"


async def test_a_published_key_is_believed_for_the_issuer_and_the_audience_that_are_named(issuer: Issuer) -> None:
    issuer.publish(RSA_KEY.public_key(), "RS256", "k1")
    named = {"iss": "https://issuer.example", "aud": "gapless"}
    strict = by_published_keys(issuer, issuer=named["iss"], audience=named["aud"])

    def token(**claims: str) -> str:
        return signed(CLAIMS | claims, key=RSA_KEY, algorithm="RS256", kid="k1")

    assert (await strict.authenticate(token(**named))).claim == USER
    for claims in ({}, {"iss": named["iss"]}, {"aud": named["aud"]}, named | {"aud": "mail"}, named | {"iss": "other"}):
        await refusal(strict, token(**claims))
    for claims in ({}, {"iss": "whoever", "aud": "whatever"}):
        assert (await by_published_keys(issuer).authenticate(token(**claims))).claim == USER


async def test_no_key_is_fetched_from_where_the_issuer_must_not_lead(issuer: Issuer) -> None:
    """0.0.0.0 is this host to the system, but not a loopback address to us: it would answer, without TLS."""
    issuer.publish(RSA_KEY.public_key(), "RS256", "k1")
    header = {"alg": "RS256", "kid": "k1"}
    issuer.redirects_to = issuer.url.replace("127.0.0.1", "0.0.0.0").replace("/jwks", "/elsewhere")
    with pytest.raises(Problem, match="cannot be fetched"):
        await JwksKeys(issuer.url).key_for(header)
    issuer.redirects_to = issuer.url.replace("/jwks", "/elsewhere")
    assert (await JwksKeys(issuer.url).key_for(header)).key_id == "k1"


async def test_a_new_key_of_the_issuer_is_found_after_the_shortest_interval(issuer: Issuer) -> None:
    clock_s = [1000.0]
    keys = JwksKeys(issuer.url, monotonic_s=lambda: clock_s[0])
    issuer.publish(RSA_KEY.public_key(), "RS256", "old")
    assert (await keys.key_for({"alg": "RS256", "kid": "old"})).key_id == "old"
    issuer.publish(PRIVATE_KEYS["ES256"].public_key(), "ES256", "new")
    for _ in range(5):
        with pytest.raises(Exception, match="does not publish"):
            await keys.key_for({"alg": "ES256", "kid": "new"})
    assert issuer.fetches == 1
    clock_s[0] += JWKS_MIN_INTERVAL_S
    assert (await keys.key_for({"alg": "ES256", "kid": "new"})).key_id == "new"
    assert issuer.fetches == 2


async def test_old_keys_serve_on_while_the_issuer_is_away(issuer: Issuer) -> None:
    clock_s = [1000.0]
    keys = JwksKeys(issuer.url, monotonic_s=lambda: clock_s[0])
    issuer.publish(RSA_KEY.public_key(), "RS256", "k1")
    await keys.key_for({"alg": "RS256", "kid": "k1"})
    issuer.broken = True
    clock_s[0] += JWKS_TTL_S + 1
    assert (await keys.key_for({"alg": "RS256", "kid": "k1"})).key_id == "k1"
    assert keys._renewal is not None
    await keys._renewal
    assert issuer.fetches == 2
    assert (await keys.key_for({"alg": "RS256", "kid": "k1"})).key_id == "k1"
