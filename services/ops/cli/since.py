"""`--since`: a time that commands go back to, as an age or as a time."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from typing import Annotated, Final

import typer

from services.ops.errors import UsageError

_AGE: Final = re.compile(r"([0-9]{1,9})([smhd])", re.ASCII)
_SECONDS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}

SinceOption = Annotated[
    str, typer.Option(metavar="AGE|TIME", help="How far back: 90s, 15m, 24h, 7d, or a time as 2026-01-31T12:00Z.")
]


def since_ms(text: str, now_ms: int | None = None) -> int:
    """Return the time in ms since 1970 UTC; a time without an offset is in UTC. Raises UsageError."""
    now = time.time() * 1000 if now_ms is None else now_ms
    if (age := _AGE.fullmatch(text)) is not None:
        return max(0, int(now) - int(age[1]) * _SECONDS[age[2]] * 1000)
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"{text} is neither an age as 15m or 24h nor a time as 2026-01-31T12:00Z.") from None
    return max(0, int((found if found.tzinfo is not None else found.replace(tzinfo=UTC)).timestamp() * 1000))
