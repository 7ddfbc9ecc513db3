"""How a process reaches Kafka: addresses, encryption and identity, in one value that every client takes.

`KafkaSettings.connection` builds it from `GAPLESS_KAFKA_*`. Every client is opened with
`AIOKafkaProducer(**connection.client_options(), ...)`, never with addresses alone, so that none can lack encryption or
identity: `tests/unit/house/test_kafka_clients.py` finds those that do.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from services.runtime.tls import TlsFiles, client_context

if TYPE_CHECKING:
    from aiokafka.abc import AbstractTokenProvider

MECHANISMS: Final = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sasl:
    """Our identity and how we prove it."""

    mechanism: str
    """One of MECHANISMS."""
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    oauth_token_file: Path | None = None
    """The file with the bearer token of OAUTHBEARER. It is read for each connection, because the token is renewed by
    replacing the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaConnection:
    """Everything needed to open a connection to a broker."""

    bootstrap_servers: str
    tls: TlsFiles | None = None
    """TLS files; None for an unencrypted connection."""
    sasl: Sasl | None = None
    """SASL identity; None for no SASL. With a certificate in `tls` the broker may still identify us (mutual TLS)."""

    @classmethod
    def plain(cls, bootstrap_servers: str) -> KafkaConnection:
        """Return a connection without encryption and identity, for a broker on this host or on a private network."""
        return cls(bootstrap_servers=bootstrap_servers)

    @property
    def security_protocol(self) -> str:
        """Kafka's name for the protocol: PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL."""
        encrypted = "PLAINTEXT" if self.tls is None else "SSL"
        return encrypted if self.sasl is None else f"SASL_{encrypted}"

    @property
    def uses_token(self) -> bool:
        """Whether we authenticate with OAUTHBEARER."""
        return self.sasl is not None and self.sasl.oauth_token_file is not None

    def client_options(self) -> dict[str, Any]:
        """Return keyword arguments for any aiokafka client: consumer, producer, admin or bare client."""
        return {"bootstrap_servers": self.bootstrap_servers, **self.security_options()}

    def security_options(self) -> dict[str, Any]:
        """Return the same without the addresses, for a single connection."""
        options: dict[str, Any] = {"security_protocol": self.security_protocol}
        if self.tls is not None:
            options["ssl_context"] = client_context(self.tls)
        if self.sasl is not None:
            options["sasl_mechanism"] = self.sasl.mechanism
            if self.sasl.oauth_token_file is not None:
                options["sasl_oauth_token_provider"] = _token_provider(self.sasl.oauth_token_file)
            else:
                options["sasl_plain_username"] = self.sasl.username
                options["sasl_plain_password"] = self.sasl.password
        return options


def _first_word(path: Path) -> str:
    return path.read_text(encoding="utf-8").strip()


def _token_provider(path: Path) -> AbstractTokenProvider:
    # Imported here so that a process that never uses Kafka can read settings without it.
    from aiokafka.abc import AbstractTokenProvider

    class TokenFile(AbstractTokenProvider):  # type: ignore[misc]  # aiokafka is not typed
        async def token(self) -> str:
            return await asyncio.to_thread(_first_word, path)

    return TokenFile()
