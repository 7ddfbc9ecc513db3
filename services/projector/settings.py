"""What a projector can be told: `GAPLESS_PROJECTOR_*`, and the variables that every service reads."""

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
    """Of the projector process. Variables: `GAPLESS_PROJECTOR_*`."""

    model_config = settings_from("GAPLESS_PROJECTOR_")

    kafka: KafkaSettings = Field(default_factory=KafkaSettings)
    postgres: PostgresSettings = Field(default_factory=PostgresSettings)
    http: HttpSettings = Field(default_factory=HttpSettings)
    logs: LogSettings = Field(default_factory=LogSettings)
    process: ProcessSettings = Field(default_factory=ProcessSettings)

    max_batch_records: int = Field(default=10_000, ge=1, le=100_000)
    """Most records of one transaction, while there are more behind. Smaller ones come by themselves: a batch is what
    came while the last was written."""
    registry_poll_interval_s: PositiveSeconds = 1.0
    """How soon a projection that a rebuild has handed over, or that was dropped, is noticed."""
    lost_race_pause_s: PositiveSeconds = 1.0
    """How long a partition is left alone after another projector was found feeding it."""
    backoff_max_s: PositiveSeconds = 10.0
    """Longest pause between attempts while Kafka or Postgres is away."""
    prune_interval_s: PositiveSeconds = 60.0


def topic_names(kafka: KafkaSettings) -> TopicNames:
    """The topics of the log that these settings name."""
    return TopicNames.prefixed(kafka.topic_prefix)
