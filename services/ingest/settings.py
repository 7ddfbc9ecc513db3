"""The settings of ingest. Variables: `GAPLESS_INGEST_*`, and those of the shared classes."""

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
    """The settings of `IngestService`. Ingest keeps no state, so every value may differ between processes."""

    model_config = settings_from("GAPLESS_INGEST_")

    kafka: KafkaSettings = Field(default_factory=KafkaSettings)

    workers: int = Field(default=1, ge=1, le=256)
    """Number of processes that share the port, so that each can use a core. Health and metrics of the first are at
    GAPLESS_OPS_PORT, of the second at the next port, and so on."""
    reply_partition: int | None = Field(default=None, ge=0)
    """Partition of chat.replies that this process listens on. Default: a random one."""
    default_wait_s: float = Field(default=2.0, ge=0, le=LONGEST_WAIT_S)
    """How long a request without `Prefer: wait=N` waits for its outcome; then 202."""
    append_timeout_s: PositiveSeconds = 5.0
    """How long Kafka may take to acknowledge a command; then its result is unknown, and the request gets 503."""
    max_appends: int = Field(default=20_000, ge=1)
    """Maximum number of unacknowledged commands; one more gets 503."""
    max_append_bytes: int = Field(default=64 * 1024 * 1024, ge=512 * 1024)
    """Maximum total size of unacknowledged commands' bodies; one more gets 503."""
    receipt_window_s: float = Field(default=0.25, gt=0, le=10)
    """Window within which the receipts of one (chat, user) are coalesced to the highest."""
    rate_per_s: float | None = Field(default=None, gt=0)
    """Sustained number of requests per second of one user. Default: unlimited. Scope `producer` is never limited."""
    rate_burst: int = Field(default=50, ge=1)
    """Number of requests that one user may send at once before the rate limit applies."""

    @model_validator(mode="after")
    def _reply_partition_exists(self) -> IngestSettings:
        if self.reply_partition is not None and self.reply_partition >= self.kafka.reply_partitions:
            raise ValueError(
                f"GAPLESS_INGEST_REPLY_PARTITION ({self.reply_partition}) is not a partition of chat.replies, which has"
                f" GAPLESS_KAFKA_REPLY_PARTITIONS ({self.kafka.reply_partitions})"
            )
        return self


class IngestProcessSettings(Settings):
    """All settings of an ingest process (`gapless ingest`)."""

    ingest: IngestSettings = Field(default_factory=IngestSettings)
    auth: AuthSettings = Field(default_factory=AuthSettings)
    http: HttpSettings = Field(default_factory=HttpSettings)
    logs: LogSettings = Field(default_factory=LogSettings)
    process: ProcessSettings = Field(default_factory=ProcessSettings)
