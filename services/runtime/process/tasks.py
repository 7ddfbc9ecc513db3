"""Ends tasks for certain."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Final

CANCEL_AGAIN_S: Final = 10.0
"""Time after which a task that still runs is cancelled once more. Longer than any clean-up takes that ends at all."""


async def end(tasks: Iterable[asyncio.Task[Any]], *, again_s: float = CANCEL_AGAIN_S) -> None:
    """Cancel tasks and wait until each has ended, however it ends. Raises nothing of theirs.

    One cancellation may be lost: before Python 3.12, `asyncio.wait_for` returns its result in place of a cancellation
    that arrives together with it, and psycopg_pool waits for connections by it. The task then goes on as if nothing had
    been asked of it.
    """
    left = {task for task in tasks if not task.done()}
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=again_s)
