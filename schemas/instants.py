"""Instants as text: RFC 3339 in UTC with milliseconds. Pure."""

from __future__ import annotations

from datetime import date, timedelta
from functools import lru_cache
from typing import Final

_MINUTES: Final = [f"{minute // 60:02}:{minute % 60:02}:" for minute in range(24 * 60)]
_SECONDS: Final = [f"{second:02}." for second in range(60)]
_MILLISECONDS: Final = [f"{ms:03}Z" for ms in range(1000)]


def instant_of(at_ms: int) -> str:
    """Return the text of ms since 1970. A page has up to two hundred instants: via datetime they would cost as much as
    the rest of it."""
    minutes, ms = divmod(at_ms, 60_000)
    day, minute = divmod(minutes, 24 * 60)
    second, ms = divmod(ms, 1000)
    return _day(day) + _MINUTES[minute] + _SECONDS[second] + _MILLISECONDS[ms]


@lru_cache(maxsize=4_096)
def _day(day: int) -> str:
    return f"{date(1970, 1, 1) + timedelta(days=day)}T"
