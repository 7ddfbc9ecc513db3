"""Where and when a benchmark ran: what a figure is worth depends on it."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Taken before the benchmark starts its own load."""

    cores: int
    python: str
    started_at: str
    """UTC."""
    load_before: float
    """The machine's load average of one minute: what others did. Above 1.5 the figures are preliminary."""

    @property
    def quiet(self) -> bool:
        return self.load_before <= 1.5

    @classmethod
    def now(cls) -> Machine:
        return cls(
            cores=os.cpu_count() or 1,
            python=platform.python_version(),
            started_at=datetime.now(UTC).strftime("%Y-%m-%d %H:%M"),
            load_before=round(os.getloadavg()[0], 2),
        )
