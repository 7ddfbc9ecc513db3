"""Settings of the projector, `GAPLESS_PROJECTOR_*`, and those that every service reads."""

from __future__ import annotations

from pydantic import Field

from schemas.topics import TopicNames
from services.runtime.settings import (
    HttpSettings,
    KafkaSettings,
    LogSettings,
    PositiveSeconds,
    PostgresSettings,
    ProcessSettings,
    Settings,
    settings_from,
)


class ProjectorSettings(Settings):
    """Settings of the projector process. Variables: `GAPLESS_PROJECTOR_*`."""

    model_config = settings_from("GAPLESS_PROJECTOR_")

    kafka: KafkaSettings = Field(default_factory=KafkaSettings)
    postgres: PostgresSettings = Field(default_factory=PostgresSettings)
    http: HttpSettings = Field(default_factory=HttpSettings)
    logs: LogSettings = Field(default_factory=LogSettings)
    process: ProcessSettings = Field(default_factory=ProcessSettings)

    max_batch_records: int = Field(default=10_000, ge=1, le=100_000)
    """Maximum records per transaction while more are waiting. Smaller batches form by themselves: a batch is what
    arrived while the last one was being written."""
    registry_poll_interval_s: PositiveSeconds = 1.0
    """Interval at which the list of projections is read, in seconds: how soon a projection that a rebuild has handed
    over, or that was dropped, is noticed."""
    lost_race_pause_s: PositiveSeconds = 1.0
    """Time for which a partition is left alone after another projector was found feeding it, in seconds."""
    backoff_max_s: PositiveSeconds = 10.0
    """Longest pause between attempts while Kafka or Postgres is unavailable, in seconds."""
    prune_interval_s: PositiveSeconds = 60.0


def topic_names(kafka: KafkaSettings) -> TopicNames:
    """Return the topics of the log that these settings name."""
    return TopicNames.prefixed(kafka.topic_prefix)
