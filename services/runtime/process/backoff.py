"""How long to wait before asking again what did not answer."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Final

FIRST_S: Final = 0.1


class Backoff:
    """100 ms, doubling up to a longest pause, with jitter so that many do not come back at once."""

    def __init__(self, longest_s: float, *, uniform: Callable[[float, float], float] = random.uniform) -> None:
        self._longest_s = longest_s
        self._uniform = uniform
        self._failures = 0

    def next_s(self) -> float:
        """The next pause, between half and the whole of its step."""
        step_s: float = min(self._longest_s, FIRST_S * 2 ** min(self._failures, 30))
        self._failures += 1
        return self._uniform(step_s / 2, step_s)

    async def pause(self) -> None:
        await asyncio.sleep(self.next_s())

    def reset(self) -> None:
        """Something worked: the next pause is the shortest."""
        self._failures = 0
