"""The settings of query. Variables: `GAPLESS_QUERY_*`, and those of the shared classes."""

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
    """The settings of `QueryService`, which `gapless api` runs together with ingest."""

    model_config = settings_from("GAPLESS_QUERY_")

    postgres: PostgresSettings = Field(default_factory=PostgresSettings)
    kafka: KafkaSettings = Field(default_factory=KafkaSettings)
    """Only the number of partitions is used, to validate tokens."""
    at_least_timeout_s: PositiveSeconds = 2.0
    """How long a read with Gapless-At-Least waits for the projection before it gets 503."""
    read_timeout_s: PositiveSeconds = 10.0
    """Deadline of one snapshot, from requesting a connection to the last row; then 503."""


class QueryProcessSettings(Settings):
    """All settings of a query process (`gapless query`)."""

    query: QuerySettings = Field(default_factory=QuerySettings)
    http: HttpSettings = Field(default_factory=HttpSettings)
    auth: AuthSettings = Field(default_factory=AuthSettings)
    logs: LogSettings = Field(default_factory=LogSettings)
    process: ProcessSettings = Field(default_factory=ProcessSettings)
