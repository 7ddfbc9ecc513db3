"""The settings of live. Variables: `GAPLESS_LIVE_*`, and those of the shared classes."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, SecretStr

from services.runtime.settings import (
    AuthSettings,
    HttpSettings,
    KafkaSettings,
    LogSettings,
    PositiveSeconds,
    PostgresSettings,
    ProcessSettings,
    Settings,
    settings_from,
)


class LiveSettings(Settings):
    """The settings of `LiveService`, which `gapless api` runs together with ingest and query."""

    model_config = settings_from("GAPLESS_LIVE_")

    postgres: PostgresSettings = Field(default_factory=PostgresSettings)
    kafka: KafkaSettings = Field(default_factory=KafkaSettings)
    ring_bytes: Annotated[int, Field(ge=1024 * 1024)] = 64 * 1024 * 1024
    """How much of the newest events is kept in memory, for readers who come back."""
    ring_s: PositiveSeconds = 600.0
    """How long it is kept."""
    max_connections: Annotated[int, Field(ge=1)] = 20_000
    """Maximum streams of a process; then 503."""
    connections_per_user: Annotated[int, Field(ge=1)] = 20
    """Maximum streams of one user in a process; then 429."""
    heartbeat_s: PositiveSeconds = 20.0
    """How often an idle stream gets a heartbeat. Shorter than the idle time of common proxies."""
    stalled_s: PositiveSeconds = 30.0
    """How long a client may take nothing of what is waiting for it before its stream is closed."""
    drain_s: PositiveSeconds = 15.0
    """At a stop, the time within which clients come back, each at a moment of its own."""
    ticket_secret: SecretStr | None = None
    """Signs tickets for event streams; all processes have the same. Default: GAPLESS_JWT_SECRET; without one of them no
    tickets are issued."""

    def with_streams(self, http: HttpSettings) -> HttpSettings:
        """Return the settings of a server with room for the streams besides its other connections."""
        return http.model_copy(update={"max_connections": http.max_connections + self.max_connections})


class LiveProcessSettings(Settings):
    """All settings of a live process (`gapless live`)."""

    live: LiveSettings = Field(default_factory=LiveSettings)
    http: HttpSettings = Field(default_factory=HttpSettings)
    auth: AuthSettings = Field(default_factory=AuthSettings)
    logs: LogSettings = Field(default_factory=LogSettings)
    process: ProcessSettings = Field(default_factory=ProcessSettings)
