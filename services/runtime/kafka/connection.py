"""How a process reaches Kafka: addresses, encryption and identity, in one value that every client takes.

`KafkaSettings.connection` makes it from `GAPLESS_KAFKA_*`. A client is opened with
`AIOKafkaProducer(**connection.client_options(), ...)` and never with addresses alone, so that no client can be the
one that was forgotten: `tests/unit/house/test_kafka_clients.py` looks for those that do.
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
    """Who we say we are, and how it is proved."""

    mechanism: str
    """One of MECHANISMS."""
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    oauth_token_file: Path | None = None
    """Holds the bearer token of OAUTHBEARER; read again for each connection, as whoever renews it replaces the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaConnection:
    """Everything that opening a connection to a broker takes."""

    bootstrap_servers: str
    tls: TlsFiles | None = None
    """None: not encrypted."""
    sasl: Sasl | None = None
    """None: no SASL; with a certificate in `tls` the broker may still know who we are (mutual TLS)."""

    @classmethod
    def plain(cls, bootstrap_servers: str) -> KafkaConnection:
        """Without encryption and identity, for a broker on this machine or on a network of its own."""
        return cls(bootstrap_servers=bootstrap_servers)

    @property
    def security_protocol(self) -> str:
        """Kafka's name for it: PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL."""
        encrypted = "PLAINTEXT" if self.tls is None else "SSL"
        return encrypted if self.sasl is None else f"SASL_{encrypted}"

    @property
    def uses_token(self) -> bool:
        """Whether OAUTHBEARER proves who we are."""
        return self.sasl is not None and self.sasl.oauth_token_file is not None

    def client_options(self) -> dict[str, Any]:
        """Keyword arguments that every client of aiokafka takes: consumer, producer, admin and bare client."""
        return {"bootstrap_servers": self.bootstrap_servers, **self.security_options()}

    def security_options(self) -> dict[str, Any]:
        """The same without the addresses, for a single connection."""
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
    # Here, so that settings can be read by a process that never talks to Kafka.
    from aiokafka.abc import AbstractTokenProvider

    class TokenFile(AbstractTokenProvider):  # type: ignore[misc]  # aiokafka is not typed
        async def token(self) -> str:
            return await asyncio.to_thread(_first_word, path)

    return TokenFile()
