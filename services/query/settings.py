"""Settings of query. Variables: `GAPLESS_QUERY_*`, and those of the shared classes."""

from __future__ import annotations

from pydantic import Field

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


class QuerySettings(Settings):
    """What `QueryService` needs; `gapless api` builds it beside ingest."""

    model_config = settings_from("GAPLESS_QUERY_")

    postgres: PostgresSettings = Field(default_factory=PostgresSettings)
    kafka: KafkaSettings = Field(default_factory=KafkaSettings)
    """Only the number of partitions, without which a token cannot be judged, is used."""
    at_least_timeout_s: PositiveSeconds = 2.0
    """How long a read with Gapless-At-Least waits for the projection before it answers 503."""
    read_timeout_s: PositiveSeconds = 10.0
    """Deadline of one snapshot, from asking for a connection to the last row; past it the answer is 503."""


class QueryProcessSettings(Settings):
    """Everything that a process of its own (`gapless query`) reads."""

    query: QuerySettings = Field(default_factory=QuerySettings)
    http: HttpSettings = Field(default_factory=HttpSettings)
    auth: AuthSettings = Field(default_factory=AuthSettings)
    logs: LogSettings = Field(default_factory=LogSettings)
    process: ProcessSettings = Field(default_factory=ProcessSettings)
