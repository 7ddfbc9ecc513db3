"""Where a process listens, and its limits."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import Field, SecretStr, field_validator, model_validator

from services.runtime.settings.base import (
    CommaSeparated,
    PositiveSeconds,
    Settings,
    revealed,
    settings_from,
    variable_name,
)
from services.runtime.tls import BadTlsFile, ServerCertificate, TlsFiles

Port = Annotated[int, Field(ge=0, le=65_535)]
"""A TCP port. 0 lets the system choose a free one."""


class HttpSettings(Settings):
    """Where a process listens. Variables: `GAPLESS_HTTP_*`, `GAPLESS_OPS_PORT`, `GAPLESS_CORS_ORIGINS`."""

    model_config = settings_from("GAPLESS_HTTP_")

    host: str = Field(default="127.0.0.1", min_length=1)
    port: Port = 8080
    reuse_port: bool = False
    """Whether several processes may share the port (SO_REUSEPORT)."""
    cors_origins: CommaSeparated = Field(default=(), validation_alias="GAPLESS_CORS_ORIGINS")
    """Origins whose browsers may call us, as `https://a.example,https://b.example`, or `*`."""
    ops_port: Port = Field(default=0, validation_alias="GAPLESS_OPS_PORT")
    """Port of /healthz, /readyz and /metrics in a service without an API of its own."""
    tls_cert_file: Path | None = None
    """The certificate that all our ports present, with its chain, in PEM. Default: plain HTTP. Reloaded at SIGHUP."""
    tls_key_file: Path | None = None
    """The certificate's private key. Default: in the certificate's file."""
    tls_key_password: SecretStr | None = None
    body_limit_bytes: int = Field(default=512 * 1024, ge=1)
    """Maximum size of a request body, unless a route has a limit of its own. A larger one gets 413."""
    body_timeout_s: PositiveSeconds = 30.0
    """Deadline from the head of a request to the end of its body; then 408."""
    body_memory_bytes: int = Field(default=256 * 1024 * 1024, ge=1024 * 1024)
    """Maximum total size of all incomplete bodies; beyond it the oldest one gets 503."""
    head_limit_bytes: int = Field(default=32 * 1024, ge=1024)
    """Maximum total size of a request's header fields; a larger head gets 431."""
    max_header_fields: int = Field(default=100, ge=10)
    head_timeout_s: PositiveSeconds = 10.0
    """Deadline from the first byte of a request to the end of its head; then 408."""
    keep_alive_s: PositiveSeconds = 65.0
    """How long a connection may be idle. Must exceed a load balancer's own limit, or it may send into a closed
    connection."""
    write_timeout_s: PositiveSeconds = 60.0
    """How long a client may leave a response unread; then its connection is reset."""
    unread_memory_bytes: int = Field(default=256 * 1024 * 1024, ge=1024 * 1024)
    """Maximum total size of all unread responses; beyond it the connections with the oldest ones are reset."""
    max_connections: int = Field(default=10_000, ge=1)
    """Maximum number of connections; one more closes the one that has waited longest for its client."""
    max_concurrent_requests: int = Field(default=4_096, ge=1)
    """Maximum number of concurrent requests (and live streams); more get 503."""
    max_concurrent_requests_per_caller: int | None = Field(default=None, ge=1)
    """Maximum number of concurrent requests with one token; more get 429. Default: a quarter of the total."""

    @property
    def concurrent_requests_per_caller(self) -> int:
        return self.max_concurrent_requests_per_caller or max(1, self.max_concurrent_requests // 4)

    @property
    def tls(self) -> TlsFiles | None:
        """The certificate that servers present; None for plain HTTP."""
        if self.tls_cert_file is None:
            return None
        return TlsFiles(cert=self.tls_cert_file, key=self.tls_key_file, key_password=revealed(self.tls_key_password))

    @model_validator(mode="after")
    def _certificate_can_be_shown(self) -> HttpSettings:
        if self.tls is None:
            for name in ("tls_key_file", "tls_key_password"):
                if getattr(self, name) is not None:
                    raise ValueError(
                        f"{variable_name(type(self), name)} is set without GAPLESS_HTTP_TLS_CERT_FILE: set both or none"
                    )
            return self
        try:
            ServerCertificate(self.tls)
        except BadTlsFile as error:
            raise ValueError(f"the files of GAPLESS_HTTP_TLS_* cannot be used: {error}") from None
        return self

    @field_validator("cors_origins")
    @classmethod
    def _origins_are_origins(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for origin in value:
            if origin != "*" and not re.fullmatch(r"https?://[^/\s?#@]+", origin):
                raise ValueError(f"{origin!r} is not an origin, write it as scheme://host[:port] without a path")
        return value
