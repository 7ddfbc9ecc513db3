"""How far tables and search stand behind the end of the log while commands arrive at a steady rate.

The end of each partition and the positions of both are looked up all the time, and their history says how old the
oldest record is that is not yet in. That is what a reader sees, to within the pause between two looks; the projector's
own metric knows no record that was not read yet.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import psycopg

from benchmarks.load.open_loop import arrive
from benchmarks.servers.database import session
from benchmarks.servers.ground import CHECK_EVERY_S, Ends, Ground, Log
from benchmarks.servers.processes import DEADLINE_S
from schemas.wire.encoding import Encoded

WARM_UP_S: Final = 2.0
"""Time after the first command that does not count: batches find their size."""
_POSITIONS: Final = {"history": "projection_positions", "search": "search_positions"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Lag:
    """The age of the oldest record that is not in, in seconds: over all looks, the largest of all partitions."""

    p50_s: float
    p99_s: float
    max_s: float

    @classmethod
    def of(cls, ages_s: Sequence[float]) -> Lag:
        ordered = sorted(ages_s)

        def at(percentile: float) -> float:
            return round(ordered[min(len(ordered) - 1, int(len(ordered) * percentile / 100))], 3)

        return cls(p50_s=at(50), p99_s=at(99), max_s=at(100))


@dataclass(frozen=True, slots=True, kw_only=True)
class Lags:
    """The lags of a run."""

    per_s: float
    """Commands that arrived each second."""
    seconds: float
    history: Lag
    search: Lag


class Ages:
    """The age of the oldest record at or after a position, for one partition. Pure."""

    def __init__(self) -> None:
        self._ends: deque[tuple[float, int]] = deque()

    def saw_end(self, at_s: float, end: int) -> None:
        """Record that the log ended at this offset then. Ends only grow."""
        if not self._ends or end > self._ends[-1][1]:
            self._ends.append((at_s, end))

    def age_s(self, now_s: float, position: int) -> float:
        """Return the time since the record at `position` was first seen in the log; 0 at its end."""
        return next((now_s - at_s for at_s, end in self._ends if end > position), 0.0)

    def forget_before(self, position: int) -> None:
        """Forget the ends that no later position is before."""
        while self._ends and self._ends[0][1] <= position:
            self._ends.popleft()


@dataclass(slots=True)
class _Watch:
    """Looks at the end of the log and at the positions."""

    ends: Ends
    connection: psycopg.AsyncConnection
    ages: dict[int, Ages] = field(default_factory=dict)
    seen: dict[str, list[tuple[float, float]]] = field(default_factory=lambda: {name: [] for name in _POSITIONS})
    """For each look, when it was, and the largest age of all partitions."""

    async def watch(self) -> None:
        while True:
            await self.look()
            await asyncio.sleep(CHECK_EVERY_S)

    async def look(self) -> None:
        # Positions first: what is appended between the two counts as not in, however short that is.
        there = {name: await self._positions(table) for name, table in _POSITIONS.items()}
        ends = await self.ends.each()
        now_s = time.monotonic()
        for partition, end in ends.items():
            self.ages.setdefault(partition, Ages()).saw_end(now_s, end)
        for name, positions in there.items():
            ages_s = [self.ages[p].age_s(now_s, positions.get(p, 0)) for p in ends]
            self.seen[name].append((now_s, max(ages_s)))
        for partition, ages in self.ages.items():
            ages.forget_before(min(positions.get(partition, 0) for positions in there.values()))

    async def until_all_is_in(self) -> None:
        """Raises TimeoutError."""
        async with asyncio.timeout(DEADLINE_S):
            while True:
                there = [sum((await self._positions(table)).values()) for table in _POSITIONS.values()]
                if min(there) >= await self.ends.total():
                    return
                await asyncio.sleep(CHECK_EVERY_S)

    async def _positions(self, table: str) -> Mapping[int, int]:
        cursor = await self.connection.execute(f"SELECT partition, next_offset FROM chat_v1.{table}".encode())
        return dict(await cursor.fetchall())


async def lags(ground: Ground, log: Log, arriving: Sequence[Sequence[Encoded]], *, per_s: int) -> Lags:
    """Let the commands arrive, those of each partition at its share of `per_s`, and measure meanwhile.

    A sequencer and a projector are running, and at the end of the log. Raises TimeoutError if something never arrives.
    """
    async with _watching(ground, log) as watch:
        await watch.until_all_is_in()
        watching = asyncio.create_task(watch.watch())
        began_s = time.monotonic()
        await arrive(ground.connection, log.names.commands, arriving, per_s=per_s)
        ended_s = time.monotonic()
        watching.cancel()
        await watch.until_all_is_in()
    counted = {
        name: [age_s for at_s, age_s in seen if at_s - began_s >= min(WARM_UP_S, (ended_s - began_s) / 2)]
        for name, seen in watch.seen.items()
    }
    return Lags(
        per_s=round(sum(map(len, arriving)) / (ended_s - began_s), 1),
        seconds=round(ended_s - began_s, 1),
        history=Lag.of(counted["history"]),
        search=Lag.of(counted["search"]),
    )


@asynccontextmanager
async def _watching(ground: Ground, log: Log) -> AsyncIterator[_Watch]:
    async with (
        Ends.of(ground.connection, log.names.events, log.partitions) as ends,
        await session(log.dsn) as connection,
    ):
        yield _Watch(ends, connection)
