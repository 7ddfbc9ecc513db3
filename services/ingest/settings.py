"""Settings of ingest. Variables: `GAPLESS_INGEST_*`, and those of the parts it is made of."""

from __future__ import annotations

from pydantic import Field, model_validator

from services.ingest.api.preferences import LONGEST_WAIT_S
from services.runtime.settings import (
    AuthSettings,
    HttpSettings,
    KafkaSettings,
    LogSettings,
    PositiveSeconds,
    ProcessSettings,
    Settings,
    settings_from,
)


class IngestSettings(Settings):
    """How commands are taken in. Ingest keeps nothing, so every value may differ between processes."""

    model_config = settings_from("GAPLESS_INGEST_")

    kafka: KafkaSettings = Field(default_factory=KafkaSettings)

    workers: int = Field(default=1, ge=1, le=256)
    """Processes that share the port, each with a core of its own to use. Health and metrics of the first are at
    GAPLESS_OPS_PORT, of the next at the port after it, and so on."""
    reply_partition: int | None = Field(default=None, ge=0)
    """Partition of chat.replies that this process listens on. Not set: one by chance."""
    default_wait_s: float = Field(default=2.0, ge=0, le=LONGEST_WAIT_S)
    """How long a request waits for its outcome where `Prefer: wait=N` does not say; then 202."""
    append_timeout_s: PositiveSeconds = 5.0
    """How long Kafka may take to acknowledge a command; longer means unknown, and 503."""
    max_appends: int = Field(default=20_000, ge=1)
    """Commands on their way to Kafka at once; one more is answered 503."""
    max_append_bytes: int = Field(default=64 * 1024 * 1024, ge=512 * 1024)
    """The same in bytes of their bodies."""
    receipt_window_s: float = Field(default=0.25, gt=0, le=10)
    """Receipts of one (chat, user) are merged to the highest within this."""
    rate_per_s: float | None = Field(default=None, gt=0)
    """Requests of one user per second, sustained; not limited if not set. Scope `producer` is never limited."""
    rate_burst: int = Field(default=50, ge=1)
    """Requests that one user may send at once before the rate counts."""

    @model_validator(mode="after")
    def _reply_partition_exists(self) -> IngestSettings:
        if self.reply_partition is not None and self.reply_partition >= self.kafka.reply_partitions:
            raise ValueError(
                f"GAPLESS_INGEST_REPLY_PARTITION ({self.reply_partition}) is no partition of chat.replies, which has"
                f" GAPLESS_KAFKA_REPLY_PARTITIONS ({self.kafka.reply_partitions})"
            )
        return self


class IngestProcessSettings(Settings):
    """Everything that a process of its own (`gapless ingest`) reads."""

    ingest: IngestSettings = Field(default_factory=IngestSettings)
    auth: AuthSettings = Field(default_factory=AuthSettings)
    http: HttpSettings = Field(default_factory=HttpSettings)
    logs: LogSettings = Field(default_factory=LogSettings)
    process: ProcessSettings = Field(default_factory=ProcessSettings)
