"""Authentication of callers: a bearer JWT becomes a `Caller`, or the request is refused with 401.

An `Authenticator` is built once per process from `AuthSettings`; routes get the caller with
`Annotated[Caller, Depends(current_caller)]` (the application built by `http.build_app` holds the authenticator)
or with `Depends(caller_dependency(authenticator))`.

The user is the claim named by GAPLESS_JWT_USER_CLAIM. A value written as a UUID (8-4-4-4-12 hex digits, any case)
is lower-cased; any other value becomes UUIDv5(UUIDv5(NS_URL, iss), value), with an empty `iss` if the token has
none. So the same name from two issuers is two users.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final
from uuid import NAMESPACE_URL, uuid5

import jwt
from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from services.runtime.access.signing_keys import JwksKeys, NoKeyForToken, SharedSecret, SigningKeys
from services.runtime.settings import AuthSettings
from services.runtime.web.problems import Problem

MAX_TOKEN_CHARS: Final = 8_192
MAX_CLAIM_CHARS: Final = 255
CACHE_TTL_S: Final = 60.0
CACHE_SIZE: Final = 10_000

_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE)
_BEARER: Final = HTTPBearer(auto_error=False, bearerFormat="JWT")


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """The sender of a request. `claim` is the raw value of the token's user claim."""

    user_id: str
    scopes: frozenset[str]
    expires_at_s: float
    claim: str


class Authenticator:
    """Verifies tokens and caches the verified ones for at most CACHE_TTL_S, never beyond their exp.

    The cache saves a signature check per request. It holds hashes of tokens, not the tokens.
    """

    def __init__(self, settings: AuthSettings, *, now_s: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._now_s = now_s
        self._keys: SigningKeys
        if settings.jwks_url is not None:
            self._keys = JwksKeys(settings.jwks_url)
        else:
            assert settings.secret is not None  # AuthSettings requires one of the two
            self._keys = SharedSecret(settings.secret.get_secret_value())
        self._verified: OrderedDict[bytes, tuple[float, Caller]] = OrderedDict()

    async def authenticate(self, token: str) -> Caller:
        """Return the caller that the token identifies.

        :raises Problem: `unauthorized`, or `unavailable` while the issuer's keys cannot be fetched.
        """
        if len(token) > MAX_TOKEN_CHARS:
            raise _refused("The token is too long.")
        digest = hashlib.sha256(token.encode("utf-8", "replace")).digest()
        now_s = self._now_s()
        known = self._verified.get(digest)
        if known is not None and now_s < known[0]:
            self._verified.move_to_end(digest)
            return known[1]
        caller = await self._verify(token)
        self._verified[digest] = (min(now_s + CACHE_TTL_S, caller.expires_at_s), caller)
        self._verified.move_to_end(digest)
        if len(self._verified) > CACHE_SIZE:
            self._verified.popitem(last=False)
        return caller

    async def _verify(self, token: str) -> Caller:
        try:
            header = jwt.get_unverified_header(token)
            key = await self._keys.key_for(header)
            return self._caller(self._decode(token, key))
        except NoKeyForToken as error:
            raise _refused(str(error)) from None
        except jwt.ExpiredSignatureError:
            raise _refused("The token has expired.") from None
        except jwt.MissingRequiredClaimError as error:
            raise _refused(f"The token has no claim {error.claim}.") from None
        except jwt.InvalidSignatureError:
            raise _refused("The signature of the token is wrong.") from None
        except jwt.InvalidAlgorithmError:
            allowed = ", ".join(self._settings.algorithms)
            raise _refused(f"The token must be signed with {allowed}.") from None
        except jwt.InvalidAudienceError:
            raise _refused("The token is meant for another audience.") from None
        except jwt.InvalidIssuerError:
            raise _refused("The token comes from another issuer.") from None
        except jwt.ImmatureSignatureError:
            raise _refused("The token is not valid yet.") from None
        # Anything else raised by untrusted input means a bad token: deep nesting, lone surrogates, ...
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError, OverflowError):
            raise _refused("The token cannot be read.") from None

    def _decode(self, token: str, key: Any) -> dict[str, Any]:
        settings = self._settings
        return jwt.decode(
            token,
            key,
            algorithms=list(settings.algorithms),
            audience=settings.expected_audience,
            issuer=settings.expected_issuer,
            leeway=settings.leeway_s,
            options={
                "require": ["exp", settings.user_claim],
                "verify_aud": settings.expected_audience is not None,
                "verify_iss": settings.expected_issuer is not None,
                "verify_sub": False,  # its format matters only if it is the user claim, see _caller
            },
        )

    def _caller(self, claims: Mapping[str, Any]) -> Caller:
        claim = claims[self._settings.user_claim]
        if isinstance(claim, int) and not isinstance(claim, bool):
            claim = str(claim)
        issuer = claims.get("iss", "")
        if not (_short_text(claim) and claim):
            raise _refused(f"The claim {self._settings.user_claim} must be a short text.")
        if not _short_text(issuer):
            raise _refused("The claim iss must be a short text.")
        expires_at_s = float(claims["exp"]) + self._settings.leeway_s
        return Caller(
            user_id=user_id_of(claim, issuer=issuer),
            scopes=_scopes(claims),
            expires_at_s=expires_at_s,
            claim=claim,
        )


def user_id_of(claim: str, *, issuer: str = "") -> str:
    """Return the user id (a lower-case UUID) for a value of the user claim."""
    if _UUID.fullmatch(claim):
        return claim.lower()
    return str(uuid5(uuid5(NAMESPACE_URL, issuer), claim))


def _short_text(value: object) -> bool:
    return isinstance(value, str) and len(value) <= MAX_CLAIM_CHARS


def _scopes(claims: Mapping[str, Any]) -> frozenset[str]:
    """Return the union of `scope`, a space-separated string (RFC 8693), and `scp`, a list or such a string."""
    found: set[str] = set()
    for value in (claims.get("scope"), claims.get("scp")):
        if isinstance(value, str):
            found.update(value.split())
        elif isinstance(value, list):
            found.update(item for item in value if isinstance(item, str))
    return frozenset(found)


def _refused(detail: str) -> Problem:
    """Return a 401 whose challenge says that the token was invalid (RFC 6750 §3.1)."""
    return Problem(
        "unauthorized",
        detail,
        headers={"WWW-Authenticate": 'Bearer error="invalid_token"'},
    )


CallerDependency = Callable[..., Awaitable[Caller]]
CredentialsOfRequest = Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)]


def caller_dependency(authenticator: Authenticator) -> CallerDependency:
    """Return a FastAPI dependency that resolves to the request's Caller or responds with 401."""

    async def caller(credentials: CredentialsOfRequest) -> Caller:
        return await _authenticated(authenticator, credentials)

    return caller


async def current_caller(request: Request, credentials: CredentialsOfRequest) -> Caller:
    """Return the request's Caller. For routers declared before the application: uses `app.state.authenticator`."""
    authenticator: Authenticator = request.app.state.authenticator
    return await _authenticated(authenticator, credentials)


async def authenticated(authenticator: Authenticator, authorization: str | None) -> Caller:
    """Return the Caller for the value of an `Authorization` header. For code that reads headers itself."""
    scheme, _, token = (authorization or "").partition(" ")
    if not token or scheme.lower() != "bearer":
        raise _without_token()
    return await authenticator.authenticate(token)


async def _authenticated(authenticator: Authenticator, credentials: HTTPAuthorizationCredentials | None) -> Caller:
    if credentials is None:
        raise _without_token()
    return await authenticator.authenticate(credentials.credentials)


def _without_token() -> Problem:
    return Problem("unauthorized", "Send a token in the header Authorization: Bearer <token>.")


def mint_token(
    secret: str,
    user: str,
    *,
    scopes: Iterable[str] = (),
    ttl_s: float = 24 * 3600,
    user_claim: str = "sub",
    issuer: str | None = None,
    audience: str | None = None,
    now_s: float | None = None,
) -> str:
    """Return a development token, signed with the shared secret (HS256)."""
    issued_at_s = int(time.time() if now_s is None else now_s)
    claims: dict[str, Any] = {user_claim: user, "iat": issued_at_s, "exp": issued_at_s + int(ttl_s)}
    if issuer is not None:
        claims["iss"] = issuer
    if audience is not None:
        claims["aud"] = audience
    if joined := " ".join(sorted(scopes)):
        claims["scope"] = joined
    return jwt.encode(claims, secret, algorithm="HS256")
