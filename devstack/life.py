"""Distinguishes a slow server from a dead one. The duration of a start is no criterion: a broker that was killed reads
its whole log first, and a busy machine takes minutes for what takes seconds elsewhere. So the limit is on silence.

There are two signs of life:

- The log has a new line. A server that waits in vain repeats itself ("cannot reach the controller, trying again"), so
  lines are compared without their variable parts: time, counters, ids.
- The process works: it uses 6 % of a core, or moves bytes. A server that only waits uses less (measured: a broker
  without a quorum 2 to 4 %, our services without Kafka and Postgres 0.2 to 0.4 %).
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil

WORKING_SHARE: Final = 0.06
"""Share of one core used since the last sign of life that counts as work."""
WORKING_BYTES: Final = 64 * 1024 * 1024
"""Bytes read or written since the last sign of life that count as work: a start that waits for a slow disk uses little
CPU."""
NUMBERS: Final = re.compile(r"[0-9]+")
MAX_LINES_KEPT: Final = 10_000
CHECK_EVERY_S: Final = 1.0
"""Minimum interval between two polls, each of which reads the process table."""

Clock = Callable[[], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Vitals:
    """Observations of a process at one moment, counted from its start."""

    lines: int
    """Number of different lines in its log."""
    cpu_s: float
    moved_bytes: int


@dataclass(slots=True)
class Pulse:
    """Finds the last sign of life from consecutive observations. Pure."""

    silence_s: float
    """The limit on silence. WORKING_SHARE is measured over this time."""
    alive_at_s: float
    seen: Vitals = field(default_factory=lambda: Vitals(lines=0, cpu_s=0.0, moved_bytes=0))

    def look(self, vitals: Vitals, now_s: float) -> float:
        """Take an observation and return the seconds since the last sign of life."""
        works = (
            vitals.cpu_s - self.seen.cpu_s >= WORKING_SHARE * self.silence_s
            or vitals.moved_bytes - self.seen.moved_bytes >= WORKING_BYTES
        )
        if works or vitals.lines > self.seen.lines:
            self.seen, self.alive_at_s = vitals, now_s
        # The sum over a process and its children falls when one of them ends.
        elif vitals.cpu_s < self.seen.cpu_s or vitals.moved_bytes < self.seen.moved_bytes:
            self.seen = vitals
        return now_s - self.alive_at_s


class Watch:
    """Watches one process by its id and its log, from now on."""

    def __init__(
        self,
        pid: int,
        log_path: Path,
        *,
        silence_s: float,
        noise: re.Pattern[str] = NUMBERS,
        clock: Clock = time.monotonic,
    ) -> None:
        """Start watching. `noise` matches the variable parts of log lines, which are not compared."""
        self._pid = pid
        self._log_path = log_path
        self._read_to = _size(log_path)
        self._noise = noise
        self._lines: set[int] = set()
        self._clock = clock
        self._pulse = Pulse(silence_s, clock())
        self._looked_at_s = -math.inf

    @property
    def silence_s(self) -> float:
        """The limit on silence."""
        return self._pulse.silence_s

    def silent_s(self) -> float:
        """Return the seconds since the last sign of life, as of now or a moment ago. Cheap to call often."""
        now_s = self._clock()
        if now_s - self._looked_at_s < min(CHECK_EVERY_S, self.silence_s / 20):
            return now_s - self._pulse.alive_at_s
        self._looked_at_s = now_s
        self._read_log()
        cpu_s, moved_bytes = _work(self._pid)
        return self._pulse.look(Vitals(lines=len(self._lines), cpu_s=cpu_s, moved_bytes=moved_bytes), now_s)

    def _read_log(self) -> None:
        try:
            with self._log_path.open("rb") as log:
                log.seek(self._read_to)
                # A partial line is read once it is complete.
                whole, newline, _ = log.read().rpartition(b"\n")
        except FileNotFoundError:
            return
        self._read_to += len(whole) + len(newline)
        if len(self._lines) < MAX_LINES_KEPT:
            text = whole.decode("utf-8", errors="replace")
            self._lines.update(hash(self._noise.sub("", line)) for line in text.splitlines())


def is_silent(watches: Sequence[Watch]) -> bool:
    """Return whether all have been silent for longer than their limits: the others may wait for one that works."""
    # Poll all of them each time: a sign of life gets the time of the poll that sees it.
    silent = [watch.silent_s() > watch.silence_s for watch in watches]
    return all(silent)


def _work(pid: int) -> tuple[float, int]:
    """Return CPU seconds and bytes moved by the process and its children; zeros if it has ended or is inaccessible."""
    cpu_s, moved_bytes = 0.0, 0
    for process in _family(pid):
        try:
            times = process.cpu_times()
            cpu_s += times.user + times.system
            moved = process.io_counters() if hasattr(process, "io_counters") else None  # not on macOS
            moved_bytes += 0 if moved is None else moved.read_chars + moved.write_chars
        except psutil.Error:
            continue
    return cpu_s, moved_bytes


def _family(pid: int) -> Iterable[psutil.Process]:
    try:
        process = psutil.Process(pid)
        return [process, *process.children(recursive=True)]
    except psutil.Error:
        return []


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
