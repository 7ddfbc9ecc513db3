"""Lets history go first: search waits while history of this process has whole batches to write.

Both share a thread. Without this, a long log would be folded at half the rate, and history would wait for search.
"""

from __future__ import annotations

import asyncio


class Precedence:
    """Which partitions of history are behind in this process."""

    def __init__(self) -> None:
        self._behind: set[str] = set()
        self._none_behind = asyncio.Event()
        self._none_behind.set()

    def is_behind(self, name: str) -> None:
        """Record that a partition of history has more to write than its next batch."""
        self._behind.add(name)
        self._none_behind.clear()

    def is_near(self, name: str) -> None:
        """Record that it is near the end of the log, or that it cannot go on, so that waiting for it is pointless."""
        self._behind.discard(name)
        if not self._behind:
            self._none_behind.set()

    async def wait(self) -> None:
        """Wait until no partition of history is behind."""
        await self._none_behind.wait()
