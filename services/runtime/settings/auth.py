"""Whose tokens are accepted."""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit

from pydantic import Field, HttpUrl, SecretStr, TypeAdapter, field_validator, model_validator

from services.runtime.settings.base import Settings, settings_from

SHARED_SECRET_ALGORITHMS = ("HS256",)
PUBLIC_KEY_ALGORITHMS = ("RS256", "ES256", "EdDSA")
MIN_SECRET_BYTES = 32
"""Minimum length of an HS256 key: that of its hash, 256 bits (RFC 7518 §3.2)."""

_HTTP_URL = TypeAdapter(HttpUrl)


WAIVED = "*"
"""Value of issuer or audience that accepts any, or none."""


def is_safe_key_url(url: str) -> bool:
    """Return whether keys fetched from there cannot be replaced in transit."""
    parts = urlsplit(url)
    host = (parts.hostname or "").rstrip(".").lower()
    if parts.scheme == "https" or host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


class AuthSettings(Settings):
    """Whose tokens are accepted. Variables: `GAPLESS_JWT_*`; exactly one of SECRET and JWKS_URL must be set.

    The kind of key determines the algorithms: a shared secret allows only HS256, a JWKS URL only public-key algorithms,
    so a public key can never be used as a shared secret.

    A published key signs for every application of its issuer, and for every issuer of a shared key server. So with a
    JWKS URL the issuer and the audience must be named, or waived with `*`.
    """

    model_config = settings_from("GAPLESS_JWT_")

    secret: SecretStr | None = None
    jwks_url: str | None = None
    user_claim: str = Field(default="sub", min_length=1, max_length=100)
    issuer: str | None = None
    audience: str | None = None
    leeway_s: float = Field(default=0.0, ge=0, le=300)
    """Tolerated difference between the issuer's clock and ours when checking exp, nbf and iat."""

    @property
    def algorithms(self) -> tuple[str, ...]:
        """The algorithms a token may be signed with."""
        return SHARED_SECRET_ALGORITHMS if self.jwks_url is None else PUBLIC_KEY_ALGORITHMS

    @property
    def expected_issuer(self) -> str | None:
        """The required `iss`; None if any value, or none, is accepted."""
        return None if self.issuer == WAIVED else self.issuer

    @property
    def expected_audience(self) -> str | None:
        """The value that `aud` must contain; None if any value, or none, is accepted."""
        return None if self.audience == WAIVED else self.audience

    @field_validator("jwks_url")
    @classmethod
    def _jwks_url_is_safe(cls, value: str | None) -> str | None:
        if value is not None:
            _HTTP_URL.validate_python(value)
            if not is_safe_key_url(value):
                raise ValueError("the keys must come over https, unless from this host (localhost, 127.0.0.1, ::1)")
        return value

    @model_validator(mode="after")
    def _exactly_one_kind_of_key(self) -> AuthSettings:
        if self.secret is not None and self.jwks_url is not None:
            raise ValueError("GAPLESS_JWT_SECRET and GAPLESS_JWT_JWKS_URL are both set: keep one of them")
        if self.secret is None and self.jwks_url is None:
            raise ValueError(
                "neither GAPLESS_JWT_SECRET nor GAPLESS_JWT_JWKS_URL is set: set one of them, or no token "
                "can be verified"
            )
        if self.secret is not None and len(self.secret.get_secret_value().encode()) < MIN_SECRET_BYTES:
            raise ValueError(f"GAPLESS_JWT_SECRET is too short: HS256 needs at least {MIN_SECRET_BYTES} bytes")
        return self

    @model_validator(mode="after")
    def _published_keys_sign_for_one_application(self) -> AuthSettings:
        unset = [name for name in ("issuer", "audience") if getattr(self, name) is None]
        if self.jwks_url is not None and unset:
            variables = " and ".join(f"GAPLESS_JWT_{name.upper()}" for name in unset)
            raise ValueError(
                f"GAPLESS_JWT_JWKS_URL is set without {variables}: a published key signs for other applications too; "
                f"name what their tokens must not have, or set * to accept any {' and any '.join(unset)}"
            )
        return self
