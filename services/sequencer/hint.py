"""What the group last said of one partition. It allows opening; it never takes writing away."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable


class Hint:
    """The group's words on one partition, counted, so that one can wait for the next."""

    def __init__(self, still_ours: Callable[[], bool]) -> None:
        """`still_ours` tells whether the group says so right now: between two words nothing is ours."""
        self._still_ours = still_ours
        self._ours = False
        self.words = 0
        self._spoke = asyncio.Event()

    @property
    def ours(self) -> bool:
        return self._ours and self._still_ours()

    def say(self, ours: bool) -> None:
        """The group has spoken."""
        self._ours = ours
        self.words += 1
        self._spoke.set()
        self._spoke = asyncio.Event()

    async def next_word(self, timeout_s: float) -> None:
        """Returns at the next word, or when the time is up."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._spoke.wait(), timeout_s)
