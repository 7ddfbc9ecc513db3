"""How to reach Kafka, and what the topics are."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, model_validator

from services.runtime.kafka.connection import KafkaConnection, Sasl
from services.runtime.settings.base import PositiveSeconds, Settings, revealed, settings_from, variable_name
from services.runtime.tls import BadTlsFile, TlsFiles, client_context


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
            key_password=revealed(self.tls_key_password),
        )

    @property
    def _sasl(self) -> Sasl | None:
        if not self.security_protocol.startswith("SASL"):
            return None
        return Sasl(
            mechanism=self.sasl_mechanism,
            username=self.sasl_username,
            password=revealed(self.sasl_password),
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
