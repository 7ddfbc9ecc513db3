"""Waits until the read model contains an outcome: `Gapless-At-Least: P:index`.

All waiting requests of a process share one watch, which polls the heads of the projection only while a request waits.
It only decides when to read again; whether a snapshot contains the token is decided by that snapshot itself.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

from schemas.ids import parse_token, token
from services.query.errors import QueryError
from services.query.problems import invalid_parameter
from services.runtime.process.tasks import end

HEADER: Final = "Gapless-At-Least"
SHORTEST_PAUSE_S: Final = 0.004
LONGEST_PAUSE_S: Final = 0.05
"""Maximum pause between two polls while no head moves. After a head moved, the pause is the shortest again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A lower bound for a read: the outcome `index` of `partition`."""

    partition: int
    index: int

    def __str__(self) -> str:
        return token(self.partition, self.index)


def read_token(text: str, partitions: int) -> Token:
    """Return the header's token.

    :raises Problem: `malformed` if it is invalid or names a partition that this log does not have.
    """
    try:
        partition, index = parse_token(text.strip())
    except ValueError as error:
        raise invalid_parameter("header", HEADER, f"{HEADER} is not a token: {error}.") from None
    if partition >= partitions:
        detail = f"{HEADER} names partition {partition}; the partitions are 0 to {partitions - 1}."
        raise invalid_parameter("header", HEADER, detail)
    return Token(partition=partition, index=index)


class HeadWatch:
    """Wakes waiters when the heads of the projection have moved far enough.

    :param look: returns partition → committed index. While it raises QueryError, no waiter is woken.
    """

    def __init__(self, look: Callable[[], Awaitable[Mapping[int, int]]]) -> None:
        self._look = look
        self._waiting: dict[asyncio.Future[None], Token] = {}
        self._watching: asyncio.Task[None] | None = None

    async def wait_for(self, wanted: Token, deadline_s: float) -> bool:
        """Wait until a poll finds `wanted` or deadline_s (of time.monotonic) passes; return whether it was found."""
        left_s = deadline_s - time.monotonic()
        if left_s <= 0:
            return False
        found = asyncio.get_running_loop().create_future()
        self._waiting[found] = wanted
        if self._watching is None or self._watching.done():
            self._watching = asyncio.create_task(self._watch(), name="projection heads")
        try:
            await asyncio.wait_for(found, left_s)
        except TimeoutError:
            return False
        finally:
            del self._waiting[found]
        return True

    async def stop(self) -> None:
        """End the watch. Remaining waiters run into their deadlines."""
        if self._watching is not None:
            await end({self._watching})

    async def _watch(self) -> None:
        pause_s = SHORTEST_PAUSE_S
        before: Mapping[int, int] = {}
        while self._waiting:
            try:
                heads = await self._look()
            except QueryError:  # logged and counted where it was raised; the waiters' deadlines end this
                heads = before
            pause_s = SHORTEST_PAUSE_S if heads != before else min(pause_s * 1.5, LONGEST_PAUSE_S)
            before = heads
            for found, wanted in self._waiting.items():
                if not found.done() and heads.get(wanted.partition, 0) >= wanted.index:
                    found.set_result(None)
            await asyncio.sleep(pause_s)
