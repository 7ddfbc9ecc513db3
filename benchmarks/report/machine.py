"""Where and when a benchmark ran, and who else ran there: what a figure is worth depends on it."""

from __future__ import annotations

import os
import platform
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import psutil

QUIET_CORES: Final = 0.2
"""Load of other processes up to which a figure is not marked preliminary, in cores."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """The machine of a run, and the load on it, as reported at its end."""

    cores: int
    python: str
    started_at: str
    """UTC."""
    seconds: float
    """How long the run took, with all its filling."""
    others_cores: float
    """CPU that processes other than ours used meanwhile, in cores, on the average."""
    quiet: bool
    """Whether that was little enough; else the figures are preliminary."""


class MachineWatch:
    """Begins with the run."""

    def __init__(self) -> None:
        self._at_s = time.monotonic()
        self._started_at = datetime.now(UTC)
        self._all_s, self._ours_s = _used_s()

    def summary(self) -> Machine:
        """What was seen until now."""
        seconds = time.monotonic() - self._at_s
        all_s, ours_s = _used_s()
        others_cores = max(0.0, (all_s - self._all_s) - (ours_s - self._ours_s)) / seconds
        return Machine(
            cores=os.cpu_count() or 1,
            python=platform.python_version(),
            started_at=self._started_at.strftime("%Y-%m-%d %H:%M"),
            seconds=round(seconds, 1),
            others_cores=round(others_cores, 2),
            quiet=others_cores <= QUIET_CORES,
        )


def _used_s() -> tuple[float, float]:
    """CPU seconds: of all processes of the machine, and of ours with all that we started, ended ones too."""
    times = psutil.cpu_times()
    ours_s = 0.0
    for process in (psutil.Process(), *psutil.Process().children(recursive=True)):
        try:
            of_process = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        ours_s += of_process.user + of_process.system + of_process.children_user + of_process.children_system
    return times.user + times.nice + times.system, ours_s
