"""How a process logs and ends."""

from __future__ import annotations

from typing import Literal

from pydantic import field_validator

from services.runtime.settings.base import PositiveSeconds, Settings, settings_from


class LogSettings(Settings):
    """How a process logs. Variables: `GAPLESS_LOG_FORMAT`, `GAPLESS_LOG_LEVEL`."""

    model_config = settings_from("GAPLESS_LOG_")

    format: Literal["json", "console", "auto"] = "auto"
    """Format of log lines. auto: console if standard error is a terminal, else json."""
    level: Literal["debug", "info", "warning", "error"] = "info"

    @field_validator("level", "format", mode="before")
    @classmethod
    def _in_any_case(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value


class ProcessSettings(Settings):
    """The process itself. Variable: `GAPLESS_SHUTDOWN_TIMEOUT_S`."""

    model_config = settings_from("GAPLESS_")

    shutdown_timeout_s: PositiveSeconds = 10.0
