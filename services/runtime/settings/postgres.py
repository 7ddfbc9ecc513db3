"""How to reach the read model."""

from __future__ import annotations

from pydantic import Field, SecretStr, model_validator

from services.runtime.settings.base import PositiveSeconds, Settings, settings_from


class PostgresSettings(Settings):
    """How to reach the read model. Variables: `GAPLESS_POSTGRES_*`."""

    model_config = settings_from("GAPLESS_POSTGRES_")

    dsn: SecretStr = SecretStr("postgresql://127.0.0.1:5432/gapless")
    """libpq connection string or URI; secret because it may contain a password."""
    pool_min_size: int = Field(default=1, ge=0, le=1_000)
    pool_max_size: int = Field(default=10, ge=1, le=1_000)
    connect_timeout_s: PositiveSeconds = 5.0
    acquire_timeout_s: PositiveSeconds = 5.0
    """How long a request waits for a free connection of the pool."""
    statement_timeout_s: PositiveSeconds = 30.0
    """Maximum run time of a statement, enforced by the server."""

    @model_validator(mode="after")
    def _sizes_fit(self) -> PostgresSettings:
        if self.pool_min_size > self.pool_max_size:
            raise ValueError(
                f"GAPLESS_POSTGRES_POOL_MIN_SIZE ({self.pool_min_size}) is more than "
                f"GAPLESS_POSTGRES_POOL_MAX_SIZE ({self.pool_max_size}): lower the first or raise the second"
            )
        return self
