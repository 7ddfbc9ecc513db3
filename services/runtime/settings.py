"""The settings of a process, read once from `GAPLESS_*` variables: one frozen class per concern.

A service composes the classes it needs in its own settings module and reads them with `load_settings`:

    class IngestSettings(Settings):
        model_config = settings_from("GAPLESS_INGEST_")
        kafka: KafkaSettings = Field(default_factory=KafkaSettings)
        reply_timeout_s: float = 2.0        # GAPLESS_INGEST_REPLY_TIMEOUT_S

    settings = load_settings(IngestSettings)

Variable names are flat: the prefix of the class and the field's name in capitals, unless the field has an alias. Tests
pass values by field name: `KafkaSettings(bootstrap_servers="127.0.0.1:1234")`.

A secret may also be in a file: `GAPLESS_KAFKA_SASL_PASSWORD_FILE=/run/secrets/kafka` has the same effect as its content
in `GAPLESS_KAFKA_SASL_PASSWORD`, but keeps the secret out of the environment.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args
from urllib.parse import urlsplit

from pydantic import (
    BeforeValidator,
    Field,
    HttpUrl,
    SecretStr,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings import SettingsError as UndecodableSetting

from services.runtime.kafka.connection import KafkaConnection, Sasl
from services.runtime.tls import BadTlsFile, ServerCertificate, TlsFiles, client_context


class SettingsError(Exception):
    """A setting is missing or wrong. The message is one sentence that names the variable to correct."""


def settings_from(env_prefix: str) -> SettingsConfigDict:
    """Return the configuration of a settings class that is read from variables starting with env_prefix."""
    return SettingsConfigDict(env_prefix=env_prefix)


class Settings(BaseSettings):
    """Base of all settings classes; a subclass sets `model_config = settings_from("GAPLESS_<NAME>_")`."""

    # Written out here for the type checker: subclasses inherit everything but the prefix.
    model_config = SettingsConfigDict(
        env_prefix="GAPLESS_", frozen=True, populate_by_name=True, extra="forbid", env_ignore_empty=True
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the sources by priority: arguments, variables, files that `<variable>_FILE` names."""
        return init_settings, env_settings, _SecretFiles(settings_cls)


class _SecretFiles(PydanticBaseSettingsSource):
    """Reads secrets from the files that `<variable>_FILE` names. Raises SettingsError."""

    def get_field_value(self, field: Any, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002
        assert issubclass(self.settings_cls, Settings), "a source of our own settings"
        variable = variable_name(self.settings_cls, field_name)
        path = os.environ.get(f"{variable}_FILE")
        if not path:
            return None, field_name, False
        if os.environ.get(variable):
            raise SettingsError(f"{variable} and {variable}_FILE are both set: keep one of them.")
        try:
            secret = Path(path).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise SettingsError(f"{variable}_FILE names {path}, which cannot be read ({reason}).") from None
        if not secret:
            raise SettingsError(f"{variable}_FILE names {path}, which is empty.")
        return secret, field_name, False

    def __call__(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, field in self.settings_cls.model_fields.items():
            if _is_secret(field.annotation):
                value, _, _ = self.get_field_value(field, name)
                if value is not None:
                    found[name] = value
        return found


def _is_secret(annotation: Any) -> bool:
    return annotation is SecretStr or SecretStr in get_args(annotation)


def _split_commas(value: object) -> object:
    """Split `a, b` into `("a", "b")`. A value that is not a string is left to the validation of its type."""
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


CommaSeparated = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split_commas)]
"""A tuple of strings, written as `a,b,c` in a variable."""

PositiveSeconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class KafkaSettings(Settings):
    """How to reach the log, and the settings of its topics. Variables: `GAPLESS_KAFKA_*`."""

    model_config = settings_from("GAPLESS_KAFKA_")

    bootstrap_servers: str = Field(default="127.0.0.1:9092", min_length=1, validation_alias="GAPLESS_KAFKA_BOOTSTRAP")
    partitions: int = Field(default=8, ge=1, le=100_000)
    """Number of partitions of chat.commands and chat.events. Fixed for the life of a log."""
    reply_partitions: int = Field(default=16, ge=1, le=10_000)
    replication_factor: int = Field(default=1, ge=1, le=32)
    min_insync_replicas: int | None = Field(default=None, ge=1, le=32)
    """Number of brokers that must have a record before it is acknowledged. Default: 2 if the topics are replicated,
    else 1. With replication, 1 loses acknowledged records when a broker dies, and must be set explicitly."""
    topic_prefix: str = Field(default="", max_length=100, pattern=r"^[A-Za-z0-9._-]*$")
    """Prefix of every topic and group name, so that tests can share a broker. Empty in production."""
    client_id: str = Field(default="gapless", min_length=1, max_length=100)

    session_timeout_s: PositiveSeconds = 3.0
    """Silence after which a consumer group reassigns a dead process's partitions. It may not be below the brokers'
    group.min.session.timeout.ms, which must be lowered (Kafka's default is 6 s; the embedded stack and compose.yaml
    set 1 s). Otherwise 6 s are used instead, with a warning."""
    max_poll_interval_s: PositiveSeconds = 300.0

    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    """Kafka's name for whether connections are encrypted (SSL) and whether we log in (SASL)."""
    tls_ca_file: Path | None = None
    """The authorities that may sign the brokers' certificates, in PEM. Default: the system's."""
    tls_cert_file: Path | None = None
    """Our own certificate with its chain, if the brokers require one (mutual TLS)."""
    tls_key_file: Path | None = None
    """The certificate's private key. Default: in the certificate's file."""
    tls_key_password: SecretStr | None = None
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] = "SCRAM-SHA-512"
    sasl_username: str | None = Field(default=None, min_length=1)
    sasl_password: SecretStr | None = None
    sasl_oauth_token_file: Path | None = None
    """The file with the token for OAUTHBEARER; read again for each connection."""

    @property
    def connection(self) -> KafkaConnection:
        """Return the parameters that every Kafka client is opened with."""
        return KafkaConnection(bootstrap_servers=self.bootstrap_servers, tls=self._tls, sasl=self._sasl)

    @property
    def _tls(self) -> TlsFiles | None:
        if not self.security_protocol.endswith("SSL"):
            return None
        return TlsFiles(
            ca=self.tls_ca_file,
            cert=self.tls_cert_file,
            key=self.tls_key_file,
            key_password=_revealed(self.tls_key_password),
        )

    @property
    def _sasl(self) -> Sasl | None:
        if not self.security_protocol.startswith("SASL"):
            return None
        return Sasl(
            mechanism=self.sasl_mechanism,
            username=self.sasl_username,
            password=_revealed(self.sasl_password),
            oauth_token_file=self.sasl_oauth_token_file if self.sasl_mechanism == "OAUTHBEARER" else None,
        )

    @model_validator(mode="after")
    def _security_is_whole(self) -> KafkaSettings:
        """Check that the security settings are complete, so that we can say what is missing before a client fails."""
        given = {name for name in _TLS_FIELDS | _SASL_FIELDS if getattr(self, name) is not None}
        unused = {name for name in given if name not in self._used_for_security}
        if unused:
            variable = variable_name(type(self), min(unused))
            using = f"GAPLESS_KAFKA_SECURITY_PROTOCOL is {self.security_protocol}"
            if self._sasl is not None and min(unused) in _SASL_FIELDS:
                using = f"GAPLESS_KAFKA_SASL_MECHANISM is {self.sasl_mechanism}"
            raise ValueError(f"{variable} is set, but would not be used: {using}; change that or unset it")
        for name in sorted(self._needed_for_sasl - given):
            raise ValueError(
                f"{variable_name(type(self), name)} is not set, and {self.security_protocol} with"
                f" {self.sasl_mechanism} needs it"
            )
        if self.tls_key_file is not None and self.tls_cert_file is None:
            raise ValueError("GAPLESS_KAFKA_TLS_KEY_FILE is set without GAPLESS_KAFKA_TLS_CERT_FILE: set both or none")
        if self._tls is not None:
            try:
                client_context(self._tls)
            except BadTlsFile as error:
                raise ValueError(f"the files of GAPLESS_KAFKA_TLS_* cannot be used: {error}") from None
        return self

    @property
    def _needed_for_sasl(self) -> set[str]:
        if self._sasl is None:
            return set()
        return {"sasl_oauth_token_file"} if self.sasl_mechanism == "OAUTHBEARER" else {"sasl_username", "sasl_password"}

    @property
    def _used_for_security(self) -> set[str]:
        return (_TLS_FIELDS if self._tls is not None else set()) | self._needed_for_sasl


_TLS_FIELDS = {"tls_ca_file", "tls_cert_file", "tls_key_file", "tls_key_password"}
_SASL_FIELDS = {"sasl_username", "sasl_password", "sasl_oauth_token_file"}


def _revealed(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()


class PostgresSettings(Settings):
    """How to reach the read model. Variables: `GAPLESS_POSTGRES_*`."""

    model_config = settings_from("GAPLESS_POSTGRES_")

    dsn: SecretStr = SecretStr("postgresql://127.0.0.1:5432/gapless")
    """libpq connection string or URI; secret because it may contain a password."""
    pool_min_size: int = Field(default=1, ge=0, le=1_000)
    pool_max_size: int = Field(default=10, ge=1, le=1_000)
    connect_timeout_s: PositiveSeconds = 5.0
    acquire_timeout_s: PositiveSeconds = 5.0
    """How long a request waits for a free connection of the pool."""
    statement_timeout_s: PositiveSeconds = 30.0
    """Maximum run time of a statement, enforced by the server."""

    @model_validator(mode="after")
    def _sizes_fit(self) -> PostgresSettings:
        if self.pool_min_size > self.pool_max_size:
            raise ValueError(
                f"GAPLESS_POSTGRES_POOL_MIN_SIZE ({self.pool_min_size}) is more than "
                f"GAPLESS_POSTGRES_POOL_MAX_SIZE ({self.pool_max_size}): lower the first or raise the second"
            )
        return self


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
        return TlsFiles(cert=self.tls_cert_file, key=self.tls_key_file, key_password=_revealed(self.tls_key_password))

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


class LogSettings(Settings):
    """How a process logs. Variables: `GAPLESS_LOG_FORMAT`, `GAPLESS_LOG_LEVEL`."""

    model_config = settings_from("GAPLESS_LOG_")

    format: Literal["json", "console", "auto"] = "auto"
    """Format of log lines. auto: console if standard error is a terminal, else json."""
    level: Literal["debug", "info", "warning", "error"] = "info"

    @field_validator("level", "format", mode="before")
    @classmethod
    def _in_any_case(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value


class ProcessSettings(Settings):
    """The process itself. Variable: `GAPLESS_SHUTDOWN_TIMEOUT_S`."""

    model_config = settings_from("GAPLESS_")

    shutdown_timeout_s: PositiveSeconds = 10.0


SettingsT = TypeVar("SettingsT", bound=Settings)


def load_settings(cls: type[SettingsT]) -> SettingsT:
    """Read cls from the environment.

    :raises SettingsError: one sentence that names the variable.
    """
    try:
        return cls()
    except ValidationError as error:
        raise SettingsError(_sentence(cls, error)) from None
    except UndecodableSetting as error:
        raise SettingsError(f"A {cls.__name__} variable cannot be decoded: {error}.") from None


def _sentence(cls: type[Settings], error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    message = first["msg"].removeprefix("Value error, ")
    if not first["loc"]:  # a check of several fields: its message names the variables itself
        return f"{message[0].upper()}{message[1:]}."
    name, *inner = (str(part) for part in first["loc"])
    owner = next((c for c in _settings_classes(cls) if c.__name__ == error.title), cls)
    while inner and (nested := _nested_class(owner, name)) is not None:
        owner, name, inner = nested, inner[0], inner[1:]
    variable = variable_name(owner, name)
    if first["type"] == "missing":
        return f"{variable} is not set, and there is no default."
    return f"{variable} is wrong: {_as_clause(message)}."


def _as_clause(message: str) -> str:
    """Lower-case the first letter, unless it starts an abbreviation (`URL scheme should be ...`)."""
    return message if message[1:2].isupper() else f"{message[:1].lower()}{message[1:]}"


def variable_name(cls: type[Settings], field_name: str) -> str:
    """Return the environment variable that a field of cls is read from."""
    field = cls.model_fields.get(field_name)
    if field is None:  # if a field has an alias, an error's location is the alias itself
        return field_name.upper()
    if isinstance(field.validation_alias, str):
        return field.validation_alias
    return f"{cls.model_config.get('env_prefix', '')}{field_name}".upper()


def variables_of(cls: type[Settings]) -> frozenset[str]:
    """Return every environment variable that cls and its nested settings are read from."""
    found: set[str] = set()
    for owner in _settings_classes(cls):
        for name, field in owner.model_fields.items():
            if _nested_class(owner, name) is None:
                found.add(variable_name(owner, name))
            if _is_secret(field.annotation):
                found.add(f"{variable_name(owner, name)}_FILE")
    return frozenset(found)


def _nested_class(cls: type[Settings], field_name: str) -> type[Settings] | None:
    field = cls.model_fields.get(field_name)
    candidates: tuple[Any, ...] = (field.annotation, *get_args(field.annotation)) if field else ()
    return next((c for c in candidates if isinstance(c, type) and issubclass(c, Settings)), None)


def _settings_classes(cls: type[Settings]) -> Iterator[type[Settings]]:
    yield cls
    for name in cls.model_fields:
        nested = _nested_class(cls, name)
        if nested is not None:
            yield from _settings_classes(nested)
