"""Exponential backoff between retries."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Final

FIRST_S: Final = 0.1


class Backoff:
    """Pauses of 100 ms, doubling up to a maximum, with jitter so that many clients do not retry at once."""

    def __init__(self, longest_s: float, *, uniform: Callable[[float, float], float] = random.uniform) -> None:
        self._longest_s = longest_s
        self._uniform = uniform
        self._failures = 0

    def next_s(self) -> float:
        """Return the next pause: between half of its step and the whole step."""
        step_s: float = min(self._longest_s, FIRST_S * 2 ** min(self._failures, 30))
        self._failures += 1
        return self._uniform(step_s / 2, step_s)

    async def pause(self) -> None:
        await asyncio.sleep(self.next_s())

    def reset(self) -> None:
        """Start over after a success: the next pause is the shortest."""
        self._failures = 0
