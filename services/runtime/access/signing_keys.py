"""The keys that verify tokens: one shared secret, or the public keys that an issuer publishes (JWKS).

The kind of key determines the algorithms: a published key is never used as a shared secret (the classic RS256/HS256
confusion), and a symmetric key in a JWKS is ignored.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from http.client import HTTPMessage
from typing import IO, Any, Final, Protocol
from urllib.error import URLError
from urllib.request import HTTPRedirectHandler, Request, build_opener

import anyio.to_thread
import jwt
import structlog

from services.runtime.observe.repeated_lines import warn_throttled
from services.runtime.settings import PUBLIC_KEY_ALGORITHMS, SHARED_SECRET_ALGORITHMS, is_safe_key_url
from services.runtime.web.problems import Problem

JWKS_TTL_S: Final = 300.0
"""Age at which the key set is fetched again. If the fetch fails, the old keys stay in use."""
JWKS_MIN_INTERVAL_S: Final = 10.0
"""Minimum time between two fetches, whatever `kid` unauthenticated callers send."""
JWKS_FETCH_TIMEOUT_S: Final = 5.0
JWKS_LIMIT_BYTES: Final = 1024 * 1024
"""Maximum size of an issuer's response. A longer one is truncated and then fails to parse as JSON."""

_log = structlog.get_logger(__name__)


class NoKeyForToken(Exception):
    """No key fits the token. The message is one sentence for the sender."""


class SigningKeys(Protocol):
    """A source of keys."""

    async def key_for(self, header: Mapping[str, Any]) -> Any:
        """Return the key that verifies a token with this (unverified) header: bytes or a PyJWK.

        :raises NoKeyForToken: no key fits.
        :raises Problem: `unavailable` if the keys cannot be fetched at the moment.
        """
        ...


class SharedSecret:
    """One secret for HS256, of at least 32 bytes (checked by AuthSettings)."""

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()

    async def key_for(self, header: Mapping[str, Any]) -> bytes:
        if header.get("alg") not in SHARED_SECRET_ALGORITHMS:
            raise NoKeyForToken(f"The token must be signed with {', '.join(SHARED_SECRET_ALGORITHMS)}.")
        return self._secret


class JwksKeys:
    """The public keys at a JWKS URL, fetched in a thread; concurrent callers share one fetch."""

    def __init__(self, url: str, *, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._url = url
        self._monotonic_s = monotonic_s
        self._keys: tuple[jwt.PyJWK, ...] = ()
        self._fetched_at_s: float | None = None
        self._tried_at_s: float | None = None
        self._fetching = asyncio.Lock()
        self._renewal: asyncio.Task[None] | None = None

    async def key_for(self, header: Mapping[str, Any]) -> jwt.PyJWK:
        algorithm, key_id = header.get("alg"), header.get("kid")
        if algorithm not in PUBLIC_KEY_ALGORITHMS:
            raise NoKeyForToken(f"The token must be signed with {', '.join(PUBLIC_KEY_ALGORITHMS)}.")
        key = self._find(algorithm, key_id)
        if key is None:  # never fetched, or the issuer has changed its keys since
            await self._refresh()
            key = self._find(algorithm, key_id)
        elif self._is_stale() and (self._renewal is None or self._renewal.done()):
            # Requests continue with the current keys: an issuer that hangs must not block users it has let in.
            self._renewal = asyncio.create_task(self._refresh(), name="renew signing keys")
        if key is not None:
            return key
        if self._fetched_at_s is None:
            detail = "The keys that tokens are verified with cannot be fetched at the moment."
            raise Problem("unavailable", detail, retry_after_s=JWKS_MIN_INTERVAL_S)
        raise NoKeyForToken("The token is signed with a key that its issuer does not publish.")

    def _is_stale(self) -> bool:
        return self._fetched_at_s is None or self._monotonic_s() - self._fetched_at_s > JWKS_TTL_S

    def _find(self, algorithm: str, key_id: object) -> jwt.PyJWK | None:
        fitting = [key for key in self._keys if key.algorithm_name == algorithm]
        if key_id is None:  # allowed if only one key can be meant
            return fitting[0] if len(fitting) == 1 else None
        return next((key for key in fitting if key.key_id == key_id), None)

    async def _refresh(self) -> None:
        async with self._fetching:
            now_s = self._monotonic_s()
            if self._tried_at_s is not None and now_s - self._tried_at_s < JWKS_MIN_INTERVAL_S:
                return
            self._tried_at_s = now_s
            try:
                keys = await anyio.to_thread.run_sync(self._fetch)
            except (jwt.PyJWTError, OSError, ValueError) as error:
                warn_throttled(_log, "jwks_not_fetched", url=self._url, error=str(error))
                return
            self._keys, self._fetched_at_s = keys, now_s

    def _fetch(self) -> tuple[jwt.PyJWK, ...]:
        with _OPENER.open(self._url, timeout=JWKS_FETCH_TIMEOUT_S) as answer:
            document = json.loads(answer.read(JWKS_LIMIT_BYTES))
        if not isinstance(document, dict):
            raise jwt.PyJWKSetError("the issuer's answer is not a JSON object")
        usable = (key for key in jwt.PyJWKSet.from_dict(document).keys if key.public_key_use in ("sig", None))
        return tuple(key for key in usable if key.algorithm_name in PUBLIC_KEY_ALGORITHMS)


class _SafeRedirects(HTTPRedirectHandler):
    """Follows a redirect only to a URL that the setting itself would accept."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        if not is_safe_key_url(newurl):
            raise URLError("the issuer redirects to a URL that is not https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


_OPENER: Final = build_opener(_SafeRedirects)
