"""Keeps one outage from filling the log: of similar lines one a minute is written, with the number suppressed.

A library that loses a server logs every attempt to reach it (aiokafka: 300 lines a second). We report the outage with
one line (`dependency.unreachable`), and one line a minute of each library is enough to see why.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, Final, Protocol

from services.runtime.observe.metrics import LOG_LINES_SUPPRESSED

EVERY_S: Final = 60.0
MAX_KEYS: Final = 1_000
"""Maximum number of distinct lines to track; beyond it the least recently seen one is dropped."""
_VARIABLE: Final = re.compile(r"0x[0-9a-fA-F]+|\d+|'[^']*'|\"[^\"]*\"")
"""The variable parts of a line: numbers, addresses, quoted names."""
KEY_CHARACTERS: Final = 200


class RepeatedLines:
    """Decides which lines are written. One per process; thread-safe."""

    def __init__(self, *, every_s: float = EVERY_S, now_s: Callable[[], float] = time.monotonic) -> None:
        self._every_s = every_s
        self._now_s = now_s
        self._lock = threading.Lock()
        self._lines: OrderedDict[Hashable, tuple[float, int]] = OrderedDict()
        """Key → (time a line of it was last written, number of lines suppressed since)."""
        self._total = 0

    def written(self, key: Hashable) -> int | None:
        """Return the number of lines of this key suppressed since the last one; None if this one is suppressed too."""
        with self._lock:
            now_s = self._now_s()
            last_s, left_out = self._lines.pop(key, (None, 0))
            if last_s is not None and now_s - last_s < self._every_s:
                self._lines[key] = (last_s, left_out + 1)
                self._total += 1
                return None
            self._lines[key] = (now_s, 0)
            if len(self._lines) > MAX_KEYS:
                self._lines.popitem(last=False)
            return left_out

    def left_out(self) -> int:
        """Return the number of lines suppressed since the last call."""
        with self._lock:
            total, self._total = self._total, 0
            return total


LINES: Final = RepeatedLines()
"""The instance of this process."""


class LibraryLines(logging.Filter):
    """A filter for the handler of library loggers: one line a minute for each logger and message."""

    def __init__(self, lines: RepeatedLines = LINES) -> None:
        super().__init__()
        self._lines = lines

    def filter(self, record: logging.LogRecord) -> bool:
        left_out = self._lines.written(_key_of(record))
        if left_out is None:
            LOG_LINES_SUPPRESSED.labels(logger=record.name).inc()
            return False
        if left_out:
            record.suppressed = left_out
        return True


def _key_of(record: logging.LogRecord) -> Hashable:
    """Return a key from the message template; from the message's shape if the library has formatted it itself."""
    text = str(record.msg)
    if not record.args:
        text = _VARIABLE.sub("#", text.split("\n", 1)[0][: 10 * KEY_CHARACTERS])
    where: tuple[object, ...] = ()
    error = record.exc_info[1] if record.exc_info else None
    if error is not None:
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        where = (type(error), trace and (trace.tb_frame.f_code.co_filename, trace.tb_lineno))
    return record.name, record.levelno, text[:KEY_CHARACTERS], where


class _Log(Protocol):
    def warning(self, event: str, **fields: Any) -> Any: ...


def warn_throttled(log: _Log, event: str, *, kind: str = "", lines: RepeatedLines = LINES, **fields: Any) -> None:
    """Log a warning at most once a minute per event and kind, for conditions that many tasks report repeatedly."""
    left_out = lines.written((event, kind))
    if left_out is None:
        LOG_LINES_SUPPRESSED.labels(logger="gapless").inc()
    elif left_out:
        log.warning(event, suppressed=left_out, **fields)
    else:
        log.warning(event, **fields)
